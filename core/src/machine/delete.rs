//! DeleteRange: every living key of a range gets a tombstone, all in one revision.
//!
//! Law: a range without a living key changes nothing, not even the revision.
//!
//! Worked example: with "a" at r2 and "b" at r3, deleting [a, c) writes tombstones r4.0 and r4.1 and
//! answers 2, and r2.0 and r3.0 when the previous pairs are wanted.

use crate::machine::draft::Draft;
use crate::request::DeleteRange;
use crate::response::DeleteDone;

/// Deletes what is alive in the range.
pub(super) fn delete_range(draft: &mut Draft<'_>, request: &DeleteRange) -> DeleteDone {
    let keys = draft.live_in(&request.keys);
    let deleted = keys.len() as u64;
    let wanted = keys.iter().filter(|_| request.prev_kv);
    let prev = wanted.map(|(_, row)| row.modified).collect();
    for (key, row) in keys {
        draft.delete(&key, row);
    }
    DeleteDone { deleted, prev }
}
