//! One number for everything a client could see, to compare members with.
//!
//! Leaves out: what only one member has: how far its physical compaction is, rows of keys whose
//! deletion was compacted, records nobody can read, where each record's predecessor lies. So members
//! at equal applied positions have equal hashes, however differently they got there.
//!
//! Law: the hash covers the revision, the compacted revision, every key's newest version (with the
//! deletions since the compaction), every version readable at some revision from the compacted one
//! on, and all tables but the compaction cursor; each item with its length in front.
//!
//! Not for secrets, and no etcd hash: HashKV is defined otherwise.
//!
//! Price: it reads every readable record.
//!
//! Worked example: two members at r9 compacted at r5, of which one has forgotten a key deleted at r4
//! and the other has not, have the same hash.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::id::RevSub;
use crate::machine::PROGRESS_KEY;
use crate::mvcc::decode;
use crate::request::{KeyRange, RangeEnd};
use crate::store::{Fault, Row, Table, View};

/// The hash of the state, without its applied position.
pub fn state_hash(view: &dyn View) -> Result<u64, Fault> {
    let mut hash = Hash::default();
    let mark = view.mark();
    hash.number(mark.revision.0 as u64);
    hash.number(mark.compacted.0 as u64);
    let mut rest = KeyRange { start: Bytes::new(), end: RangeEnd::Open };
    loop {
        let mut rows = Vec::new();
        view.scan(&rest, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), *row));
            if rows.len() < SLICE_KEYS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        for (key, row) in &rows {
            hash_key(view, &mut hash, key, row)?;
        }
        match rows.last() {
            Some((last, _)) if rows.len() == SLICE_KEYS => {
                rest.start = [last, &b"\0"[..]].concat().into();
            }
            _ => break,
        }
    }
    for table in Table::ALL {
        hash.number(table as u64);
        view.table_scan(table, b"", &mut |key, value| {
            if table != Table::Meta || key != PROGRESS_KEY {
                hash.bytes(key);
                hash.bytes(value);
            }
            ControlFlow::Continue(())
        });
    }
    Ok(hash.0)
}

const SLICE_KEYS: usize = 1024;

fn hash_key(view: &dyn View, hash: &mut Hash, key: &[u8], row: &Row) -> Result<(), Fault> {
    let compacted = view.mark().compacted;
    if row.is_tombstone() && row.modified.main <= compacted {
        return Ok(());
    }
    hash.bytes(key);
    hash.change(row.modified);
    hash.number(row.created.0 as u64);
    hash.number(row.version as u64);
    hash.number(row.lease.0 as u64);
    hash.number(u64::from(row.value_len));
    let mut at = row.modified;
    loop {
        let record = view.record(at)?;
        hash.change(at);
        hash.bytes(&record.kv);
        let born = !record.tombstone && decode(&record)?.version == 1;
        match record.prev {
            // Below the compacted revision only a living version is readable; what precedes a birth is
            // a tombstone, which may be gone.
            Some(prev) if at.main > compacted && (prev.main > compacted || !born) => at = prev,
            _ => return Ok(()),
        }
    }
}

/// A 64-bit multiply-and-fold over eight bytes at a time.
#[derive(Default)]
struct Hash(u64);

impl Hash {
    fn number(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from(0xd6e8_feb8_6659_fd93_u64 ^ self.0.rotate_left(32));
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn change(&mut self, at: RevSub) {
        self.number(at.main.0 as u64);
        self.number(u64::from(at.sub));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }
}
