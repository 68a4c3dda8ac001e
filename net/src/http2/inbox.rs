//! Messages out of a call's DATA frames: gRPC's five-byte prefix, then as many bytes as it says.
//!
//! Leaves out flow control and what a message means. Laws: a message over the bound is refused at
//! its prefix; memory grows with what has arrived, never with what a prefix promises; a message is a
//! copy of its own, so that it does not hold the connection's receive buffer.
//!
//! Worked example: `00 00 00 00 02 61` gives nothing, one byte more, `62`, gives the message `ab`.

use bytes::Bytes;

use super::piece::PREFIX;
use crate::call::{Code, GrpcStatus};

/// What is reserved for a message, as a multiple of what has come of it.
const RESERVE_FACTOR: usize = 4;

/// How a message that came whole is copied.
pub(super) type Keep<'a> = dyn FnMut(&[u8]) -> Bytes + 'a;

/// One call's incoming bytes.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    prefix: [u8; PREFIX],
    prefix_len: usize,
    body: Vec<u8>,
}

/// What bounds a call's messages and how the client compresses them.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageRules<'a> {
    pub(super) bytes_max: usize,
    pub(super) encoding: Option<&'a str>,
}

impl Inbox {
    /// Whether a message has begun and is not whole.
    pub(super) fn is_cut(&self) -> bool {
        self.prefix_len > 0
    }

    /// Bytes of the message that has begun.
    pub(super) fn held(&self) -> usize {
        self.body.len()
    }

    /// The next whole message out of what `chunk` adds; `None` when all of it is used up. One that is
    /// whole in `chunk` is copied by `keep`.
    #[inline]
    pub(super) fn next(
        &mut self,
        chunk: &mut &[u8],
        rules: MessageRules<'_>,
        keep: &mut Keep<'_>,
    ) -> Result<Option<Bytes>, GrpcStatus> {
        if self.prefix_len < PREFIX {
            let count = chunk.len().min(PREFIX - self.prefix_len);
            self.prefix[self.prefix_len..self.prefix_len + count].copy_from_slice(&chunk[..count]);
            *chunk = &chunk[count..];
            self.prefix_len += count;
            if self.prefix_len < PREFIX {
                return Ok(None);
            }
            self.check_prefix(rules)?;
        }
        let wanted = self.length() - self.body.len();
        let (part, rest) = chunk.split_at(wanted.min(chunk.len()));
        if self.body.is_empty() && part.len() == wanted {
            *chunk = rest;
            self.prefix_len = 0;
            return Ok(Some(keep(part)));
        }
        if self.body.is_empty() && !part.is_empty() {
            // A guess that what came is a first frame of more; a prefix alone reserves nothing.
            self.body.reserve_exact(wanted.min(RESERVE_FACTOR * part.len()));
        }
        self.body.extend_from_slice(part);
        *chunk = rest;
        if part.len() < wanted {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.body).into()))
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// The texts are those of etcd's gRPC library.
    fn check_prefix(&self, rules: MessageRules<'_>) -> Result<(), GrpcStatus> {
        let (code, message) = match (self.prefix[0], self.length()) {
            (0, length) if length <= rules.bytes_max => return Ok(()),
            (0, length) => {
                let max = rules.bytes_max;
                let text = format!("grpc: received message larger than max ({length} vs. {max})");
                (Code::ResourceExhausted, text)
            }
            (1, _) => match rules.encoding {
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

    const RULES: MessageRules<'_> = MessageRules { bytes_max: 10, encoding: None };

    fn all(inbox: &mut Inbox, mut chunk: &[u8], rules: MessageRules<'_>) -> Vec<Bytes> {
        let next = || {
            inbox
                .next(&mut chunk, rules, &mut Bytes::copy_from_slice)
                .expect("these bytes are good")
        };
        let messages = std::iter::from_fn(next).collect();
        assert!(chunk.is_empty());
        messages
    }

    #[test]
    fn messages_survive_every_split() {
        let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut inbox = Inbox::default();
                let mut got = all(&mut inbox, &bytes[..first], RULES);
                got.extend(all(&mut inbox, &bytes[first..second], RULES));
                got.extend(all(&mut inbox, &bytes[second..], RULES));
                assert_eq!(got, [&b"abc"[..], b"", b"z"], "split at {first} and {second}");
                assert!(!inbox.is_cut());
            }
        }
    }

    #[test]
    fn a_cut_message_is_known() {
        let mut inbox = Inbox::default();
        assert_eq!(all(&mut inbox, b"\0\0\0\0\x02a", RULES), [] as [Bytes; 0]);
        assert!(inbox.is_cut());
        assert_eq!(inbox.held(), 1);
    }

    fn refusal(encoding: Option<&str>, mut bytes: &[u8]) -> (Code, String) {
        let rules = MessageRules { encoding, ..RULES };
        let next = Inbox::default().next(&mut bytes, rules, &mut Bytes::copy_from_slice);
        let status = next.expect_err("these bytes are bad");
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
        let mut inbox = Inbox::default();
        let rules = MessageRules { bytes_max: usize::MAX, encoding: None };
        assert!(all(&mut inbox, b"\0\xff\xff\xff\xffx", rules).is_empty());
        assert!(inbox.body.capacity() <= 64, "{}", inbox.body.capacity());
        let mut inbox = Inbox::default();
        assert!(all(&mut inbox, b"\0\xff\xff\xff\xff", rules).is_empty());
        assert_eq!(inbox.body.capacity(), 0);
    }
}
