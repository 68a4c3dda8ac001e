//! A server with scripted services, and a client on the `h2` crate.
//!
//! What the services do is told by the method: `Put` echoes at once; `Range` never answers; `Txn`
//! answers its message's length in zero bytes; `DeleteRange` sends for ever and heeds nothing;
//! `LeaseKeepAlive` echoes each message; `Watch` sends 10 KiB messages for as long as it may.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use holdfast_core::time::Instant;
use holdfast_net::call::{Code, FromClient, GrpcStatus, Method, Reply, StreamId};
use holdfast_net::grpc::{GrpcOptions, ServeError, Services, Sleep, Streams, Taken, Timer, serve};
use http::{HeaderMap, Request};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// tokio's clock, paused or not.
pub struct Clock(pub tokio::time::Instant);

impl Timer for Clock {
    fn now(&self) -> Instant {
        Instant(self.0.elapsed().as_nanos() as u64)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// See the head of this file.
pub struct Script {
    streams: Rc<Streams>,
    pub events: Vec<FromClient>,
    /// Number of events in each batch.
    pub batches: Vec<usize>,
    since: usize,
    pub flood_bytes: usize,
    watch: Option<StreamId>,
    held: Vec<StreamId>,
}

impl Script {
    pub fn cancelled(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, FromClient::Cancelled { .. })).count()
    }

    /// Answers what `Range` holds back.
    pub fn release(&mut self) {
        for stream in self.held.drain(..) {
            self.streams.reply(Reply::Message { stream, message: "late".into(), last: true });
        }
    }

    fn flood(&mut self) {
        let Some(stream) = self.watch else { return };
        for _ in 0..10_000 {
            let message = Bytes::from(vec![7; 10 << 10]);
            self.flood_bytes += message.len();
            if self.streams.reply(Reply::Message { stream, message: message.into(), last: false })
                != Taken::Yes
            {
                return;
            }
        }
    }
}

impl Services for Script {
    fn handle(&mut self, event: FromClient) {
        self.since += 1;
        match &event {
            FromClient::Call(call) => {
                let (stream, message) = (call.stream, call.message.clone());
                match call.method {
                    Method::Put => {
                        self.streams.reply(Reply::Message {
                            stream,
                            message: message.into(),
                            last: true,
                        });
                    }
                    Method::Txn => {
                        let message = Bytes::from(vec![0; message.len()]);
                        self.streams.reply(Reply::Message {
                            stream,
                            message: message.into(),
                            last: true,
                        });
                    }
                    Method::Compact => {
                        let status =
                            GrpcStatus { code: Code::OutOfRange, message: "50% é".into() };
                        self.streams.reply(Reply::End { stream, status });
                    }
                    Method::Watch => {
                        self.watch = Some(stream);
                        self.flood();
                    }
                    Method::Range => self.held.push(stream),
                    Method::DeleteRange => {
                        for _ in 0..1000 {
                            let message = Bytes::from(vec![7; 10 << 10]);
                            self.streams.reply(Reply::Message {
                                stream,
                                message: message.into(),
                                last: false,
                            });
                        }
                    }
                    _ => {}
                }
            }
            FromClient::Message { stream, message } => {
                let (stream, message) = (*stream, message.clone());
                if &message[..] == b"bye" {
                    let status = GrpcStatus { code: Code::Ok, message: String::new() };
                    self.streams.reply(Reply::End { stream, status });
                } else {
                    self.streams.reply(Reply::Message {
                        stream,
                        message: message.into(),
                        last: false,
                    });
                }
            }
            FromClient::Writable { .. } => self.flood(),
            FromClient::HalfClosed { .. } | FromClient::Cancelled { .. } => {}
        }
        self.events.push(event);
    }

    fn batch_end(&mut self) {
        self.batches.push(std::mem::take(&mut self.since));
    }
}

/// A server of one connection.
pub struct World {
    pub script: Rc<RefCell<Script>>,
    pub streams: Rc<Streams>,
    pub server: JoinHandle<Result<(), ServeError>>,
}

/// Starts a server and gives the client's end of its connection.
pub fn start(change: impl FnOnce(&mut GrpcOptions)) -> (World, DuplexStream) {
    start_wide(256 << 10, change)
}

