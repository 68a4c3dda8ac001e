//! A unary call through the gRPC transport: services that answer at once, one TCP connection, the server
//! on a thread of its own.
//!
//! `grpc/wall` is what the calls took, client included; the client costs as much again. `grpc/server`
//! is the CPU time that the server's thread spent on them, which is what counts.
//!
//! Leaves out conversion, consensus and the disk. The client is the `h2` crate's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant as Clock};

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use h2::client::SendRequest;
use holdfast_core::time::Instant;
use holdfast_net::call::{FromClient, Reply};
use holdfast_net::grpc::{GrpcOptions, Services, Sleep, Streams, Timer, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// Calls in flight.
const IN_FLIGHT: [u64; 2] = [1, 256];

/// Bytes of a request: about a small put.
const REQUEST_BYTES: usize = 280;

/// Answers everything at once.
struct Null(Rc<Streams>);

impl Services for Null {
    fn handle(&mut self, event: FromClient) {
        if let FromClient::Call(call) = event {
            let message = Bytes::from_static(&[10, 4, 8, 1, 16, 2]);
            self.0.reply(Reply::Message {
                stream: call.stream,
                message: message.into(),
                last: true,
            });
        }
    }

    fn batch_end(&mut self) {}
}

/// The time since the server began.
struct Since(Clock);

impl Timer for Since {
    fn now(&self) -> Instant {
        Instant(self.0.elapsed().as_nanos() as u64)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// Serves one connection; tells first where it listens and which thread it is.
fn server(tell: &mpsc::Sender<(SocketAddr, String)>) {
    LocalSet::new().block_on(&runtime(), async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let thread = std::fs::read_link("/proc/thread-self").expect("Linux has it");
        let address = listener.local_addr().expect("it is bound");
        let told = tell.send((address, format!("/proc/{}/schedstat", thread.display())));
        told.expect("the bench waits for it");
        let (io, _) = listener.accept().await.expect("a client comes");
        io.set_nodelay(true).expect("TCP has it");
        let streams = Rc::new(Streams::new(0, 1 << 20));
        let services = Rc::new(RefCell::new(Null(streams.clone())));
        let options = GrpcOptions::new(Rc::new(Since(Clock::now())));
        // The client goes when the bench is over, and how does not matter.
        let _ = serve(io, Bytes::new(), services, streams, options).await;
    });
}

struct Rig {
    runtime: Runtime,
    tasks: LocalSet,
    sender: SendRequest<Bytes>,
    /// The file that tells the CPU time of the server's thread.
    server: String,
    message: Bytes,
}

impl Rig {
    fn new() -> Rig {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || server(&tell));
        let (address, server) = told.recv().expect("the server starts");
        let (runtime, tasks) = (runtime(), LocalSet::new());
        let sender = tasks.block_on(&runtime, async move {
            let io = TcpStream::connect(address).await.expect("the server listens");
            io.set_nodelay(true).expect("TCP has it");
            let mut builder = h2::client::Builder::new();
            // The client half of the crate takes more than a hundred small answers in one read for a
            // flood, unless told otherwise.
            builder.initial_max_send_streams(1000).data_frame_budget(64 << 20);
            let handshake = builder.handshake(io).await;
            let (sender, connection) = handshake.expect("the server speaks HTTP/2");
            tokio::task::spawn_local(connection);
            sender
        });
        Rig { runtime, tasks, sender, server, message: framed(&[7; REQUEST_BYTES]) }
    }

    /// Makes `calls` calls, so many at a time.
    fn calls(&self, calls: u64, in_flight: u64) {
        self.tasks.block_on(&self.runtime, async {
            let each = |at| calls / in_flight + u64::from(at < calls % in_flight);
            let clients = (0..in_flight).map(|at| {
                let (sender, message) = (self.sender.clone(), self.message.clone());
                tokio::task::spawn_local(call_many(sender, message, each(at)))
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.expect("no call fails");
            }
        });
    }

    fn server_cpu(&self) -> Duration {
        let text = std::fs::read_to_string(&self.server).expect("the server's thread runs");
        let nanos = text.split(' ').next().expect("CPU time comes first");
        Duration::from_nanos(nanos.parse().expect("nanoseconds"))
    }
}

async fn call_many(sender: SendRequest<Bytes>, message: Bytes, calls: u64) {
    for _ in 0..calls {
        let request = http::Request::post("http://server/etcdserverpb.KV/Put")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a legal request");
        let mut sender = sender.clone().ready().await.expect("the connection is open");
        let (response, mut send) = sender.send_request(request, false).expect("it is ready");
        send.send_data(message.clone(), true).expect("the stream is open");
        let mut body = response.await.expect("an answer comes").into_body();
        while let Some(data) = body.data().await {
            let len = data.expect("the stream is good").len();
            body.flow_control().release_capacity(len).expect("it was received");
        }
        let trailers = body.trailers().await.expect("it ends well").expect("gRPC has trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }
}

/// With gRPC's prefix.
fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

fn calls(criterion: &mut Criterion) {
    let rig = Rig::new();
    for measured in ["wall", "server"] {
        let mut group = criterion.benchmark_group(format!("grpc/{measured}"));
        group.sample_size(20).measurement_time(Duration::from_secs(3));
        group.throughput(Throughput::Elements(1));
        for in_flight in IN_FLIGHT {
            group.bench_function(BenchmarkId::from_parameter(in_flight), |bencher| {
                bencher.iter_custom(|rounds| {
                    let (begun, before) = (Clock::now(), rig.server_cpu());
                    rig.calls(rounds, in_flight);
                    match measured {
                        "wall" => begun.elapsed(),
                        _ => rig.server_cpu() - before,
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
