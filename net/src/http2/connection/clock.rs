//! What time does to a connection: deadlines of calls, the handshake's, the keepalive, and draining.
//!
//! Draining goes as in etcd's gRPC library: GOAWAY that forbids nothing yet, and a ping; when its
//! answer is there, the client knows, and GOAWAY with the last stream follows; then the open calls end.
//!
//! Leaves out reading a clock. Laws: (1) [`Connection::tick`] at [`Connection::deadline`] does what is
//! due, and afterwards the deadline is later; (2) draining ends within `drain_timeout`.
//!
//! Worked example: a call with `grpc-timeout: 300m` that nobody answered ends 300 ms after its headers
//! with DeadlineExceeded, and the services hear `Cancelled`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::keepalive::{Due, Keepalive};
use super::*;

/// How long the client may take to answer the ping of a drain, as a part of the whole.
const DRAIN_PING_PART: u32 = 2;

/// Data of our pings.
const PING_KEEPALIVE: [u8; 8] = *b"hf alive";
const PING_DRAIN: [u8; 8] = *b"hf drain";

/// Ends of calls that were answered in time are forgotten when they are this many times the others.
const STALE_FACTOR: usize = 2;
const STALE_MIN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// GOAWAY without a last stream is out; the last follows then, at the latest.
    Warned(Instant),
    /// The client was promised that no stream above this one is looked at.
    Final(u32),
}

/// One connection's times.
pub(super) struct Clock {
    handshake: Option<Instant>,
    keepalive: Option<Keepalive>,
    /// By time: slot and id. Calls that ended before stay until their time, or until they are many.
    calls: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    drain: Drain,
    cut: Option<Instant>,
    /// Our pings that the client has not answered.
    pings_open: u32,
}

impl Clock {
    pub(super) fn new(options: &Http2Options, now: Instant) -> Clock {
        Clock {
            handshake: Some(now + options.handshake_timeout),
            keepalive: options.keepalive.map(|keepalive| Keepalive::new(keepalive, now)),
            calls: BinaryHeap::new(),
            drain: Drain::No,
            cut: None,
            pings_open: 0,
        }
    }

    /// The client said that it speaks HTTP/2.
    pub(super) fn opened(&mut self) {
        self.handshake = None;
    }

    /// A sign of life.
    #[inline]
    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard(now);
        }
    }

    /// Whether new streams are not looked at any more.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Final(_))
    }

    /// The last stream that a GOAWAY may name: it never rises (RFC 9113, 6.8).
    pub(super) fn last_promised(&self, last_id: u32) -> u32 {
        match self.drain {
            Drain::Final(promised) => promised,
            Drain::No | Drain::Warned(_) => last_id,
        }
    }
}

