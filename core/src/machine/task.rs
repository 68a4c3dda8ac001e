//! One command under way: what it takes to do it in steps, and to stop between two of them.
//!
//! A step drafts some changes, which the store absorbs before the next. Who drives the steps stops when
//! its budget is spent and goes on in a later turn: until the last step nobody is shown the state.
//! Only commands that may touch very many keys have steps of their own; all others are one.
//!
//! Laws:
//!  1. What a command does does not depend on where it was stopped: not its answer, its changes or
//!     their order, nor the digest.
//!  2. Every step gets on: with a spent budget it still does the least it can.
//!
//! Worked example: DeleteRange of "a" to "c" in slices of one key. Steps: tombstone r4.0; tombstone
//! r4.1; nothing found, deleted 2. All the time readers have the snapshot of r3.

use crate::id::RevSub;
use crate::machine::delete::{DELETION_KEYS, Removal};
use crate::machine::draft::Draft;
use crate::machine::lease::Revocation;
use crate::machine::ledger::Delta;
use crate::machine::txn::TxnTask;
use crate::mvcc::{Budget, ReadError};
use crate::request::{DeleteRange, Op, RangeEnd, Txn, TxnOp};
use crate::response::Body;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Task {
    work: Work,
    /// Where the next change of a key goes, after the first step.
    pub(super) next: Option<RevSub>,
    /// What the changes so far count for.
    pub(super) delta: Delta,
}

/// The keys that an operation spends of a slice at most; `None` where only the state can tell.
pub(crate) fn keys_max(op: &Op) -> Option<usize> {
    match op {
        Op::DeleteRange(request) => removal_max(request),
        Op::Txn(request) => txn_max(request),
        Op::LeaseRevoke { .. } => None,
        Op::LeaseCheckpoint(notes) => Some(1 + notes.len()),
        _ => Some(1),
    }
}

fn removal_max(request: &DeleteRange) -> Option<usize> {
    (request.keys.end == RangeEnd::Single).then_some(2 * DELETION_KEYS)
}

fn txn_max(txn: &Txn) -> Option<usize> {
    if txn.compares.iter().any(|compare| compare.keys.end != RangeEnd::Single) {
        return None;
    }
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Range(_) => Some(1),
        TxnOp::Put(_) => Some(1),
        TxnOp::DeleteRange(request) => removal_max(request),
        TxnOp::Txn(child) => txn_max(child),
    });
    ops.sum::<Option<usize>>().map(|ops| ops + 2 * txn.compares.len())
}

#[derive(Clone, Debug)]
enum Work {
    Whole,
    DeleteRange(Removal),
    LeaseRevoke(Revocation),
    Txn(TxnTask),
}

impl Task {
    /// Nothing was done.
    pub(super) fn new(op: &Op) -> Task {
        let work = match op {
            Op::DeleteRange(request) => Work::DeleteRange(Removal::new(request)),
            Op::LeaseRevoke { .. } => Work::LeaseRevoke(Revocation::default()),
            Op::Txn(_) => Work::Txn(TxnTask::new()),
            _ => Work::Whole,
        };
        Task { work, next: None, delta: Delta::default() }
    }

    /// One step; the answer once it was the last. `op` is the one it began with.
    ///
    /// # Errors
    /// A refusal, before anything was written; a store that cannot be read.
    pub(super) fn step(
        &mut self,
        draft: &mut Draft<'_>,
        op: &Op,
        budget: &mut Budget,
    ) -> Result<Option<Body>, ReadError> {
        match (&mut self.work, op) {
            (Work::DeleteRange(removal), Op::DeleteRange(request)) => {
                Ok(removal.step(draft, request, budget).map(Body::DeleteRange))
            }
            (Work::LeaseRevoke(revocation), Op::LeaseRevoke { id }) => {
                let done = revocation.step(draft, *id, budget)?;
                Ok(done.then_some(Body::LeaseRevoke))
            }
            (Work::Txn(txn), Op::Txn(request)) => {
                Ok(txn.step(draft, request, budget)?.map(Body::Txn))
            }
            _ => super::decide(draft, op, budget).map(Some),
        }
    }
}
