//! Transactions: decide the path, check it, then run it; all at one revision.
//!
//! Leaves out: what was refused before the log (too many operations, doubly written keys), and the
//! evaluation of ranges, which the edge does at the bound recorded here.
//!
//! Laws (surface 1.9):
//!  1. The compares of nested transactions are all evaluated first, on the state before the
//!     transaction, along the path taken; so are the checks. Only then is anything written.
//!  2. Any failing check refuses the whole transaction.
//!  3. A range sees the changes made before it in the same transaction, and no later ones.
//!  4. An operation that reads what it writes over finds the earlier ones in the store: they were
//!     absorbed in a step before.
//!
//! Worked example: `if version(a) = 0 then put a 1; range a; del b else …` on an empty store at r1
//! writes a at r2.0, answers the range as "below r2.1", and deletes nothing.

use crate::machine::delete::Removal;
use crate::machine::draft::Draft;
use crate::machine::precheck::{self, Compared, Path};
use crate::machine::put;
use crate::mutant;
use crate::mvcc::{Budget, ReadError};
use crate::request::{Txn, TxnOp};
use crate::response::{OpDone, TxnDone};

/// A transaction under way.
#[derive(Clone, Debug)]
pub(super) enum TxnTask {
    /// Its compares are being evaluated.
    Deciding(Compared),
    /// Its path is checked, and its operations are carried out.
    Running(Run),
}

impl TxnTask {
    /// Nothing was looked at.
    pub(super) fn new() -> TxnTask {
        TxnTask::Deciding(Compared::default())
    }

    /// One step; says what was done once that was all.
    ///
    /// # Errors
    /// A check that fails, before anything was written; a value that cannot be read.
    pub(super) fn step(
        &mut self,
        draft: &mut Draft<'_>,
        request: &Txn,
        budget: &mut Budget,
    ) -> Result<Option<TxnDone>, ReadError> {
        if let TxnTask::Deciding(compared) = self {
            let Some(path) = compared.path(draft.view(), request, budget)? else { return Ok(None) };
            precheck::check(draft.view(), request, &path)?;
            *self = TxnTask::Running(Run { path, levels: vec![Level::default()], removal: None });
        }
        match self {
            TxnTask::Running(run) => run.step(draft, request, budget),
            TxnTask::Deciding(_) => unreachable!("it was decided just now"),
        }
    }
}

/// The operations of a transaction under way.
#[derive(Clone, Debug)]
pub(super) struct Run {
    path: Path,
    /// Where it is in the transaction, and in the nested ones that it has come into.
    levels: Vec<Level>,
    /// The DeleteRange that it is at, once that has begun.
    removal: Option<Removal>,
}

/// How far one transaction, nested or not, is.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Nested transactions that are done.
    nested: usize,
    /// What the operations so far have done.
    ops: Vec<OpDone>,
}

impl Run {
    fn step(
        &mut self,
        draft: &mut Draft<'_>,
        request: &Txn,
        budget: &mut Budget,
    ) -> Result<Option<TxnDone>, ReadError> {
        loop {
            let (branch, succeeded) = self.place(request);
            let level = self.levels.last_mut().expect("a run ends with its last level");
            let Some(op) = branch.get(level.ops.len()) else {
                let ops = std::mem::take(&mut level.ops);
                let done = TxnDone { succeeded, ops };
                self.levels.pop();
                let Some(parent) = self.levels.last_mut() else { return Ok(Some(done)) };
                parent.nested += 1;
                parent.ops.push(OpDone::Txn(done));
                continue;
            };
            if matches!(op, TxnOp::Put(_) | TxnOp::DeleteRange(_)) && !draft.is_empty() {
                return Ok(None); // law 4
            }
            if mutant::on(39) {
                draft.split_revision();
            }
            let done = match op {
                TxnOp::Range(range) => OpDone::Range {
                    revision: draft.revision(),
                    below: draft.below(),
                    range: range.clone(),
                },
                TxnOp::Put(request) => {
                    budget.spend(1, request.value.len());
                    let done = put::put(draft, request)?;
                    OpDone::Put(draft.revision(), done)
                }
                TxnOp::DeleteRange(request) => {
                    let removal = self.removal.get_or_insert_with(|| Removal::new(request));
                    let Some(done) = removal.step(draft, request, budget) else { return Ok(None) };
                    self.removal = None;
                    OpDone::DeleteRange(draft.revision(), done)
                }
                TxnOp::Txn(_) => {
                    self.levels.push(Level::default());
                    continue;
                }
            };
            self.levels.last_mut().expect("as above").ops.push(done);
        }
    }

    /// The branch that is being run, and whether its compares held.
    fn place<'t>(&self, request: &'t Txn) -> (&'t [TxnOp], bool) {
        let (mut txn, mut path) = (request, &self.path);
        for level in &self.levels[..self.levels.len() - 1] {
            let TxnOp::Txn(child) = &path.branch(txn)[level.ops.len()] else {
                unreachable!("a level above another stands at a nested transaction")
            };
            (txn, path) = (child, &path.nested[level.nested]);
        }
        (path.branch(txn), path.succeeded)
    }
}
