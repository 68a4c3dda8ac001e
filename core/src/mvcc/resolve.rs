//! Turning what apply answered into what the client gets: coordinates become values.
//!
//! Leaves out: the header's term and member, which the session knows, and the answers that need the
//! question again (keep-alive, time-to-live).
//!
//! Laws:
//!  1. Resolution happens on the snapshot published together with the answer, however many steps it
//!     takes. Records named by it are still there even when a later command of the same batch
//!     compacted past them, because nothing is physically removed before the publication.
//!  2. It never refuses: everything refusable was refused by apply. A transaction of plain ranges,
//!     which apply does not see, refuses when it has decided which branch it takes.
//!  3. A step reads what its budget allows: one operation at a time, a long one in pieces.
//!
//! Worked example: `TxnDone { ops: [Range { below: r5.1, .. }] }` reads the published state as it was
//! strictly below r5.1, after the first change of that transaction.

use std::vec::IntoIter;

use bytes::Bytes;

use crate::id::{RevSub, Revision};
use crate::machine::precheck::{self, Comparison, Path};
use crate::memory::{Hold, Sealed};
use crate::mvcc::range::RangeScan;
use crate::mvcc::{Budget, ReadError};
use crate::query::{AnswerBody, DeleteAnswer, OpAnswer, RangeAnswer, TxnAnswer};
use crate::request::{Txn, TxnOp};
use crate::response::{Body, DeleteDone, OpDone, TxnDone};
use crate::store::{Fault, View};

/// What becomes of a body.
#[derive(Debug)]
pub enum Resolved {
    /// The client's answer.
    Complete(AnswerBody),
    /// It takes reading.
    Reading(Box<Resolution>),
    /// None of the kinds that are an answer by themselves (`ReadIndex`, `Publish`,
    /// `TransferLeadership`, `LeaseKeepAlive`, `LeaseTimeToLive`).
    Nothing,
}

/// Begins to turn `body` into the client's answer; reads nothing yet.
pub fn begin(body: Body) -> Resolved {
    let op = match body {
        Body::Put(done) if done.prev.is_none() => {
            return Resolved::Complete(AnswerBody::Put(None));
        }
        Body::DeleteRange(done) if done.prev.is_empty() => {
            return Resolved::Complete(AnswerBody::DeleteRange(deleted(done.deleted, Vec::new())));
        }
        Body::Put(done) => OpDone::Put(Revision::EMPTY, done),
        Body::DeleteRange(done) => OpDone::DeleteRange(Revision::EMPTY, done),
        Body::Txn(done) => OpDone::Txn(done),
        Body::Compact => return Resolved::Complete(AnswerBody::Compact),
        Body::LeaseGrant { id, ttl } => {
            return Resolved::Complete(AnswerBody::LeaseGrant { id, ttl });
        }
        Body::LeaseRevoke => return Resolved::Complete(AnswerBody::LeaseRevoke),
        Body::Alarms(alarms) => return Resolved::Complete(AnswerBody::Alarms(alarms)),
        Body::Auth(reply) => return Resolved::Complete(AnswerBody::Auth(reply)),
        Body::MemberAdd { member, members } => {
            return Resolved::Complete(AnswerBody::MemberAdd { member, members });
        }
        Body::Members(members) => return Resolved::Complete(AnswerBody::Members(members)),
        Body::Publish
        | Body::ReadIndex
        | Body::LeaseKeepAlive { .. }
        | Body::LeaseTimeToLive { .. }
        | Body::TransferLeadership => return Resolved::Nothing,
    };
    Resolved::Reading(Box::new(Resolution::of(Stage::Next(op))))
}

/// The client's answer for `body`, read at once; `None` where [`begin`] gives nothing.
pub fn resolve(view: &dyn View, body: Body) -> Result<Option<AnswerBody>, Fault> {
    match begin(body) {
        Resolved::Complete(body) => Ok(Some(body)),
        Resolved::Reading(reading) => reading.finish(view).map(Some).map_err(unrefusable),
        Resolved::Nothing => Ok(None),
    }
}

/// Evaluates a transaction of plain ranges on a snapshot, at once. The header's revision is the
/// snapshot's.
pub fn read_txn(view: &dyn View, request: &Txn) -> Result<TxnAnswer, ReadError> {
    match Resolution::of_reads(request.clone()).finish(view)? {
        AnswerBody::Txn(answer) => Ok(answer),
        other => unreachable!("a transaction is answered by one, not by {other:?}"),
    }
}

