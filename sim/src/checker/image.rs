//! A member's published state, reduced to what must be equal: compared with other members by digest
//! and with the oracle row by row.
//!
//! Leaves out what compaction may or may not have removed yet: each member removes old records and
//! tombstones at its own pace.

use std::ops::ControlFlow;

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::store::{Row, Table, View};

use crate::model::{Model, encode};

/// All keys.
pub(super) fn all_keys() -> KeyRange {
    KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Open }
}

/// Rows that must be there: the live ones, and tombstones that compaction has not passed.
fn rows(view: &dyn View) -> Vec<(Bytes, Row)> {
    let compacted = view.mark().compacted;
    let mut rows = Vec::new();
    view.scan(&all_keys(), &mut |key, row| {
        if !row.is_tombstone() || row.modified.main > compacted {
            rows.push((Bytes::copy_from_slice(key), *row));
        }
        ControlFlow::Continue(())
    });
    rows
}

/// A digest of everything: keys at all revisions that can be read, leases, members, every table.
pub(super) fn digest(view: &dyn View) -> Result<u32, String> {
    let mark = view.mark();
    let mut hasher = crc32fast::Hasher::new();
    for number in [mark.revision.0, mark.compacted.0] {
        hasher.update(&number.to_le_bytes());
    }
    for (key, row) in rows(view) {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(&key);
        let record = view.record(row.modified).map_err(|fault| fault.to_string())?;
        hash_row(&mut hasher, &row);
        hasher.update(&record.kv);
    }
    let from = Revision(mark.compacted.0.max(0)).after();
    let visited = view.records(from, &mut |record| {
        hasher.update(&record.at.main.0.to_le_bytes());
        hasher.update(&record.at.sub.to_le_bytes());
        hasher.update(&[u8::from(record.tombstone)]);
        hasher.update(&record.kv);
        ControlFlow::Continue(())
    });
    visited.map_err(|fault| fault.to_string())?;
    for table in Table::ALL {
        view.table_scan(table, b"", &mut |key, value| {
            // How far compaction has come is each member's own.
            if table != Table::Meta || key != b"compaction" {
                hasher.update(&[table as u8]);
                hasher.update(&(key.len() as u64).to_le_bytes());
                hasher.update(key);
                hasher.update(value);
            }
            ControlFlow::Continue(())
        });
    }
    Ok(hasher.finalize())
}

fn hash_row(hasher: &mut crc32fast::Hasher, row: &Row) {
    for number in [row.modified.main.0, i64::from(row.modified.sub), row.created.0, row.version] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&row.lease.0.to_le_bytes());
    hasher.update(&row.value_len.to_le_bytes());
}

/// Compares a state with the oracle's newest; they must be at the same entry.
pub(super) fn equals_model(view: &dyn View, model: &Model) -> Result<(), String> {
    let mark = view.mark();
    let expected = (model.revision(), model.compacted());
    if (mark.revision, mark.compacted) != expected {
        let (revision, compacted) = expected;
        return Err(format!(
            "revision {} compacted {}, replay says {revision} compacted {compacted}",
            mark.revision, mark.compacted
        ));
    }
    let rows = rows(view);
    let wanted = model
        .newest()
        .filter(|(_, version)| version.value.is_some() || version.at.main > model.compacted());
    let mut found = rows.iter();
    for (key, version) in wanted {
        let Some((row_key, row)) = found.next() else { return Err(format!("{key:?} is missing")) };
        if row_key != key {
            return Err(format!("{row_key:?} stands where {key:?} should"));
        }
        let shown = (row.modified, row.created.0, row.version, row.lease.0);
        let wanted = (version.at, version.created, version.version, version.lease);
        if shown != wanted {
            return Err(format!("{key:?} is {shown:?}, replay says {wanted:?}"));
        }
        let record = view.record(row.modified).map_err(|fault| fault.to_string())?;
        if version.value.is_some() && record.kv != encode(key, version) {
            return Err(format!("{key:?} at {} holds other bytes than replay", row.modified));
        }
    }
    match found.next() {
        Some((key, _)) => Err(format!("{key:?} should not be there")),
        None => leases_equal(view, model),
    }
}

fn leases_equal(view: &dyn View, model: &Model) -> Result<(), String> {
    let mut leases = Vec::new();
    view.table_scan(Table::Leases, b"", &mut |key, _| {
        leases.extend(key.try_into().map(|key| i64::from_be_bytes(key) ^ i64::MIN));
        ControlFlow::Continue(())
    });
    let wanted: Vec<i64> = model.leases().keys().copied().collect();
    if leases == wanted {
        members_equal(view, model)
    } else {
        Err(format!("leases {leases:?}, replay says {wanted:?}"))
    }
}

fn members_equal(view: &dyn View, model: &Model) -> Result<(), String> {
    let known = holdfast_core::machine::membership(view);
    if known.members != *model.members() {
        return Err(format!("members {:?}, replay says {:?}", known.members, model.members()));
    }
    if known.removed != *model.removed() {
        return Err(format!("removed {:?}, replay says {:?}", known.removed, model.removed()));
    }
    Ok(())
}
