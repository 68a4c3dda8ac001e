//! What HTTP/2 and gRPC cost a unary call on the server's side: our engine beside the `h2` crate, on
//! bytes in memory, with services that answer at once. No socket, no system call, no protobuf.
//!
//! The client's bytes are made beforehand: a put of 280 bytes a call, all header fields indexed, or
//! with a `grpc-timeout` written out each time, as clients with deadlines do. Many calls arrive in
//! one read. The `h2` side does what a server on that crate must: accept, read the data, release its
//! window, answer with a head, data and trailers. It does not even look at the headers.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use h2::server::{Connection as H2Connection, SendResponse};
use holdfast_core::time::Instant;
use holdfast_net::call::{FromClient, Reply, StreamId};
use holdfast_net::http2::{Connection, Http2Options, Names};
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The request message, and the answer's.
const REQUEST_BYTES: usize = 280;
const ANSWER: Bytes =
    Bytes::from_static(&[10, 4, 8, 1, 16, 2, 24, 7, 32, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// Bytes of a client: what it says first, then batches of calls.
struct Client {
    next: u32,
    timeout: bool,
    block: Vec<u8>,
}

impl Client {
    fn new(timeout: bool) -> Client {
        // Behind the first request these are one byte each: five fields in the dynamic table.
        let block = vec![0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];
        Client { next: 1, timeout, block }
    }

    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(out, 4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        frame(out, 8, 0, 0, &(0x7fff_ffff - 65_535_u32).to_be_bytes());
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", "/etcdserverpb.KV/Put"),
            (":authority", "127.0.0.1:2379"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.75.0"),
            ("te", "trailers"),
        ] {
            block.push(0x40);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.call(&block, out);
    }

    fn batch(&mut self, calls: usize, out: &mut Vec<u8>) {
        for _ in 0..calls {
            let mut block = self.block.clone();
            if self.timeout {
                block.extend_from_slice(b"\0\x0cgrpc-timeout\x054999m");
            }
            self.call(&block, out);
        }
    }

    fn call(&mut self, block: &[u8], out: &mut Vec<u8>) {
        frame(out, 1, 4, self.next, block);
        let mut data = vec![0, 0, 0, (REQUEST_BYTES >> 8) as u8, REQUEST_BYTES as u8];
        data.resize(5 + REQUEST_BYTES, 7);
        frame(out, 0, 1, self.next, &data);
        self.next += 2;
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A server that answers what it is given.
trait Server {
    fn new() -> Self;
    /// Gives how many calls were answered.
    fn serve(&mut self, bytes: &[u8]) -> usize;
}

struct Ours {
    connection: Connection,
    names: Slots,
    events: Vec<FromClient>,
}

/// Slots are names enough, as every call is answered before the next read.
struct Slots;

impl Names for Slots {
    fn name(&mut self, slot: u32) -> Option<StreamId> {
        Some(StreamId(u64::from(slot)))
    }
}

impl Server for Ours {
    fn new() -> Ours {
        let connection = Connection::new(Http2Options::default(), Instant(0));
        Ours { connection, names: Slots, events: Vec::new() }
    }

    fn serve(&mut self, bytes: &[u8]) -> usize {
        let mut answered = 0;
        for part in bytes.chunks(64 << 10) {
            self.connection.receive(Instant(0), part, &mut self.names);
            std::mem::swap(&mut self.events, self.connection.events());
            for event in self.events.drain(..) {
                let FromClient::Call(call) = event else { continue };
                let reply =
                    Reply::Message { stream: call.stream, message: ANSWER.into(), last: true };
                self.connection.reply(call.stream.0 as u32, reply);
                answered += 1;
            }
            self.connection.wrote(self.connection.output().len());
            // Its task asks before it sleeps.
            self.connection.deadline();
        }
        answered
    }
}

/// A pipe in memory: what is not there yet is pending, what is written is dropped.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<(Vec<u8>, usize)>>);

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (bytes, at) = &mut *self.0.borrow_mut();
        let count = buffer.remaining().min(bytes.len() - *at);
        if count == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&bytes[*at..*at + count]);
        *at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct H2 {
    pipe: Pipe,
    connection: Option<H2Connection<Pipe, Bytes>>,
}

impl Server for H2 {
    fn new() -> H2 {
        H2 { pipe: Pipe::default(), connection: None }
    }

    fn serve(&mut self, bytes: &[u8]) -> usize {
        *self.pipe.0.borrow_mut() = (bytes.to_vec(), 0);
        let mut cx = Context::from_waker(Waker::noop());
        let connection = self.connection.get_or_insert_with(|| {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
            let mut handshake = pin!(builder.handshake(self.pipe.clone()));
            match handshake.as_mut().poll(&mut cx) {
                Poll::Ready(connection) => connection.expect("the client speaks HTTP/2"),
                Poll::Pending => panic!("the preface is there"),
            }
        });
        let mut answered = 0;
        while let Poll::Ready(Some(call)) = connection.poll_accept(&mut cx) {
            let (request, respond) = call.expect("the client keeps the rules");
            let mut body = request.into_body();
            while let Poll::Ready(Some(data)) = body.poll_data(&mut cx) {
                let data = data.expect("the client keeps the rules");
                body.flow_control().release_capacity(data.len()).expect("it was received");
            }
            answer(respond);
            answered += 1;
        }
        answered
    }
}

fn answer(mut respond: SendResponse<Bytes>) {
    let response = Response::builder()
        .header("content-type", HeaderValue::from_static("application/grpc"))
        .body(())
        .expect("a legal response");
    let mut body = respond.send_response(response, false).expect("the stream is open");
    let mut message = Vec::with_capacity(5 + ANSWER.len());
    message.extend_from_slice(&[0, 0, 0, 0, ANSWER.len() as u8]);
    message.extend_from_slice(&ANSWER);
    body.send_data(message.into(), false).expect("the stream is open");
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers).expect("the stream is open");
}

fn run<S: Server>(rounds: u64, calls: usize, timeout: bool) -> Duration {
    let (mut client, mut server) = (Client::new(timeout), S::new());
    let mut bytes = Vec::new();
    client.hello(&mut bytes);
    server.serve(&bytes);
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        bytes.clear();
        client.batch(calls, &mut bytes);
        let begin = Clock::now();
        let answered = server.serve(&bytes);
        took += begin.elapsed();
        assert_eq!(answered, calls, "every call of the read is answered");
    }
    took
}

fn unary(criterion: &mut Criterion) {
    for timeout in [false, true] {
        let name = if timeout { "http2/unary_timeout" } else { "http2/unary_indexed" };
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20).measurement_time(Duration::from_secs(2));
        for calls in [1, 16, 64] {
            group.throughput(Throughput::Elements(calls));
            group.bench_with_input(BenchmarkId::new("ours", calls), &calls, |bencher, calls| {
                bencher.iter_custom(|rounds| run::<Ours>(rounds, *calls as usize, timeout));
            });
            group.bench_with_input(BenchmarkId::new("h2", calls), &calls, |bencher, calls| {
                bencher.iter_custom(|rounds| run::<H2>(rounds, *calls as usize, timeout));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, unary);
criterion_main!(benches);