/// An answer that is being read, on one and the same snapshot throughout (law 1).
#[derive(Debug)]
pub struct Resolution {
    /// The transactions that the present operation is in, the innermost last.
    around: Vec<Branch>,
    stage: Stage,
    /// What the answer holds of the member's memory, unless the range under way has it.
    hold: Option<Hold>,
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// Finding out which branch a transaction of plain ranges takes.
    Deciding { txn: Txn, compare: usize, comparison: Option<Comparison> },
    /// This operation.
    Next(OpDone),
    /// A read under way.
    Range(Revision, Box<RangeScan>),
    /// The pair before a put.
    Put(Revision, RevSub),
    /// The pairs before a removal.
    Delete { revision: Revision, deleted: u64, rest: IntoIter<RevSub>, kvs: Vec<Bytes> },
    /// Handing this to the transaction around it.
    Done(OpAnswer),
    /// All is read.
    Complete(AnswerBody),
}

/// A branch of a transaction, partly answered.
#[derive(Debug)]
struct Branch {
    succeeded: bool,
    rest: IntoIter<OpDone>,
    answers: Vec<OpAnswer>,
}

impl Resolution {
    /// A transaction of plain ranges.
    pub fn of_reads(txn: Txn) -> Resolution {
        assert!(txn.is_read_only(), "any other transaction goes through the log");
        Resolution::of(Stage::Deciding { txn, compare: 0, comparison: None })
    }

    fn of(stage: Stage) -> Resolution {
        Resolution { around: Vec::new(), stage, hold: None }
    }

    /// The answer's ranges take from this what they use. Previous pairs are not counted.
    pub fn with_memory(self, hold: Hold) -> Resolution {
        Resolution { hold: Some(hold), ..self }
    }

    /// The answer's place among those that grow if the last step stopped for want of memory.
    pub fn starved(&self) -> Option<u64> {
        match &self.stage {
            Stage::Range(_, scan) => scan.starved(),
            _ => None,
        }
    }

    /// Goes on until the budget is spent, or memory is wanting; true when the answer is complete. `view` is the same each
    /// time.
    pub fn step(&mut self, view: &dyn View, budget: &mut Budget) -> Result<bool, ReadError> {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Complete(AnswerBody::Compact));
            self.stage = self.advance(stage, view, budget)?;
            if let Stage::Complete(_) = self.stage {
                return Ok(true);
            }
            if budget.is_spent() || self.starved().is_some() {
                return Ok(false);
            }
        }
    }

    /// The answer, once a step has said that it is complete.
    pub fn into_answer(self) -> AnswerBody {
        let Stage::Complete(mut body) = self.stage else {
            unreachable!("step said that nothing is left, not {:?}", self.stage)
        };
        if let (AnswerBody::Txn(answer), Some(hold)) = (&mut body, self.hold) {
            attach(answer, &mut hold.seal());
        }
        body
    }

    fn finish(mut self, view: &dyn View) -> Result<AnswerBody, ReadError> {
        while !self.step(view, &mut Budget::unbounded())? {}
        Ok(self.into_answer())
    }

    fn advance(
        &mut self,
        stage: Stage,
        view: &dyn View,
        budget: &mut Budget,
    ) -> Result<Stage, ReadError> {
        Ok(match stage {
            Stage::Deciding { txn, compare, comparison } => {
                return decide(view, (txn, compare, comparison), budget);
            }
            Stage::Next(op) => {
                budget.spend(1, 0);
                self.start(view, op)
            }
            Stage::Range(revision, mut scan) => match scan.step(view, budget)? {
                true => Stage::Done(OpAnswer::Range(revision, self.keep(*scan))),
                false => Stage::Range(revision, scan),
            },
            Stage::Put(revision, prev) => {
                Stage::Done(OpAnswer::Put(revision, Some(pair(view, prev, budget)?)))
            }
            Stage::Delete { revision, deleted: count, mut rest, mut kvs } => {
                while let Some(at) = rest.next() {
                    kvs.push(pair(view, at, budget)?);
                    if budget.is_spent() {
                        return Ok(Stage::Delete { revision, deleted: count, rest, kvs });
                    }
                }
                Stage::Done(OpAnswer::DeleteRange(revision, deleted(count, kvs)))
            }
            Stage::Done(answer) => self.put_in(answer),
            Stage::Complete(body) => Stage::Complete(body),
        })
    }

    /// The answer of a complete range: it stays while the others are read.
    fn keep(&mut self, scan: RangeScan) -> RangeAnswer {
        let (answer, mut hold) = scan.into_parts();
        if let Some(hold) = &mut hold {
            hold.keep(answer.kvs.encoded_len());
        }
        self.hold = hold;
        answer
    }

    fn start(&mut self, view: &dyn View, op: OpDone) -> Stage {
        match op {
            OpDone::Range { revision, below, range } => {
                let scan = RangeScan::within(view, &range, below);
                Stage::Range(revision, Box::new(scan.with_memory(self.hold.take())))
            }
            OpDone::Put(revision, done) => match done.prev {
                Some(prev) => Stage::Put(revision, prev),
                None => Stage::Done(OpAnswer::Put(revision, None)),
            },
            OpDone::DeleteRange(revision, DeleteDone { deleted, prev }) => {
                let kvs = Vec::with_capacity(prev.len());
                Stage::Delete { revision, deleted, rest: prev.into_iter(), kvs }
            }
            OpDone::Txn(TxnDone { succeeded, ops }) => {
                let answers = Vec::with_capacity(ops.len());
                self.around.push(Branch { succeeded, rest: ops.into_iter(), answers });
                self.go_on()
            }
        }
    }

    /// Puts an answer in its place, and goes on behind it.
    fn put_in(&mut self, answer: OpAnswer) -> Stage {
        match self.around.last_mut() {
            Some(branch) => {
                branch.answers.push(answer);
                self.go_on()
            }
            None => Stage::Complete(match answer {
                OpAnswer::Range(_, answer) => AnswerBody::Range(answer),
                OpAnswer::Put(_, prev) => AnswerBody::Put(prev),
                OpAnswer::DeleteRange(_, answer) => AnswerBody::DeleteRange(answer),
                OpAnswer::Txn(answer) => AnswerBody::Txn(answer),
            }),
        }
    }

    /// The next operation of the innermost branch, or its end.
    fn go_on(&mut self) -> Stage {
        let branch = self.around.last_mut().expect("the caller has just seen it, or pushed it");
        if let Some(op) = branch.rest.next() {
            return Stage::Next(op);
        }
        let branch = self.around.pop().expect("there is a last branch");
        let answer = TxnAnswer { succeeded: branch.succeeded, ops: branch.answers };
        Stage::Done(OpAnswer::Txn(answer))
    }
}

