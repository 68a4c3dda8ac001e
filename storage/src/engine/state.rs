//! The private state: what the absorbed batches lead to, published or not.
//!
//! Worked example: after a put of `a` = `xyz` (record of 20 bytes) `bytes` is `(20, 4)`; after its
//! deletion (record of 1 byte) it is `(21, 0)`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::machine::compaction_cursor;
use holdfast_core::mutant;
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::store::{Batch, Change, Fault, Mark, Record, Row, Table, View, VisitTable};

use super::row::{self, KEYS, TreeKey};
use crate::segment::Values;
use crate::segment::active::Chunk;
use crate::segment::sealed::{Sealed, Source};
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// Tree, values and mark, and how many bytes they stand for.
pub(super) struct State {
    tree: Tree,
    pub(super) values: Values,
    mark: Mark,
    kept_bytes: i64,
    live_bytes: i64,
    scratch: Vec<u8>,
    /// Records that are in files now, to be freed a chunk at a time: freeing all those of a
    /// checkpoint at once would hold up everything for tens of milliseconds.
    stale: VecDeque<Arc<Chunk>>,
    /// Records that came since a chunk of stale ones was freed: as fast as they come, those go.
    arrived: usize,
}

impl State {
    /// The state before the first batch.
    pub(super) fn empty(source: Source) -> State {
        State::new(Tree::new(), 0, Values::sealed(source, Vec::new()), Mark::EMPTY)
    }

    /// A state all of whose records are in files; `live_bytes` are those of the tree's rows.
    pub(super) fn new(tree: Tree, live_bytes: i64, values: Values, mark: Mark) -> State {
        let (scratch, stale) = (Vec::new(), VecDeque::new());
        let kept_bytes = values.sealed_bytes() as i64;
        State { tree, values, mark, kept_bytes, live_bytes, scratch, stale, arrived: 0 }
    }

    /// Mutant M40: while a compaction is under way the newest revision is taken from what it has left.
    pub(super) fn mutated(mut self) -> State {
        let halfway = compaction_cursor(&self) < self.mark.compacted.after();
        if mutant::on(40) && halfway && self.mark.compacted.0 > 0 {
            self.mark.revision = self.mark.compacted;
        }
        self
    }

    /// The state as it is now, for readers.
    pub(super) fn publish(&mut self) -> Snapshot {
        self.free_stale(1);
        Snapshot::new(self.mark, self.tree.publish(), self.values.clone(), self.bytes())
    }

    /// Bytes of all records kept, and of the keys and values that are live.
    pub(super) fn bytes(&self) -> (i64, i64) {
        (self.kept_bytes, self.live_bytes)
    }

    /// Bytes of the index as a checkpoint writes it.
    pub(super) fn index_bytes(&self) -> u64 {
        self.tree.image_bytes()
    }

    /// The active records before ordinal `end` are in this file now.
    pub(super) fn seal(&mut self, segment: Arc<Sealed>, end: u64) {
        self.stale.extend(self.values.seal(segment, end));
    }

    /// Frees at most so many chunks of records that are in files now. One that a reader still holds
    /// stays, so that it is freed here and not, with all others, where that reader ends.
    pub(super) fn free_stale(&mut self, chunks: usize) {
        for _ in 0..chunks {
            let held = |chunk: &Arc<Chunk>| Arc::strong_count(chunk) > 1;
            match self.stale.pop_front() {
                Some(chunk) if held(&chunk) => self.stale.push_back(chunk),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Takes the changes of a batch, in order.
    pub(super) fn absorb(&mut self, batch: &mut Batch) {
        let mark = batch.mark();
        assert!(
            mark.applied.index >= self.mark.applied.index && mark.revision >= self.mark.revision,
            "a batch leads forward: {} {} after {} {}",
            mark.applied,
            mark.revision,
            self.mark.applied,
            self.mark.revision
        );
        for change in batch.drain() {
            match change {
                Change::Write { key, row, record } => self.write(&key, row, record),
                Change::Forget { key } => self.forget(&key),
                Change::Set { table, key, value } => {
                    self.tree.insert(&TreeKey::new(table as u8, &key), &value, true);
                }
                Change::Clear { table, key } => {
                    self.tree.remove(&TreeKey::new(table as u8, &key));
                }
            }
        }
        self.mark = mark;
    }

    fn write(&mut self, key: &Bytes, row: Row, record: Record) {
        assert_eq!(record.at, row.modified, "a row leads to its record");
        if self.values.active.len() == 0
            && let Some(last) = self.values.last()
        {
            assert!(
                record.at > last || mutant::on(40),
                "records ascend: {} after {last}",
                record.at
            );
        }
        self.scratch.clear();
        row::encode(&row, &mut self.scratch);
        let mut before = 0;
        let mut count = |old: &[u8]| before = live_bytes(key, &row::decode(old));
        let (tree_key, live) = (TreeKey::new(KEYS, key), !row.is_tombstone());
        self.tree.replace(&tree_key, &self.scratch, live, &mut count);
        self.live_bytes += live_bytes(key, &row) - before;
        self.kept_bytes += record.kv.len() as i64;
        self.values.active.push(record);
        self.arrived += 1;
        if self.arrived == FREED_PER_CHUNK {
            self.arrived = 0;
            self.free_stale(1);
        }
    }

    fn forget(&mut self, key: &Bytes) {
        let tree_key = TreeKey::new(KEYS, key);
        let before = self.tree.get(&tree_key).map_or(0, |old| live_bytes(key, &row::decode(&old)));
        self.live_bytes -= before;
        self.tree.remove(&tree_key);
    }
}

/// Records that come for each chunk of stale ones that goes. Chunks hold up to twice as many, so what is
/// stale is gone before as much again is sealed.
const FREED_PER_CHUNK: usize = 512;

impl View for State {
    fn mark(&self) -> Mark {
        self.mark
    }

    fn row(&self, key: &[u8]) -> Option<Row> {
        self.tree.get(&TreeKey::new(KEYS, key)).map(|bytes| row::decode(&bytes))
    }

    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {
        let (from, below) = TreeKey::bounds(keys);
        self.tree.scan(&from, Some(&below), &mut row::visitor(visit));
    }

    fn count(&self, keys: &KeyRange) -> u64 {
        if keys.end == RangeEnd::Single {
            return self.row(&keys.start).is_some_and(|row| !row.is_tombstone()).into();
        }
        let (from, below) = TreeKey::bounds(keys);
        self.tree.count_live(&from, Some(&below))
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        self.values.find(at)
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.values.scan(from, visit)
    }

    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        let value = self.tree.get(&TreeKey::new(table as u8, key))?;
        Some(Bytes::copy_from_slice(&value))
    }

    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>) {
        let (from, below) = (TreeKey::new(table as u8, from), TreeKey::end_of(table as u8));
        self.tree.scan(&from, Some(&below), &mut |key, value| visit(&key[1..], value));
    }
}

/// What a row counts for in the bytes that are live.
pub(super) fn live_bytes(key: &[u8], row: &Row) -> i64 {
    match row.is_tombstone() {
        true => 0,
        false => key.len() as i64 + i64::from(row.value_len),
    }
}
