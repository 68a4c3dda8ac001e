//! A [`Store`] over ordered maps: the dumb twin of the engine, for tests and for oracles.
//!
//! Leaves out: disk, pages, sharing, every complexity bound ([`View::count`] walks). Nothing it does
//! is clever, so that a difference between it and an engine is the engine's mistake.
//!
//! Laws:
//!  1. Records arrive in ascending order and belong to the row they come with; asserted in
//!     [`Store::absorb`], because only a bug of the machine can break it.
//!  2. [`MemoryStore::reclaim`] removes every record that compaction allows to go, at once: what
//!     still works afterwards does not lean on leftovers.
//!
//! Worked example: after puts of "a" at r2 and r3 and a compaction at r3, `reclaim` removes r2.0.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::id::RevSub;
use crate::kv::KeyValue;
use crate::machine::compaction_cursor;
use crate::request::{KeyRange, RangeEnd};
use crate::store::{Batch, Change, Fault, Mark, Record, Row, Store, Table, View, VisitTable};

/// One consistent state, wholly in memory; a clone of it is a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryStore {
    mark: Mark,
    rows: BTreeMap<Bytes, Row>,
    records: BTreeMap<RevSub, Record>,
    tables: BTreeMap<(Table, Bytes), Bytes>,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore {
            mark: Mark::EMPTY,
            rows: BTreeMap::new(),
            records: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }
}

impl MemoryStore {
    /// Removes the records compaction allows to go: those below the compacted revision that are not
    /// the newest of a living key there, and that the physical compaction has looked at. Records at
    /// the compacted revision itself all stay, since a watch may start there.
    pub fn reclaim(&mut self) {
        let compacted = self.mark.compacted;
        let cursor = compaction_cursor(self);
        let mut newest = BTreeMap::new();
        for (at, record) in self.records.range(..compacted.after()) {
            newest.insert(key_of(record), *at);
        }
        self.records.retain(|at, record| {
            let readable = at.main >= compacted;
            readable || *at >= cursor || (!record.tombstone && newest[&key_of(record)] == *at)
        });
    }

    /// Number of records held, for tests of reclaiming.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Write { key, row, record } => {
                assert_eq!(row.modified, record.at, "a row names its own record");
                assert_eq!(key_of(&record), key, "a record holds its own key");
                let newer = self.records.last_key_value().is_none_or(|(last, _)| *last < record.at);
                assert!(newer, "record {} arrived out of order", record.at);
                self.records.insert(record.at, record);
                self.rows.insert(key, row);
            }
            Change::Forget { key } => {
                let row = self.rows.remove(&key);
                assert!(row.is_some_and(|row| row.is_tombstone()), "only a tombstone is forgotten");
            }
            Change::Set { table, key, value } => {
                self.tables.insert((table, key), value);
            }
            Change::Clear { table, key } => {
                self.tables.remove(&(table, key));
            }
        }
    }

    fn rows_of(&self, keys: &KeyRange) -> impl Iterator<Item = (&Bytes, &Row)> {
        let upper = match &keys.end {
            _ if keys.is_empty() => Bound::Excluded(keys.start.clone()),
            RangeEnd::Single => Bound::Included(keys.start.clone()),
            RangeEnd::Before(end) => Bound::Excluded(end.clone()),
            RangeEnd::Open => Bound::Unbounded,
        };
        self.rows.range((Bound::Included(keys.start.clone()), upper))
    }
}

impl View for MemoryStore {
    fn mark(&self) -> Mark {
        self.mark
    }

    fn row(&self, key: &[u8]) -> Option<Row> {
        self.rows.get(key).copied()
    }

    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {
        let _ = self.rows_of(keys).try_for_each(|(key, row)| visit(key, row));
    }

    fn count(&self, keys: &KeyRange) -> u64 {
        self.rows_of(keys).filter(|(_, row)| !row.is_tombstone()).count() as u64
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        let record = self.records.get(&at).cloned();
        record.ok_or_else(|| Fault::new("read a record", at.to_string(), "it does not exist"))
    }

    /// Some of them, so that both ways of reading are met.
    fn resident(&self) -> RevSub {
        RevSub::new(self.mark.revision.0 / 2, 0)
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let _ = self.records.range(from..).try_for_each(|(_, record)| visit(record));
        Ok(())
    }

    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.tables.get(&(table, Bytes::copy_from_slice(key))).cloned()
    }

    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>) {
        let rows = self.tables.range((table, Bytes::copy_from_slice(from))..);
        let _ = rows
            .take_while(|((of, _), _)| *of == table)
            .try_for_each(|((_, key), value)| visit(key, value));
    }
}

impl Store for MemoryStore {
    fn absorb(&mut self, batch: &mut Batch) {
        self.mark = batch.mark();
        batch.drain().for_each(|change| self.apply(change));
    }

    fn index_bytes(&self) -> u64 {
        0
    }

    fn fault(&self) -> Option<Fault> {
        None
    }
}

fn key_of(record: &Record) -> Bytes {
    let kv = KeyValue::decode(&record.kv).expect("the machine wrote this record");
    Bytes::copy_from_slice(kv.key)
}
