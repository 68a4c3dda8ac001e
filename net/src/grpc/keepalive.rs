//! Finding out that a client is gone although its connection never said so: a ping from time to
//! time, and the end of the connection when no answer comes (etcd's server keepalive).
//!
//! Leaves out the clock, which is the connection's. The `h2` crate shows no other sign of life, so
//! a busy connection is pinged as well; at one ping in two hours that costs nothing.
//!
//! Worked example: with 2 h and 20 s, a client whose host lost power is taken for gone 2 h and 20 s
//! after its last answer, and its open calls are cancelled.

use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use holdfast_core::time::Instant;

/// When to ping and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Between an answer and the next ping (`--grpc-keepalive-interval`).
    pub interval: Duration,
    /// How long an answer may take (`--grpc-keepalive-timeout`).
    pub timeout: Duration,
}

/// One connection's.
pub(super) struct Keepalive {
    options: KeepaliveOptions,
    pings: PingPong,
    waiting: bool,
    /// When to ping, or when to give up.
    pub(super) at: Instant,
}

impl Keepalive {
    /// The first ping is one interval away.
    pub(super) fn new(options: KeepaliveOptions, pings: PingPong, now: Instant) -> Keepalive {
        Keepalive { options, pings, waiting: false, at: now + options.interval }
    }

    /// Looks for an answer; `now` is read only if there is one.
    pub(super) fn look(&mut self, cx: &mut Context<'_>, now: impl Fn() -> Instant) {
        // An error is the connection's, which hears of it elsewhere.
        if self.waiting
            && let Poll::Ready(Ok(_)) = self.pings.poll_pong(cx)
        {
            self.waiting = false;
            self.at = now() + self.options.interval;
        }
    }

    /// Pings, if it is time; false if the client did not answer in time.
    pub(super) fn is_alive(&mut self, now: Instant) -> bool {
        if now < self.at {
            return true;
        }
        if self.waiting {
            return false;
        }
        // An error is the connection's here too.
        self.waiting = self.pings.send_ping(Ping::opaque()).is_ok();
        self.at = now + self.options.timeout;
        true
    }
}
