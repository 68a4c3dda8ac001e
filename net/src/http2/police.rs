//! What a client may do that costs the server and gains the client nothing, and how often.
//!
//! A [`Bucket`] allows a burst and a rate: cancelled streams come out of one, frames that say nothing
//! out of another. Pings have gRPC's own rule ([`PingPolice`]), the one of etcd's gRPC library, so that
//! clients configured for etcd are treated as etcd treats them.
//!
//! Leaves out what is then done: the connection ends with ENHANCE_YOUR_CALM. Law: time only refills.
//!
//! Worked example: with a minimum of 5 s, four pings in a row are one good ping and three strikes, and
//! the third strike is one too many; an answer sent in between forgives all.

use std::time::Duration;

use holdfast_core::time::Instant;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// In the long run.
    pub per_second: u32,
}

/// One rate's account.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// In billionths.
    tokens: u64,
    at: Instant,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    pub(super) fn new(rate: Rate) -> Bucket {
        Bucket { rate, tokens: u64::from(rate.burst) * TOKEN, at: Instant(0) }
    }

    /// It happened; false if that is too often.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.0.saturating_sub(self.at.0);
        self.at = now;
        let more = passed.saturating_mul(u64::from(self.rate.per_second));
        let full = u64::from(self.rate.burst) * TOKEN;
        self.tokens = self.tokens.saturating_add(more).min(full);
        let Some(left) = self.tokens.checked_sub(TOKEN) else { return false };
        self.tokens = left;
        true
    }
}

/// Bad pings that are forgiven.
const STRIKES_MAX: u32 = 2;

/// The least time between pings without an open call.
const IDLE_MIN: Duration = Duration::from_secs(2 * 3600);

/// A client's pings.
#[derive(Debug)]
pub(super) struct PingPolice {
    /// The least time between pings with an open call (`--grpc-keepalive-min-time`).
    min: Duration,
    last: Option<Instant>,
    strikes: u32,
    answered: bool,
}

impl PingPolice {
    pub(super) fn new(min: Duration) -> PingPolice {
        PingPolice { min, last: None, strikes: 0, answered: false }
    }

    /// Part of an answer was sent: a client that measures its bandwidth pings then.
    #[inline]
    pub(super) fn forgive(&mut self) {
        self.answered = true;
    }

    /// A ping came; false if that was one too many.
    pub(super) fn ping(&mut self, now: Instant, calls_open: bool) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return true;
        }
        let min = if calls_open { self.min } else { IDLE_MIN };
        if last.is_some_and(|last| now.since(last) < min) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = TOKEN;

    #[test]
    fn a_bucket_allows_a_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Rate { burst: 3, per_second: 2 });
        let at = |tenths: u64| Instant(10 * SECOND + tenths * SECOND / 10);
        let taken = [0, 0, 0, 0, 4, 5, 6, 10, 11].map(|tenths| bucket.take(at(tenths)));
        assert_eq!(taken, [true, true, true, false, false, true, false, true, false]);
        // A long rest gives the burst back and no more.
        assert_eq!(
            [1000, 1000, 1000, 1000].map(|tenths| bucket.take(at(tenths))),
            [true, true, true, false]
        );
    }

    #[test]
    fn the_third_strike_is_one_too_many() {
        let mut police = PingPolice::new(Duration::from_secs(5));
        let at = |second: u64| Instant(second * SECOND);
        assert!([10, 15, 19, 20].into_iter().all(|second| police.ping(at(second), true)));
        assert!(!police.ping(at(21), true));
    }

    #[test]
    fn an_answer_forgives_and_idleness_is_strict() {
        let mut police = PingPolice::new(Duration::from_secs(5));
        for second in 0..100 {
            police.forgive();
            assert!(police.ping(Instant(second * SECOND), false));
        }
        let at = |minute: u64| Instant(minute * 60 * SECOND);
        let pings = [10, 70, 130, 190].map(|minute| police.ping(at(minute), false));
        assert_eq!(pings, [true, true, false, false]);
        let mut police = PingPolice::new(Duration::from_secs(5));
        assert!([0, 120, 240, 360].into_iter().all(|minute| police.ping(at(minute), false)));
    }
}
