//! Answering a Range, at once or in slices.
//!
//! Leaves out: whether the reader may see the keys, and waiting for a read index.
//!
//! Laws (etcd's, surface 1.8):
//!  1. `count` is the number of keys in the range at the revision read, whatever limit and filters
//!     say; at the newest revision it comes from the index in O(log n).
//!  2. With the default order and no filter the read stops after limit + 1 keys, *then* sorts by the
//!     target, then cuts; with an order or a filter everything is read, filtered, sorted, cut.
//!  3. `more` says that the cut took something.
//!  4. keys_only answers from the index and so loses the lease, unless the target is the value.
//!  5. Ties have no defined order in etcd; here they are in key order.
//!
//! Values are read last, only those that survived: a limited read of small pages costs small reads. What is
//! in memory is copied from there in the answer's order; what is not is read before, some thousands at a time
//! (`fetch.rs`).
//!
//! Worked example: keys a=3, b=1, c=2; limit 1, target value, no order: reads a and b (limit + 1),
//! sorts them to b, a, cuts to b, more = true, count = 3. With order ascending: b as well, but c was
//! considered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use super::fetch::Fetch;
use super::point::is_point;
use crate::id::{LeaseId, RevSub, Revision};
use crate::kv::KeyValue;
use crate::memory::Hold;
use crate::mutant;
use crate::mvcc::{Budget, Look, Pairs, ReadError, decode, decode_pair};
use crate::query::RangeAnswer;
use crate::rejection::Rejection;
use crate::request::{KeyRange, Range, RangeEnd, SortOrder, SortTarget};
use crate::store::{Fault, Mark, Pair, Row, View};

/// Answers `range` on `view`. `below` is the bound of a range inside a transaction, whose revision
/// apply has checked; without it the read is at the revision it names, or the newest.
pub fn range(
    view: &dyn View,
    range: &Range,
    below: Option<RevSub>,
) -> Result<RangeAnswer, ReadError> {
    let mut scan = match below {
        Some(below) => RangeScan::within(view, range, below),
        None => RangeScan::new(view, range)?,
    };
    while !scan.step(view, &mut Budget::unbounded())? {}
    Ok(scan.into_answer())
}

/// Whether `revision`, as a client names it, can be read; gives the bound of the read.
pub fn bound(mark: Mark, revision: i64) -> Result<RevSub, Rejection> {
    match revision {
        ..=0 => Ok(mark.revision.after()),
        _ if revision > mark.revision.0 => Err(Rejection::FutureRevision),
        _ if revision < mark.compacted.0 => Err(Rejection::Compacted),
        _ => Ok(Revision(revision).after()),
    }
}

/// A Range under way, so that the edge can do something else between slices.
#[derive(Debug)]
pub struct RangeScan {
    range: Range,
    below: RevSub,
    /// The revision a client named must stay readable while the scan lasts.
    pinned: bool,
    /// What has not been fetched; nothing when `fetched`.
    rest: KeyRange,
    fetched: bool,
    /// Rows fetched and not yet looked at, with their keys if those are needed.
    rows: VecDeque<(Option<Bytes>, Row)>,
    /// How far the look at the first of them is.
    look: Look,
    /// The count comes from looking at every key; otherwise it is known already.
    counting: bool,
    count: i64,
    found: Vec<Found>,
    /// The stretch of pairs that is being read.
    fetch: Fetch,
    /// Changes whose pairs are copied together; reused.
    together: Vec<RevSub>,
    /// The answer's pairs so far.
    pairs: Pairs,
    /// Found keys in order, ties by their place among those found.
    sorted: BTreeMap<(SortKey, i64), Found>,
    more: bool,
    phase: Phase,
    /// Bytes of pairs that were read and are not in the answer yet.
    loose: usize,
    /// What the answer holds of the member's memory, if that is counted.
    hold: Option<Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Looking at the only row that there may be.
    Point,
    /// Looking at rows.
    Scan,
    /// Reading the values to sort by; so many are read, or being read.
    Values(usize),
    /// Sorting by something else than the key.
    Sort,
    /// Taking what is in order.
    Sorted,
    /// Reading what the answer holds, a stretch at a time; so many pairs are in the answer.
    Fetch(usize),
    /// Reading what is not in memory, of a stretch.
    Read(usize, usize),
    /// Putting what was read and what is in memory into the answer; so many pairs are, up to the stretch's end.
    Gather(usize, usize),
    Done,
}

