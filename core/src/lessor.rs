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
//!  6. While the log holds what was left of a lease, or may come to, no renewal is acknowledged: the note
//!     is taken back through the log first. So what a later leader finds noted never shortens what was
//!     acknowledged after it.
//!
//! Worked example: promoted at 100 s with an extension of 1 s, lease `l7` of 10 s expires at 111 s.
//! Renewed at 105 s it would end at 115 s. At 115 s `expired` returns it, and from then on a renewal
//! answers `Expiring`, until the revocation is applied or this member leads no more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{Index, LeaseId};
use crate::machine::LeaseRow;
use crate::mutant;
use crate::request::LeaseNote;
use crate::time::Instant;

/// The deadlines of all leases while this member is the primary lessor.
#[derive(Clone, Debug, Default)]
pub struct Lessor {
    primary: bool,
    leases: BTreeMap<LeaseId, Lease>,
    /// Each lease that has not been reported yet, at its deadline.
    due: BTreeSet<(Instant, LeaseId)>,
    /// Leases that were reported and not yet revoked.
    reported: usize,
    /// How often what is left of a lease is noted; never without.
    interval: Option<Duration>,
    /// When that is next to be done, for those that have longer.
    notes: BTreeSet<(Instant, LeaseId)>,
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
    /// It has its TTL again, but what was left of it is still noted: the keepalive waits until the note
    /// has been taken back, which somebody has to propose.
    Noted {
        /// What to propose, the first time.
        take_back: Option<LeaseNote>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: i64,
    deadline: Instant,
    granted: Index,
    is_reported: bool,
    /// When it is in `notes`; never if it is not.
    note_at: Instant,
    noted: Noted,
}

/// Whether the log holds what was left of a lease (law 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    No,
    /// It does, or will.
    Yes,
    /// Likewise, and behind that the note's end.
    TakenBack,
}

impl Lessor {
    /// A lessor that is not primary.
    pub fn new() -> Lessor {
        Lessor::default()
    }

    /// The same, which wants what is left of leases noted every so often.
    pub fn noting(interval: Option<Duration>) -> Lessor {
        Lessor { interval, ..Lessor::default() }
    }

