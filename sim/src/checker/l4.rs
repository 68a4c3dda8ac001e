//! L4: what a new leader gives a lease is never less than its TTL, or than what an earlier leader has noted
//! to be left of it last: it does not know what else was acknowledged. A leader that finds a lease expired
//! does so no earlier than that after its own election, and after the grant, measured on the true clock and
//! shortened by the declared drift of the fastest clock.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::id::{Index, LeaseId, Term};
use holdfast_core::request::Op;

use super::{Checker, Scene, Seen};
use crate::clock::{Moment, RATE_TRUE};

/// When each leader was elected, and when each lease was granted for how long.
#[derive(Default)]
pub(super) struct NeverShortened {
    elected: BTreeMap<Term, Moment>,
    granted: BTreeMap<LeaseId, Granted>,
}

struct Granted {
    when: Moment,
    ttl: i64,
    /// The entry.
    at: Index,
    /// What was noted to be left, and in which term; 0 takes the note back.
    notes: Vec<(Term, i64)>,
}

impl Checker for NeverShortened {
    fn id(&self) -> &'static str {
        "L4"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Elected { term, .. } => {
                self.elected.insert(*term, scene.now);
                Ok(())
            }
            Seen::Committed { op: Op::LeaseGrant { id, ttl }, step, at, .. } => {
                if scene.model.steps()[*step].verdict.is_ok() {
                    let (when, ttl, at, notes) = (scene.now, *ttl, at.index, Vec::new());
                    self.granted.insert(*id, Granted { when, ttl, at, notes });
                }
                Ok(())
            }
            Seen::Committed { op: Op::LeaseCheckpoint(notes), at, .. } => {
                for note in notes {
                    let known = self.granted.get_mut(&note.id);
                    if let Some(granted) = known.filter(|granted| granted.at == note.granted) {
                        granted.notes.push((at.term, note.left));
                    }
                }
                Ok(())
            }
            Seen::Committed { op: Op::LeaseRevoke { id }, step, at, id: request, .. } => {
                if scene.model.steps()[*step].verdict.is_err() {
                    return Ok(());
                }
                let Some(granted) = self.granted.remove(id) else { return Ok(()) };
                let asked = scene.requests.ops.contains_key(request) || request.sequence != 0;
                let Some(elected) = self.elected.get(&at.term).filter(|_| !asked) else {
                    return Ok(());
                };
                scene.compared();
                let before = granted.notes.iter().rev().find(|(term, _)| *term < at.term);
                let left = before.map(|(_, left)| *left).filter(|left| *left > 0);
                // A new leader adds a while, so that it may note more than the TTL; a renewal gives no more.
                let ttl = left.unwrap_or(granted.ttl).min(granted.ttl);
                let granted = granted.when;
                let shortest = Duration::from_secs(ttl.max(0) as u64) * RATE_TRUE as u32
                    / scene.swarm.rate_max() as u32;
                let since = granted.max(*elected);
                match scene.now < since.after(shortest) {
                    true => Err(format!(
                        "lease {id} of {ttl} s, granted {granted}, is found expired by the leader \
                         elected {elected} in {}",
                        at.term
                    )),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Terms;
    use crate::checker::trial::Trial;
    use holdfast_core::id::{Incarnation, MemberId, Position, RequestId};
    use holdfast_core::request::Identity;

    struct NoLog;

    impl Terms for NoLog {
        fn term_at(&self, _: Index) -> Option<Term> {
            None
        }
        fn checkpoint(&self) -> Index {
            Index(0)
        }
        fn entries(&self) -> Vec<(Position, u32)> {
            Vec::new()
        }
    }

    /// A lease of 3 s is granted at 1 s; a leader is elected at `elected` s; at `expired` s it is
    /// revoked, by a client if `sequence` is not 0.
    fn verdict(elected: u64, expired: u64, sequence: u64) -> Result<(), String> {
        let (mut trial, mut checker) = (Trial::default(), NeverShortened::default());
        let mut commit = |trial: &mut Trial, second, op: Op, sequence| {
            trial.now = Moment(second * 1_000_000_000);
            let step = trial.commit(op.clone());
            let id = RequestId { member: MemberId(1), incarnation: Incarnation(1), sequence };
            let (who, at) = (&Identity::SYSTEM, Position::new(1, 2));
            trial.see(&mut checker, &Seen::Committed { id, who, op: &op, step, at })?;
            let term = Term(2);
            trial.now = Moment(elected * 1_000_000_000);
            trial.see(&mut checker, &Seen::Elected { member: 0, term, terms: &NoLog })
        };
        commit(&mut trial, 1, Op::LeaseGrant { id: LeaseId(7), ttl: 3 }, 1)?;
        commit(&mut trial, expired, Op::LeaseRevoke { id: LeaseId(7) }, sequence)
    }

    #[test]
    fn the_whole_ttl_after_the_election_and_the_grant() {
        verdict(10, 13, 0).expect("the whole TTL after the election");
        verdict(0, 4, 0).expect("the whole TTL after the grant");
        verdict(10, 11, 5).expect("a client may revoke when it likes");
        assert!(verdict(10, 11, 0).is_err(), "one second after the election");
        assert!(verdict(0, 2, 0).is_err(), "one second after the grant");
    }
}
