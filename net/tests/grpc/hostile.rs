//! What broken and hostile clients do.

use std::time::Duration;

use bytes::Bytes;
use holdfast_net::call::FromClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::*;

async fn raw(bytes: Bytes) -> (i32, String) {
    let (_world, mut sender) = connected().await;
    let (response, mut send) = open(&mut sender, PUT, &[("grpc-encoding", "gzip")]);
    send.send_data(bytes, true).expect("the stream is open");
    let answer = answer(response).await;
    (answer.code, answer.message)
}

#[test]
fn bad_messages_get_grpcs_errors() {
    run(async {
        let too_large = "grpc: received message larger than max (2097153 vs. 2097152)";
        let prefix = Bytes::from_static(&[0, 0, 0x20, 0, 1]);
        assert_eq!(raw(prefix).await, (8, too_large.into()));
        let gzip = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
        assert_eq!(raw(Bytes::from_static(&[1, 0, 0, 0, 1, 7])).await, (12, gzip.into()));
        assert_eq!(raw(Bytes::new()).await.0, 13);
        assert_eq!(raw(Bytes::from_static(&[0, 0, 0])).await, (13, "unexpected EOF".into()));
        assert_eq!(raw(Bytes::from_static(&[0, 0, 0, 0, 2, 7])).await.0, 13);
        let twice = [framed(b"a"), framed(b"b")].concat();
        assert_eq!(raw(twice.into()).await.0, 13);
    });
}

#[test]
fn a_bad_call_leaves_the_connection_good() {
    run(async {
        let (world, mut sender) = connected().await;
        let nope = unary(&mut sender, "/etcdserverpb.KV/Nope", &[], b"x").await;
        assert_eq!(nope.message, "unknown method Nope for service etcdserverpb.KV");
        assert_eq!((nope.http, nope.code), (200, 12));
        let mut get = request(PUT, &[]);
        *get.method_mut() = http::Method::GET;
        let (response, _) = sender.send_request(get, true).expect("the connection is open");
        assert_eq!(answer(response).await.http, 405);
        let mut json = request(PUT, &[]);
        json.headers_mut().insert("content-type", "application/json".parse().expect("legal"));
        let (response, _) = sender.send_request(json, true).expect("the connection is open");
        assert_eq!(answer(response).await.http, 415);
        assert_eq!(unary(&mut sender, PUT, &[], b"x").await.code, 0);
        assert_eq!(world.script.borrow().events.len(), 1, "only the good call was told");
    });
}

#[test]
fn garbage_ends_only_its_connection() {
    run(async {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x08\0\0\0\0\0\0\0\0\0\0",
        ] {
            let (world, mut io) = start(|_| {});
            io.write_all(garbage).await.expect("the pipe takes it");
            let mut answer = Vec::new();
            io.read_to_end(&mut answer).await.expect("the server closes");
            assert!(world.server.await.expect("no panic").is_err());
            assert!(world.script.borrow().events.is_empty());
        }
    });
}

#[test]
fn arbitrary_frames_do_no_harm() {
    run(async {
        let mut x = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = move |below: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % below
        };
        for _ in 0..300 {
            let (world, mut io) = start(|_| {});
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
            for _ in 0..random(20) {
                let length = random(40) as usize;
                bytes.extend([0, 0, length as u8, random(11) as u8, random(256) as u8]);
                bytes.extend([0, 0, 0, random(8) as u8]);
                bytes.extend((0..length).map(|_| random(256) as u8));
            }
            io.write_all(&bytes).await.expect("the pipe takes it");
            settle().await;
            drop(io);
            // Whatever the frames were, the task ends, without a panic, and leaves nothing.
            let _ = world.server.await.expect("no panic");
            assert_eq!((world.streams.open(), world.streams.connections()), (0, 0));
        }
    });
}

#[test]
fn a_silent_client_is_left() {
    run(async {
        let (world, _io) = start(|options| options.handshake_timeout = Duration::from_secs(2));
        let error = world.server.await.expect("no panic").expect_err("nothing was said");
        assert!(error.to_string().contains("did not say"), "{error}");
    });
}

