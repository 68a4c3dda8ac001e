//! A connection as hyper wants it: tokio's traits, the bytes that were read before it came, and a
//! note of whether anything has arrived since the last request.
//!
//! Worked example: after `GE` was sniffed and `T / …` follows, hyper reads `GE` first.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether bytes have arrived since it was last cleared.
#[derive(Debug, Default)]
pub struct Reads(Cell<bool>);

impl Reads {
    /// Whether any have.
    pub fn is_some(&self) -> bool {
        self.0.get()
    }

    /// What has arrived so far was a request.
    pub fn clear(&self) {
        self.0.set(false);
    }
}

/// See the module.
pub struct Prefixed<T> {
    io: T,
    first: Bytes,
    reads: std::rc::Rc<Reads>,
}

impl<T> Prefixed<T> {
    /// `first` comes before what `io` gives.
    pub fn new(io: T, first: Bytes, reads: std::rc::Rc<Reads>) -> Prefixed<T> {
        Prefixed { io, first, reads }
    }
}

impl<T: AsyncRead + Unpin> rt::Read for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(into.remaining());
            into.put_slice(&self.first[..count]);
            self.first.advance(count);
            self.reads.0.set(true);
            return Poll::Ready(Ok(()));
        }
        // One copy more than needed, of a request's head; the way without it is unsafe.
        let mut chunk = [0; 4096];
        let size = chunk.len().min(into.remaining());
        let mut buffer = ReadBuf::new(&mut chunk[..size]);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        if !buffer.filled().is_empty() {
            self.reads.0.set(true);
        }
        into.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> rt::Write for Prefixed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
