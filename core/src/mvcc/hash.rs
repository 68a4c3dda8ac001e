//! The hashes that etcd's tools compare: HashKV over the revisions, and Hash over everything.
//!
//! HashKV is etcd's to the bit: CRC-32C (Castagnoli) over "key" and then, in revision order, of each
//! record up to the revision asked for: its revision key (main as 8 bytes big-endian, `_`, sub likewise,
//! `t` for a tombstone) and its stored bytes.
//!
//! Laws:
//!  1. Of the records at or below the compacted revision only those count that are the newest of a key
//!     that lives at the revision asked for; if no key lives there, those that were alive at the
//!     compacted revision. A tombstone at the compacted revision itself never counts.
//!  2. So members with the same log give the same hash, however far their physical compaction is.
//!  3. A hash is of one view, given anew at each step: whoever holds it keeps it pinned.
//!
//! Hash is ours: the HashKV of the newest revision, then the rows of all tables but the compaction's
//! cursor. etcd's depends on its file's layout, and is compared with itself alone.
//!
//! Price: every readable record is read, and for an old revision also the younger versions of each key.
//!
//! Worked example: puts of "a" at r2 and r3, compacted at r2: HashKV at r3 is over r3.0 alone, since
//! r2.0 is at the compacted revision and not what lives at r3.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::id::{RevSub, Revision};
use crate::machine::PROGRESS_KEY;
use crate::mvcc::range::after;
use crate::mvcc::{Budget, Look, ReadError, decode};
use crate::rejection::Rejection;
use crate::request::{KeyRange, RangeEnd};
use crate::store::{Fault, Record, Row, Table, View};

/// What HashKV answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compacted revision it was made under; -1 before the first compaction.
    pub compacted: Revision,
    /// What it is of: records up to here.
    pub revision: Revision,
}

/// A HashKV under way.
#[derive(Clone, Debug)]
pub struct HashKv {
    revision: Revision,
    compacted: Revision,
    /// Keys not looked at yet, while it is not known whether one lives at the revision.
    probing: Option<KeyRange>,
    /// Whether one does.
    lives: bool,
    next: RevSub,
    crc: u32,
}

impl HashKv {
    /// Begins; a revision of 0 is the newest.
    ///
    /// # Errors
    /// A revision that is compacted, or in the future.
    pub fn new(view: &dyn View, revision: i64) -> Result<HashKv, Rejection> {
        let mark = view.mark();
        if revision > 0 && revision < mark.compacted.0 {
            return Err(Rejection::Compacted);
        }
        if revision > mark.revision.0 {
            return Err(Rejection::FutureRevision);
        }
        let revision = if revision == 0 { mark.revision } else { Revision(revision) };
        let mut hash = HashKv::of_compaction(revision, mark.compacted);
        if revision == mark.revision {
            let all = hash.probing.take();
            hash.lives = all.is_some_and(|all| view.count(&all) > 0);
        }
        Ok(hash)
    }

    /// Begins with what a compaction to a revision finds, where it was compacted to `before`. The views given
    /// are of a state in which the compaction is decided, and nothing of it carried out.
    pub fn of_compaction(revision: Revision, before: Revision) -> HashKv {
        HashKv {
            lives: false,
            probing: Some(KeyRange { start: Bytes::new(), end: RangeEnd::Open }),
            next: RevSub::default(),
            crc: crc32c::crc32c(b"key"),
            compacted: before,
            revision,
        }
    }

    /// Goes on until the budget is spent; true when it is complete. `view` is the same each time.
    pub fn step(&mut self, view: &dyn View, budget: &mut Budget) -> Result<bool, ReadError> {
        while self.probing.is_some() {
            if budget.is_spent() {
                return Ok(false);
            }
            self.probe(view, budget)?;
        }
        let (mut batch, mut complete) = (Vec::new(), true);
        view.records(self.next, &mut |record| {
            if record.at >= self.revision.after() {
                return ControlFlow::Break(());
            }
            if budget.is_spent() {
                complete = false;
                return ControlFlow::Break(());
            }
            budget.spend(1, record.kv.len());
            self.next = RevSub { sub: record.at.sub + 1, ..record.at };
            batch.push(record.clone());
            ControlFlow::Continue(())
        })?;
        for record in &batch {
            if self.counts(view, record, budget)? {
                self.add(record);
            }
        }
        Ok(complete)
    }

    /// What came of it, once a step has said that it is complete.
    pub fn finish(&self) -> KvHash {
        KvHash { hash: self.crc, compacted: self.compacted, revision: self.revision }
    }

