//! A store that keeps its whole history in a list, for testing watches without an engine.
//!
//! Reading a record that compaction removed is a fault here, so a watch that does it fails its test.

use std::ops::ControlFlow;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, Position, RevSub, Revision};
use holdfast_core::kv::KeyValue;
use holdfast_core::request::KeyRange;
use holdfast_core::response::Event;
use holdfast_core::store::{Fault, Mark, Record, Row, Table, View, VisitTable};

/// One change of a key.
#[derive(Clone, Debug)]
pub enum Write {
    /// Key and value.
    Put(Vec<u8>, Vec<u8>),
    /// All keys of a range.
    Delete(KeyRange),
}

/// Every change ever made, and where compaction is.
pub struct NaiveStore {
    pub history: Vec<(Record, Event)>,
    compacted: Revision,
    index: u64,
}

impl NaiveStore {
    pub fn new() -> NaiveStore {
        NaiveStore { history: Vec::new(), compacted: Revision(-1), index: 0 }
    }

    /// Makes the changes as one revision and returns their events; none when nothing changes.
    pub fn write(&mut self, writes: &[Write]) -> Vec<Event> {
        let main = self.mark().revision.next();
        self.index += 1;
        let before = self.history.len();
        for write in writes {
            match write {
                Write::Put(key, value) => self.put(main, key, value),
                Write::Delete(keys) => {
                    for key in self.live_keys(keys) {
                        self.change(main, &key, None);
                    }
                }
            }
        }
        self.history[before..].iter().map(|(_, event)| event.clone()).collect()
    }

    /// Forgets what etcd would forget.
    pub fn compact(&mut self, at: Revision) {
        assert!(at > self.compacted && at <= self.mark().revision, "the script compacts sensibly");
        self.index += 1;
        self.compacted = at;
    }

    fn put(&mut self, main: Revision, key: &[u8], value: &[u8]) {
        let last = self.last(key).filter(|record| !record.tombstone);
        let (create_revision, version) = match last.and_then(|r| KeyValue::decode(&r.kv)) {
            Some(kv) => (kv.create_revision, kv.version + 1),
            None => (main, 1),
        };
        let lease = LeaseId::NONE;
        let kv = KeyValue { key, create_revision, mod_revision: main, version, value, lease };
        self.change(main, key, Some(kv.encode()));
    }

    fn change(&mut self, main: Revision, key: &[u8], put: Option<Bytes>) {
        let sub = self.history.iter().rev().take_while(|(r, _)| r.at.main == main).count() as u32;
        let at = RevSub { main, sub };
        let last = self.last(key);
        let prev = last.map(|record| record.at);
        let prev_live = last.filter(|record| !record.tombstone).map(|record| record.at);
        let tombstone = put.is_none();
        let bare = KeyValue { key, ..KeyValue::default() };
        let sent = put.clone().unwrap_or(KeyValue { mod_revision: main, ..bare }.encode());
        let record = Record { at, prev, tombstone, kv: put.unwrap_or(bare.encode()) };
        let key = Bytes::copy_from_slice(key);
        let event = Event { at, prev: prev_live, delete: tombstone, key, kv: sent };
        self.history.push((record, event));
    }

    fn last(&self, key: &[u8]) -> Option<&Record> {
        self.history.iter().rev().find(|(_, event)| event.key == key).map(|(record, _)| record)
    }

    fn live_keys(&self, keys: &KeyRange) -> Vec<Bytes> {
        let mut live: Vec<Bytes> = Vec::new();
        for (_, event) in &self.history {
            live.retain(|key| *key != event.key);
            if !event.delete && keys.contains(&event.key) {
                live.push(event.key.clone());
            }
        }
        live.sort();
        live
    }

    /// Whether compaction has left a record alone.
    fn is_kept(&self, place: usize) -> bool {
        let (record, event) = &self.history[place];
        let newer = |(later, other): &(Record, Event)| {
            other.key == event.key && later.at.main <= self.compacted
        };
        let superseded = self.history[place + 1..].iter().any(newer);
        record.at.main > self.compacted
            || !superseded && (!record.tombstone || record.at.main == self.compacted)
    }
}

impl View for NaiveStore {
    fn mark(&self) -> Mark {
        let revision = self.history.last().map_or(Revision::EMPTY, |(record, _)| record.at.main);
        let applied = Position::new(self.index, 1);
        Mark { applied, revision, compacted: self.compacted }
    }

    fn row(&self, _key: &[u8]) -> Option<Row> {
        None
    }

    fn scan(&self, _keys: &KeyRange, _visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {}

    fn count(&self, _keys: &KeyRange) -> u64 {
        0
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        let place = self.history.iter().position(|(record, _)| record.at == at);
        match place.filter(|place| self.is_kept(*place)) {
            Some(place) => Ok(self.history[place].0.clone()),
            None => Err(Fault::new("a watch read a record", at.to_string(), "it is gone")),
        }
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let first = self.history.partition_point(|(record, _)| record.at < from);
        for place in first..self.history.len() {
            if self.is_kept(place) && visit(&self.history[place].0).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn table(&self, _table: Table, _key: &[u8]) -> Option<Bytes> {
        None
    }

    fn table_scan(&self, _table: Table, _from: &[u8], _visit: &mut VisitTable<'_>) {}
}
