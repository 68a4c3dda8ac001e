//! gRPC on a socket: one task for a connection with all its calls, around the state machine of
//! [`crate::http2`].
//!
//! Nothing is spawned and nothing is sent between tasks per call. The frames that one read brings are
//! handled together, then the services are told that the batch is over; the replies that are ready
//! leave in one write.
//!
//! Leaves out what is called ([`crate::call`] lists it), TLS, listening.
//!
//! Laws: (1) each call the services hear of ends once: by their last reply or by `Cancelled`; (2)
//! every buffer is bounded ([`Http2Options`]), but for unary answers, which the services budget; (3)
//! no input panics.
//!
//! Worked example: 16 puts arrive in one read. `Services::handle` is called 16 times, then
//! `batch_end` once, which hands them to the driver. One flush later the driver gives 16 replies to
//! [`Streams::reply`]; the first wakes the connection's task, which writes all 16 at once.

mod connection;
mod streams;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::call::FromClient;
use connection::Task;

pub use crate::http2::{Http2Options, KeepaliveOptions, Taken};
pub use streams::Streams;

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

/// Bounds and periods of a connection, and its clock.
#[derive(Clone)]
pub struct GrpcOptions {
    http2: Http2Options,
    timer: Rc<dyn Timer>,
}

impl GrpcOptions {
    /// etcd's bounds where it has one.
    pub fn new(timer: Rc<dyn Timer>) -> GrpcOptions {
        GrpcOptions { http2: Http2Options::default(), timer }
    }
}

/// They are HTTP/2's, so that callers set them here.
impl Deref for GrpcOptions {
    type Target = Http2Options;

    fn deref(&self) -> &Http2Options {
        &self.http2
    }
}

impl DerefMut for GrpcOptions {
    fn deref_mut(&mut self) -> &mut Http2Options {
        &mut self.http2
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

/// Serves one connection until it is over; `first` was read from it before (see [`crate::sniff`]).
///
/// # Errors
/// What the client did wrong, or what became of the socket. Nothing has to be done about it.
pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    first: Bytes,
    services: Rc<RefCell<dyn Services>>,
    streams: Rc<Streams>,
    options: GrpcOptions,
) -> Result<(), ServeError> {
    let GrpcOptions { http2, timer } = options;
    let post = streams.join(http2, timer.now());
    let mut task = Task::new(io, post, services, (streams, timer));
    task.receive(&first);
    poll_fn(|cx| task.poll(cx)).await
}
