//! Finding out that a client is gone although its connection never said so: a ping when nothing came
//! for a time, and the end of the connection when nothing comes after that (etcd's server keepalive).
//!
//! Leaves out the clock and the ping's bytes. Law: any byte is a sign of life, so a busy connection is
//! never pinged.
//!
//! Worked example: with 2 h and 20 s, a client whose host lost power is taken for gone 2 h and 20 s
//! after its last byte, and its open calls are cancelled.

use std::time::Duration;

use holdfast_core::time::Instant;

/// When to ping and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Between the last byte and the next ping (`--grpc-keepalive-interval`).
    pub interval: Duration,
    /// How long an answer may take (`--grpc-keepalive-timeout`).
    pub timeout: Duration,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    GiveUp,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Keepalive {
    options: KeepaliveOptions,
    heard: Instant,
    /// A ping is out, since then.
    asked: Option<Instant>,
}

impl Keepalive {
    pub(super) fn new(options: KeepaliveOptions, now: Instant) -> Keepalive {
        Keepalive { options, heard: now, asked: None }
    }

    /// Something came.
    #[inline]
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// When [`Keepalive::due`] will have an answer.
    pub(super) fn at(&self) -> Instant {
        match self.asked {
            None => self.heard + self.options.interval,
            Some(asked) => asked + self.options.timeout,
        }
    }

    /// What is to be done; a ping counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now < self.at() {
            return Due::Nothing;
        }
        if self.asked.is_some() {
            return Due::GiveUp;
        }
        self.asked = Some(now);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_once_and_then_believed() {
        let options = KeepaliveOptions {
            interval: Duration::from_nanos(10),
            timeout: Duration::from_nanos(2),
        };
        let mut keepalive = Keepalive::new(options, Instant(0));
        let mut due = |at: u64, heard: bool| {
            if heard {
                keepalive.heard(Instant(at));
            }
            keepalive.due(Instant(at))
        };
        assert_eq!(due(9, false), Due::Nothing);
        assert_eq!(due(9, true), Due::Nothing);
        assert_eq!(due(18, false), Due::Nothing);
        assert_eq!(due(19, false), Due::Ping);
        assert_eq!(due(20, true), Due::Nothing);
        assert_eq!(due(30, false), Due::Ping);
        assert_eq!(due(31, false), Due::Nothing);
        assert_eq!(due(32, false), Due::GiveUp);
    }
}
