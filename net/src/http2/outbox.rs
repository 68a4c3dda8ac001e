//! A connection's output, and the frames of answers that go into it: one buffer, and between its bytes parts
//! of large messages that are not copied.
//!
//! Leaves out who may write how much, which is flow control. Law: what is written leaves in order and
//! once; [`Outbox::has_room`] says when writers of messages have to stop.
//!
//! Worked example: an answer of one message is HEADERS, DATA with gRPC's prefix, HEADERS, 29 bytes
//! around the message once the client's table knows the fields.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Kind};
use super::hpack::Encoder;
use super::piece::{self, PREFIX};
use crate::call::GrpcStatus;
use crate::payload::{Payload, SHARED_BYTES};

/// Capacity that an empty buffer keeps in any case.
const KEPT_BYTES: usize = 16 << 10;

/// See the module.
pub(super) struct Outbox {
    /// What is written here goes behind everything.
    pub(super) bytes: Vec<u8>,
    /// How many of `bytes` are sent.
    sent: usize,
    /// Parts of messages, with the places in `bytes` before which they stand.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
    room: usize,
    pub(super) encoder: Encoder,
}

impl Outbox {
    /// Messages stop at `room` waiting bytes.
    pub(super) fn new(room: usize) -> Outbox {
        Outbox {
            bytes: Vec::new(),
            sent: 0,
            shared: VecDeque::new(),
            shared_bytes: 0,
            room,
            encoder: Encoder::new(),
        }
    }

    /// The first of what waits for the socket; empty only if nothing does.
    pub(super) fn waiting(&self) -> &[u8] {
        match self.shared.front() {
            Some((at, part)) if *at == self.sent => part,
            Some((at, _)) => &self.bytes[self.sent..*at],
            None => &self.bytes[self.sent..],
        }
    }

    /// All that waits for the socket, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = self.sent;
        let last = self.shared.back().map_or(self.sent, |(at, _)| *at);
        let parts = self.shared.iter().flat_map(move |(at, part)| {
            let own = &self.bytes[std::mem::replace(&mut from, *at)..*at];
            [own, part]
        });
        parts.chain([&self.bytes[last..]]).filter(|part| !part.is_empty())
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.sent + self.shared_bytes < self.room
    }

    /// A part of a message, copied if it is small.
    pub(super) fn share(&mut self, part: Bytes) {
        if part.len() < SHARED_BYTES {
            return self.bytes.extend_from_slice(&part);
        }
        self.shared_bytes += part.len();
        self.shared.push_back((self.bytes.len(), part));
    }

    /// The socket took `count` bytes.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some((at, part)) = self.shared.front_mut() {
            let own = count.min(*at - self.sent);
            self.sent += own;
            count -= own;
            if count < part.len() {
                part.advance(count);
                self.shared_bytes -= count;
                return self.clear_up();
            }
            count -= part.len();
            self.shared_bytes -= part.len();
            self.shared.pop_front();
        }
        self.sent += count;
        assert!(self.sent <= self.bytes.len(), "no more is sent than was written");
        self.clear_up();
    }

    /// Gives back what is sent.
    fn clear_up(&mut self) {
        if self.sent == self.bytes.len() && self.shared.is_empty() {
            let (used, kept) = (self.bytes.len(), self.bytes.capacity());
            self.bytes.clear();
            if kept > KEPT_BYTES && used < kept / 8 {
                self.bytes.shrink_to(kept / 2);
            }
            self.sent = 0;
        } else if self.sent >= self.room {
            self.bytes.drain(..self.sent);
            self.shared.iter_mut().for_each(|(at, _)| *at -= self.sent);
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
    pub(super) fn message(&mut self, stream: u32, message: &mut Payload) {
        self.data(stream, PREFIX + message.len());
        self.bytes.extend_from_slice(&piece::prefix(message.len()));
        while !message.is_empty() {
            self.share(message.take(usize::MAX));
        }
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What waits, as a write of so many slices sees it.
    fn seen(out: &Outbox, slices: usize) -> Vec<u8> {
        out.parts().take(slices).collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn what_is_written_leaves_in_order(
            steps in vec((0..40usize, prop_oneof![3 => 0..60usize, 1 => 900..6000usize], 0..8000usize), 1..80),
            slices in 1..6usize,
        ) {
            let mut out = Outbox::new(100);
            let (mut written, mut left) = (Vec::new(), Vec::new());
            for (nth, (own, shared, taken)) in steps.into_iter().enumerate() {
                let part = vec![nth as u8; own + shared];
                out.bytes.extend_from_slice(&part[..own]);
                out.share(Bytes::from(part[own..].to_vec()));
                written.extend_from_slice(&part);
                let waits = written.len() - left.len();
                prop_assert_eq!(out.has_room(), waits < 100);
                prop_assert_eq!(out.waiting().is_empty(), waits == 0);
                let seen = seen(&out, slices);
                prop_assert!(seen.starts_with(out.waiting()));
                let taken = taken.min(seen.len());
                left.extend_from_slice(&seen[..taken]);
                out.advance(taken);
                prop_assert!(out.bytes.len() <= written.len() - left.len() + 100, "what is sent goes");
            }
            left.extend_from_slice(&seen(&out, 1000));
            prop_assert_eq!(left, written);
        }
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
