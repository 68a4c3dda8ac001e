//! The replicated half of leases: which exist, for how long, and which keys hang on them.
//!
//! Leaves out: time. When a lease ends is the leader's lessor's to decide; it proposes a revocation,
//! which arrives here like a client's.
//!
//! ```text
//! Table::Leases     id (8 bytes big-endian, sign bit flipped)        → TTL granted left?
//! Table::LeaseKeys  id (the same 8 bytes) key                        → nothing
//!
//! TTL      seconds (8 bytes big-endian)
//! granted  index of the entry that granted it (likewise); missing in a lease from before it was noted
//! left     seconds that were left when the leader last said so (likewise), if it has
//! ```
//!
//! Laws:
//!  1. A key is in `LeaseKeys` under the lease its row names, and under no other.
//!  2. A revocation removes the lease, its attachments and its keys in one command, the keys in byte
//!     order at one revision; without keys it leaves the revision.
//!  3. What is left of a lease is noted for the very lease that the leader spoke of, and never more than
//!     its TTL; a lease of the same id that was granted since begins anew.
//!
//! Worked example: keys "b" and "a" attached to lease 7; revoking it at r5 writes tombstones a r6.0
//! and b r6.1.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{Index, LeaseId};
use crate::machine::LeaseChange;
use crate::machine::compact::compaction_cursor;
use crate::machine::delete::DELETION_KEYS;
use crate::machine::draft::Draft;
use crate::mvcc::Budget;
use crate::rejection::Rejection;
use crate::request::LeaseNote;
use crate::store::{Table, View};

/// etcd's longest TTL, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

/// Every lease and its granted TTL in seconds, by ascending id.
pub fn leases(view: &dyn View) -> Vec<(LeaseId, i64)> {
    let mut found = Vec::new();
    leases_from(view, LeaseId(i64::MIN), &mut |id, ttl| {
        found.push((id, ttl));
        ControlFlow::Continue(())
    });
    found
}

/// Visits the leases from `from` on, with their granted TTLs, by ascending id, until `visit` breaks.
pub fn leases_from(
    view: &dyn View,
    from: LeaseId,
    visit: &mut dyn FnMut(LeaseId, i64) -> ControlFlow<()>,
) {
    view.table_scan(Table::Leases, &key_of(from), &mut |key, value| match id_of(key)
        .zip(ttl_of(value))
    {
        Some((id, ttl)) => visit(id, ttl),
        None => ControlFlow::Continue(()),
    });
}

/// The granted TTL of a lease in seconds; `None` when there is no such lease.
pub fn lease_ttl(view: &dyn View, id: LeaseId) -> Option<i64> {
    view.table(Table::Leases, &key_of(id)).as_deref().and_then(ttl_of)
}

/// Visits the keys attached to a lease, in byte order, until `visit` breaks.
pub fn lease_keys(view: &dyn View, id: LeaseId, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
    lease_keys_from(view, (id, b""), visit);
}

/// Like [`lease_keys`], from a key on.
pub fn lease_keys_from(
    view: &dyn View,
    (id, from): (LeaseId, &[u8]),
    visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) {
    let prefix = key_of(id);
    let from = attachment(id, from);
    view.table_scan(Table::LeaseKeys, &from, &mut |row, _| match row.strip_prefix(&prefix) {
        Some(key) => visit(key),
        None => ControlFlow::Break(()),
    });
}

/// Visits every attached key of every lease from one attachment on, until `visit` breaks.
pub fn attached_from(
    view: &dyn View,
    (id, from): (LeaseId, &[u8]),
    visit: &mut dyn FnMut(LeaseId, &[u8]) -> ControlFlow<()>,
) {
    view.table_scan(Table::LeaseKeys, &attachment(id, from), &mut |row, _| match row
        .split_at_checked(8)
        .and_then(|(id, key)| Some((id_of(id)?, key)))
    {
        Some((id, key)) => visit(id, key),
        None => ControlFlow::Continue(()),
    });
}

/// What there is to know of a lease but its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Which.
    pub id: LeaseId,
    /// Seconds granted.
    pub ttl: i64,
    /// The entry that granted it; 0 where that is not known.
    pub granted: Index,
    /// Seconds that a leader has noted to be left.
    pub left: Option<i64>,
}

/// Visits all leases, by ascending id.
pub fn lease_rows(view: &dyn View, visit: &mut dyn FnMut(LeaseRow)) {
    view.table_scan(Table::Leases, b"", &mut |key, value| {
        if let Some((id, ttl)) = id_of(key).zip(ttl_of(value)) {
            let granted = Index(number_at(value, 8).map_or(0, |index| index as u64));
            visit(LeaseRow { id, ttl, granted, left: number_at(value, 16) });
        }
        ControlFlow::Continue(())
    });
}

