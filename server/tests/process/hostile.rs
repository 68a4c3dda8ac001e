//! Bytes that nobody should send, on the client port and on the peer port, and a member of another
//! cluster: the sender is turned away and told why where its protocol allows it, the log names what came
//! on the peer port, and everybody else goes on being served.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::dice::Dice;
use crate::member::{Layout, Member};
use crate::rig::{Scratch, Server, binary, get, has_all, put, says};

/// A call that is not even half of the protocol may hold its connection so long, and some more.
const PATIENCE: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What may hide behind a port, with a part of what each port answers and of what the log says of it on
/// the peer port; nothing is an answer too.
struct Garbage {
    bytes: Vec<u8>,
    client: &'static [u8],
    peer: &'static [u8],
    log: &'static str,
}

/// Noise, halves of protocols, other protocols.
fn garbage() -> Vec<Garbage> {
    let mut dice = Dice::new(11);
    let mut noise = |len: usize| (0..len).map(|_| dice.any() as u8).collect::<Vec<u8>>();
    let silent = |bytes| Garbage { bytes, client: b"", peer: b"", log: "" };
    let unknown =
        |bytes| Garbage { log: "not the peer protocol but unknown bytes", ..silent(bytes) };
    let http2 = "not the peer protocol but HTTP/2";
    let frame_of_16_mib = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    vec![
        silent(noise(1)),
        unknown(noise(64)),
        unknown(noise(100_000)),
        unknown(vec![0; 4096]),
        unknown(vec![0xff; 4096]),
        Garbage {
            bytes: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            client: b"HTTP/1.1 404 ",
            peer: b"HTTP/1.1 400 ",
            log: "not the peer protocol but an HTTP request",
        },
        Garbage {
            client: b"HTTP/1.1 400 ",
            log: "not the peer protocol but a TLS handshake",
            ..silent([0x16, 3, 1, 2, 0, 1].to_vec())
        },
        silent(PREFACE[..10].to_vec()),
        Garbage { log: http2, ..silent([PREFACE, &noise(10_000)].concat()) },
        // A connection error of HTTP/2: the frame is over the bound.
        Garbage { log: http2, ..silent([PREFACE, &frame_of_16_mib].concat()) },
        Garbage { log: http2, ..silent([PREFACE, &[0; 9 * 1000]].concat()) },
    ]
}

/// Sends it, lets the port know that nothing will follow, and gives the answer once the connection is
/// closed.
fn send(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above 0");
    // Being cut off half-way is a fine answer.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let kind = error.kind();
        assert_ne!(kind, std::io::ErrorKind::WouldBlock, "the connection stays open: {answer:?}");
    }
    answer
}

#[tokio::test]
async fn garbage_on_either_port_harms_nobody() {
    let mut server = Server::start("garbage", &[]).await;
    let mut kv = server.kv().await;
    let (client, peer) = server.layout.ports[0];
    for (at, garbage) in garbage().into_iter().enumerate() {
        for (port, wanted) in [(client, garbage.client), (peer, garbage.peer)] {
            let answer = send(port, &garbage.bytes);
            assert!(
                answer.starts_with(wanted),
                "{at} at port {port}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        server.says(garbage.log).await;
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

#[tokio::test]
async fn half_a_greeting_does_not_hold_a_connection() {
    let server = Server::start("half", &[]).await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.layout.ports[0].0)).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above 0");
    stream.write_all(&PREFACE[..10]).expect("it reads");
    assert_eq!(stream.read(&mut [0]).expect("it is closed, not left"), 0);
}

#[tokio::test]
async fn a_peer_of_another_cluster_is_refused_on_both_sides() {
    let mut server = Server::start("cluster", &[]).await;
    let scratch = Scratch::new("cluster-other");
    // Its second member is at the server's address, by another token.
    let mut other = Layout::local(binary(), &scratch.0, 2).expect("ports are free");
    other.ports[1] = server.layout.ports[0];
    other.flags = vec!["--initial-cluster-token=other".to_owned()];
    let mut stranger = Member::start(&other, 0).expect("the binary runs");
    let remedy = "check --initial-cluster and --initial-cluster-token on both";
    let line = server.line("refused member n").await;
    has_all(&line, &[r#""level":"warn""#, "this member belongs to cluster c", remedy]);
    let said = says(&other, 0, "the peer refused this member").await;
    has_all(&said, &["the peer belongs to cluster c", remedy]);
    assert!(!said.contains("ready to serve") && !said.contains("panicked"), "{said}");
    server.kv().await.put(put("a", "1")).await.expect("the server goes on");
    let ended = server.member.as_mut().expect("it runs").ended();
    assert!(ended.is_none(), "{ended:?}");
    stranger.terminate();
    let status = stranger.wait(PATIENCE);
    assert!(status.is_some(), "it waits for its cluster, but not for ever: a signal ends it");
}
