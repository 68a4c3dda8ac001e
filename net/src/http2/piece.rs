//! A message that waits to be sent: gRPC's five-byte prefix and the message, and how far it is sent.
//!
//! Leaves out compression: the flag is always 0. A message that has to wait is not copied until its
//! time comes; one that need not wait never becomes a piece.
//!
//! Worked example: the message `ab` is the piece `00 00 00 00 02 61 62`; `write(6)` leaves `62`.

use super::outbox::Outbox;
use crate::payload::Payload;

/// Length of gRPC's message prefix: a flag and a big-endian length.
pub(super) const PREFIX: usize = 5;

/// The prefix of a message of so many bytes.
#[inline]
pub(super) fn prefix(length: usize) -> [u8; PREFIX] {
    let length = u32::try_from(length).expect("services answer with less than 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// What is left to send of a message.
#[derive(Debug)]
pub(super) struct Piece {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are sent.
    sent: usize,
    body: Payload,
}

impl Piece {
    /// A whole message.
    pub(super) fn new(body: Payload) -> Piece {
        Piece { prefix: prefix(body.len()), sent: 0, body }
    }

    /// Bytes that are no message of gRPC.
    pub(super) fn raw(body: Payload) -> Piece {
        Piece { prefix: [0; PREFIX], sent: PREFIX, body }
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        PREFIX - self.sent + self.body.len()
    }

    /// Moves the next `count` bytes, of at least as many, to `out`.
    pub(super) fn write(&mut self, count: usize, out: &mut Outbox) {
        let head = count.min(PREFIX - self.sent);
        out.bytes.extend_from_slice(&self.prefix[self.sent..self.sent + head]);
        self.sent += head;
        let mut rest = count - head;
        while rest > 0 {
            let part = self.body.take(rest);
            assert!(!part.is_empty(), "the caller asks for no more than is left");
            rest -= part.len();
            out.share(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_keeps_the_bytes() {
        let whole = b"\0\0\0\0\x03abc";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let mut piece = Piece::new("abc".into());
                let mut out = Outbox::new(100);
                piece.write(first, &mut out);
                piece.write(second - first, &mut out);
                assert_eq!(piece.left(), whole.len() - second);
                piece.write(piece.left(), &mut out);
                assert_eq!(out.waiting(), whole);
            }
        }
    }
}
