//! gRPC over HTTP/2: bytes of a connection in, calls out; replies in, bytes out.
//!
//! One task serves a connection with all its calls; nothing is spawned and nothing is sent between
//! tasks per call. The frames that one read brings are handled together, then the services are told
//! that the batch is over; the replies that are ready leave in one write. The `h2` crate carries
//! the frames, and nobody outside this module sees it.
//!
//! Leaves out: what is called ([`crate::call`] lists it), TLS, listening. Not possible over the
//! `h2` crate, which answers pings by itself and shows none: refusing clients that ping too often
//! ("too_many_pings").
//!
//! Laws: (1) each call the services hear of ends once: by their last reply or by `Cancelled`; (2)
//! every buffer is bounded: a request by `recv_bytes_max`, a stream's replies by the bound of
//! [`Streams`], headers by `header_bytes_max`, the rest by HTTP/2's windows; the exception are unary
//! answers, which the services budget; (3) no input panics.
//!
//! Worked example: 16 puts arrive in one read. `Services::handle` is called 16 times, then
//! `batch_end` once, which hands them to the driver. One flush later the driver gives 16 replies to
//! [`Streams::reply`]; the first wakes the connection's task, which writes all 16 at once.

mod bell;
mod connection;
mod head;
mod inbox;
mod keepalive;
mod open;
mod piece;
mod status;
mod streams;
mod wire;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::call::FromClient;
use connection::Connection;
use wire::Wire;

pub use keepalive::KeepaliveOptions;
pub use streams::{Streams, Taken};

/// Whoever answers calls; shared by all connections of a worker.
///
/// Called with the services borrowed; an implementation may call [`Streams::reply`] at any time,
/// also inside these.
pub trait Services {
    /// Something happened.
    fn handle(&mut self, event: FromClient);

    /// Everything that one wake-up brought was handled: time to hand a batch on.
    fn batch_end(&mut self);
}

/// What [`Timer::sleep`] gives.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// The world's clock, so that no runtime's timer is wired in.
pub trait Timer {
    /// Now.
    fn now(&self) -> Instant;

    /// Ready after this long.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// Bounds and periods of a connection.
#[derive(Clone)]
pub struct GrpcOptions {
    /// Largest request message; etcd: `--max-request-bytes` and 512 KiB.
    pub recv_bytes_max: usize,
    /// `--max-concurrent-streams`; `u32::MAX` is no limit.
    pub concurrent_streams_max: u32,
    /// Largest header list of a request.
    pub header_bytes_max: u32,
    /// What a client may send on one stream before it is read.
    pub stream_window: u32,
    /// Ditto, on all streams of a connection.
    pub connection_window: u32,
    /// How long a client may take to say that it speaks HTTP/2.
    pub handshake_timeout: Duration,
    /// How long open calls may take to end once the connection drains.
    pub drain_timeout: Duration,
    /// Pings to clients; `None` is none.
    pub keepalive: Option<KeepaliveOptions>,
    /// See [`Timer`].
    pub timer: Rc<dyn Timer>,
}

impl GrpcOptions {
    /// etcd's bounds where it has one.
    pub fn new(timer: Rc<dyn Timer>) -> GrpcOptions {
        GrpcOptions {
            recv_bytes_max: 1_572_864 + (512 << 10),
            concurrent_streams_max: u32::MAX,
            header_bytes_max: 64 << 10,
            stream_window: 1 << 20,
            connection_window: 16 << 20,
            handshake_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
            keepalive: Some(KeepaliveOptions {
                interval: Duration::from_secs(2 * 3600),
                timeout: Duration::from_secs(20),
            }),
            timer,
        }
    }

    fn builder(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_header_list_size(self.header_bytes_max)
            // A batch of cancellations behind their requests is honest; floods are far above this.
            .max_pending_accept_reset_streams(256);
        if self.concurrent_streams_max != u32::MAX {
            builder.max_concurrent_streams(self.concurrent_streams_max);
        }
        builder
    }
}

/// Why a connection ended badly.
#[derive(Debug)]
pub enum ServeError {
    /// No HTTP/2 preface and settings in time.
    HandshakeTimeout,
    /// No answer to a ping in time.
    KeepaliveTimeout,
    /// The client broke HTTP/2's rules, or the connection broke.
    Http2(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::HandshakeTimeout => {
                f.write_str("the client connected and then did not say that it speaks HTTP/2")
            }
            ServeError::KeepaliveTimeout => {
                f.write_str("the client did not answer a keepalive ping; it is taken for gone")
            }
            ServeError::Http2(why) => write!(f, "the client's HTTP/2 connection broke: {why}"),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<h2::Error> for ServeError {
    fn from(error: h2::Error) -> ServeError {
        ServeError::Http2(error.to_string())
    }
}

/// Serves one connection until it is over; `first` was read from it before (see [`crate::sniff`]).
pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    first: Bytes,
    services: Rc<RefCell<dyn Services>>,
    streams: Rc<Streams>,
    options: GrpcOptions,
) -> Result<(), ServeError> {
    let mut handshake = pin!(options.builder().handshake(Wire::new(io, first)));
    let mut patience = options.timer.sleep(options.handshake_timeout);
    let h2 = poll_fn(|cx| {
        if let Poll::Ready(done) = handshake.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(ServeError::from));
        }
        patience.as_mut().poll(cx).map(|()| Err(ServeError::HandshakeTimeout))
    })
    .await?;
    drop(patience);
    let mut connection = Connection::new(h2, services, streams, options);
    poll_fn(|cx| connection.poll(cx)).await
}