impl Connection {
    /// When [`Connection::tick`] is due; [`Instant::NEVER`] if nothing is.
    pub fn deadline(&mut self) -> Instant {
        if self.end.is_some() {
            return Instant::NEVER;
        }
        self.forget_stale();
        let clock = &self.clock;
        let warned = match clock.drain {
            Drain::Warned(until) => Some(until),
            Drain::No | Drain::Final(_) => None,
        };
        let call = clock.calls.peek().map(|Reverse((at, ..))| *at);
        let keepalive = clock.keepalive.as_ref().map(Keepalive::at);
        let all = [clock.handshake, clock.cut, warned, call, keepalive];
        all.into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// Notes a call's deadline, and forgets those of calls that are over when they are many.
    pub(super) fn expire_at(&mut self, deadline: Instant, slot: u32, id: u32) {
        self.clock.calls.push(Reverse((deadline, slot, id)));
        if self.clock.calls.len() > STALE_MIN + STALE_FACTOR * self.slab.open() {
            let slab = &mut self.slab;
            self.clock.calls.retain(|Reverse((_, slot, id))| {
                slab.get(*slot).is_some_and(|stream| stream.id == *id)
            });
        }
    }

    /// Drops the deadlines of calls that are over from the front.
    fn forget_stale(&mut self) {
        let (calls, slab) = (&mut self.clock.calls, &mut self.slab);
        let mut lives = |slot: u32, id: u32| slab.get(slot).is_some_and(|stream| stream.id == id);
        while let Some(Reverse((_, slot, id))) = calls.peek()
            && !lives(*slot, *id)
        {
            calls.pop();
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.now = now;
        if self.clock.handshake.is_some_and(|until| until <= now) {
            return self.finish_with(End::HandshakeTimeout);
        }
        self.expire();
        match self.clock.keepalive.as_mut().map_or(Due::Nothing, |keepalive| keepalive.due(now)) {
            Due::Nothing => {}
            Due::Ping => self.send_ping(PING_KEEPALIVE),
            Due::GiveUp => return self.finish_with(End::KeepaliveTimeout),
        }
        if let Drain::Warned(until) = self.clock.drain
            && until <= now
        {
            self.drain_finally();
        }
        if self.clock.cut.is_some_and(|cut| cut <= now) {
            self.cut();
        }
        self.settle();
    }

    fn expire(&mut self) {
        while let Some(Reverse((at, slot, id))) = self.clock.calls.peek().copied()
            && at <= self.now
        {
            self.clock.calls.pop();
            if self.slab.get(slot).is_some_and(|stream| stream.id == id) {
                self.fail(slot, status(Code::DeadlineExceeded, "context deadline exceeded"));
            }
        }
    }

    /// Shutting down: the client is told to go elsewhere, and open calls may end.
    pub fn drain(&mut self, now: Instant) {
        if self.end.is_some() || self.clock.drain != Drain::No {
            return;
        }
        self.now = now;
        let timeout = self.options.drain_timeout;
        self.clock.cut = Some(now + timeout);
        self.clock.drain = Drain::Warned(now + timeout / DRAIN_PING_PART);
        if self.phase != Phase::Open {
            return self.finish_with(End::Closed);
        }
        frame::put_goaway(&mut self.out.bytes, MAX_31, Reason::NoError, "");
        self.send_ping(PING_DRAIN);
    }

    fn send_ping(&mut self, data: [u8; 8]) {
        self.clock.pings_open += 1;
        frame::put_ping(&mut self.out.bytes, 0, data);
    }

    /// The client answered a ping, or acts as if there had been one.
    pub(super) fn pong(&mut self, data: [u8; 8]) -> Result<(), Broken> {
        let Some(left) = self.clock.pings_open.checked_sub(1) else { return self.idle_frame() };
        self.clock.pings_open = left;
        if data == PING_DRAIN && matches!(self.clock.drain, Drain::Warned(_)) {
            self.drain_finally();
        }
        Ok(())
    }

    fn drain_finally(&mut self) {
        self.clock.drain = Drain::Final(self.last_id);
        frame::put_goaway(&mut self.out.bytes, self.last_id, Reason::NoError, "");
    }

    /// The draining took too long: what is open ends here.
    fn cut(&mut self) {
        for slot in self.slab.slots() {
            self.fail(slot, status(Code::Unavailable, "etcdserver: server stopped"));
        }
        self.end.get_or_insert(End::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Reply;

    struct First;

    impl Names for First {
        fn name(&mut self, _: u32) -> Option<StreamId> {
            Some(StreamId(1))
        }
    }

    #[test]
    fn deadlines_of_calls_that_were_answered_are_forgotten() {
        let mut connection = Connection::new(Http2Options::default(), Instant(0));
        let mut hello = PREFACE.to_vec();
        frame::put_settings(&mut hello, &[]);
        connection.receive(Instant(0), &hello, &mut First);
        for number in 0..1000 {
            let mut block = b"\x83\x86\x44\x14/etcdserverpb.KV/Put".to_vec();
            block.extend_from_slice(b"\x0f\x10\x10application/grpc\0\x0cgrpc-timeout\x029H");
            let mut bytes = Vec::new();
            let (id, flags) = (2 * number + 1, frame::END_HEADERS);
            frame::put_head(&mut bytes, Kind::Headers, flags, (id, block.len()));
            bytes.extend_from_slice(&block);
            frame::put_head(&mut bytes, Kind::Data, frame::END_STREAM, (id, 5));
            bytes.extend_from_slice(&[0; 5]);
            connection.receive(Instant(0), &bytes, &mut First);
            assert_eq!(connection.events().drain(..).count(), 1);
            let reply = Reply::Message { stream: StreamId(1), message: "".into(), last: true };
            assert_eq!(connection.reply(0, reply), Taken::Yes);
            connection.wrote(connection.output().len());
            assert!(connection.clock.calls.len() <= 2 * STALE_MIN);
        }
    }
}
