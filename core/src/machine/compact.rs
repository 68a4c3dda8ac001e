//! Compaction: decided at once by a command, carried out in slices afterwards.
//!
//! The decision moves [`Mark::compacted`](crate::store::Mark): from then on older revisions cannot be
//! read, on any member. What is left to do is physical, happens when a member has time, and must not
//! be visible: here, the rows of keys that were deleted before are forgotten. Dropping dead records is
//! the engine's part, which knows them from the mark.
//!
//! ```text
//! Table::Meta  "compaction"  → main (8 bytes big-endian) sub (4 bytes big-endian)
//! ```
//! is how far this member has looked: every record below has been. It is the only row of any table
//! that may differ between members at the same applied position.
//!
//! Laws:
//!  1. A row is forgotten only if it still is the tombstone that the record says, and that lies at or
//!     below the compacted revision.
//!  2. A tombstone *at* the compacted revision goes from the index like the others: no read at that
//!     revision sees its key. Its record stays, since a watch may start at that very revision and
//!     must see the deletion (etcd#19179), and since etcd's HashKV includes it from 3.5.16 on.
//!  3. The cursor is written in the same batch as what was forgotten.
//!
//! Price: every record since the last compaction is looked at once more. In return the index carries
//! no list of its own tombstones.
//!
//! Worked example: put a r2, del a r3, put b r4, compact r3. The slice looks at r2.0 (a put), r3.0
//! (the row of "a" is still that tombstone: forgotten), and is done below r4.0.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{RevSub, Revision};
use crate::machine::draft::Draft;
use crate::mvcc::decode;
use crate::rejection::Rejection;
use crate::store::{Batch, Change, Fault, Record, Table, View};

/// The row of `Table::Meta` that holds the cursor.
pub(crate) const PROGRESS_KEY: &[u8] = b"compaction";

/// Decides a compaction.
pub(super) fn compact(draft: &mut Draft<'_>, revision: Revision) -> Result<(), Rejection> {
    if revision <= draft.compacted() {
        return Err(Rejection::Compacted);
    }
    if revision > draft.revision() {
        return Err(Rejection::FutureRevision);
    }
    draft.set_compacted(revision);
    Ok(())
}

/// How far the physical work is: `cursor <= target` while there is some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    /// Records below this one have been looked at.
    cursor: RevSub,
    /// Records below this one must be.
    target: RevSub,
}

/// Records below this have been looked at by this member's physical compaction: an engine may drop
/// the dead ones among them, and no others, or their keys' tombstones would never be forgotten.
pub fn compaction_cursor(view: &dyn View) -> RevSub {
    let row = view.table(Table::Meta, PROGRESS_KEY);
    row.as_deref().and_then(cursor_of).unwrap_or_default()
}

impl Compaction {
    pub(super) fn load(view: &dyn View) -> Compaction {
        let target = target_of(view.mark().compacted);
        Compaction { cursor: compaction_cursor(view), target }
    }

    /// Learns of a decision.
    pub(super) fn decide(&mut self, compacted: Revision) {
        self.target = target_of(compacted);
    }

    pub(super) fn pending(&self) -> bool {
        self.cursor < self.target
    }

    /// The changes of one slice.
    pub(super) fn slice(&mut self, view: &dyn View, records_max: usize) -> Result<Batch, Fault> {
        let mut looked = 0;
        let mut tombstones = Vec::new();
        let mut cursor = self.target;
        view.records(self.cursor, &mut |record| {
            if record.at >= self.target || looked == records_max {
                cursor = cursor.min(record.at);
                return ControlFlow::Break(());
            }
            looked += 1;
            if record.tombstone {
                tombstones.push(record.clone());
            }
            ControlFlow::Continue(())
        })?;
        let mut batch = Batch::new(view.mark());
        for record in tombstones {
            batch_forget(view, &record, &mut batch)?;
        }
        self.cursor = cursor;
        let (table, key) = (Table::Meta, Bytes::from_static(PROGRESS_KEY));
        batch.push(Change::Set { table, key, value: cursor_row(cursor) });
        Ok(batch)
    }
}

/// Records below this bound are to be looked at once `compacted` is the compacted revision.
fn target_of(compacted: Revision) -> RevSub {
    if compacted.0 < 0 { RevSub::default() } else { compacted.after() }
}

fn batch_forget(view: &dyn View, record: &Record, batch: &mut Batch) -> Result<(), Fault> {
    let key = decode(record)?.key;
    if view.row(key).is_some_and(|row| row.modified == record.at) {
        batch.push(Change::Forget { key: record.kv.slice_ref(key) });
    }
    Ok(())
}

fn cursor_row(cursor: RevSub) -> Bytes {
    let mut row = BytesMut::with_capacity(12);
    row.put_i64(cursor.main.0);
    row.put_u32(cursor.sub);
    row.freeze()
}

fn cursor_of(row: &[u8]) -> Option<RevSub> {
    let (main, sub) = row.split_first_chunk()?;
    let main = Revision(i64::from_be_bytes(*main));
    Some(RevSub { main, sub: u32::from_be_bytes(sub.try_into().ok()?) })
}