/// Notes how long leases have left. One that is not the lease of the note is left alone.
pub(super) fn checkpoint(draft: &mut Draft<'_>, notes: &[LeaseNote]) {
    for note in notes {
        let key = key_of(note.id);
        let Some(row) = draft.view().table(Table::Leases, &key) else { continue };
        let Some(ttl) = ttl_of(&row) else { continue };
        if number_at(&row, 8) != Some(note.granted.0 as i64) {
            continue;
        }
        let left = Some(note.left.min(ttl)).filter(|left| *left > 0);
        draft.set(Table::Leases, Bytes::copy_from_slice(&key), row_of(ttl, note.granted, left));
        draft.lease_changed(LeaseChange::Noted { id: note.id, left });
    }
}

/// Creates a lease.
pub(super) fn grant(draft: &mut Draft<'_>, id: LeaseId, ttl: i64) -> Result<(), Rejection> {
    if id == LeaseId::NONE {
        return Err(Rejection::LeaseNotFound);
    }
    if ttl > TTL_MAX {
        return Err(Rejection::LeaseTtlTooLarge);
    }
    if lease_ttl(draft.view(), id).is_some() {
        return Err(Rejection::LeaseExists);
    }
    let key = Bytes::copy_from_slice(&key_of(id));
    let granted = draft.applied().index;
    draft.set(Table::Leases, key, row_of(ttl, granted, None));
    draft.lease_changed(LeaseChange::Granted { id, ttl, granted });
    Ok(())
}

/// A revocation under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Revocation {
    /// The lease was found.
    begun: bool,
}

impl Revocation {
    /// Removes some of the lease's keys, and the lease with the last of them; says whether that is done.
    pub(super) fn step(
        &mut self,
        draft: &mut Draft<'_>,
        id: LeaseId,
        budget: &mut Budget,
    ) -> Result<bool, Rejection> {
        if !self.begun && lease_ttl(draft.view(), id).is_none() {
            return Err(Rejection::LeaseNotFound);
        }
        self.begun = true;
        // Those of earlier steps are detached: the first that is left is the next.
        let (mut names, mut ends, mut ended) = (Vec::new(), Vec::new(), true);
        lease_keys(draft.view(), id, &mut |key| {
            if !ends.is_empty() && budget.is_spent() {
                ended = false;
                return ControlFlow::Break(());
            }
            budget.spend(2 * DELETION_KEYS, key.len());
            names.extend_from_slice(key);
            ends.push(names.len());
            ControlFlow::Continue(())
        });
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut keys: Vec<&[u8]> =
            starts.zip(&ends).map(|(start, end)| &names[start..*end]).collect();
        if crate::mutant::on(55) && compaction_cursor(draft.view()).main.0 % 2 == 1 {
            keys.reverse();
        }
        keys.into_iter().for_each(|key| delete(draft, id, key));
        if ended {
            budget.spend(1, 0);
            draft.clear(Table::Leases, Bytes::copy_from_slice(&key_of(id)));
            draft.lease_changed(LeaseChange::Revoked { id });
        }
        Ok(ended)
    }
}

fn delete(draft: &mut Draft<'_>, id: LeaseId, key: &[u8]) {
    let attached = draft.row(key).filter(|row| row.lease == id);
    let row = attached.expect("LeaseKeys lists a key exactly if its row names the lease (law 1)");
    draft.delete(key, row);
    if crate::mutant::on(60) {
        draft.split_revision();
    }
}

/// The row that attaches `key` to a lease.
pub(super) fn attachment(id: LeaseId, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(8 + key.len());
    row.put_slice(&key_of(id));
    row.put_slice(key);
    row.freeze()
}

/// Signed ids in byte order: the sign bit flipped, big-endian.
fn key_of(id: LeaseId) -> [u8; 8] {
    (id.0 ^ i64::MIN).to_be_bytes()
}

fn id_of(key: &[u8]) -> Option<LeaseId> {
    Some(LeaseId(i64::from_be_bytes(key.try_into().ok()?) ^ i64::MIN))
}

fn row_of(ttl: i64, granted: Index, left: Option<i64>) -> Bytes {
    let mut row = BytesMut::with_capacity(24);
    row.put_i64(ttl);
    row.put_u64(granted.0);
    left.into_iter().for_each(|left| row.put_i64(left));
    row.freeze()
}

fn ttl_of(value: &[u8]) -> Option<i64> {
    number_at(value, 0)
}

fn number_at(value: &[u8], at: usize) -> Option<i64> {
    let bytes = value.get(at..at + 8)?;
    Some(i64::from_be_bytes(bytes.try_into().expect("a slice of eight has eight bytes")))
}
