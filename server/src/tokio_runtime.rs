//! [`Runtime`] on tokio: a current-thread runtime and its local tasks.

use std::future::Future;
use std::io;
use std::time::Duration;

use holdfast_core::time::Instant;
use tokio::net::{TcpListener, TcpStream};

use crate::runtime::Runtime;

/// The real world. Instants count from its creation.
#[derive(Clone, Copy, Debug)]
pub struct TokioRuntime {
    origin: std::time::Instant,
}

impl TokioRuntime {
    /// A clock that starts now.
    pub fn new() -> TokioRuntime {
        TokioRuntime { origin: std::time::Instant::now() }
    }
}

impl Default for TokioRuntime {
    fn default() -> TokioRuntime {
        TokioRuntime::new()
    }
}

impl Runtime for TokioRuntime {
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    async fn listen(&self, address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    async fn accept(&self, listener: &mut TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}
