//! True time, which only the world knows, and the clocks of members, which run at rates of their own.
//!
//! A member sees [`Clock::read`] and nothing else. Leases, election timeouts and read deadlines live on
//! such clocks, so a simulator whose clocks were perfect and shared could not see a lease-read bug.
//!
//! Leaves out wall time: nothing that is decided depends on it.
//!
//! Laws:
//!  1. A clock never goes back, whatever happens to its rate.
//!  2. `read(when(x)) >= x`: a timer set for `when(x)` does not fire early.
//!
//! Worked example: a clock at rate 1,500,000 started at 0 reads 3 s when 2 s have truly passed.

use std::fmt;
use std::time::Duration;

use holdfast_core::time::Instant;

/// A point of true time, in nanoseconds since the seed began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything that happens.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// `by` later.
    #[must_use]
    pub fn after(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is before.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// The rate of a perfect clock: local nanoseconds in a true millisecond.
pub const RATE_TRUE: u64 = 1_000_000;

/// One member's monotonic clock.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Moment,
    local: u64,
    rate: u64,
}

impl Clock {
    /// A clock that reads `origin` at `now` and gains `rate` nanoseconds in a true millisecond.
    pub fn new(now: Moment, origin: Instant, rate: u64) -> Clock {
        assert!(rate > 0, "a clock that stands still would never fire a timer");
        Clock { anchor: now, local: origin.0, rate }
    }

    /// What the member's clock shows at `now`.
    pub fn read(&self, now: Moment) -> Instant {
        let passed = u128::from(now.0.saturating_sub(self.anchor.0));
        let gained = passed * u128::from(self.rate) / u128::from(RATE_TRUE);
        Instant(self.local + gained as u64)
    }

    /// Changes the rate from `now` on.
    pub fn set_rate(&mut self, now: Moment, rate: u64) {
        assert!(rate > 0, "a clock that stands still would never fire a timer");
        self.local = self.read(now).0;
        self.anchor = now;
        self.rate = rate;
    }

    /// The first moment at which the clock will show `local`, at its present rate.
    pub fn when(&self, local: Instant) -> Moment {
        if local == Instant::NEVER {
            return Moment::NEVER;
        }
        let wait = u128::from(local.0.saturating_sub(self.local));
        let passed = (wait * u128::from(RATE_TRUE)).div_ceil(u128::from(self.rate));
        Moment(self.anchor.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_never_steps_when_its_rate_changes() {
        let mut clock = Clock::new(Moment(0), Instant(7), 1_500_000);
        assert_eq!(clock.read(Moment(2_000)), Instant(3_007));
        clock.set_rate(Moment(2_000), 500_000);
        assert_eq!(clock.read(Moment(2_000)), Instant(3_007));
        assert_eq!(clock.read(Moment(4_000)), Instant(4_007));
    }

    #[test]
    fn timers_do_not_fire_early() {
        for rate in [1, 333_333, 999_983, 1_000_000, 1_700_001] {
            let clock = Clock::new(Moment(5), Instant(100), rate);
            for local in [100, 101, 150, 12_345_678] {
                assert!(clock.read(clock.when(Instant(local))) >= Instant(local));
            }
        }
        let clock = Clock::new(Moment(5), Instant(100), RATE_TRUE);
        assert_eq!(clock.when(Instant::NEVER), Moment::NEVER);
    }
}