#[test]
fn a_slow_reader_stops_its_stream_and_then_gets_everything() {
    run(async {
        let (world, mut sender) = connected().await;
        let (response, _send) = open(&mut sender, "/etcdserverpb.Watch/Watch", &[]);
        let mut recv = response.await.expect("the head comes").into_body();
        settle().await;
        let stopped = world.script.borrow().flood_bytes;
        assert!(stopped <= (1 << 20) + (600 << 10), "{stopped} bytes for a client that reads none");
        settle().await;
        assert_eq!(world.script.borrow().flood_bytes, stopped);
        // Another call of the connection is not held up.
        assert_eq!(unary(&mut sender, PUT, &[], b"x").await.code, 0);
        let mut received = Vec::new();
        while received.len() < 5 << 20 {
            received.extend_from_slice(&next_data(&mut recv).await.expect("more comes"));
        }
        let message = framed(&[7; 10 << 10]);
        assert!(received.chunks(message.len()).all(|part| *part == message[..part.len()]));
        let script = world.script.borrow();
        assert!(script.flood_bytes > stopped);
        assert!(script.events.iter().any(|event| matches!(event, FromClient::Writable { .. })));
    });
}

#[test]
fn a_client_that_asks_and_never_reads_is_stopped() {
    run(async {
        let (world, mut sender) = connected_without_room().await;
        let (_response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        let message = framed(&[0; 60 << 10]);
        for _ in 0..100 {
            send.reserve_capacity(message.len());
            let room = std::future::poll_fn(|cx| {
                if send.capacity() >= message.len() {
                    return std::task::Poll::Ready(true);
                }
                send.poll_capacity(cx).map(|room| room.is_some_and(|room| room.is_ok()))
            });
            match tokio::time::timeout(Duration::from_secs(1), room).await {
                Ok(true) if send.capacity() >= message.len() => {}
                Ok(true) => continue,
                Ok(false) | Err(_) => break,
            }
            send.send_data(message.clone(), false).expect("the stream is open");
            settle().await;
        }
        let script = world.script.borrow();
        let bytes: usize = script
            .events
            .iter()
            .map(|event| match event {
                FromClient::Message { message, .. } => message.len(),
                _ => 0,
            })
            .sum();
        assert!(bytes >= 1 << 20, "{bytes} bytes: the stream was read until it was full");
        assert!(bytes < 2 << 20, "{bytes} bytes were read for a client that reads nothing");
        assert_eq!(script.cancelled(), 0, "it is stopped, not ended");
    });
}

/// One read brings calls whose answers are many times the output's room.
#[test]
fn what_waits_for_room_is_looked_at_when_there_is_some() {
    run(async {
        let (world, mut io) = start(|options| options.output_bytes_max = 1000);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for call in 0..500_u32 {
            // `:method: POST`, `:scheme: http`, `:path: /`, and the content type written out.
            let block = b"\x83\x86\x84\x0f\x10\x10application/grpc";
            bytes.extend([0, 0, block.len() as u8, 1, 5]);
            bytes.extend((2 * call + 1).to_be_bytes());
            bytes.extend(block);
        }
        io.write_all(&bytes).await.expect("the pipe is wide");
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        let mut answers = 0;
        while answers < 500 {
            let read = tokio::time::timeout(Duration::from_secs(1), io.read(&mut buffer)).await;
            let count = read.unwrap_or_else(|_| panic!("{answers} answers, then silence"));
            let count = count.expect("the pipe is good");
            assert!(count > 0, "{answers} answers, then the end");
            heard.extend_from_slice(&buffer[..count]);
            while let [0, high, low, kind, ..] = heard[..]
                && let whole = 9 + usize::from(u16::from_be_bytes([high, low]))
                && heard.len() >= whole
            {
                answers += usize::from(kind == 1);
                heard.drain(..whole);
            }
        }
        assert!(!world.server.is_finished());
    });
}

#[test]
fn a_client_that_is_gone_without_a_word_is_found_out() {
    run(async {
        let (world, io) = start(|options| {
            let keepalive = options.keepalive.as_mut().expect("it is on");
            keepalive.interval = Duration::from_secs(10);
            keepalive.timeout = Duration::from_secs(2);
        });
        let (mut sender, connection) =
            h2::client::handshake(io).await.expect("the server speaks HTTP/2");
        let running = tokio::task::spawn_local(async {
            // After five seconds the connection stays open and nobody answers on it.
            let mut connection = std::pin::pin!(connection);
            let _ = tokio::time::timeout(Duration::from_secs(5), connection.as_mut()).await;
            std::future::pending::<()>().await;
        });
        let _response = ask(&mut sender, RANGE, &[], b"x");
        let begin = tokio::time::Instant::now();
        let error = world.server.await.expect("no panic").expect_err("the client is gone");
        assert!(error.to_string().contains("keepalive"), "{error}");
        assert_eq!(begin.elapsed().as_secs(), 12);
        assert_eq!(world.script.borrow().cancelled(), 1);
        running.abort();
    });
}
