//! Messages out of a call's DATA frames: gRPC's five-byte prefix, then as many bytes as it says.
//!
//! Leaves out flow control and what a message means. Laws: a message over the bound is refused at
//! its prefix; memory grows with what has arrived, never with what a prefix promises; a message
//! below 16 KiB is copied, so that it does not hold the connection's receive buffer.
//!
//! Worked example: `00 00 00 00 02 61` gives nothing, one byte more, `62`, gives the message `ab`.

use bytes::{Buf, Bytes, BytesMut};

use super::piece::PREFIX;
use crate::call::{Code, GrpcStatus};

/// From this size on a message is a slice of the receive buffer when it arrived in one frame.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// What a prefix alone may reserve.
const RESERVE_MAX: usize = 64 << 10;

/// One call's incoming bytes.
#[derive(Debug)]
pub(super) struct Inbox {
    chunk: Bytes,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    body: BytesMut,
    message_max: usize,
    encoding: Option<String>,
}

impl Inbox {
    /// `encoding` is the call's `grpc-encoding`, for the error text.
    pub(super) fn new(message_max: usize, encoding: Option<String>) -> Inbox {
        Inbox {
            chunk: Bytes::new(),
            prefix: [0; PREFIX],
            prefix_len: 0,
            body: BytesMut::new(),
            message_max,
            encoding,
        }
    }

    /// Adds a frame's data. Only after [`Inbox::next`] had no more.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the last chunk was used up");
        self.chunk = chunk;
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn is_cut(&self) -> bool {
        self.prefix_len > 0
    }

    /// The next whole message; `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, GrpcStatus> {
        if self.prefix_len < PREFIX {
            let count = self.chunk.len().min(PREFIX - self.prefix_len);
            let to = &mut self.prefix[self.prefix_len..self.prefix_len + count];
            self.chunk.copy_to_slice(to);
            self.prefix_len += count;
            if self.prefix_len < PREFIX {
                return Ok(None);
            }
            self.check_prefix()?;
        }
        let wanted = self.length() - self.body.len();
        if self.body.is_empty() && self.chunk.len() >= wanted {
            self.prefix_len = 0;
            let message = self.chunk.split_to(wanted);
            let small = wanted < SHARED_BYTES_MIN;
            return Ok(Some(if small { Bytes::copy_from_slice(&message) } else { message }));
        }
        if self.body.is_empty() {
            self.body.reserve(wanted.min(RESERVE_MAX));
        }
        let part = self.chunk.split_to(wanted.min(self.chunk.len()));
        self.body.extend_from_slice(&part);
        if part.len() < wanted {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.body).freeze()))
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// The texts are those of etcd's gRPC library.
    fn check_prefix(&self) -> Result<(), GrpcStatus> {
        let (code, message) = match (self.prefix[0], self.length()) {
            (0, length) if length <= self.message_max => return Ok(()),
            (0, length) => {
                let max = self.message_max;
                let text = format!("grpc: received message larger than max ({length} vs. {max})");
                (Code::ResourceExhausted, text)
            }
            (1, _) => match self.encoding.as_deref() {
                None | Some("identity") => (
                    Code::Internal,
                    "grpc: compressed flag set with identity or empty encoding".to_string(),
                ),
                Some(name) => (
                    Code::Unimplemented,
                    format!("grpc: Decompressor is not installed for grpc-encoding {name:?}"),
                ),
            },
            (flag, _) => {
                (Code::Internal, format!("grpc: received unexpected payload format {flag}"))
            }
        };
        Err(GrpcStatus { code, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(inbox: &mut Inbox, chunk: &[u8]) -> Vec<Bytes> {
        inbox.push(Bytes::copy_from_slice(chunk));
        std::iter::from_fn(|| inbox.next().expect("these bytes are good")).collect()
    }

    #[test]
    fn messages_survive_every_split() {
        let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut inbox = Inbox::new(10, None);
                let mut got = all(&mut inbox, &bytes[..first]);
                got.extend(all(&mut inbox, &bytes[first..second]));
                got.extend(all(&mut inbox, &bytes[second..]));
                assert_eq!(got, [&b"abc"[..], b"", b"z"], "split at {first} and {second}");
                assert!(!inbox.is_cut());
            }
        }
    }

    #[test]
    fn a_cut_message_is_known() {
        let mut inbox = Inbox::new(10, None);
        assert_eq!(all(&mut inbox, b"\0\0\0\0\x02a"), [] as [Bytes; 0]);
        assert!(inbox.is_cut());
    }

    fn refusal(encoding: Option<&str>, bytes: &[u8]) -> (Code, String) {
        let mut inbox = Inbox::new(10, encoding.map(String::from));
        inbox.push(Bytes::copy_from_slice(bytes));
        let status = inbox.next().expect_err("these bytes are bad");
        (status.code, status.message)
    }

    #[test]
    fn bad_prefixes_are_refused_at_once() {
        let large = refusal(None, b"\0\0\0\0\x0b");
        let text = "grpc: received message larger than max (11 vs. 10)".to_string();
        assert_eq!(large, (Code::ResourceExhausted, text));
        let gzip = refusal(Some("gzip"), b"\x01\0\0\0\x01");
        let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"".to_string();
        assert_eq!(gzip, (Code::Unimplemented, text));
        assert_eq!(refusal(None, b"\x01\0\0\0\x01").0, Code::Internal);
        assert_eq!(refusal(None, b"\x07\0\0\0\x01").0, Code::Internal);
    }

    #[test]
    fn a_promise_reserves_little() {
        let mut inbox = Inbox::new(usize::MAX, None);
        assert!(all(&mut inbox, b"\0\xff\xff\xff\xffx").is_empty());
        assert!(inbox.body.capacity() <= 2 * RESERVE_MAX);
    }
}
