//! The log as raft reads it: recent entries in memory, the terms of all, and orders to read back what
//! is no longer in memory.
//!
//! Cursors, from low to high:
//!
//! ```text
//!   first - 1   the entry before the log's start: its term is known, it may be gone
//!   first       first entry that the write-ahead log still has
//!   cached      first entry held in memory; below it, entries are fetched
//!   last        last entry, durable or not
//! ```
//!
//! Laws:
//!  1. `first <= cached <= last + 1`.
//!  2. Entries above the applied index are always in memory: raft may ask for them where it cannot
//!     wait.
//!
//! Leaves out: durability. An entry is here before it is on disk (`advance_append_async` wants
//! that), and what is acknowledged is raft's own accounting.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::message;
use crate::id::{Index, Position, Term};
use crate::message::SnapshotMeta;

/// An order to read entries back, and what raft needs to go on when they are there.
#[derive(Debug)]
pub struct Fetch {
    /// Numbers the order.
    pub number: u64,
    /// The first entry wanted.
    pub from: Index,
    /// One past the last.
    pub below: Index,
    /// Bytes after which no more is wanted.
    pub bytes_max: u64,
    context: GetEntriesContext,
}

#[derive(Debug, Default)]
struct Fetches {
    next: u64,
    wanted: Vec<Fetch>,
    under_way: BTreeMap<u64, Fetch>,
    /// Answers, each used once, by their first index.
    arrived: BTreeMap<u64, Vec<Entry>>,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    first: u64,
    /// Where each term begins, from the entry before `first` on.
    terms: Vec<(u64, u64)>,
    cached: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    conf_state: ConfState,
    checkpoint: SnapshotMeta,
    fetches: RefCell<Fetches>,
    /// Somebody needs a checkpoint later than the present one.
    stale: Cell<bool>,
}

impl Log {
    /// A log that begins after `checkpoint`, with the entries recovered behind it.
    pub fn new(checkpoint: SnapshotMeta, hard_state: HardState, entries: Vec<Entry>) -> Log {
        let start = checkpoint.at;
        let mut log = Log {
            first: start.index.0 + 1,
            terms: vec![(start.index.0, start.term.0)],
            cached: start.index.0 + 1,
            entries: VecDeque::new(),
            bytes: 0,
            hard_state,
            conf_state: message::conf_state(&checkpoint),
            checkpoint,
            fetches: RefCell::default(),
            stale: Cell::new(false),
        };
        log.append(&entries);
        log
    }

    /// The last entry.
    pub fn last(&self) -> Position {
        let index = self.cached + self.entries.len() as u64 - 1;
        Position::new(index, self.term_of(index).expect("the last entry's term is known"))
    }

