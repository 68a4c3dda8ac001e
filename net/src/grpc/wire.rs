//! A byte stream as the `h2` crate shall see it: what the port's sniffing has read comes first, and
//! a flush without bytes never reaches the transport (madsim's sends a packet for each, so two ends
//! that flush would keep each other awake for ever).
//!
//! Worked example: sniffing read the 24 bytes of the preface; `Wire::new(io, preface)` gives them to
//! the first read, and what `io` has to the second.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream with bytes that were read before.
pub(super) struct Wire<IO> {
    io: IO,
    first: Bytes,
    unflushed: bool,
}

impl<IO> Wire<IO> {
    /// `first` comes before what `io` still gives.
    pub(super) fn new(io: IO, first: Bytes) -> Wire<IO> {
        Wire { io, first, unflushed: false }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..count]);
        self.first.advance(count);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.unflushed = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Counts flushes.
    struct Pipe(tokio::io::DuplexStream, usize);

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn what_was_sniffed_comes_first_and_whole() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b"second").await.expect("the pipe takes it");
        drop(far);
        let mut wire = Wire::new(near, Bytes::from_static(b"first"));
        let mut two = [0; 2];
        wire.read_exact(&mut two).await.expect("five bytes are there");
        let mut rest = Vec::new();
        wire.read_to_end(&mut rest).await.expect("the pipe ends");
        assert_eq!([&two[..], &rest].concat(), b"firstsecond");
    }

    #[tokio::test]
    async fn a_flush_without_bytes_is_none() {
        let (_far, near) = tokio::io::duplex(64);
        let mut wire = Wire::new(Pipe(near, 0), Bytes::new());
        wire.flush().await.expect("nothing to do");
        wire.write_all(b"x").await.expect("the pipe takes it");
        wire.flush().await.expect("the pipe flushes");
        wire.flush().await.expect("nothing to do");
        assert_eq!(wire.io.1, 1);
    }
}