    /// This member leads and has applied an entry of its own term: every lease gets its full TTL, or
    /// what the old leader has noted to be left of it, and `extend` on top: nobody knows what else the
    /// old leader had acknowledged (law 6). From [`SPREAD_FROM`] leases on, expiries that would pile up are spread so
    /// that any second holds at most [`EXPIRE_PER_SECOND`] of them; that only delays.
    pub fn promote(
        &mut self,
        now: Instant,
        extend: Duration,
        leases: impl IntoIterator<Item = LeaseRow>,
    ) {
        self.forget();
        self.primary = true;
        let deadline = |row: &LeaseRow| now + promoted_span(row.left.unwrap_or(row.ttl), extend);
        let mut all: Vec<(Instant, LeaseRow)> =
            leases.into_iter().map(|row| (deadline(&row), row)).collect();
        all.sort_unstable_by_key(|(deadline, row)| (*deadline, row.id));
        if all.len() >= SPREAD_FROM {
            spread(&mut all);
        }
        for (deadline, row) in all {
            let noted = if row.left.is_some() { Noted::Yes } else { Noted::No };
            let LeaseRow { id, ttl, granted, .. } = row;
            self.insert(now, id, Lease { noted, ..Lease::new(ttl, granted, deadline) });
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
    pub fn granted(&mut self, now: Instant, id: LeaseId, (ttl, granted): (i64, Index)) {
        if self.primary {
            self.revoked(id);
            self.insert(now, id, Lease::new(ttl, granted, now + seconds(ttl)));
        }
    }

    /// A revocation was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        self.remove(id);
    }

    /// What is left of a lease was noted in the state, or a note was taken back.
    pub fn noted(&mut self, id: LeaseId, left: Option<i64>) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.noted = match (left, lease.noted) {
                // A later note does not follow before its end.
                (Some(_), Noted::TakenBack) => Noted::TakenBack,
                (Some(_), _) => Noted::Yes,
                (None, _) => Noted::No,
            };
        }
    }

    /// At most `max` leases of which it is time to note what is left; to be proposed.
    pub fn to_note(&mut self, now: Instant, max: usize) -> Vec<LeaseNote> {
        let found: Vec<(Instant, LeaseId)> =
            self.notes.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        let mut notes = Vec::new();
        for (_, id) in found {
            let mut lease = self.remove(id).expect("a note is wanted of a lease that exists");
            if lease.noted != Noted::TakenBack {
                lease.noted = Noted::Yes;
                let left = lease.deadline.since(now).as_millis().div_ceil(1000);
                let left = i64::try_from(left).unwrap_or(i64::MAX);
                notes.push(LeaseNote { id, granted: lease.granted, left });
            }
            self.insert(now, id, lease);
        }
        notes
    }

    /// Its revocation was refused, which an alarm does: that is an outcome, too, and the lease lives on
    /// and is reported again after [`REVOKE_RETRY`].
    pub fn revocation_refused(&mut self, now: Instant, id: LeaseId) {
        if self.leases.get(&id).is_some_and(|lease| lease.deadline <= now) {
            let mut lease = self.remove(id).expect("it is there");
            (lease.deadline, lease.is_reported) = (now + REVOKE_RETRY, false);
            self.insert(now, id, lease);
        }
    }

    /// Gives a lease its TTL again, unless its time is already over (law 3).
    pub fn renew(&mut self, now: Instant, id: LeaseId) -> Renewal {
        let Some(lease) = self.leases.get(&id) else { return Renewal::Missing };
        if lease.deadline <= now {
            return Renewal::Expiring;
        }
        let mut lease = self.remove(id).expect("it is there");
        lease.deadline = lease.deadline.max(now + seconds(lease.ttl));
        let note = LeaseNote { id, granted: lease.granted, left: 0 };
        let renewal = match lease.noted {
            Noted::No => Renewal::Renewed { ttl: lease.ttl },
            _ if mutant::on(91) => Renewal::Renewed { ttl: lease.ttl },
            Noted::Yes => Renewal::Noted { take_back: Some(note) },
            Noted::TakenBack => Renewal::Noted { take_back: None },
        };
        if let Renewal::Noted { .. } = renewal {
            lease.noted = Noted::TakenBack;
        }
        self.insert(now, id, lease);
        renewal
    }

    /// A renewal has come and will be answered later: the lease does not end meanwhile.
    pub fn hold(&mut self, now: Instant, id: LeaseId) {
        if self.leases.get(&id).is_some_and(|lease| lease.deadline > now) {
            let mut lease = self.remove(id).expect("it is there");
            lease.deadline = lease.deadline.max(now + seconds(lease.ttl));
            self.insert(now, id, lease);
        }
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
            let lease = self.leases.get_mut(&entry.1).expect("what is due exists");
            lease.is_reported = true;
            self.reported += 1;
        }
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// How many leases were reported and are not yet revoked.
    pub fn reported(&self) -> usize {
        self.reported
    }

    /// When [`Lessor::expired`] next has something to return.
    pub fn deadline(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    /// Puts a lease that is not there in its places.
    fn insert(&mut self, now: Instant, id: LeaseId, mut lease: Lease) {
        if lease.is_reported {
            self.reported += 1;
        } else {
            self.due.insert((lease.deadline, id));
        }
        let later = self.interval.map(|interval| now + interval);
        let noted = later.filter(|at| *at < lease.deadline && lease.granted != Index(0));
        lease.note_at = noted.unwrap_or(Instant::NEVER);
        if noted.is_some() {
            self.notes.insert((lease.note_at, id));
        }
        self.leases.insert(id, lease);
    }

    /// Takes a lease out of all its places.
    fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        if lease.is_reported {
            self.reported -= 1;
        } else {
            self.due.remove(&(lease.deadline, id));
        }
        self.notes.remove(&(lease.note_at, id));
        Some(lease)
    }

    fn forget(&mut self) {
        self.leases.clear();
        self.due.clear();
        self.notes.clear();
        self.reported = 0;
    }
}

