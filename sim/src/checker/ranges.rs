//! The ranges in an answer, each beside what the oracle reads there: those of K3 and K5.
//!
//! Leaves out answers that have not the oracle's shape; that is K1's business.

use holdfast_core::id::Revision;
use holdfast_core::query::{AnswerBody, OpAnswer, Query, RangeAnswer, TxnAnswer};
use holdfast_core::request::{Range, Txn, TxnOp};

use super::Scene;
use crate::history::{OpId, Outcome};

/// One range that was answered.
pub(super) struct Told {
    /// What was asked.
    pub range: Range,
    /// What was answered.
    pub answer: RangeAnswer,
    /// What the oracle reads.
    pub expected: RangeAnswer,
}

/// All ranges in the answer of a request.
pub(super) fn told(scene: &Scene<'_>, op: OpId) -> Vec<Told> {
    let record = scene.history.record(op);
    let Outcome::Answered(answer) = &record.outcome else { return Vec::new() };
    let revision = answer.header.revision;
    // K1 and K2 say so; there is nothing to compare with.
    if revision > scene.model.revision() {
        return Vec::new();
    }
    let mut all = Vec::new();
    match (&record.query, &answer.body) {
        (Query::Range(range), AnswerBody::Range(told)) => {
            let expected = scene.model.range(revision, range);
            all.push(Told { range: range.clone(), answer: told.clone(), expected });
        }
        (Query::Txn(txn), AnswerBody::Txn(told)) => {
            if let Some(expected) = expected(scene, (op, revision), txn) {
                of_txn(txn, (told, &expected), &mut all);
            }
        }
        _ => {}
    }
    all
}

/// What the oracle answers to a transaction: from the log, or from the state that it has read.
fn expected(scene: &Scene<'_>, (op, read_at): (OpId, Revision), txn: &Txn) -> Option<TxnAnswer> {
    if txn.is_read_only() {
        return Some(scene.model.read_txn(read_at, txn));
    }
    let step = scene.requests.steps.get(&op)?;
    match &scene.model.steps()[*step].verdict {
        Ok((_, AnswerBody::Txn(expected))) => Some(expected.clone()),
        _ => None,
    }
}

fn of_txn(txn: &Txn, (told, expected): (&TxnAnswer, &TxnAnswer), all: &mut Vec<Told>) {
    if told.succeeded != expected.succeeded {
        return;
    }
    let branch = if told.succeeded { &txn.success } else { &txn.failure };
    for ((op, told), expected) in branch.iter().zip(&told.ops).zip(&expected.ops) {
        match (op, told, expected) {
            (TxnOp::Range(range), OpAnswer::Range(_, answer), OpAnswer::Range(_, expected)) => {
                let (answer, expected) = (answer.clone(), expected.clone());
                all.push(Told { range: range.clone(), answer, expected });
            }
            (TxnOp::Txn(inner), OpAnswer::Txn(told), OpAnswer::Txn(expected)) => {
                of_txn(inner, (told, expected), all);
            }
            _ => {}
        }
    }
}

/// The revisions that a request names, on every way through it.
pub(super) fn named(query: &Query) -> Vec<i64> {
    fn of_txn(txn: &Txn, all: &mut Vec<i64>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Range(range) => all.push(range.revision),
                TxnOp::Txn(inner) => of_txn(inner, all),
                TxnOp::Put(_) | TxnOp::DeleteRange(_) => {}
            }
        }
    }
    let mut all = Vec::new();
    match query {
        Query::Range(range) => all.push(range.revision),
        Query::Txn(txn) => of_txn(txn, &mut all),
        _ => {}
    }
    all
}