/// The same over a pipe that holds so many bytes.
pub fn start_wide(pipe: usize, change: impl FnOnce(&mut GrpcOptions)) -> (World, DuplexStream) {
    let (client, server) = tokio::io::duplex(pipe);
    let mut options = GrpcOptions::new(Rc::new(Clock(tokio::time::Instant::now())));
    change(&mut options);
    let streams = Rc::new(Streams::new(0, 1 << 20));
    let script = Script {
        streams: streams.clone(),
        events: Vec::new(),
        batches: Vec::new(),
        since: 0,
        flood_bytes: 0,
        watch: None,
        held: Vec::new(),
    };
    let script = Rc::new(RefCell::new(script));
    let serving = serve(server, Bytes::new(), script.clone(), streams.clone(), options);
    let server = tokio::task::spawn_local(serving);
    (World { script, streams, server }, client)
}

/// An HTTP/2 client on the other end.
pub async fn client(io: DuplexStream) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_max_send_streams(1000)
        // Larger than a stream's, so that one slow stream does not close the connection's window.
        .initial_connection_window_size(1 << 20)
        .handshake(io)
        .await
        .expect("the server speaks HTTP/2");
    tokio::task::spawn_local(async move {
        // The end of a connection is what some tests are about; they look at it from the server.
        let _ = connection.await;
    });
    sender.ready().await.expect("the connection is open")
}

/// A server with the options of every day, and a client that is connected to it.
pub async fn connected() -> (World, SendRequest<Bytes>) {
    connected_with(|_| {}).await
}

/// As [`connected`], with other options.
pub async fn connected_with(change: impl FnOnce(&mut GrpcOptions)) -> (World, SendRequest<Bytes>) {
    let (world, io) = start(change);
    (world, client(io).await)
}

/// As [`connected`]; the client leaves no room for any answer.
pub async fn connected_without_room() -> (World, SendRequest<Bytes>) {
    let (world, io) = start(|_| {});
    let mut builder = h2::client::Builder::new();
    let handshake = builder.initial_window_size(0).handshake(io).await;
    let (sender, connection) = handshake.expect("the server speaks HTTP/2");
    tokio::task::spawn_local(connection);
    (world, sender)
}

/// With gRPC's prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

pub fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let uri = format!("http://server{path}");
    let mut request =
        Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a legal request")
}

/// Opens a call.
pub fn open(
    sender: &mut SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
) -> (ResponseFuture, SendStream<Bytes>) {
    sender.send_request(request(path, headers), false).expect("the connection is open")
}

/// Makes a unary call: its one message, and no more.
pub fn ask(
    sender: &mut SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> ResponseFuture {
    let (response, mut send) = open(sender, path, headers);
    send.send_data(framed(message), true).expect("the stream is open");
    response
}

/// What a unary call came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub http: u16,
    pub body: Vec<u8>,
    pub code: i32,
    pub message: String,
}

pub async fn answer(response: ResponseFuture) -> Answer {
    let response = response.await.expect("an answer comes");
    let (head, mut recv) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = next_data(&mut recv).await {
        body.extend_from_slice(&data);
    }
    let trailers = recv.trailers().await.expect("the stream ends well");
    let last = trailers.as_ref().unwrap_or(&head.headers);
    let (code, message) = outcome(last);
    Answer { http: head.status.as_u16(), body, code, message }
}

pub async fn next_data(recv: &mut RecvStream) -> Option<Bytes> {
    let data = recv.data().await?.expect("the stream is good");
    recv.flow_control().release_capacity(data.len()).expect("it was received");
    Some(data)
}

pub fn outcome(headers: &HeaderMap) -> (i32, String) {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().expect("ASCII"));
    (text("grpc-status").parse().unwrap_or(-1), text("grpc-message").to_string())
}

/// A whole unary call.
pub async fn unary(
    sender: &mut SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> Answer {
    answer(ask(sender, path, headers, message)).await
}

/// Lets the other tasks run until they have nothing left to do.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test in a world of one thread with a clock that jumps when all sleep.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime starts");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let limit = Duration::from_secs(600);
        tokio::time::timeout(limit, test).await.expect("nothing hangs");
    });
}