/// Goes on with the compares of a transaction of plain ranges; checks its branch once that is known.
fn decide(
    view: &dyn View,
    (txn, compare, comparison): (Txn, usize, Option<Comparison>),
    budget: &mut Budget,
) -> Result<Stage, ReadError> {
    let mut succeeded = true;
    if let Some(asked) = txn.compares.get(compare) {
        let mut comparison = comparison.unwrap_or_else(|| Comparison::new(asked));
        match comparison.step(view, asked, budget)? {
            None => {
                return Ok(Stage::Deciding { txn, compare, comparison: Some(comparison) });
            }
            Some(true) => {
                return Ok(Stage::Deciding { txn, compare: compare + 1, comparison: None });
            }
            Some(false) => succeeded = false,
        }
    }
    let path = Path { succeeded, nested: Vec::new() };
    precheck::check(view, &txn, &path)?;
    let revision = view.mark().revision;
    let branch = if succeeded { txn.success } else { txn.failure };
    let reads = branch.into_iter().map(|op| match op {
        TxnOp::Range(range) => OpDone::Range { revision, below: revision.after(), range },
        TxnOp::Put(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) => {
            unreachable!("of_reads takes plain ranges only")
        }
    });
    Ok(Stage::Next(OpDone::Txn(TxnDone { succeeded, ops: reads.collect() })))
}

/// Chunks of all ranges keep their parts of what the answer holds.
fn attach(answer: &mut TxnAnswer, held: &mut Sealed) {
    for op in &mut answer.ops {
        match op {
            OpAnswer::Range(_, range) => range.kvs.attach(held),
            OpAnswer::Txn(inner) => attach(inner, held),
            OpAnswer::Put(..) | OpAnswer::DeleteRange(..) => {}
        }
    }
}

fn deleted(count: u64, prev_kvs: Vec<Bytes>) -> DeleteAnswer {
    DeleteAnswer { deleted: count as i64, prev_kvs }
}

fn pair(view: &dyn View, at: RevSub, budget: &mut Budget) -> Result<Bytes, Fault> {
    let kv = view.record(at)?.kv;
    budget.spend(1, kv.len());
    Ok(kv)
}

/// A range with a bound of its own is not checked against the mark, so no refusal comes back.
fn unrefusable(error: ReadError) -> Fault {
    match error {
        ReadError::Fault(fault) => fault,
        ReadError::Rejection(rejection) => Fault::new("resolve a range", "transaction", rejection),
    }
}
