//! [`Runtime`] on tokio: a current-thread runtime and its local tasks.

use std::future::Future;
use std::io;
use std::time::Duration;

use holdfast_core::time::Instant;
use rustix::net::sockopt;
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
        prepared(stream)
    }

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        prepared(TcpStream::connect(address).await?)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

/// A connection that sends at once what it is given. Within one machine nothing is lost and nothing queues,
/// so a system-wide BBR, which paces with a timer each 64 KiB, is left for Reno there: a fifth of the CPU of a
/// range of 10,000 keys, two fifths of a megabyte of pods. Elsewhere the system's choice stands.
fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if is_local && sockopt::tcp_congestion(&stream).is_ok_and(|name| name.starts_with("bbr")) {
        // Where the system forbids the change the connection works as well.
        let _ = sockopt::set_tcp_congestion(&stream, "reno");
    }
    Ok(stream)
}
