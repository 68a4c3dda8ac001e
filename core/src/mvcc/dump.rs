//! A whole state as a stream of bytes: what Maintenance.Snapshot sends.
//!
//! ```text
//! dump    := "HOLDFAST" version:u32(1) term:u64 index:u64 revision:i64 compacted:i64
//!            item * zero, up to a multiple of 512 bytes
//! item    := 01 main:i64 sub:u32 flags:u8 len:u32 pair      a record; flags: 1 tombstone
//!          | 02 table:u8 key_len:u32 value_len:u32 key value   a row of a table
//!          | 00                                              the end
//! ```
//! All numbers are little-endian; records come in revision order, then the tables in theirs. The rows
//! of keys are not in it: they follow from the records.
//!
//! Laws:
//!  1. Every record is in it that can be read at some revision from the compacted one on, and no other,
//!     however far the member's physical compaction is; of the tables, all but its cursor. So
//!     members at the same entry give the same bytes.
//!  2. The length is known before the first byte: a first pass counts what the second writes.
//!
//! Leaves out the hash behind it, and etcd's file format.
//!
//! Price: everything is read twice.
//!
//! Worked example: an empty store of no members is 44 bytes of head, the ledger's row, 1 byte of end,
//! and zeros: 512 bytes.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::RevSub;
use crate::machine::PROGRESS_KEY;
use crate::mvcc::hash::alive_at;
use crate::mvcc::{Budget, ReadError, decode};
use crate::store::{Record, Table, View};

/// The unit of its length, which etcd's tools check.
const BLOCK: u64 = 512;

const MAGIC: &[u8] = b"HOLDFAST";
const VERSION: u32 = 1;
const HEAD_BYTES: u64 = 8 + 4 + 4 * 8;
const RECORD_BYTES: u64 = 1 + 8 + 4 + 1 + 4;
const ROW_BYTES: u64 = 1 + 1 + 4 + 4;

/// Where a pass is.
#[derive(Clone, Debug)]
enum Place {
    Records(RevSub),
    Rows(usize, Bytes),
    End,
}

/// A dump under way.
#[derive(Clone, Debug)]
pub struct Dump {
    counting: bool,
    place: Place,
    /// Bytes of the whole, as counted so far, or all of them.
    total: u64,
    /// Bytes written.
    written: u64,
}

impl Default for Dump {
    fn default() -> Dump {
        let place = Place::Records(RevSub::default());
        Dump { counting: true, place, total: HEAD_BYTES + 1, written: 0 }
    }
}

impl Dump {
    /// Goes on until the budget is spent or about `most` bytes are added to `out`; true when all is
    /// written. `view` is the same each time.
    ///
    /// # Errors
    /// This member cannot read its own state.
    pub fn step(
        &mut self,
        view: &dyn View,
        (budget, most): (&mut Budget, usize),
        out: &mut BytesMut,
    ) -> Result<bool, ReadError> {
        if !self.counting && self.written == 0 {
            self.head(view, out);
        }
        while !budget.is_spent() && out.len() < most {
            match self.place.clone() {
                Place::Records(from) => self.records(view, from, (budget, most), out)?,
                Place::Rows(table, from) => self.rows(view, (table, from), (budget, most), out),
                Place::End if self.counting => {
                    self.counting = false;
                    self.place = Place::Records(RevSub::default());
                    self.total = self.total.next_multiple_of(BLOCK);
                    self.head(view, out);
                }
                Place::End => {
                    let rest = self.total - self.written;
                    out.put_bytes(0, rest as usize);
                    self.written = self.total;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Bytes that are still to come; nothing is known before the first byte is written.
    pub fn remaining(&self) -> u64 {
        self.total - self.written
    }

    fn head(&mut self, view: &dyn View, out: &mut BytesMut) {
        let mark = view.mark();
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(mark.applied.term.0);
        out.put_u64_le(mark.applied.index.0);
        out.put_i64_le(mark.revision.0);
        out.put_i64_le(mark.compacted.0);
        self.written = HEAD_BYTES;
    }

    fn records(
        &mut self,
        view: &dyn View,
        from: RevSub,
        (budget, most): (&mut Budget, usize),
        out: &mut BytesMut,
    ) -> Result<(), ReadError> {
        let (mut batch, mut bytes, mut next) = (Vec::new(), out.len(), None);
        view.records(from, &mut |record| {
            if budget.is_spent() || bytes >= most {
                next = Some(record.at);
                return ControlFlow::Break(());
            }
            budget.spend(1, record.kv.len());
            bytes += record.kv.len();
            batch.push(record.clone());
            ControlFlow::Continue(())
        })?;
        for record in &batch {
            if readable(view, record, budget)? {
                self.record(record, out);
            }
        }
        self.place = match next {
            Some(at) => Place::Records(at),
            None => Place::Rows(0, Bytes::new()),
        };
        Ok(())
    }

    fn record(&mut self, record: &Record, out: &mut BytesMut) {
        let bytes = RECORD_BYTES + record.kv.len() as u64;
        if self.counting {
            self.total += bytes;
            return;
        }
        out.put_u8(1);
        out.put_i64_le(record.at.main.0);
        out.put_u32_le(record.at.sub);
        out.put_u8(u8::from(record.tombstone));
        out.put_u32_le(record.kv.len() as u32);
        out.put_slice(&record.kv);
        self.written += bytes;
    }

    fn rows(
        &mut self,
        view: &dyn View,
        (at, from): (usize, Bytes),
        (budget, most): (&mut Budget, usize),
        out: &mut BytesMut,
    ) {
        let Some(table) = Table::ALL.get(at).copied() else {
            self.place = Place::End;
            return;
        };
        let mut next = None;
        view.table_scan(table, &from, &mut |key, value| {
            if budget.is_spent() || out.len() >= most {
                next = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            budget.spend(1, key.len() + value.len());
            if table != Table::Meta || key != PROGRESS_KEY {
                self.row((table, key, value), out);
            }
            ControlFlow::Continue(())
        });
        self.place = match next {
            Some(key) => Place::Rows(at, key),
            None => Place::Rows(at + 1, Bytes::new()),
        };
    }

    fn row(&mut self, (table, key, value): (Table, &[u8], &[u8]), out: &mut BytesMut) {
        let bytes = ROW_BYTES + (key.len() + value.len()) as u64;
        if self.counting {
            self.total += bytes;
            return;
        }
        out.put_slice(&[2, table as u8]);
        out.put_u32_le(key.len() as u32);
        out.put_u32_le(value.len() as u32);
        out.put_slice(key);
        out.put_slice(value);
        self.written += bytes;
    }
}

/// Whether some read from the compacted revision on sees the record (law 1).
fn readable(view: &dyn View, record: &Record, budget: &mut Budget) -> Result<bool, ReadError> {
    let compacted = view.mark().compacted;
    if record.at.main > compacted {
        return Ok(true);
    }
    if record.tombstone {
        return Ok(false);
    }
    let Some(row) = view.row(decode(record)?.key) else { return Ok(false) };
    Ok(alive_at(view, &row, compacted, budget)? == Some(record.at))
}