    /// Looks at some keys more, until one is found that lives.
    fn probe(&mut self, view: &dyn View, budget: &mut Budget) -> Result<(), Fault> {
        let Some(mut rest) = self.probing.take() else { return Ok(()) };
        let mut rows: Vec<(Bytes, Row)> = Vec::new();
        let most = budget.keys().clamp(1, BATCH);
        view.scan(&rest, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), *row));
            if rows.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        for (_, row) in &rows {
            budget.spend(1, 0);
            if alive_at(view, row, self.revision, budget)?.is_some() {
                self.lives = true;
                return Ok(());
            }
        }
        if rows.len() == most
            && let Some((last, _)) = rows.last()
        {
            rest.start = after(last);
            self.probing = Some(rest);
        }
        Ok(())
    }

    fn counts(&self, view: &dyn View, record: &Record, budget: &mut Budget) -> Result<bool, Fault> {
        if record.at.main > self.compacted {
            return Ok(true);
        }
        if record.tombstone {
            return Ok(false);
        }
        let Some(row) = view.row(decode(record)?.key) else { return Ok(false) };
        let at = if self.lives { self.revision } else { self.compacted };
        Ok(alive_at(view, &row, at, budget)? == Some(record.at))
    }

    fn add(&mut self, record: &Record) {
        let mut key = [b'_'; 18];
        key[..8].copy_from_slice(&record.at.main.0.to_be_bytes());
        key[9..17].copy_from_slice(&u64::from(record.at.sub).to_be_bytes());
        key[17] = b't';
        let len = if record.tombstone { 18 } else { 17 };
        self.crc = crc32c::crc32c_append(self.crc, &key[..len]);
        self.crc = crc32c::crc32c_append(self.crc, &record.kv);
    }
}

/// Rows looked at in one go.
const BATCH: usize = 256;

/// The version of a row's key that lives at a revision.
pub(super) fn alive_at(
    view: &dyn View,
    row: &Row,
    revision: Revision,
    budget: &mut Budget,
) -> Result<Option<RevSub>, Fault> {
    let mut look = Look::default();
    loop {
        // One key is not left half-way: its versions are few, or have to be read now or later.
        if let Some(found) = look.visible(view, (row, revision.after()), budget)? {
            return Ok(found);
        }
    }
}

/// The hash of everything, computed in one go: for tests, and for views that are small.
pub fn hash_kv(view: &dyn View, revision: i64) -> Result<KvHash, ReadError> {
    let mut hash = HashKv::new(view, revision)?;
    while !hash.step(view, &mut Budget::unbounded())? {}
    Ok(hash.finish())
}

/// A Hash under way.
#[derive(Clone, Debug)]
pub struct HashAll {
    keys: HashKv,
    keys_done: bool,
    table: usize,
    from: Bytes,
    crc: u32,
}

impl HashAll {
    /// Begins.
    ///
    /// # Errors
    /// None: the newest revision can always be read.
    pub fn new(view: &dyn View) -> Result<HashAll, Rejection> {
        let keys = HashKv::new(view, 0)?;
        Ok(HashAll { keys, keys_done: false, table: 0, from: Bytes::new(), crc: 0 })
    }

    /// Goes on until the budget is spent; true when it is complete. `view` is the same each time.
    pub fn step(&mut self, view: &dyn View, budget: &mut Budget) -> Result<bool, ReadError> {
        if !self.keys_done {
            self.keys_done = self.keys.step(view, budget)?;
            self.crc = self.keys.finish().hash;
        }
        while self.keys_done && self.table < Table::ALL.len() {
            if budget.is_spent() {
                return Ok(false);
            }
            self.add_rows(view, budget);
        }
        Ok(self.keys_done)
    }

    /// What came of it, once a step has said that it is complete.
    pub fn finish(&self) -> u32 {
        self.crc
    }

    fn add_rows(&mut self, view: &dyn View, budget: &mut Budget) {
        let table = Table::ALL[self.table];
        let (mut crc, mut next) = (self.crc, None);
        view.table_scan(table, &self.from, &mut |key, value| {
            if budget.is_spent() {
                next = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            budget.spend(1, key.len() + value.len());
            if table != Table::Meta || key != PROGRESS_KEY {
                crc = crc32c::crc32c_append(crc, &[table as u8]);
                crc = crc32c::crc32c_append(crc, key);
                crc = crc32c::crc32c_append(crc, value);
            }
            ControlFlow::Continue(())
        });
        self.crc = crc;
        match next {
            Some(key) => self.from = key,
            None => (self.table, self.from) = (self.table + 1, Bytes::new()),
        }
    }
}
