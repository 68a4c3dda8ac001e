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

pub mod model;
pub mod range;
pub mod resolve;

use std::fmt;

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

/// Where the version of `row`'s key is that a read strictly below `below` sees; `None` when the key
/// did not exist there.
///
/// Never reads the record at the answer, nor a tombstone below the bound: compaction may have taken
/// it. That the change before `prev` deleted the key follows from the record after it, which is a
/// put of version 1.
pub(crate) fn visible(view: &dyn View, row: &Row, below: RevSub) -> Result<Option<RevSub>, Fault> {
    if row.modified < below {
        return Ok((!row.is_tombstone()).then_some(row.modified));
    }
    let mut record = view.record(row.modified)?;
    loop {
        let Some(prev) = record.prev else { return Ok(None) };
        if prev < below {
            let lived = record.tombstone || decode(&record)?.version > 1;
            return Ok(lived.then_some(prev));
        }
        record = view.record(prev)?;
    }
}

/// The pair in a record.
pub(crate) fn decode(record: &Record) -> Result<KeyValue<'_>, Fault> {
    KeyValue::decode(&record.kv).ok_or_else(|| {
        Fault::new("decode a record", record.at.to_string(), "it holds no mvccpb.KeyValue")
    })
}