    /// The term of an entry; `None` where the log does not reach, or no longer does.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.term_of(index.0).map(Term)
    }

    /// An entry that is in memory.
    pub fn entry_at(&self, index: Index) -> Option<crate::entry::Entry> {
        let place = index.0.checked_sub(self.cached)?;
        self.entries.get(usize::try_from(place).ok()?).map(message::entry_from_raft)
    }

    /// The first index that the log still has.
    pub fn first(&self) -> Index {
        Index(self.first)
    }

    /// Adds consecutive entries; the first may replace what was there from its index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(start) = entries.first().map(|entry| entry.index) else { return };
        assert!(
            (self.cached..=self.last().index.0 + 1).contains(&start),
            "raft appends inside the part of its log that is in memory"
        );
        let dropped = self.entries.drain((start - self.cached) as usize..);
        self.bytes -= dropped.map(|entry| entry.data.len()).sum::<usize>();
        self.terms.retain(|(from, _)| *from < start);
        for entry in entries {
            if self.terms.last().is_none_or(|(_, term)| *term != entry.term) {
                self.terms.push((entry.index, entry.term));
            }
            self.bytes += entry.data.len();
            self.entries.push_back(entry.clone());
        }
        self.fetches.get_mut().arrived.clear();
    }

    /// The latest durable checkpoint: what a follower too far behind is given.
    pub fn set_checkpoint(&mut self, meta: SnapshotMeta) {
        self.checkpoint = meta;
    }

    /// Whether a later checkpoint was wanted since the last call: the present one is from before some
    /// member was added, which would refuse it.
    pub fn take_stale(&mut self) -> bool {
        self.stale.take()
    }

    /// Its description.
    pub fn checkpoint(&self) -> &SnapshotMeta {
        &self.checkpoint
    }

    /// Forgets entries up to `upto`: the write-ahead log may drop them too.
    pub fn purge(&mut self, upto: Index) {
        let first = (upto.0 + 1).min(self.checkpoint.at.index.0 + 1);
        if first <= self.first {
            return;
        }
        let before = self.term_of(first - 1).expect("the checkpoint lies inside the log");
        self.first = first;
        self.evict_below(first);
        self.terms.retain(|(from, _)| *from > first - 1);
        self.terms.insert(0, (first - 1, before));
    }

    /// Keeps at most `bytes_max` of entries in memory, but all above `applied`.
    pub fn evict(&mut self, applied: Index, bytes_max: usize) {
        while self.bytes > bytes_max && self.cached <= applied.0 {
            self.evict_below(self.cached + 1);
        }
    }

    /// The state is a snapshot now: the log starts after it, empty.
    pub fn restart(&mut self, meta: &SnapshotMeta) {
        let hard_state = std::mem::take(&mut self.hard_state);
        *self = Log::new(meta.clone(), hard_state, Vec::new());
    }

    /// Orders to read back that raft has caused since the last call.
    pub fn take_wanted(&mut self) -> Vec<(u64, Index, Index, u64)> {
        let fetches = self.fetches.get_mut();
        let wanted = std::mem::take(&mut fetches.wanted);
        let orders = wanted.iter().map(|f| (f.number, f.from, f.below, f.bytes_max)).collect();
        fetches.under_way.extend(wanted.into_iter().map(|fetch| (fetch.number, fetch)));
        orders
    }

    /// Keeps the answer to an order for the one read that it was made for.
    pub fn fetched(&mut self, number: u64, entries: Vec<Entry>) -> Option<GetEntriesContext> {
        let first = self.first;
        let fetches = self.fetches.get_mut();
        let fetch = fetches.under_way.remove(&number)?;
        if entries.first().is_some_and(|entry| entry.index == fetch.from.0) && fetch.from.0 >= first
        {
            fetches.arrived.insert(fetch.from.0, entries);
        }
        Some(fetch.context)
    }

    fn evict_below(&mut self, index: u64) {
        while self.cached < index {
            match self.entries.pop_front() {
                Some(entry) => self.bytes -= entry.data.len(),
                None => assert!(self.cached <= self.checkpoint.at.index.0, "law 2"),
            }
            self.cached += 1;
        }
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        if index + 1 < self.first || index >= self.cached + self.entries.len() as u64 {
            return None;
        }
        let place = self.terms.partition_point(|(from, _)| *from <= index);
        self.terms.get(place.checked_sub(1)?).map(|(_, term)| *term)
    }

    fn want(&self, low: u64, high: u64, bytes_max: u64, context: GetEntriesContext) -> Error {
        let mut fetches = self.fetches.borrow_mut();
        fetches.next += 1;
        let number = fetches.next;
        let (from, below) = (Index(low), Index(high));
        fetches.wanted.push(Fetch { number, from, below, bytes_max, context });
        Error::Store(StorageError::LogTemporarilyUnavailable)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        if low < self.cached {
            let arrived = self.fetches.borrow_mut().arrived.remove(&low);
            return match arrived {
                Some(entries) => Ok(limited(entries.into_iter(), high, bytes_max)),
                None if context.can_async() => {
                    Err(self.want(low, high.min(self.cached), bytes_max, context))
                }
                None => Err(Error::Store(StorageError::Unavailable)),
            };
        }
        let from = (low - self.cached) as usize;
        Ok(limited(self.entries.range(from..).cloned(), high, bytes_max))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index.0)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let at = self.checkpoint.at.index.0;
        let mut included = self.checkpoint.voters.iter().chain(&self.checkpoint.learners);
        if !included.any(|member| member.0 == to) {
            self.stale.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        if at == 0 || at < request_index || at + 1 < self.first {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(message::meta_to_raft(&self.checkpoint))
    }
}

/// Entries below `high` until `bytes_max` are reached, but at least one.
fn limited(entries: impl Iterator<Item = Entry>, high: u64, bytes_max: u64) -> Vec<Entry> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for entry in entries.take_while(|entry| entry.index < high) {
        bytes += entry.data.len() as u64 + 32;
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        message::entry_to_raft(crate::entry::Entry {
            at: Position::new(index, term),
            kind: crate::entry::EntryKind::Normal,
            data: vec![7; 10].into(),
        })
    }

    fn log_of(entries: &[(u64, u64)]) -> Log {
        let entries = entries.iter().map(|(index, term)| entry(*index, *term)).collect();
        Log::new(SnapshotMeta::default(), HardState::default(), entries)
    }

    #[test]
    fn a_new_leaders_entries_replace_the_old_tail() {
        let mut log = log_of(&[(1, 1), (2, 1), (3, 1)]);
        log.append(&[entry(2, 2)]);
        assert_eq!(log.last(), Position::new(2, 2));
        assert_eq!(log.term(1).expect("entry 1 is there"), 1);
        assert!(log.term(3).is_err());
    }

    #[test]
    fn purged_entries_are_compacted_and_evicted_ones_are_fetched() {
        let mut log = log_of(&[(1, 1), (2, 1), (3, 2), (4, 2)]);
        log.set_checkpoint(SnapshotMeta { at: Position::new(3, 2), ..Default::default() });
        log.purge(Index(1));
        log.evict(Index(3), 0);
        let read = |low, context| log.entries(low, 5, None, context);
        let compacted = Err(Error::Store(StorageError::Compacted));
        assert_eq!(read(1, GetEntriesContext::empty(true)), compacted);
        let later = Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        assert_eq!(read(2, GetEntriesContext::empty(true)), later);
        assert_eq!(read(4, GetEntriesContext::empty(false)).expect("above applied").len(), 1);
        assert_eq!(log.term(1).expect("the term before the first entry is kept"), 1);

        let wanted = log.take_wanted();
        assert_eq!((wanted[0].1, wanted[0].2), (Index(2), Index(4)));
        assert!(log.fetched(wanted[0].0, vec![entry(2, 1), entry(3, 2)]).is_some());
        let got = log.entries(2, 5, None, GetEntriesContext::empty(true)).expect("it arrived");
        assert_eq!(got.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 3]);
    }
}
