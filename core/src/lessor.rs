//! The leader's lease clock: when each lease expires, by this member's monotonic clock.
//!
//! Which leases exist, and with what TTL, is replicated and belongs to the machine. The lessor only
//! holds deadlines, only on the leader, and only from the moment the leader has applied an entry of
//! its own term. It leaves out who proposes the revocation and who waits for it.
//!
//! Laws:
//!  1. A lease is never reported expired before its TTL has passed since the last grant, renewal or
//!     promotion on this member.
//!  2. A demoted lessor knows no lease: it renews nothing and expires nothing.
//!  3. Once a deadline has passed, only the outcome of the revocation ends the lease; a renewal can
//!     no longer win against it.
//!  4. An operation moves a deadline only towards later.
//!  5. A lease is reported once. What a leader has queued or appended is lost only together with its
//!     leadership, so asking again would only risk the revocation of a lease that was granted anew
//!     under the same id meanwhile. A revocation that apply refuses, as it does while the data are
//!     known to be corrupt, makes the lease start over.
//!
//! Worked example: promoted at 100 s with an extension of 1 s, lease `l7` of 10 s expires at 111 s.
//! Renewed at 105 s it would end at 115 s. At 115 s `expired` returns it, and from then on a renewal
//! answers `Expiring`, until the revocation is applied or this member leads no more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::LeaseId;
use crate::mutant;
use crate::time::Instant;

/// The deadlines of all leases while this member is the primary lessor.
#[derive(Clone, Debug, Default)]
pub struct Lessor {
    primary: bool,
    leases: BTreeMap<LeaseId, Lease>,
    /// Each lease that has not been reported yet, at its deadline.
    due: BTreeSet<(Instant, LeaseId)>,
}

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease has its TTL again.
    Renewed {
        /// Seconds.
        ttl: i64,
    },
    /// There is no such lease here.
    Missing,
    /// Its time is over and its revocation under way: the keepalive waits for the outcome.
    Expiring,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: i64,
    deadline: Instant,
}

impl Lessor {
    /// A lessor that is not primary.
    pub fn new() -> Lessor {
        Lessor::default()
    }

    /// This member leads and has applied an entry of its own term: every lease (id and granted
    /// seconds) gets its full TTL and `extend` on top, since nobody knows how much the old leader
    /// had acknowledged. From [`SPREAD_FROM`] leases on, expiries that would pile up are spread so
    /// that any second holds at most [`EXPIRE_PER_SECOND`] of them; that only delays.
    pub fn promote(
        &mut self,
        now: Instant,
        extend: Duration,
        leases: impl IntoIterator<Item = (LeaseId, i64)>,
    ) {
        self.forget();
        self.primary = true;
        let mut all: Vec<(Instant, LeaseId, i64)> = leases
            .into_iter()
            .map(|(id, ttl)| (now + promoted_span(ttl, extend), id, ttl))
            .collect();
        all.sort_unstable();
        if all.len() >= SPREAD_FROM {
            spread(&mut all);
        }
        for (deadline, id, ttl) in all {
            self.insert(id, ttl, deadline);
        }
    }

    /// This member no longer leads.
    pub fn demote(&mut self) {
        if mutant::on(58) {
            return;
        }
        self.primary = false;
        self.forget();
    }

    /// Whether deadlines are kept here.
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// A grant was applied.
    pub fn granted(&mut self, now: Instant, id: LeaseId, ttl: i64) {
        if self.primary {
            self.revoked(id);
            self.insert(id, ttl, now + seconds(ttl));
        }
    }

