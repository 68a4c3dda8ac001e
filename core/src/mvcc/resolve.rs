//! Turning what apply answered into what the client gets: coordinates become values.
//!
//! Leaves out: the header's term and member, which the session knows, and the answers that need the
//! question again (keep-alive, time-to-live).
//!
//! Laws:
//!  1. Resolution happens on the snapshot published together with the answer. Records named by it
//!     are still there even when a later command of the same batch compacted past them, because
//!     nothing is physically removed before the publication.
//!  2. It never refuses: everything refusable was refused by apply.
//!
//! Worked example: `TxnDone { ops: [Range { below: r5.1, .. }] }` reads the published state as it was
//! strictly below r5.1, after the first change of that transaction.

use bytes::Bytes;

use crate::id::RevSub;
use crate::machine::precheck;
use crate::mvcc::ReadError;
use crate::mvcc::range::range;
use crate::query::{AnswerBody, DeleteAnswer, OpAnswer, TxnAnswer};
use crate::request::{Txn, TxnOp};
use crate::response::{Body, DeleteDone, OpDone, PutDone, TxnDone};
use crate::store::{Fault, View};

/// The client's answer for `body`; `None` for the kinds that are none by themselves (`ReadIndex`,
/// `Publish`, `TransferLeadership`, `LeaseKeepAlive`, `LeaseTimeToLive`).
pub fn resolve(view: &dyn View, body: Body) -> Result<Option<AnswerBody>, Fault> {
    Ok(Some(match body {
        Body::Put(done) => AnswerBody::Put(put(view, &done)?),
        Body::DeleteRange(done) => AnswerBody::DeleteRange(delete(view, &done)?),
        Body::Txn(done) => AnswerBody::Txn(txn(view, &done)?),
        Body::Compact => AnswerBody::Compact,
        Body::LeaseGrant { id, ttl } => AnswerBody::LeaseGrant { id, ttl },
        Body::LeaseRevoke => AnswerBody::LeaseRevoke,
        Body::Alarms(alarms) => AnswerBody::Alarms(alarms),
        Body::Publish
        | Body::ReadIndex
        | Body::LeaseKeepAlive { .. }
        | Body::LeaseTimeToLive { .. }
        | Body::TransferLeadership => return Ok(None),
    }))
}

/// Evaluates a transaction of plain ranges on a snapshot. The header's revision is the snapshot's.
pub fn read_txn(view: &dyn View, request: &Txn) -> Result<TxnAnswer, ReadError> {
    assert!(request.is_read_only(), "any other transaction goes through the log");
    let path = precheck::path(view, request)?;
    precheck::check(view, request, &path)?;
    let revision = view.mark().revision;
    let branch = if path.succeeded { &request.success } else { &request.failure };
    let ranges = branch.iter().filter_map(|op| match op {
        TxnOp::Range(range) => Some(range),
        TxnOp::Put(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) => None,
    });
    let ops =
        ranges.map(|op| Ok(OpAnswer::Range(revision, range(view, op, Some(revision.after()))?)));
    Ok(TxnAnswer { succeeded: path.succeeded, ops: ops.collect::<Result<_, ReadError>>()? })
}

fn put(view: &dyn View, done: &PutDone) -> Result<Option<Bytes>, Fault> {
    done.prev.map(|at| pair(view, at)).transpose()
}

fn delete(view: &dyn View, done: &DeleteDone) -> Result<DeleteAnswer, Fault> {
    let prev_kvs = done.prev.iter().map(|at| pair(view, *at)).collect::<Result<_, Fault>>()?;
    Ok(DeleteAnswer { deleted: done.deleted as i64, prev_kvs })
}

fn txn(view: &dyn View, done: &TxnDone) -> Result<TxnAnswer, Fault> {
    let ops = done.ops.iter().map(|op| {
        Ok(match op {
            OpDone::Range { revision, below, range: asked } => {
                let answer = range(view, asked, Some(*below)).map_err(unrefusable)?;
                OpAnswer::Range(*revision, answer)
            }
            OpDone::Put(revision, done) => OpAnswer::Put(*revision, put(view, done)?),
            OpDone::DeleteRange(revision, done) => {
                OpAnswer::DeleteRange(*revision, delete(view, done)?)
            }
            OpDone::Txn(done) => OpAnswer::Txn(txn(view, done)?),
        })
    });
    Ok(TxnAnswer { succeeded: done.succeeded, ops: ops.collect::<Result<_, Fault>>()? })
}

fn pair(view: &dyn View, at: RevSub) -> Result<Bytes, Fault> {
    Ok(view.record(at)?.kv)
}

/// A range with a bound of its own is not checked against the mark, so no refusal comes back.
fn unrefusable(error: ReadError) -> Fault {
    match error {
        ReadError::Fault(fault) => fault,
        ReadError::Rejection(rejection) => Fault::new("resolve a range", "transaction", rejection),
    }
}
