//! Bytes that nobody should send, on the client port and on the peer port: the sender is turned away, and
//! everybody else goes on being served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::dice::Dice;
use crate::rig::{Server, get, put};

/// What may hide behind a port: noise, halves of protocols, other protocols.
fn garbage() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(11);
    let mut noise = |len: usize| (0..len).map(|_| dice.any() as u8).collect::<Vec<u8>>();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frame_of_16_mib = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1].to_vec();
    vec![
        noise(1),
        noise(64),
        noise(100_000),
        vec![0; 4096],
        vec![0xff; 4096],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [0x16, 3, 1, 2, 0, 1].to_vec(),
        preface[..10].to_vec(),
        [preface.clone(), noise(10_000)].concat(),
        [preface.clone(), frame_of_16_mib].concat(),
        [preface, vec![0; 9 * 1000]].concat(),
    ]
}

/// Sends it and waits a moment for whatever the other side makes of it.
fn send(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above 0");
    // Being cut off half-way is a fine answer.
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read(&mut [0; 1024]);
    }
}

#[tokio::test]
async fn garbage_on_either_port_harms_nobody() {
    let mut server = Server::start("garbage", &[]).await;
    let mut kv = server.kv().await;
    let (client, peer) = server.layout.ports[0];
    for (at, bytes) in garbage().into_iter().enumerate() {
        for port in [client, peer] {
            send(port, &bytes);
        }
        let value = at.to_string();
        kv.put(put("a", &value)).await.expect("the present connection goes on");
        let mut fresh = server.kv().await;
        let answer = fresh.range(get("a")).await.expect("a new one is served").into_inner();
        assert_eq!(answer.kvs[0].value, value);
    }
    let ended = server.member.as_mut().expect("it runs").ended();
    assert!(ended.is_none(), "{ended:?}");
    assert!(!server.said().contains("panicked"), "{}", server.said());
}
