//! L5: a keepalive is acknowledged only if the lease lived, in the committed state, at some moment between
//! question and answer; and it is told that there is none only if there was a moment without it.

use std::collections::BTreeMap;

use holdfast_core::id::LeaseId;
use holdfast_core::query::AnswerBody;
use holdfast_core::request::Op;

use super::{Checker, Scene, Seen};
use crate::history::Outcome;

/// A life of a lease: after so many commands it is there, and after so many it is gone.
#[derive(Clone, Copy, Debug)]
struct Life {
    from: usize,
    to: usize,
}

/// The lives of each lease, in order.
#[derive(Default)]
pub(super) struct AcknowledgedLives(BTreeMap<LeaseId, Vec<Life>>);

impl Checker for AcknowledgedLives {
    fn id(&self) -> &'static str {
        "L5"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { op: Op::LeaseGrant { id, .. }, step, .. } => {
                if scene.model.steps()[*step].verdict.is_ok() {
                    let life = Life { from: step + 1, to: usize::MAX };
                    self.0.entry(*id).or_default().push(life);
                }
                Ok(())
            }
            Seen::Committed { op: Op::LeaseRevoke { id }, step, .. } => {
                let life = self.0.get_mut(id).and_then(|lives| lives.last_mut());
                if let (Some(life), Ok(_)) = (life, &scene.model.steps()[*step].verdict) {
                    life.to = step + 1;
                }
                Ok(())
            }
            Seen::Returned { op } => {
                let record = scene.history.record(*op);
                let Outcome::Answered(answer) = &record.outcome else { return Ok(()) };
                let AnswerBody::LeaseKeepAlive { id, ttl } = &answer.body else { return Ok(()) };
                scene.compared();
                let window = (record.steps_before, scene.model.steps().len());
                self.check((*id, *ttl), window).map_err(|what| format!("request {}: {what}", op.0))
            }
            _ => Ok(()),
        }
    }
}

impl AcknowledgedLives {
    /// `asked` and `now` count the commands applied anywhere.
    fn check(&self, (id, ttl): (LeaseId, i64), (asked, now): (usize, usize)) -> Result<(), String> {
        let lives = self.0.get(&id).map_or(&[][..], |lives| &lives[..]);
        if ttl > 0 && !lives.iter().any(|life| life.to > asked) {
            return Err(format!(
                "lease {id} is kept alive and was gone before: {lives:?}, {asked}"
            ));
        }
        if ttl <= 0 && lives.iter().any(|life| life.from <= asked && life.to > now) {
            return Err(format!("lease {id} is said to be gone and lived throughout: {lives:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref as only;

    use super::*;
    use crate::checker::trial::{Trial, answered, put};
    use holdfast_core::id::{Incarnation, MemberId, Position, RequestId, Revision};
    use holdfast_core::query::Query;
    use holdfast_core::request::Identity;

    /// Commands before the question, commands between question and answer, and the TTL told.
    fn verdict(before: &[Op], between: &[Op], ttl: i64) -> Result<(), String> {
        let (mut trial, mut checker) = (Trial::default(), AcknowledgedLives::default());
        let mut commit = |trial: &mut Trial, op: &Op| {
            let step = trial.commit(op.clone());
            let id = RequestId { member: MemberId(1), incarnation: Incarnation(1), sequence: 1 };
            let (who, at) = (&Identity::SYSTEM, Position::new(1, 1));
            trial.see(&mut checker, &Seen::Committed { id, who, op, step, at })
        };
        before.iter().try_for_each(|op| commit(&mut trial, op))?;
        let op = trial.ask(Query::LeaseKeepAlive { id: LeaseId(7) });
        between.iter().try_for_each(|op| commit(&mut trial, op))?;
        trial.answer(op, answered(Revision(1), AnswerBody::LeaseKeepAlive { id: LeaseId(7), ttl }));
        trial.see(&mut checker, &Seen::Returned { op })
    }

    #[test]
    fn what_is_said_was_so_at_some_moment_in_between() {
        let grant = Op::LeaseGrant { id: LeaseId(7), ttl: 3 };
        let revoke = Op::LeaseRevoke { id: LeaseId(7) };
        let other = put("a", "x");
        let gone = [grant.clone(), revoke.clone()];
        verdict(only(&grant), only(&other), 3).expect("it lives");
        verdict(only(&grant), only(&revoke), 3).expect("it lived");
        verdict(only(&grant), only(&revoke), 0).expect("it is gone");
        verdict(&gone, only(&grant), 3).expect("it lives again");
        verdict(&gone, only(&grant), 0).expect("it was gone");
        assert!(verdict(&gone, only(&other), 3).is_err(), "gone before the question");
        assert!(verdict(&[], only(&other), 3).is_err(), "never granted");
        assert!(verdict(only(&grant), only(&other), 0).is_err(), "it lived throughout");
    }
}