    /// A revocation was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.due.remove(&(lease.deadline, id));
        }
    }

    /// Its revocation was refused, which an alarm does: that is an outcome, too, and the lease lives on
    /// and is reported again after [`REVOKE_RETRY`].
    pub fn revocation_refused(&mut self, now: Instant, id: LeaseId) {
        if let Some(lease) = self.leases.get(&id).copied()
            && lease.deadline <= now
        {
            self.insert(id, lease.ttl, now + REVOKE_RETRY);
        }
    }

    /// Gives a lease its TTL again, unless its time is already over (law 3).
    pub fn renew(&mut self, now: Instant, id: LeaseId) -> Renewal {
        let Some(lease) = self.leases.get(&id).copied() else { return Renewal::Missing };
        if lease.deadline <= now {
            return Renewal::Expiring;
        }
        let deadline = lease.deadline.max(now + seconds(lease.ttl));
        self.due.remove(&(lease.deadline, id));
        self.insert(id, lease.ttl, deadline);
        Renewal::Renewed { ttl: lease.ttl }
    }

    /// Seconds left, rounded down and never negative, and seconds granted.
    pub fn remaining(&self, now: Instant, id: LeaseId) -> Option<(i64, i64)> {
        let lease = self.leases.get(&id)?;
        let left = i64::try_from(lease.deadline.since(now).as_secs()).unwrap_or(i64::MAX);
        Some((left, lease.ttl))
    }

    /// At most `max` leases whose time is over and that have not been reported yet, the longest
    /// overdue first.
    pub fn expired(&mut self, now: Instant, max: usize) -> Vec<LeaseId> {
        let found: Vec<(Instant, LeaseId)> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        for entry in &found {
            self.due.remove(entry);
        }
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// When [`Lessor::expired`] next has something to return.
    pub fn deadline(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    fn insert(&mut self, id: LeaseId, ttl: i64, deadline: Instant) {
        if let Some(old) = self.leases.insert(id, Lease { ttl, deadline }) {
            self.due.remove(&(old.deadline, id));
        }
        self.due.insert((deadline, id));
    }

    fn forget(&mut self) {
        self.leases.clear();
        self.due.clear();
    }
}

/// From this many leases on, a promotion spreads their expiries (etcd's value).
pub const SPREAD_FROM: usize = 1000;

/// Most expiries in one second after a promotion that spreads (etcd's value).
pub const EXPIRE_PER_SECOND: usize = 750;

/// Between a revocation that was refused and the next (etcd's value).
pub const REVOKE_RETRY: Duration = Duration::from_secs(3);

/// How long a lease lives after a promotion.
fn promoted_span(ttl: i64, extend: Duration) -> Duration {
    if mutant::on(57) {
        return seconds(ttl) / 4;
    }
    seconds(ttl).saturating_add(extend)
}

/// A TTL as a span; a negative one, which no grant lets through, is nothing.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// Moves deadlines, given in ascending order, to where each lies at least a second behind the one
/// [`EXPIRE_PER_SECOND`] places before it. They stay in order, and none becomes earlier.
fn spread(leases: &mut [(Instant, LeaseId, i64)]) {
    for i in EXPIRE_PER_SECOND..leases.len() {
        let earliest = leases[i - EXPIRE_PER_SECOND].0 + Duration::from_secs(1);
        leases[i].0 = leases[i].0.max(earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn promoted(leases: &[(i64, i64)]) -> Lessor {
        let mut lessor = Lessor::new();
        let leases = leases.iter().map(|&(id, ttl)| (LeaseId(id), ttl));
        lessor.promote(at(100_000), Duration::from_secs(1), leases);
        lessor
    }

    #[test]
    fn the_worked_example() {
        let mut lessor = promoted(&[(7, 10)]);
        assert_eq!(lessor.deadline(), at(111_000));
        assert_eq!(lessor.renew(at(105_000), LeaseId(7)), Renewal::Renewed { ttl: 10 });
        assert_eq!(lessor.expired(at(114_999), 9), []);
        assert_eq!(lessor.remaining(at(114_001), LeaseId(7)), Some((0, 10)));
        assert_eq!(lessor.renew(at(115_000), LeaseId(7)), Renewal::Expiring);
        assert_eq!(lessor.expired(at(115_000), 9), [LeaseId(7)]);
        assert_eq!(lessor.renew(at(115_001), LeaseId(7)), Renewal::Expiring);
        assert_eq!(lessor.deadline(), Instant::NEVER);
        assert_eq!(lessor.expired(at(900_000), 9), []);
        lessor.revoked(LeaseId(7));
        assert_eq!(lessor.renew(at(119_000), LeaseId(7)), Renewal::Missing);
        assert_eq!(lessor.deadline(), Instant::NEVER);
    }

    #[test]
    fn a_demoted_lessor_knows_nothing() {
        let mut lessor = promoted(&[(7, 10)]);
        lessor.demote();
        assert!(!lessor.is_primary());
        assert_eq!(lessor.expired(at(900_000), 9), []);
        assert_eq!(lessor.renew(at(100_001), LeaseId(7)), Renewal::Missing);
        assert_eq!(lessor.remaining(at(100_001), LeaseId(7)), None);
        lessor.granted(at(100_002), LeaseId(8), 5);
        assert_eq!(lessor.deadline(), Instant::NEVER);
    }

    #[test]
    fn a_refused_revocation_is_asked_for_again() {
        let mut lessor = promoted(&[(7, 10)]);
        assert_eq!(lessor.expired(at(111_000), 9), [LeaseId(7)]);
        lessor.revocation_refused(at(111_100), LeaseId(7));
        lessor.revocation_refused(at(111_200), LeaseId(7));
        assert_eq!(lessor.expired(at(114_099), 9), []);
        assert_eq!(lessor.expired(at(114_100), 9), [LeaseId(7)]);
        lessor.revocation_refused(at(114_200), LeaseId(8));
        assert_eq!(lessor.deadline(), Instant::NEVER);
    }

    #[test]
    fn a_huge_ttl_does_not_overflow() {
        let mut lessor = promoted(&[(1, 9_000_000_000), (2, i64::MAX)]);
        assert_eq!(lessor.expired(Instant(u64::MAX - 1), 9).len(), 1);
        let (left, granted) = lessor.remaining(at(100_000), LeaseId(1)).expect("it exists");
        assert_eq!((left, granted), (9_000_000_001, 9_000_000_000));
        assert!(lessor.remaining(at(0), LeaseId(2)).expect("it exists").0 > 9_000_000_000);
    }

    #[test]
    fn a_renewal_never_shortens_what_a_promotion_gave() {
        let mut lessor = promoted(&[(7, 10)]);
        assert_eq!(lessor.renew(at(100_500), LeaseId(7)), Renewal::Renewed { ttl: 10 });
        assert_eq!(lessor.deadline(), at(111_000));
    }

    #[test]
    fn a_promotion_spreads_many_expiries_and_only_delays_them() {
        let leases: Vec<(i64, i64)> =
            (1..=4000).map(|i| (i, if i <= 3000 { 5 } else { 8 })).collect();
        let lessor = promoted(&leases);
        let deadlines: Vec<Instant> = lessor.due.iter().map(|(at, _)| *at).collect();
        for pair in deadlines.windows(EXPIRE_PER_SECOND + 1) {
            assert!(pair[EXPIRE_PER_SECOND].since(pair[0]) >= Duration::from_secs(1));
        }
        for (id, ttl) in leases {
            let least = at(100_000) + seconds(ttl) + Duration::from_secs(1);
            assert!(lessor.leases[&LeaseId(id)].deadline >= least);
        }
        assert_eq!(*deadlines.last().expect("4000 leases"), at(111_000));
    }

    #[test]
    fn few_leases_are_not_spread() {
        let leases: Vec<(i64, i64)> = (1..=999).map(|i| (i, 5)).collect();
        let mut lessor = promoted(&leases);
        assert_eq!(lessor.expired(at(106_000), 2000).len(), 999);
    }
}
