//! The seam between the edge's asynchronous code and the world it runs in: a real runtime, or one
//! that a simulation owns. Everything runs on one thread; nothing here needs to be `Send`.

use std::future::Future;
use std::io;
use std::time::Duration;

use holdfast_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

/// Connections, tasks and time.
#[expect(async_fn_in_trait, reason = "every implementation runs on one thread")]
pub trait Runtime: Clone + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// Accepts connections.
    type Listener: 'static;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Opens a listener on `host:port`.
    ///
    /// # Errors
    /// Those of the system: the address is in use, or not of this machine.
    async fn listen(&self, address: &str) -> io::Result<Self::Listener>;

    /// The next connection.
    ///
    /// # Errors
    /// Those of the system; most concern one connection, and the next may be fine.
    async fn accept(&self, listener: &mut Self::Listener) -> io::Result<Self::Stream>;

    /// Opens a connection to `host:port`.
    ///
    /// # Errors
    /// Those of the system: nobody listens, or nobody answers.
    async fn connect(&self, address: &str) -> io::Result<Self::Stream>;

    /// Starts a task of this thread.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
}
