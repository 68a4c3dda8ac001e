//! Put: one key gets a new version. Checks come first and are in `precheck`.
//!
//! Leaves out: everything checked before (an unknown lease, a missing key under ignore_value).
//!
//! Worked example: put a with ignore_value and lease 7 over version 3 at r9 gives version 4 with the
//! value of r9.0; "a" leaves its old lease and joins lease 7 in the same batch.

use bytes::Bytes;

use crate::kv::KeyValue;
use crate::machine::draft::{Draft, Written};
use crate::request::Put;
use crate::response::PutDone;
use crate::store::{Fault, Row};

/// Writes the key.
pub(super) fn put(draft: &mut Draft<'_>, request: &Put) -> Result<PutDone, Fault> {
    let newest = draft.row(&request.key);
    let before = newest.filter(|row| !row.is_tombstone());
    let kept = match before {
        Some(row) if request.ignore_value => Some(present_value(draft, row)?),
        _ => None,
    };
    let value = kept.as_ref().unwrap_or(&request.value);
    let lease = match before {
        Some(row) if request.ignore_lease => row.lease,
        _ => request.lease,
    };
    draft.put(&request.key, newest, Written { value, lease });
    Ok(PutDone { prev: before.filter(|_| request.prev_kv).map(|row| row.modified) })
}

fn present_value(draft: &Draft<'_>, row: Row) -> Result<Bytes, Fault> {
    let pair = draft.pair(row.modified)?;
    let kv = KeyValue::decode(&pair).ok_or_else(|| {
        Fault::new("keep a value", row.modified.to_string(), "its record is no mvccpb.KeyValue")
    })?;
    Ok(pair.slice_ref(kv.value))
}
