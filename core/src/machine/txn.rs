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
//!
//! Worked example: `if version(a) = 0 then put a 1; range a; del b else …` on an empty store at r1
//! writes a at r2.0, answers the range as "below r2.1", and deletes nothing.

use crate::machine::draft::Draft;
use crate::machine::precheck::{self, Path};
use crate::machine::{delete, put};
use crate::mutant;
use crate::mvcc::ReadError;
use crate::request::{Txn, TxnOp};
use crate::response::{OpDone, TxnDone};
use crate::store::Fault;

/// Decides, checks and runs a transaction.
pub(super) fn txn(draft: &mut Draft<'_>, request: &Txn) -> Result<TxnDone, ReadError> {
    let path = precheck::path(draft.view(), request)?;
    precheck::check(draft.view(), request, &path)?;
    draft.track();
    Ok(run(draft, request, &path)?)
}

fn run(draft: &mut Draft<'_>, request: &Txn, path: &Path) -> Result<TxnDone, Fault> {
    let mut nested = path.nested.iter();
    let mut ops = Vec::new();
    for op in path.branch(request) {
        if mutant::on(39) {
            draft.split_revision();
        }
        ops.push(match op {
            TxnOp::Range(range) => OpDone::Range {
                revision: draft.revision(),
                below: draft.below(),
                range: range.clone(),
            },
            TxnOp::Put(request) => {
                let done = put::put(draft, request)?;
                OpDone::Put(draft.revision(), done)
            }
            TxnOp::DeleteRange(request) => {
                let done = delete::delete_range(draft, request);
                OpDone::DeleteRange(draft.revision(), done)
            }
            TxnOp::Txn(child) => {
                let path = nested.next().expect("a path has one child for each nested transaction");
                OpDone::Txn(run(draft, child, path)?)
            }
        });
    }
    Ok(TxnDone { succeeded: path.succeeded, ops })
}