/// A key that the read sees. `kv` is filled when it is read, or made from the index.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub at: RevSub,
    created: Revision,
    version: i64,
    pub kv: Option<Bytes>,
}

impl Found {
    /// The newest version of a key.
    fn newest(row: &Row, kv: Option<Bytes>) -> Found {
        Found { at: row.modified, created: row.created, version: row.version, kv }
    }

    /// Bytes of its pair, if that was read.
    fn weight(&self) -> usize {
        self.kv.as_ref().map_or(0, Bytes::len)
    }
}

impl RangeScan {
    /// A read at the revision it names, or the newest of `view`.
    pub fn new(view: &dyn View, range: &Range) -> Result<RangeScan, Rejection> {
        let below = bound(view.mark(), range.revision)?;
        Ok(RangeScan { pinned: true, ..RangeScan::bounded(view, range, below) })
    }

    /// A read inside a transaction that sees what lies strictly below `below`.
    pub fn within(view: &dyn View, range: &Range, below: RevSub) -> RangeScan {
        let below = match range.revision {
            ..=0 => below,
            revision => below.min(Revision(revision).after()),
        };
        RangeScan::bounded(view, range, below)
    }

    fn bounded(view: &dyn View, range: &Range, below: RevSub) -> RangeScan {
        let newest = below >= view.mark().revision.after();
        let point = newest && is_point(range);
        let count = if newest && !point { view.count(&range.keys) as i64 } else { 0 };
        let phase = match newest {
            true if point => Phase::Point,
            true if range.count_only => Phase::Done,
            _ => Phase::Scan,
        };
        RangeScan {
            below,
            pinned: false,
            rest: range.keys.clone(),
            fetched: false,
            rows: VecDeque::new(),
            look: Look::default(),
            counting: !newest,
            count,
            found: Vec::new(),
            fetch: Fetch::default(),
            together: Vec::new(),
            pairs: Pairs::default(),
            sorted: BTreeMap::new(),
            more: false,
            phase,
            loose: 0,
            hold: None,
            range: range.clone(),
        }
    }

    /// The answer takes from this what it uses.
    pub fn with_memory(self, hold: Option<Hold>) -> RangeScan {
        RangeScan { hold, ..self }
    }

    /// The answer's place among those that grow if the last step stopped for want of memory.
    pub fn starved(&self) -> Option<u64> {
        self.hold.as_ref()?.starved()
    }

    /// Whether the account gives what the answer uses.
    fn cover(&mut self) -> bool {
        let Some(hold) = &mut self.hold else { return true };
        let found = self.found.capacity() * size_of::<Found>();
        let sorted = self.sorted.len() * size_of::<((SortKey, i64), Found)>();
        hold.cover(found + sorted + self.loose + self.fetch.kept() + self.pairs.encoded_len())
    }

    /// Goes on until the budget is spent, or the account gives no more; true when the answer is complete. `view` is the one the scan
    /// began on or a newer one; on a newer one a compaction may have passed the read.
    pub fn step(&mut self, view: &dyn View, budget: &mut Budget) -> Result<bool, ReadError> {
        if self.pinned && self.below.main <= view.mark().compacted {
            return Err(Rejection::Compacted.into());
        }
        while self.cover() && self.phase != Phase::Done {
            match self.phase {
                Phase::Point => self.point(view, budget),
                Phase::Scan => self.scan(view, budget)?,
                Phase::Values(next) => self.read_values(view, next, budget)?,
                Phase::Sort => self.sort(budget),
                Phase::Sorted => self.take_sorted(budget),
                Phase::Fetch(next) => self.fetch(view, next),
                Phase::Read(start, end) => self.read(view, (start, end), budget)?,
                Phase::Gather(next, end) => self.gather(view, (next, end), budget)?,
                Phase::Done => {}
            }
            if budget.is_spent() {
                break;
            }
        }
        Ok(self.phase == Phase::Done && self.cover())
    }

    /// The answer of a complete scan. Its chunks give back what they hold when they have been sent.
    pub fn into_answer(self) -> RangeAnswer {
        let (mut answer, hold) = self.into_parts();
        if let Some(hold) = hold {
            answer.kvs.attach(&mut hold.seal());
        }
        answer
    }