impl Lease {
    fn new(ttl: i64, granted: Index, deadline: Instant) -> Lease {
        let (is_reported, note_at, noted) = (false, Instant::NEVER, Noted::No);
        Lease { ttl, deadline, granted, is_reported, note_at, noted }
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
fn spread(leases: &mut [(Instant, LeaseRow)]) {
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
        let leases = leases.iter().map(|&(id, ttl)| row(id, ttl, None));
        lessor.promote(at(100_000), Duration::from_secs(1), leases);
        lessor
    }

    fn row(id: i64, ttl: i64, left: Option<i64>) -> LeaseRow {
        LeaseRow { id: LeaseId(id), ttl, granted: Index(5), left }
    }

    #[test]
    fn what_was_noted_is_what_a_promotion_gives_and_is_taken_back_before_a_renewal() {
        let mut lessor = Lessor::noting(Some(Duration::from_secs(20)));
        lessor.promote(at(0), Duration::from_secs(1), [row(7, 100, Some(30)), row(8, 9, None)]);
        let note = |left| LeaseNote { id: LeaseId(7), granted: Index(5), left };
        assert_eq!(lessor.remaining(at(1_000), LeaseId(7)), Some((30, 100)));
        assert_eq!(lessor.to_note(at(19_999), 9), []);
        assert_eq!(lessor.to_note(at(20_500), 9), [note(11)], "rounded up");
        assert_eq!(lessor.to_note(at(20_500), 9), []);
        let noted = |take_back| Renewal::Noted { take_back };
        assert_eq!(lessor.renew(at(21_000), LeaseId(7)), noted(Some(note(0))));
        assert_eq!(lessor.remaining(at(21_000), LeaseId(7)), Some((100, 100)));
        assert_eq!(lessor.renew(at(22_000), LeaseId(7)), noted(None));
        lessor.noted(LeaseId(7), Some(11));
        assert_eq!(lessor.renew(at(23_000), LeaseId(7)), noted(None), "the end is on its way");
        assert_eq!(lessor.to_note(at(43_000), 9), [], "nor is anything noted before it");
        lessor.noted(LeaseId(7), None);
        assert_eq!(lessor.renew(at(44_000), LeaseId(7)), Renewal::Renewed { ttl: 100 });
        assert_eq!(lessor.to_note(at(64_000), 9), [note(80)]);
        lessor.granted(at(65_000), LeaseId(7), (50, Index(9)));
        assert_eq!(lessor.renew(at(66_000), LeaseId(7)), Renewal::Renewed { ttl: 50 });
    }

    #[test]
    fn what_was_reported_is_counted_until_it_is_gone() {
        let mut lessor = promoted(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(lessor.expired(at(102_000), 2).len(), 2);
        assert_eq!(lessor.reported(), 2);
        lessor.revoked(LeaseId(1));
        lessor.revoked(LeaseId(1));
        lessor.revoked(LeaseId(3));
        assert_eq!(lessor.reported(), 1);
        lessor.revocation_refused(at(102_000), LeaseId(2));
        assert_eq!(lessor.reported(), 0);
        assert_eq!(lessor.expired(at(105_000), 9), [LeaseId(2)]);
        lessor.granted(at(106_000), LeaseId(2), (5, Index(9)));
        assert_eq!((lessor.reported(), lessor.deadline()), (0, at(111_000)));
    }

    #[test]
    fn a_renewal_that_is_held_does_not_expire() {
        let mut lessor = promoted(&[(7, 10)]);
        lessor.hold(at(110_000), LeaseId(7));
        assert_eq!(lessor.expired(at(119_999), 9), []);
        lessor.hold(at(120_000), LeaseId(7));
        assert_eq!(lessor.expired(at(120_000), 9), [LeaseId(7)], "too late");
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
        lessor.granted(at(100_002), LeaseId(8), (5, Index(1)));
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
