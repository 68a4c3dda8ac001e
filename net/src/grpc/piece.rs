//! Message bytes with gRPC's five-byte prefix in front, without copying the message.
//!
//! Leaves out compression: the flag is always 0. A piece can be split where flow control ends.
//!
//! Worked example: the message `ab` is the piece `00 00 00 00 02 61 62`; `split_to(6)` leaves `62`.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Length of gRPC's message prefix: a flag and a big-endian length.
pub(super) const PREFIX: usize = 5;

/// What is left to send of a message.
#[derive(Debug)]
pub(super) struct Piece {
    prefix: [u8; PREFIX],
    sent: u8,
    body: Bytes,
}

impl Piece {
    /// A whole message.
    pub(super) fn message(body: Bytes) -> Piece {
        let length = u32::try_from(body.len()).expect("services answer with less than 4 GiB");
        let mut prefix = [0; PREFIX];
        prefix[1..].copy_from_slice(&length.to_be_bytes());
        Piece { prefix, sent: 0, body }
    }

    fn head(&self) -> &[u8] {
        &self.prefix[usize::from(self.sent)..]
    }

    /// Cuts off the first `count` bytes, of at least as many.
    pub(super) fn split_to(&mut self, count: usize) -> Piece {
        let head = count.min(self.head().len());
        let body = self.body.split_to(count - head);
        let first = if head == self.head().len() {
            Piece { prefix: self.prefix, sent: self.sent, body }
        } else {
            // The cut is inside the prefix: move its first part to the end of a prefix of its own.
            let mut prefix = [0; PREFIX];
            prefix[PREFIX - head..].copy_from_slice(&self.head()[..head]);
            Piece { prefix, sent: (PREFIX - head) as u8, body }
        };
        self.sent += head as u8;
        first
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.head().len() + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.head().is_empty() { &self.body } else { self.head() }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for part in [self.head(), &self.body] {
            if !part.is_empty() && count < out.len() {
                out[count] = IoSlice::new(part);
                count += 1;
            }
        }
        count
    }

    fn advance(&mut self, count: usize) {
        let head = count.min(self.head().len());
        self.sent += head as u8;
        self.body.advance(count - head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(mut piece: Piece) -> Vec<u8> {
        let mut out = vec![0; piece.remaining()];
        piece.copy_to_slice(&mut out);
        out
    }

    #[test]
    fn every_split_and_every_advance_keeps_the_bytes() {
        let whole = bytes(Piece::message(Bytes::from_static(b"abc")));
        assert_eq!(whole, b"\0\0\0\0\x03abc");
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let mut rest = Piece::message(Bytes::from_static(b"abc"));
                let one = rest.split_to(first);
                let two = rest.split_to(second - first);
                assert_eq!([bytes(one), bytes(two), bytes(rest)].concat(), whole);
            }
            let mut rest = Piece::message(Bytes::from_static(b"abc"));
            rest.advance(first);
            let mut slices = [IoSlice::new(b""); 2];
            let count = rest.chunks_vectored(&mut slices);
            let vectored: Vec<u8> =
                slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
            assert_eq!(vectored, whole[first..]);
        }
    }
}