    /// Likewise, with the hold, which still covers it.
    pub(super) fn into_parts(mut self) -> (RangeAnswer, Option<Hold>) {
        assert!(self.phase == Phase::Done, "step said that the scan is complete");
        self.pairs.finish();
        (RangeAnswer { kvs: self.pairs, more: self.more, count: self.count }, self.hold)
    }

    /// How many keys to find before stopping; `None` for all of them (law 2).
    fn wanted(&self) -> Option<usize> {
        let range = &self.range;
        let all = range.order != SortOrder::None || range.limit <= 0 || self.filters();
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        let one_more = if mutant::on(51) { 0 } else { 1 };
        (!all).then(|| limit.saturating_add(one_more))
    }

    fn filters(&self) -> bool {
        let Range { mod_min, mod_max, create_min, create_max, .. } = self.range;
        [mod_min, mod_max, create_min, create_max] != [0; 4]
    }

    /// Whether the answer can be made from rows alone (law 4).
    fn index_only(&self) -> bool {
        self.range.keys_only && self.range.target != SortTarget::Value
    }

    /// Looks at the row of a key whose newest version is wanted.
    fn point(&mut self, view: &dyn View, budget: &mut Budget) {
        let row = view.row(&self.range.keys.start);
        if row.is_some_and(|row| row.modified >= self.below) {
            // The view is newer than the one that the scan began on.
            (self.counting, self.phase) = (true, Phase::Scan);
            return;
        }
        budget.spend(1, 0);
        if let Some(row) = row.filter(|row| !row.is_tombstone()) {
            self.count = 1;
            let (created, version) = (row.created, row.version);
            self.found.push(Found { at: row.modified, created, version, kv: None });
        }
        self.phase = Phase::Fetch(0);
    }

    /// Looks at the rows that are there, or fetches some. A count forbids stopping early.
    fn scan(&mut self, view: &dyn View, budget: &mut Budget) -> Result<(), Fault> {
        if self.rows.is_empty() {
            self.fetch_rows(view, budget);
        }
        while let Some((_, row)) = self.rows.front() {
            let Some(seen) = self.look.visible(view, (row, self.below), budget)? else {
                return Ok(());
            };
            self.look = Look::default();
            let (key, row) = self.rows.pop_front().expect("there is a front");
            if let Some(at) = seen {
                self.consider(view, (key, &row, at), budget)?;
            }
            if budget.is_spent() && !self.rows.is_empty() {
                return Ok(());
            }
        }
        let enough = !self.counting && self.wanted().is_some_and(|n| self.found.len() >= n);
        if enough || self.fetched {
            self.scanned();
        }
        Ok(())
    }

    /// Fetches rows: as many as the budget allows, and no more than are still wanted. What needs no look at
    /// older versions is found at once, unless a row before it waits for one.
    fn fetch_rows(&mut self, view: &dyn View, budget: &mut Budget) {
        let left = self.wanted().map_or(usize::MAX, |wanted| wanted - self.found.len());
        let batch = budget.keys().min(SLICE_KEYS);
        let batch = batch.min(if self.counting { usize::MAX } else { left });
        let with_keys = self.index_only();
        let plain = !self.counting && !with_keys && !self.filters();
        let (mut seen, mut bytes, below) = (0, 0, self.below);
        let (found, rows, mut last) = (&mut self.found, &mut self.rows, None);
        view.scan(&self.rest, &mut |key, row| {
            (seen, bytes) = (seen + 1, bytes + key.len());
            if plain && rows.is_empty() && row.modified < below {
                found.extend((!row.is_tombstone()).then(|| Found::newest(row, None)));
            } else {
                rows.push_back((with_keys.then(|| Bytes::copy_from_slice(key)), *row));
            }
            if seen < batch {
                return ControlFlow::Continue(());
            }
            last = Some(after(key));
            ControlFlow::Break(())
        });
        budget.spend(seen.max(1), bytes);
        match last {
            Some(start) if self.range.keys.end != RangeEnd::Single => self.rest.start = start,
            _ => self.fetched = true,
        }
    }

