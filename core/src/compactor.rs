//! When history is compacted without anybody asking (`--auto-compaction-mode`): etcd's two rules.
//!
//! Every member keeps samples, the leader alone acts. Leaves out proposing the compaction.
//!
//! Laws, of the periodic rule with a period p:
//!  1. The revision is sampled every tenth of min(p, 1 h); the oldest sample used is one such pause older
//!     than p.
//!  2. The first compaction comes after p, later ones every min(p, 1 h), each to the oldest sample.
//!  3. A compaction that failed is tried again at the next sample; one that somebody else has done
//!     counts.
//!
//! Of the revision rule, retaining n: every five minutes to the current revision minus n.
//!
//! Worked example, a period of 10 h: samples every 6 minutes, 101 of them kept; the first compaction
//! comes after 10 h, to what the revision was at the start, the next an hour later.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::Revision;
use crate::time::Instant;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// History of this duration, not zero.
    Periodic(Duration),
    /// So many revisions, at least 1.
    Revisions(i64),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Compactor {
    rule: AutoCompaction,
    samples: VecDeque<Revision>,
    next: Instant,
    last_success: Instant,
    /// What was compacted to last.
    last: Revision,
    /// The first compaction of the periodic rule is over.
    warm: bool,
    /// One was asked for, and is not answered.
    asked: Option<Revision>,
}

impl Compactor {
    /// Begins to sample; `revision` is the newest.
    pub fn new(rule: AutoCompaction, now: Instant, revision: Revision) -> Compactor {
        Compactor {
            rule,
            samples: VecDeque::from([revision]),
            next: now + pause(rule),
            last_success: now,
            last: Revision(0),
            warm: false,
            asked: None,
        }
    }

    /// When [`Compactor::due`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// The revision to compact to now, if it is time and this member leads. What becomes of it is told
    /// to [`Compactor::done`].
    pub fn due(&mut self, now: Instant, revision: Revision, leads: bool) -> Option<Revision> {
        if now < self.next {
            return None;
        }
        self.next = now + pause(self.rule);
        let target = match self.rule {
            AutoCompaction::Periodic(period) => {
                let oldest = self.samples.front().copied();
                self.samples.push_back(revision);
                if self.samples.len() > samples_max(period) {
                    self.samples.pop_front();
                }
                let wait = if self.warm { period.min(HOUR) } else { period };
                let early = now.since(self.last_success) < wait;
                oldest.filter(|oldest| leads && !early && *oldest != self.last)?
            }
            AutoCompaction::Revisions(kept) => {
                let target = Revision(revision.0.saturating_sub(kept));
                if !leads || target.0 <= 0 || target == self.last {
                    return None;
                }
                target
            }
        };
        self.warm = true;
        self.asked = Some(target);
        Some(target)
    }

    /// The compaction was done, by this member or another, or was not.
    pub fn done(&mut self, now: Instant, success: bool) {
        if let Some(revision) = self.asked.take().filter(|_| success) {
            self.last = revision;
            self.last_success = now;
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// etcd's pause of the revision rule.
const REVISION_PAUSE: Duration = Duration::from_secs(300);

fn pause(rule: AutoCompaction) -> Duration {
    match rule {
        AutoCompaction::Periodic(period) => period.min(HOUR) / 10,
        AutoCompaction::Revisions(_) => REVISION_PAUSE,
    }
}

/// How many samples a period holds, its both ends included.
fn samples_max(period: Duration) -> usize {
    let pause = (period.min(HOUR) / 10).as_nanos().max(1);
    usize::try_from(period.as_nanos() / pause).unwrap_or(usize::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    /// When it compacts, in minutes, and to which revision; ten revisions a minute from r1 on.
    fn run(rule: AutoCompaction, minutes: u64, leads: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let revision = |minute: u64| Revision(1 + 10 * minute as i64);
        let mut compactor = Compactor::new(rule, Instant(0), revision(0));
        let mut done = Vec::new();
        for minute in 0..=minutes {
            let now = Instant(minute * MINUTE);
            if let Some(target) = compactor.due(now, revision(minute), leads(minute)) {
                done.push((minute, target.0));
                compactor.done(now, true);
            }
        }
        done
    }

    #[test]
    fn a_short_period_is_kept_and_compacted_every_period() {
        let hour = AutoCompaction::Periodic(Duration::from_secs(3600));
        assert_eq!(run(hour, 180, |_| true), [(60, 1), (120, 541), (180, 1141)]);
    }

    #[test]
    fn a_long_period_is_kept_and_compacted_every_hour() {
        let ten_hours = AutoCompaction::Periodic(Duration::from_secs(36_000));
        assert_eq!(run(ten_hours, 720, |_| true), [(600, 1), (660, 541), (720, 1141)]);
    }

    #[test]
    fn revisions_are_kept_and_only_a_leader_acts() {
        let kept = AutoCompaction::Revisions(100);
        assert_eq!(run(kept, 21, |minute| minute > 6), [(10, 1), (15, 51), (20, 101)]);
        assert_eq!(run(AutoCompaction::Revisions(1000), 60, |_| true), []);
    }

    #[test]
    fn what_failed_is_tried_again_at_the_next_sample() {
        let rule = AutoCompaction::Periodic(Duration::from_secs(600));
        let mut compactor = Compactor::new(rule, Instant(0), Revision(1));
        let mut asked = Vec::new();
        for minute in 0..=13 {
            let now = Instant(minute * MINUTE);
            if let Some(revision) = compactor.due(now, Revision(1 + minute as i64), true) {
                asked.push((minute, revision.0));
                compactor.done(now, minute >= 12);
            }
        }
        assert_eq!(asked, [(10, 1), (11, 1), (12, 2)]);
    }
}
