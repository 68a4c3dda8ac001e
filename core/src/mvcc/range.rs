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
//! Values are read last, only those that survived: a limited read of small pages costs small reads.
//!
//! Worked example: keys a=3, b=1, c=2; limit 1, target value, no order: reads a and b (limit + 1),
//! sorts them to b, a, cuts to b, more = true, count = 3. With order ascending: b as well, but c was
//! considered.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{LeaseId, RevSub, Revision};
use crate::kv::KeyValue;
use crate::mvcc::{ReadError, decode, visible};
use crate::query::RangeAnswer;
use crate::rejection::Rejection;
use crate::request::{KeyRange, Range, RangeEnd, SortOrder, SortTarget};
use crate::store::{Fault, Mark, Row, View};

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
    while !scan.step(view, Budget { keys: SLICE_KEYS, bytes: usize::MAX })? {}
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

/// How much one slice of a scan may do. Each row looked at and each value read counts as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Keys to look at; at least one is.
    pub keys: usize,
    /// Bytes of values to read; the value that crosses the line is still read.
    pub bytes: usize,
}

/// A Range under way, so that the edge can do something else between slices.
#[derive(Clone, Debug)]
pub struct RangeScan {
    range: Range,
    below: RevSub,
    /// The revision a client named must stay readable while the scan lasts.
    pinned: bool,
    /// What has not been looked at.
    rest: KeyRange,
    /// The count comes from looking at every key; otherwise it is known already.
    counting: bool,
    count: i64,
    found: Vec<Found>,
    more: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Looking at rows.
    Scan,
    /// Reading the values to sort by, from this one on.
    Values(usize),
    /// Reading what the answer holds, from this one on.
    Fetch(usize),
    Done,
}

