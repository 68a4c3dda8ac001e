//! A message that waits to be sent: gRPC's five-byte prefix and the message, and how far it is sent.
//!
//! Leaves out compression: the flag is always 0. A message that has to wait is not copied until its
//! time comes; one that need not wait never becomes a piece.
//!
//! Worked example: the message `ab` is the piece `00 00 00 00 02 61 62`; `write(6)` leaves `62`.

use bytes::Bytes;

/// Length of gRPC's message prefix: a flag and a big-endian length.
pub(super) const PREFIX: usize = 5;

/// The prefix of a message.
#[inline]
pub(super) fn prefix(message: &[u8]) -> [u8; PREFIX] {
    let length = u32::try_from(message.len()).expect("services answer with less than 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// What is left to send of a message.
#[derive(Debug)]
pub(super) struct Piece {
    body: Bytes,
    /// Bytes sent, the prefix among them.
    sent: usize,
}

impl Piece {
    /// A whole message.
    pub(super) fn new(body: Bytes) -> Piece {
        Piece { body, sent: 0 }
    }

    /// Bytes that are no message of gRPC.
    pub(super) fn raw(body: Bytes) -> Piece {
        Piece { body, sent: PREFIX }
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        PREFIX + self.body.len() - self.sent
    }

    /// Appends the next `count` bytes, of at least as many, to `out`.
    pub(super) fn write(&mut self, count: usize, out: &mut Vec<u8>) {
        let end = self.sent + count;
        if self.sent < PREFIX {
            out.extend_from_slice(&prefix(&self.body)[self.sent..end.min(PREFIX)]);
        }
        if end > PREFIX {
            out.extend_from_slice(&self.body[self.sent.max(PREFIX) - PREFIX..end - PREFIX]);
        }
        self.sent = end;
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
                let mut piece = Piece::new(Bytes::from_static(b"abc"));
                let mut out = Vec::new();
                piece.write(first, &mut out);
                piece.write(second - first, &mut out);
                assert_eq!(piece.left(), whole.len() - second);
                piece.write(piece.left(), &mut out);
                assert_eq!(out, whole);
            }
        }
    }
}
