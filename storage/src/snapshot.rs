//! A published state: immutable, shared by readers on any thread while the writer goes on.
//!
//! Left out: publishing, which is the engine's. Law: every function gives the same answer for ever.
//!
//! Worked example: publish at `r17`, delete `a` at `r18`: the snapshot still has the row of `a`.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::store::{Fault, Mark, Record, Row, Table, View, VisitPair, VisitTable};

use crate::engine::row::{self, KEYS, TreeKey};
use crate::segment::Values;
use crate::tree::Root;

/// A state of the store. Cloning shares it; while one exists, the pages and files it reads stay.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    mark: Mark,
    root: Root,
    values: Values,
    bytes: (i64, i64),
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({:?})", self.0.mark)
    }
}

impl Snapshot {
    pub(crate) fn new(mark: Mark, root: Root, values: Values, bytes: (i64, i64)) -> Snapshot {
        Snapshot(Arc::new(Inner { mark, root, values, bytes }))
    }

    /// Bytes of all records kept, and of the keys and values that are live.
    pub fn bytes(&self) -> (i64, i64) {
        self.0.bytes
    }

    pub(crate) fn root(&self) -> &Root {
        &self.0.root
    }

    pub(crate) fn values(&self) -> &Values {
        &self.0.values
    }
}

impl View for Snapshot {
    fn mark(&self) -> Mark {
        self.0.mark
    }

    fn row(&self, key: &[u8]) -> Option<Row> {
        self.0.root.get(&TreeKey::new(KEYS, key)).map(|bytes| row::decode(&bytes))
    }

    fn rows(&self, keys: &[&[u8]], visit: &mut dyn FnMut(Option<Row>)) {
        let keys: Vec<_> = keys.iter().map(|key| TreeKey::new(KEYS, key)).collect();
        self.0.root.get_each(&keys, &mut |value| visit(value.map(|bytes| row::decode(&bytes))));
    }

    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {
        let (from, below) = TreeKey::bounds(keys);
        self.0.root.scan(&from, Some(&below), &mut row::visitor(visit));
    }

    fn count(&self, keys: &KeyRange) -> u64 {
        if keys.end == RangeEnd::Single {
            return self.row(&keys.start).is_some_and(|row| !row.is_tombstone()).into();
        }
        let (from, below) = TreeKey::bounds(keys);
        self.0.root.count_live(&from, Some(&below))
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        self.0.values.find(at)
    }

    fn resident(&self) -> RevSub {
        self.0.values.resident()
    }

    fn pairs(&self, at: &[RevSub], visit: &mut VisitPair<'_>) -> Result<(), Fault> {
        self.0.values.pairs(at, visit)
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.0.values.scan(from, visit)
    }

    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        let value = self.0.root.get(&TreeKey::new(table as u8, key))?;
        Some(Bytes::copy_from_slice(&value))
    }

    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>) {
        let (from, below) = (TreeKey::new(table as u8, from), TreeKey::end_of(table as u8));
        self.0.root.scan(&from, Some(&below), &mut |key, value| visit(&key[1..], value));
    }
}
