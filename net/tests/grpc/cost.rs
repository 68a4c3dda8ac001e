//! What a call costs: `cargo test --release -p holdfast-net --test grpc -- --ignored --nocapture`.
//!
//! Services that answer at once, one TCP connection, the server on its own thread; the client is on
//! another and costs as much again, so the server's CPU time is what counts.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use holdfast_net::call::{FromClient, Reply};
use holdfast_net::grpc::{GrpcOptions, Services, Streams, serve};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Clock, answer, framed, open};

const STREAMS: usize = 256;
const CALLS: usize = 400_000;

/// Answers everything at once.
struct Null(Rc<Streams>);

impl Services for Null {
    fn handle(&mut self, event: FromClient) {
        if let FromClient::Call(call) = event {
            let message = Bytes::from_static(&[10, 4, 8, 1, 16, 2]);
            self.0.reply(Reply::Message { stream: call.stream, message, last: true });
        }
    }

    fn batch_end(&mut self) {}
}

/// CPU time of this thread so far, in ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
    let fields = stat.rsplit_once(") ").expect("the name ends so").1;
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().block_on(&runtime(), test);
}

async fn serve_one(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("it is non-blocking");
    let (io, _) = listener.accept().await.expect("a client comes");
    io.set_nodelay(true).expect("TCP has it");
    let streams = Rc::new(Streams::new(0, 1 << 20));
    let services = Rc::new(RefCell::new(Null(streams.clone())));
    let options = GrpcOptions::new(Rc::new(Clock(tokio::time::Instant::now())));
    let before = cpu_ticks();
    let _ = serve(io, Bytes::new(), services, streams, options).await;
    let us = (cpu_ticks() - before) as f64 * 10_000.0 / CALLS as f64;
    println!("server CPU: {us:.2} us a call");
}

async fn call_many(address: std::net::SocketAddr) {
    let io = TcpStream::connect(address).await.expect("the server listens");
    io.set_nodelay(true).expect("TCP has it");
    let mut builder = h2::client::Builder::new();
    // The client half of the crate takes more than a hundred small answers in one read for a flood,
    // unless told otherwise.
    builder.initial_max_send_streams(1000).data_frame_budget(64 << 20);
    let (sender, connection) = builder.handshake(io).await.expect("the server speaks HTTP/2");
    tokio::task::spawn_local(connection);
    let message = framed(&[7; 280]);
    let begin = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        let (mut sender, message) = (sender.clone(), message.clone());
        clients.push(tokio::task::spawn_local(async move {
            for _ in 0..CALLS / STREAMS {
                let (response, mut send) = open(&mut sender, "/etcdserverpb.KV/Put", &[]);
                send.send_data(message.clone(), true).expect("the stream is open");
                assert_eq!(answer(response).await.code, 0);
            }
        }));
    }
    for client in clients {
        client.await.expect("no panic");
    }
    println!("wall: {:.2} us a call", begin.elapsed().as_micros() as f64 / CALLS as f64);
}

#[test]
#[ignore = "measures; run by hand in release"]
fn cost_of_a_call() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("TCP has it");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::spawn(move || local(serve_one(listener)));
    local(call_many(address));
    server.join().expect("no panic");
}
