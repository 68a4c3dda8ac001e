//! What honest clients do.

use std::time::Duration;

use bytes::Bytes;
use holdfast_net::call::{FromClient, Method};

use crate::world::*;

fn ok(message: &[u8]) -> Answer {
    Answer { http: 200, body: framed(message).to_vec(), code: 0, message: String::new() }
}

fn ended(code: i32, message: &str) -> Answer {
    Answer { http: 200, body: Vec::new(), code, message: message.to_string() }
}

#[test]
fn a_unary_call_is_answered() {
    run(async {
        let (world, mut sender) = connected().await;
        let headers = [("hasleader", "true"), ("token", "abc")];
        assert_eq!(unary(&mut sender, PUT, &headers, b"hello").await, ok(b"hello"));
        assert_eq!(unary(&mut sender, PUT, &[], b"").await, ok(b""));
        let script = world.script.borrow();
        let [FromClient::Call(call), FromClient::Call(_)] = &script.events[..] else {
            panic!("{:?}", script.events)
        };
        assert_eq!((call.method, &call.message[..]), (Method::Put, &b"hello"[..]));
        assert!(call.metadata.require_leader);
        assert_eq!(world.streams.open(), 0);
    });
}

#[test]
fn an_error_carries_its_code_and_text() {
    run(async {
        let (_world, mut sender) = connected().await;
        let answer = unary(&mut sender, "/etcdserverpb.KV/Compact", &[], b"x").await;
        assert_eq!(answer, ended(11, "50%25 %C3%A9"));
    });
}

#[test]
fn calls_that_come_together_are_one_batch() {
    run(async {
        let (world, mut sender) = connected().await;
        settle().await;
        let mut responses = Vec::new();
        for number in 0..100u32 {
            let response = ask(&mut sender, PUT, &[], &number.to_be_bytes());
            responses.push(response);
        }
        for (number, response) in responses.into_iter().enumerate() {
            assert_eq!(answer(response).await, ok(&(number as u32).to_be_bytes()));
        }
        let batches = &world.script.borrow().batches;
        assert_eq!(batches.iter().sum::<usize>(), 100);
        assert!(batches.len() <= 3, "{batches:?}");
    });
}

#[test]
fn large_messages_pass_both_ways() {
    run(async {
        let (_world, mut sender) = connected().await;
        for length in [16_000, 70_000, 1_500_000] {
            let (response, mut send) = open(&mut sender, "/etcdserverpb.KV/Txn", &[]);
            send.send_data(framed(&vec![1; length]), true).expect("the stream is open");
            let answer = answer(response).await;
            assert_eq!((answer.code, answer.body.len()), (0, length + 5));
        }
    });
}

#[test]
fn a_stream_goes_both_ways_and_survives_a_half_close() {
    run(async {
        let (world, mut sender) = connected().await;
        let (response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        send.send_data(framed(b"one"), false).expect("the stream is open");
        let mut recv = response.await.expect("the head comes with the first answer").into_body();
        assert_eq!(next_data(&mut recv).await, Some(framed(b"one")));
        // Two messages in one frame, the second cut in its middle.
        let both = [&framed(b"two")[..], &framed(b"bye")[..]].concat();
        let cut = both.len() - 2;
        send.send_data(Bytes::copy_from_slice(&both[..cut]), false).expect("open");
        assert_eq!(next_data(&mut recv).await, Some(framed(b"two")));
        send.send_data(Bytes::copy_from_slice(&both[cut..]), true).expect("open");
        assert_eq!(next_data(&mut recv).await, None);
        let trailers = recv.trailers().await.expect("the stream ends well").expect("trailers");
        assert_eq!(outcome(&trailers).0, 0);
        assert_eq!(world.streams.open(), 0);

        let (_response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        send.send_data(Bytes::new(), true).expect("the stream is open");
        settle().await;
        let last = world.script.borrow().events.last().cloned();
        assert!(matches!(last, Some(FromClient::HalfClosed { .. })), "{last:?}");
        assert_eq!(world.streams.open(), 1, "a half-closed stream stays open");
    });
}

#[test]
fn of_a_call_that_is_answered_nothing_more_is_told() {
    run(async {
        let (world, mut sender) = connected().await;
        let (response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        let all = [&framed(b"bye")[..], &framed(b"too late")[..]].concat();
        send.send_data(all.into(), true).expect("the stream is open");
        assert_eq!(answer(response).await.code, 0);
        settle().await;
        let script = world.script.borrow();
        assert_eq!(script.events.len(), 2, "the call and its first message: {:?}", script.events);
        assert_eq!(world.streams.open(), 0);
    });
}

#[test]
fn a_client_that_gives_up_is_told_to_the_services_once() {
    run(async {
        let (world, mut sender) = connected().await;
        let unary = ask(&mut sender, RANGE, &[], b"x");
        let (_stream, mut keep_alive) = open(&mut sender, KEEP_ALIVE, &[]);
        settle().await;
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (2, 0));
        drop(unary);
        settle().await;
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (1, 1));
        keep_alive.send_reset(h2::Reason::CANCEL);
        settle().await;
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (0, 2));
        world.script.borrow_mut().release();
        settle().await;
        assert_eq!(world.script.borrow().cancelled(), 2);
    });
}