    /// Takes the version at `at` of a key, unless it is one too many.
    fn consider(
        &mut self,
        view: &dyn View,
        (key, row, at): (Option<Bytes>, &Row, RevSub),
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        if self.counting {
            self.count += 1;
        }
        let full = self.wanted().is_some_and(|wanted| self.found.len() >= wanted);
        if self.range.count_only || full {
            return Ok(());
        }
        let found = if at == row.modified {
            Found::newest(row, key.map(|key| index_kv(&key, row)))
        } else if self.filters() || self.range.target != SortTarget::Key {
            let record = view.record(at)?;
            budget.spend(1, record.kv.len());
            let kv = decode(&record)?;
            let (created, version) = (kv.create_revision, kv.version);
            let kv = if self.index_only() { index_only_pair(&kv) } else { kv.encode() };
            Found { at, created, version, kv: Some(kv) }
        } else {
            Found { at, created: Revision(0), version: 0, kv: None }
        };
        if self.passes(&found) {
            self.loose += found.weight();
            self.found.push(found);
        }
        Ok(())
    }

    /// etcd's four filters; 0 switches one off, a negative bound does filter.
    fn passes(&self, found: &Found) -> bool {
        let Range { mod_min, mod_max, create_min, create_max, .. } = self.range;
        let modified = found.at.main.0;
        let created = found.created.0;
        (mod_max == 0 || modified <= mod_max)
            && (mod_min == 0 || modified >= mod_min)
            && (create_max == 0 || created <= create_max)
            && (create_min == 0 || created >= create_min)
    }

    fn scanned(&mut self) {
        if self.range.count_only {
            self.phase = Phase::Done;
        } else if self.range.target == SortTarget::Value {
            self.phase = Phase::Values(0);
        } else {
            self.sort_and_cut();
        }
    }

    fn read_values(
        &mut self,
        view: &dyn View,
        next: usize,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        if !self.fetch.is_done() {
            return self.fetch.read(view, &mut self.found, &checked, budget);
        }
        self.loose += self.fetch.let_go();
        if next == self.found.len() {
            self.sort_and_cut();
            return Ok(());
        }
        let end = self.found.len().min(next + STRETCH_KEYS);
        self.fetch.begin((&self.found, next..end), 0, |found| found.kv.is_none());
        self.phase = Phase::Values(end);
        Ok(())
    }

    /// Begins the stretch of pairs that begins with one.
    fn fetch(&mut self, view: &dyn View, start: usize) {
        let end = self.found.len().min(start + STRETCH_KEYS);
        let (resident, index_only) = (view.resident(), self.index_only());
        let read = self.found[start..end].iter().map(Found::weight).sum();
        self.loose -= read;
        self.fetch.begin((&self.found, start..end), read, |found| {
            found.kv.is_none() && (index_only || found.at < resident)
        });
        self.phase = match self.fetch.is_done() {
            true if start == end => Phase::Done,
            true => Phase::Gather(start, end),
            false => Phase::Read(start, end),
        };
    }

    /// Reads what is not in memory.
    fn read(
        &mut self,
        view: &dyn View,
        (start, end): (usize, usize),
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        let index_only = self.index_only();
        let make = |at, pair: &[u8]| match index_only {
            true => Ok(Some(index_only_pair(&decode_pair(at, pair)?))),
            false => Ok(None),
        };
        self.fetch.read(view, &mut self.found, &make, budget)?;
        if self.fetch.is_done() {
            self.phase = Phase::Gather(start, end);
        }
        Ok(())
    }

