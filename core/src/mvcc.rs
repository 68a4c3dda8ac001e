//! Reading versions: which one of a key a read sees, and how a whole read is answered.
//!
//! Leaves out: writing (that is [`crate::machine`]'s alone) and how versions are kept (the engine's).
//! Everything here takes a [`View`], so apply, the edge, watches and checkers read alike.
//!
//! Laws:
//!  1. A read has a bound and sees, of each key, the newest change strictly below it. A read at
//!     revision 17 has the bound r18.0; a range inside a transaction at r18, after two changes of
//!     it, has r18.2.
//!  2. A read whose bound lies above the compacted revision never touches a record that compaction
//!     may have removed.
//!
//! Worked example: "a" was put at r2, deleted at r3, put at r5. A read below r5.0 starts at the row
//! (r5.0), learns from its record that version 1 began a life after r3.0, and sees no "a".

mod budget;
pub mod dump;
mod fetch;
pub mod hash;
pub mod model;
mod pairs;
pub mod point;
pub mod range;
pub mod resolve;

use std::fmt;

pub use budget::Budget;
pub use pairs::Pairs;

use crate::id::RevSub;
use crate::kv::KeyValue;
use crate::rejection::Rejection;
use crate::store::{Fault, Record, Row, View};

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The client asked for what cannot be had; the same on every member.
    Rejection(Rejection),
    /// This member cannot read its own state.
    Fault(Fault),
}

impl From<Rejection> for ReadError {
    fn from(rejection: Rejection) -> ReadError {
        ReadError::Rejection(rejection)
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> ReadError {
        ReadError::Fault(fault)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Rejection(rejection) => rejection.fmt(f),
            ReadError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Looks for the version of one key that a read strictly below a bound sees, a stretch at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// The change to go on from; `None` before the first.
    next: Option<RevSub>,
}

impl Look {
    /// Where the version of `row`'s key is that a read strictly below `below` sees: `Some(None)` when
    /// the key did not exist there, `None` when the budget is spent before that is known.
    ///
    /// Never reads the record at the answer, nor a tombstone below the bound: compaction may have
    /// taken it. That the change before `prev` deleted the key follows from the record after it,
    /// which is a put of version 1.
    pub(crate) fn visible(
        &mut self,
        view: &dyn View,
        (row, below): (&Row, RevSub),
        budget: &mut Budget,
    ) -> Result<Option<Option<RevSub>>, Fault> {
        if row.modified < below {
            return Ok(Some((!row.is_tombstone()).then_some(row.modified)));
        }
        let mut at = self.next.unwrap_or(row.modified);
        loop {
            let record = view.record(at)?;
            budget.spend(1, record.kv.len());
            let Some(prev) = record.prev else { return Ok(Some(None)) };
            if prev < below {
                let lived = record.tombstone || decode(&record)?.version > 1;
                return Ok(Some(lived.then_some(prev)));
            }
            at = prev;
            if budget.is_spent() {
                self.next = Some(at);
                return Ok(None);
            }
        }
    }
}

/// The pair in a record.
pub(crate) fn decode(record: &Record) -> Result<KeyValue<'_>, Fault> {
    decode_pair(record.at, &record.kv)
}

/// The pair of the record at a revision.
pub(crate) fn decode_pair(at: RevSub, pair: &[u8]) -> Result<KeyValue<'_>, Fault> {
    KeyValue::decode(pair)
        .ok_or_else(|| Fault::new("decode a record", at.to_string(), "it holds no mvccpb.KeyValue"))
}