#[test]
fn an_answered_call_is_not_cancelled_though_its_client_reads_nothing() {
    run(async {
        let (world, mut sender) = connected_without_room().await;
        let (response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        send.send_data(framed(b"one"), false).expect("the stream is open");
        let recv = response.await.expect("the head needs no window").into_body();
        send.send_data(framed(b"bye"), true).expect("the stream is open");
        settle().await;
        assert_eq!(world.streams.open(), 0, "the services gave their last reply");
        drop((recv, send));
        settle().await;
        assert_eq!(world.script.borrow().cancelled(), 0);
    });
}

#[test]
fn a_client_that_was_slow_gets_every_answer() {
    run(async {
        let (world, mut sender) = connected().await;
        let (response, mut send) = open(&mut sender, KEEP_ALIVE, &[]);
        let message = framed(&[3; 50 << 10]);
        for _ in 0..100 {
            send.send_data(message.clone(), false).expect("the stream is open");
        }
        settle().await;
        let read = world.script.borrow().events.len();
        assert!(read < 60, "{read} messages were read before an answer was");
        let mut recv = response.await.expect("the head comes").into_body();
        let mut received = 0;
        while received < 100 * message.len() {
            received += next_data(&mut recv).await.expect("more comes").len();
        }
        assert_eq!(received, 100 * message.len());
    });
}

#[test]
fn a_lost_connection_cancels_its_calls() {
    run(async {
        let (world, mut sender) = connected().await;
        let mut calls = Vec::new();
        for _ in 0..10 {
            let response = ask(&mut sender, RANGE, &[], b"x");
            calls.push(response);
        }
        settle().await;
        assert_eq!(world.streams.open(), 10);
        world.server.abort();
        settle().await;
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (0, 10));
        assert_eq!(world.streams.connections(), 0);
    });
}

#[test]
fn a_deadline_ends_a_call() {
    run(async {
        let (world, mut sender) = connected().await;
        let begin = tokio::time::Instant::now();
        let slow = [("grpc-timeout", "5S")];
        let response = ask(&mut sender, RANGE, &slow, b"x");
        let quick = unary(&mut sender, RANGE, &[("grpc-timeout", "300m")], b"x").await;
        assert_eq!(quick, ended(4, "context deadline exceeded"));
        assert_eq!(begin.elapsed().as_millis() / 10, 30);
        assert_eq!(answer(response).await, ended(4, "context deadline exceeded"));
        assert_eq!(begin.elapsed().as_secs(), 5);
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (0, 2));
        // A deadline that is not reached leaves nothing behind.
        assert_eq!(unary(&mut sender, PUT, &slow, b"x").await.code, 0);
        let _response = ask(&mut sender, RANGE, &[], b"x");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((world.streams.open(), world.script.borrow().cancelled()), (1, 2));
    });
}

#[test]
fn a_late_answer_to_a_slow_client_loses_nothing() {
    run(async {
        let (world, mut sender) = connected().await;
        let response = ask(&mut sender, RANGE, &[], b"x");
        settle().await;
        world.script.borrow_mut().release();
        assert_eq!(answer(response).await, ok(b"late"));
    });
}

#[test]
fn draining_finishes_open_calls_and_takes_no_more() {
    run(async {
        let (world, mut sender) = connected().await;
        let response = ask(&mut sender, RANGE, &[], b"x");
        settle().await;
        world.streams.drain();
        settle().await;
        assert!(!world.server.is_finished(), "a call is open");
        world.script.borrow_mut().release();
        assert_eq!(answer(response).await, ok(b"late"));
        settle().await;
        assert!(sender.ready().await.is_err(), "the client was told to go");
        assert!(world.server.await.expect("the task ends by itself").is_ok());
    });
}

#[test]
fn draining_ends_in_bounded_time() {
    run(async {
        let (world, mut sender) =
            connected_with(|options| options.drain_timeout = Duration::from_secs(3)).await;
        let response = ask(&mut sender, RANGE, &[], b"x");
        settle().await;
        let begin = tokio::time::Instant::now();
        world.streams.drain();
        assert_eq!(answer(response).await, ended(14, "etcdserver: server stopped"));
        assert!(world.server.await.expect("the task ends by itself").is_ok());
        assert_eq!(begin.elapsed().as_secs(), 3);
        assert_eq!(world.script.borrow().cancelled(), 1);
    });
}

#[test]
fn an_idle_client_that_answers_pings_stays() {
    run(async {
        let (world, mut sender) = connected_with(|options| {
            let keepalive = options.keepalive.as_mut().expect("it is on");
            keepalive.interval = Duration::from_secs(10);
            keepalive.timeout = Duration::from_secs(1);
        })
        .await;
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert_eq!(unary(&mut sender, PUT, &[], b"x").await.code, 0);
        assert!(!world.server.is_finished());
    });
}
