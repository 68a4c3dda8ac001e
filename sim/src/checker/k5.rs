//! K5: a read at an old revision is exactly that revision, or is refused, and rightly: as compacted only
//! what is, as in the future only what was not there. What had been compacted before it was asked for is
//! not answered any more. Reads inside transactions are held to the same.

use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;

use super::ranges::{named, told};
use super::{Checker, Scene, Seen, k3};
use crate::history::{OpId, Outcome, Record};

/// Needs to remember nothing.
pub(super) struct OldRevisions;

impl Checker for OldRevisions {
    fn id(&self) -> &'static str {
        "K5"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Returned { op } = seen else { return Ok(()) };
        let record = scene.history.record(*op);
        let named = named(&record.query);
        if named.iter().all(|revision| *revision == 0) {
            return Ok(());
        }
        let checked = match record.outcome {
            Outcome::Answered(_) => check_answer(scene, *op, record),
            Outcome::Rejected(rejection) => check_refusal(scene, *op, (record, &named), rejection),
            Outcome::Pending | Outcome::Unknown => Ok(()),
        };
        checked.map_err(|what| format!("request {} ({:?}): {what}", op.0, record.query))
    }
}

fn check_answer(scene: &Scene<'_>, op: OpId, record: &Record) -> Result<(), String> {
    if let Some(place) = scene.requests.steps.get(&op) {
        scene.compared();
        if let Err(refusal) = &scene.model.steps()[*place].verdict {
            return Err(format!("was answered, the oracle refuses it: {refusal}"));
        }
    }
    let before = record.steps_before.checked_sub(1);
    let compacted = before.map_or(-1, |step| scene.model.steps()[step].compacted.0);
    let serializable = is_serializable(&record.query);
    let in_log = scene.requests.steps.contains_key(&op);
    for told in told(scene, op).iter().filter(|told| told.range.revision > 0) {
        scene.compared();
        let revision = told.range.revision;
        if revision < compacted && !serializable && !in_log {
            return Err(format!("read at {revision}; compacted was {compacted} before"));
        }
        k3::check(&told.range, &told.answer, &told.expected)
            .map_err(|what| format!("read at {revision}: {what}"))?;
    }
    Ok(())
}

fn is_serializable(query: &Query) -> bool {
    match query {
        Query::Range(range) => range.serializable,
        Query::Txn(txn) => txn.is_serializable(),
        _ => false,
    }
}

fn check_refusal(
    scene: &Scene<'_>,
    op: OpId,
    (record, named): (&Record, &[i64]),
    rejection: Rejection,
) -> Result<(), String> {
    if !matches!(rejection, Rejection::Compacted | Rejection::FutureRevision) {
        return Ok(());
    }
    scene.compared();
    if let Some(place) = scene.requests.steps.get(&op) {
        return match &scene.model.steps()[*place].verdict {
            Err(expected) if *expected == rejection => Ok(()),
            verdict => Err(format!("refused with {rejection}, the oracle says {verdict:?}")),
        };
    }
    let compacted = scene.model.compacted().0;
    if rejection == Rejection::Compacted {
        return match named.iter().any(|revision| *revision < compacted) {
            true => Ok(()),
            false => Err(format!("refused as compacted, which goes to {compacted}")),
        };
    }
    // A serializable read may look at any older state.
    let before = record.steps_before.checked_sub(1);
    let there = before.map_or(1, |step| scene.model.steps()[step].revision.0);
    let there = if is_serializable(&record.query) { 0 } else { there };
    match named.iter().any(|revision| *revision > there) {
        true => Ok(()),
        false => Err(format!("refused as in the future, but {there} was there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::trial::{Trial, answered, key, put};
    use holdfast_core::id::Revision;
    use holdfast_core::query::AnswerBody;
    use holdfast_core::request::{KeyRange, Op, Range, RangeEnd, Txn, TxnOp};

    fn at(revision: i64) -> Range {
        let keys = KeyRange { start: key("a"), end: RangeEnd::Open };
        Range { revision, ..Range::of(keys) }
    }

    /// Revisions 2 to 6, of which what is before 4 is compacted.
    fn trial() -> Trial {
        let mut trial = Trial::default();
        for name in ["a", "b", "c", "a", "b"] {
            trial.commit(put(name, "x"));
        }
        trial.commit(Op::Compact { revision: Revision(4) });
        trial
    }

    /// A read at `asked`, answered from `shown`.
    fn read(asked: i64, shown: i64) -> Result<(), String> {
        let mut trial = trial();
        let body = AnswerBody::Range(trial.model.range(Revision(6), &at(shown)));
        let op = trial.ask(Query::Range(at(asked)));
        trial.answer(op, answered(Revision(6), body));
        trial.see(&mut OldRevisions, &Seen::Returned { op })
    }

    fn refused(query: Query, rejection: Rejection) -> Result<(), String> {
        let mut trial = trial();
        let op = trial.ask(query);
        trial.answer(op, Outcome::Rejected(rejection));
        trial.see(&mut OldRevisions, &Seen::Returned { op })
    }

    #[test]
    fn a_read_is_of_its_revision_and_of_one_that_can_be_read() {
        for revision in 4..=6 {
            read(revision, revision).expect("it can be read");
        }
        assert!(read(4, 5).is_err(), "another revision's pairs");
        assert!(read(5, 4).is_err(), "another revision's pairs");
        assert!(read(3, 3).is_err(), "compacted before it was asked");
    }

    #[test]
    fn refusals_must_be_true() {
        let inside = |revision| {
            let success = vec![TxnOp::Range(at(revision))];
            Query::Txn(Txn { compares: Vec::new(), success, failure: Vec::new() })
        };
        for query in [|n| Query::Range(at(n)), inside] {
            refused(query(3), Rejection::Compacted).expect("it is");
            refused(query(9), Rejection::FutureRevision).expect("it is");
            assert!(refused(query(4), Rejection::Compacted).is_err());
            assert!(refused(query(6), Rejection::FutureRevision).is_err());
        }
    }

    #[test]
    fn a_transaction_that_the_oracle_refuses_is_not_answered() {
        let mut trial = trial();
        let put = TxnOp::Put(crate::checker::trial::plain("z", "y"));
        let success = vec![TxnOp::Range(at(3)), put];
        let txn = Txn { compares: Vec::new(), success, failure: Vec::new() };
        let op = trial.ask(Query::Txn(txn.clone()));
        trial.commit_of(op, Op::Txn(txn));
        let body = AnswerBody::Txn(holdfast_core::query::TxnAnswer::default());
        trial.answer(op, answered(Revision(6), body));
        assert!(trial.see(&mut OldRevisions, &Seen::Returned { op }).is_err());
    }
}
