//! A connection's one output buffer, and the frames of answers that go into it.
//!
//! Leaves out who may write how much, which is flow control. Law: what is written leaves in order and
//! once; [`Outbox::has_room`] says when writers of messages have to stop.
//!
//! Worked example: an answer of one message is HEADERS, DATA with gRPC's prefix, HEADERS, 29 bytes
//! around the message once the client's table knows the fields.

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Kind};
use super::hpack::Encoder;
use super::piece::{self, PREFIX};
use crate::call::GrpcStatus;

/// Capacity that an empty buffer keeps in any case.
const KEPT_BYTES: usize = 16 << 10;

/// See the module.
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    sent: usize,
    room: usize,
    pub(super) encoder: Encoder,
}

impl Outbox {
    /// Messages stop at `room` waiting bytes.
    pub(super) fn new(room: usize) -> Outbox {
        Outbox { bytes: Vec::new(), sent: 0, room, encoder: Encoder::new() }
    }

    /// What waits for the socket.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < self.room
    }

    /// The socket took `count` bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        assert!(self.sent <= self.bytes.len(), "no more is sent than was written");
        if self.sent == self.bytes.len() {
            let (used, kept) = (self.bytes.len(), self.bytes.capacity());
            self.bytes.clear();
            if kept > KEPT_BYTES && used < kept / 8 {
                self.bytes.shrink_to(kept / 2);
            }
            self.sent = 0;
        } else if self.sent >= self.room {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// The head of an answer with messages.
    #[inline]
    pub(super) fn head(&mut self, stream: u32) {
        let at = self.open(stream, END_HEADERS);
        self.encoder.head(&mut self.bytes);
        frame::close(&mut self.bytes, at);
    }

    /// The head of an answer to a request that is not gRPC's.
    pub(super) fn foreign_head(&mut self, stream: u32, http: u16) {
        let at = self.open(stream, END_HEADERS);
        self.encoder.foreign_head(http, &mut self.bytes);
        frame::close(&mut self.bytes, at);
    }

    /// What ends an answer with messages.
    #[inline]
    pub(super) fn trailers(&mut self, stream: u32, status: &GrpcStatus) {
        let at = self.open(stream, END_HEADERS | END_STREAM);
        self.encoder.trailers(status, &mut self.bytes);
        frame::close(&mut self.bytes, at);
    }

    /// A whole answer without messages.
    pub(super) fn outcome_only(&mut self, stream: u32, http: u16, status: &GrpcStatus) {
        let at = self.open(stream, END_HEADERS | END_STREAM);
        self.encoder.outcome_only(http, status, &mut self.bytes);
        frame::close(&mut self.bytes, at);
    }

    #[inline]
    fn open(&mut self, stream: u32, flags: u8) -> usize {
        let at = self.bytes.len();
        frame::put_head(&mut self.bytes, Kind::Headers, flags, (stream, 0));
        at
    }

    /// A message in a frame of its own.
    #[inline]
    pub(super) fn message(&mut self, stream: u32, message: &[u8]) {
        self.data(stream, PREFIX + message.len());
        self.bytes.extend_from_slice(&piece::prefix(message));
        self.bytes.extend_from_slice(message);
    }

    /// The head of a DATA frame; its bytes follow.
    #[inline]
    pub(super) fn data(&mut self, stream: u32, length: usize) {
        frame::put_head(&mut self.bytes, Kind::Data, 0, (stream, length));
    }

    pub(super) fn settings_ack(&mut self) {
        frame::put_head(&mut self.bytes, Kind::Settings, ACK, (0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_in_order() {
        let mut out = Outbox::new(100);
        let (mut written, mut left) = (Vec::new(), Vec::new());
        for number in 0..200_u8 {
            let part = vec![number; usize::from(number) % 37];
            out.bytes.extend_from_slice(&part);
            written.extend_from_slice(&part);
            let count = out.waiting().len().min(usize::from(number) % 29);
            left.extend_from_slice(&out.waiting()[..count]);
            out.advance(count);
            assert!(out.bytes.len() <= written.len() - left.len() + 100, "the sent part goes");
        }
        left.extend_from_slice(out.waiting());
        assert_eq!(left, written);
    }

    #[test]
    fn a_large_buffer_shrinks_when_little_is_written() {
        let mut out = Outbox::new(1 << 20);
        out.bytes.resize(1 << 20, 0);
        out.advance(1 << 20);
        for _ in 0..10 {
            out.bytes.push(1);
            out.advance(1);
        }
        assert!(out.bytes.capacity() <= 2 * KEPT_BYTES, "{}", out.bytes.capacity());
    }
}