/// A key that the read sees. `kv` is filled when it is read, or made from the index.
#[derive(Clone, Debug)]
struct Found {
    at: RevSub,
    created: Revision,
    version: i64,
    kv: Option<Bytes>,
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
        let count = if newest { view.count(&range.keys) as i64 } else { 0 };
        RangeScan {
            below,
            pinned: false,
            rest: range.keys.clone(),
            counting: !newest,
            count,
            found: Vec::new(),
            more: false,
            phase: if newest && range.count_only { Phase::Done } else { Phase::Scan },
            range: range.clone(),
        }
    }

    /// Goes on within `budget`; true when the answer is complete. `view` is the one the scan began
    /// on or a newer one; on a newer one a compaction may have passed the read.
    pub fn step(&mut self, view: &dyn View, mut budget: Budget) -> Result<bool, ReadError> {
        if self.pinned && self.below.main <= view.mark().compacted {
            return Err(Rejection::Compacted.into());
        }
        budget.keys = budget.keys.max(1);
        while budget.keys > 0 && self.phase != Phase::Done {
            match self.phase {
                Phase::Scan => self.scan(view, &mut budget)?,
                Phase::Values(next) => self.read_sort_value(view, next, &mut budget)?,
                Phase::Fetch(next) => self.fetch(view, next, &mut budget)?,
                Phase::Done => {}
            }
        }
        Ok(self.phase == Phase::Done)
    }

    /// The answer of a complete scan.
    pub fn into_answer(self) -> RangeAnswer {
        assert!(self.phase == Phase::Done, "step said that the scan is complete");
        let kvs = self.found.into_iter().filter_map(|found| found.kv).collect();
        RangeAnswer { kvs, more: self.more, count: self.count }
    }

    /// How many keys to find before stopping; `None` for all of them (law 2).
    fn wanted(&self) -> Option<usize> {
        let range = &self.range;
        let all = range.order != SortOrder::None || range.limit <= 0 || self.filters();
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        let one_more = if crate::mutant::on(51) { 0 } else { 1 };
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

    fn scan(&mut self, view: &dyn View, budget: &mut Budget) -> Result<(), Fault> {
        let left = self.wanted().map_or(usize::MAX, |wanted| wanted - self.found.len());
        // A count forbids stopping early; else a batch is no longer than what is still wanted.
        let batch = budget.keys.min(SLICE_KEYS).min(if self.counting { usize::MAX } else { left });
        let with_keys = self.index_only();
        let mut rows = Vec::new();
        let mut last = None;
        view.scan(&self.rest, &mut |key, row| {
            rows.push((with_keys.then(|| Bytes::copy_from_slice(key)), *row));
            if rows.len() < batch {
                return ControlFlow::Continue(());
            }
            last = Some(after(key));
            ControlFlow::Break(())
        });
        budget.keys = budget.keys.saturating_sub(rows.len());
        for (key, row) in rows {
            self.consider(view, key, &row)?;
        }
        let enough = !self.counting && self.wanted().is_some_and(|n| self.found.len() >= n);
        match last {
            Some(start) if !enough && self.range.keys.end != RangeEnd::Single => {
                self.rest.start = start;
            }
            _ => self.scanned(),
        }
        Ok(())
    }

    fn consider(&mut self, view: &dyn View, key: Option<Bytes>, row: &Row) -> Result<(), Fault> {
        let Some(at) = visible(view, row, self.below)? else { return Ok(()) };
        if self.counting {
            self.count += 1;
        }
        let full = self.wanted().is_some_and(|wanted| self.found.len() >= wanted);
        if self.range.count_only || full {
            return Ok(());
        }
        let found = if at == row.modified {
            let kv = key.map(|key| index_kv(&key, row));
            Found { at, created: row.created, version: row.version, kv }
        } else if self.filters() || self.range.target != SortTarget::Key {
            let record = view.record(at)?;
            let kv = decode(&record)?;
            Found {
                at,
                created: kv.create_revision,
                version: kv.version,
                kv: Some(self.shape(&kv)),
            }
        } else {
            Found { at, created: Revision(0), version: 0, kv: None }
        };
        if self.passes(&found) {
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

    fn read_sort_value(
        &mut self,
        view: &dyn View,
        next: usize,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        if next == self.found.len() {
            self.sort_and_cut();
            return Ok(());
        }
        self.read(view, next, budget)?;
        self.phase = Phase::Values(next + 1);
        Ok(())
    }

    fn fetch(&mut self, view: &dyn View, next: usize, budget: &mut Budget) -> Result<(), Fault> {
        if next == self.found.len() {
            self.phase = Phase::Done;
            return Ok(());
        }
        self.read(view, next, budget)?;
        if self.range.keys_only && self.range.target == SortTarget::Value {
            let kv = self.found[next].kv.take().expect("read just now");
            let kv = KeyValue::decode(&kv).expect("read just now").without_value().encode();
            self.found[next].kv = Some(kv);
        }
        self.phase = Phase::Fetch(next + 1);
        Ok(())
    }

    /// Fills the pair of one key, unless it is there.
    fn read(&mut self, view: &dyn View, index: usize, budget: &mut Budget) -> Result<(), Fault> {
        let Found { at, kv: None, .. } = self.found[index] else { return Ok(()) };
        let record = view.record(at)?;
        let kv = decode(&record)?;
        self.found[index].kv =
            Some(if self.index_only() { self.shape(&kv) } else { record.kv.clone() });
        budget.keys = budget.keys.saturating_sub(1);
        budget.bytes = budget.bytes.saturating_sub(record.kv.len());
        if budget.bytes == 0 {
            budget.keys = 0;
        }
        Ok(())
    }

    /// The pair as the answer holds it.
    fn shape(&self, kv: &KeyValue<'_>) -> Bytes {
        if self.index_only() {
            return KeyValue { lease: LeaseId::NONE, ..kv.without_value() }.encode();
        }
        kv.encode()
    }

    fn sort_and_cut(&mut self) {
        let Range { order, target, limit, .. } = self.range;
        match (order, target) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
            (SortOrder::Descend, SortTarget::Key) => self.found.reverse(),
            (SortOrder::Descend, _) => self.found.sort_by(|a, b| compare(target, b, a)),
            (SortOrder::None | SortOrder::Ascend, _) => {
                self.found.sort_by(|a, b| compare(target, a, b));
            }
        }
        let limit = usize::try_from(limit).unwrap_or(0);
        if limit > 0 && self.found.len() > limit {
            self.found.truncate(limit);
            self.more = true;
        }
        self.phase = Phase::Fetch(0);
    }
}

/// Rows looked at before their values are read, in one go.
const SLICE_KEYS: usize = 1024;

fn compare(target: SortTarget, a: &Found, b: &Found) -> Ordering {
    match target {
        SortTarget::Key => Ordering::Equal,
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.created.cmp(&b.created),
        SortTarget::Mod => a.at.main.cmp(&b.at.main),
        SortTarget::Value => value(a).cmp(value(b)),
    }
}

fn value(found: &Found) -> &[u8] {
    let kv = found.kv.as_deref().and_then(KeyValue::decode);
    kv.expect("values were read, and checked, before sorting by them").value
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
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
