//! [`Runtime`] over madsim: its network, its tasks, its time as one member's clock shows it.
//!
//! madsim has one clock. A member sees it through a [`Clock`] of its own rate, in both directions:
//! what it reads, and how long a sleep of so many of its seconds truly takes.
//!
//! madsim's TCP differs from the kernel's, and [`Stream`] makes up for some of it: written bytes
//! leave at once (madsim holds them until a flush), and a flush sends nothing (madsim sends a
//! packet even for no bytes, so that two HTTP/2 ends would answer each other for ever). Left out,
//! because madsim has none of it: backpressure, half-closed connections, resets, connections that
//! time out.
//!
//! Worked example: a member whose clock runs at 1.02 sleeps for 1.02 of its seconds, and one true
//! second passes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_server::runtime::Runtime;
use holdfast_sim::clock::{Clock, Moment};
use madsim::net::{TcpListener, TcpStream};
use madsim::time::TimeHandle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer than any run; madsim cannot add the longest durations to its time.
const SLEEP_MAX: Duration = Duration::from_secs(100_000);

/// The true time, since the seed began.
pub fn truth() -> Moment {
    let elapsed = TimeHandle::current().elapsed();
    Moment(u64::try_from(elapsed.as_nanos()).expect("no seed lasts centuries"))
}

/// One node's view of madsim.
#[derive(Clone)]
pub struct MadsimRuntime {
    clock: Rc<Clock>,
}

impl MadsimRuntime {
    /// A node with this clock.
    pub fn new(clock: Clock) -> MadsimRuntime {
        MadsimRuntime { clock: Rc::new(clock) }
    }
}

impl Runtime for MadsimRuntime {
    type Stream = Stream;
    type Listener = TcpListener;

    fn now(&self) -> Instant {
        self.clock.read(truth())
    }

    async fn listen(&self, address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    async fn accept(&self, listener: &mut TcpListener) -> io::Result<Stream> {
        listener.accept().await.map(|(stream, _)| Stream(stream))
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        TcpStream::connect(address).await.map(Stream)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        madsim::task::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let end = self.clock.when(self.now() + duration.min(SLEEP_MAX));
        madsim::time::sleep(end.since(truth()))
    }
}

/// A connection of the simulated network.
pub struct Stream(TcpStream);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, bytes))?;
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