    /// Puts the pairs of a stretch into the answer: those that were read, and those that are in memory.
    fn gather(
        &mut self,
        view: &dyn View,
        (mut next, end): (usize, usize),
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        let strip = self.range.keys_only && self.range.target == SortTarget::Value;
        let RangeScan { found, fetch, pairs, together, .. } = self;
        let all = found.len();
        let resident = found[next..end].iter().filter(|found| found.kv.is_none());
        together.clear();
        together.extend(resident.take(budget.keys()).map(|found| found.at));
        let mut put_read = |next: &mut usize, pairs: &mut Pairs, budget: &mut Budget| {
            while *next < end && !budget.is_spent() {
                let Some(mut pair) = fetch.take(&mut found[*next]) else { return };
                if strip {
                    pair = KeyValue::decode(&pair)
                        .expect("checked when read")
                        .without_value()
                        .encode();
                }
                *next += 1;
                pairs.push(Pair::whole(&pair), all - *next);
                budget.spend(0, pair.len());
            }
        };
        view.pairs(together, &mut |pair| {
            put_read(&mut next, pairs, budget);
            if budget.is_spent() {
                return ControlFlow::Break(());
            }
            next += 1;
            pairs.push(pair, all - next);
            budget.spend(1, pair.len());
            if budget.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        put_read(&mut next, pairs, budget);
        self.phase = if next == end { Phase::Fetch(end) } else { Phase::Gather(next, end) };
        Ok(())
    }

    /// Sorts what was found, then cuts. Only a sort by something else than the key takes work.
    fn sort_and_cut(&mut self) {
        if self.range.target != SortTarget::Key {
            self.phase = Phase::Sort;
            return;
        }
        if self.range.order == SortOrder::Descend {
            self.found.reverse();
        }
        if let Some(limit) = self.limit().filter(|limit| self.found.len() > *limit) {
            self.loose -= self.found.drain(limit..).map(|found| found.weight()).sum::<usize>();
            self.more = true;
        }
        self.phase = Phase::Fetch(0);
    }

    fn limit(&self) -> Option<usize> {
        usize::try_from(self.range.limit).ok().filter(|limit| *limit > 0)
    }

    /// Moves what was found into order, the last key first, and drops what the limit cuts off.
    fn sort(&mut self, budget: &mut Budget) {
        let descend = self.range.order == SortOrder::Descend;
        while let Some(found) = self.found.pop() {
            let place = self.found.len() as i64;
            let place = if descend != mutant::on(52) { -place } else { place };
            self.sorted.insert((sort_key(self.range.target, &found), place), found);
            if self.limit().is_some_and(|limit| self.sorted.len() > limit) {
                let cut = if descend { self.sorted.pop_first() } else { self.sorted.pop_last() };
                self.loose -= cut.map_or(0, |(_, found)| found.weight());
                self.more = true;
            }
            budget.spend(1, 0);
            if budget.is_spent() {
                return;
            }
        }
        self.phase = Phase::Sorted;
    }

    /// Moves what is in order back to where it is fetched from.
    fn take_sorted(&mut self, budget: &mut Budget) {
        let descend = self.range.order == SortOrder::Descend;
        let mut next = || if descend { self.sorted.pop_last() } else { self.sorted.pop_first() };
        while let Some((_, found)) = next() {
            self.found.push(found);
            budget.spend(1, 0);
            if budget.is_spent() {
                return;
            }
        }
        self.phase = Phase::Fetch(0);
    }
}

/// Rows fetched in one go at most.
const SLICE_KEYS: usize = 1024;

/// Pairs that are read by revision together: enough to meet neighbours, and put in order in less than
/// half a millisecond.
const STRETCH_KEYS: usize = 8192;

/// What found keys are sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(i64),
    Value(Bytes),
}

fn sort_key(target: SortTarget, found: &Found) -> SortKey {
    SortKey::Number(match target {
        SortTarget::Key => 0,
        SortTarget::Version => found.version,
        SortTarget::Create => found.created.0,
        SortTarget::Mod => found.at.main.0,
        SortTarget::Value => {
            let kv = found.kv.as_ref().expect("values were read before sorting by them");
            let decoded = KeyValue::decode(kv).expect("values were checked when they were read");
            return SortKey::Value(kv.slice_ref(decoded.value));
        }
    })
}

/// What a read that answers from the index says of a pair.
fn index_only_pair(kv: &KeyValue<'_>) -> Bytes {
    KeyValue { lease: LeaseId::NONE, ..kv.without_value() }.encode()
}

/// Pairs to be sorted by value are decoded later.
fn checked(at: RevSub, pair: &[u8]) -> Result<Option<Bytes>, Fault> {
    decode_pair(at, pair).map(|_| None)
}

fn index_kv(key: &[u8], row: &Row) -> Bytes {
    KeyValue {
        key,
        create_revision: row.created,
        mod_revision: row.modified.main,
        version: row.version,
        value: b"",
        lease: LeaseId::NONE,
    }
    .encode()
}

/// The first key after `key`.
pub fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
