//! Values: every change of the store, in revision order.
//!
//! [`Values`] is a list of sealed files and, behind them, the active segment in memory. Their
//! revision ranges do not overlap and ascend, so a revision is its own address: segment, block and
//! record are found by binary search, and nothing ever has to be told where a record moved.
//!
//! Left out: rewriting mostly dead segments, merging small ones.
//!
//! Worked example: with segments `r2.0–r40.1` and `r41.0–r90.0` and the active segment from `r91.0`
//! on, `r41.3` is in the second file, in the last block whose first revision is not above it.

use std::ops::ControlFlow;
use std::sync::Arc;

use holdfast_core::id::{RevSub, Revision};
use holdfast_core::store::{Fault, Pair, Record, VisitPair};

pub(crate) mod active;
pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod footer;
pub(crate) mod sealed;
pub(crate) mod writer;

use active::{Chunk, Run, TOGETHER};
use block::Block;
use cache::Key as BlockPlace;
use sealed::{Sealed, Source};

/// All records of one state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Values {
    pub(crate) source: Source,
    pub(crate) sealed: Arc<Vec<Arc<Sealed>>>,
    pub(crate) active: Run,
}

/// A block of a segment, while pairs of it are read.
#[derive(Clone)]
struct Held<'a> {
    segment: &'a Sealed,
    place: BlockPlace,
    block: Block,
}

impl Held<'_> {
    fn pair(&self, at: RevSub) -> Result<Pair<'_>, Fault> {
        let damaged = |cause| self.segment.damaged_block(self.place.1 as usize, &cause);
        let pair = self.block.pair(at).map_err(damaged)?;
        let pair = pair.ok_or_else(|| missing(at, &self.segment.file.name.to_string()))?;
        Ok(Pair::within(self.block.bytes(), pair))
    }
}

impl Values {
    /// The values of a state whose records are all in files.
    pub(crate) fn sealed(source: Source, sealed: Vec<Arc<Sealed>>) -> Values {
        Values { source, sealed: Arc::new(sealed), active: Run::new() }
    }

    /// The record at a revision; a missing one is damage.
    pub(crate) fn find(&self, at: RevSub) -> Result<Record, Fault> {
        if self.active.first().is_some_and(|first| first <= at) {
            return self.active.find(at).cloned().ok_or_else(|| missing(at, "the active segment"));
        }
        let segment = self.segment(at)?;
        let found = segment.find(&self.source, at)?;
        found.ok_or_else(|| missing(at, &segment.file.name.to_string()))
    }

    /// The pairs at some revisions, in the given order, until `visit` breaks; a missing one is damage.
    pub(crate) fn pairs(&self, at: &[RevSub], visit: &mut VisitPair<'_>) -> Result<(), Fault> {
        let first = self.resident();
        if at.iter().all(|at| *at >= first) {
            return self.active.each(at, visit).map_err(|at| missing(at, "the active segment"));
        }
        for group in at.chunks(TOGETHER) {
            let mut blocks = [const { None }; TOGETHER];
            for (nth, at) in group.iter().enumerate().filter(|(_, at)| **at < first) {
                let before = nth.checked_sub(1).and_then(|before| blocks[before].as_ref());
                let held = self.held(*at, before)?;
                held.block.touch(*at);
                blocks[nth] = Some(held);
            }
            for (at, held) in group.iter().zip(&blocks) {
                let broke = match held {
                    Some(held) => visit(held.pair(*at)?),
                    None => {
                        let record = self.active.find(*at);
                        let record = record.ok_or_else(|| missing(*at, "the active segment"))?;
                        visit(Pair::whole(&record.kv))
                    }
                };
                if broke.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The block that has a revision; `before` is that of another one, often of a neighbour.
    fn held<'a>(&'a self, at: RevSub, before: Option<&Held<'a>>) -> Result<Held<'a>, Fault> {
        if let Some(held) = before.filter(|held| held.block.may_have(at)) {
            return Ok(held.clone());
        }
        let segment = self.segment(at)?;
        let place = segment.place(at);
        let place = place.ok_or_else(|| missing(at, &segment.file.name.to_string()))?;
        Ok(Held { segment, place, block: segment.load(&self.source, place)? })
    }

    /// The sealed segment that has a revision if one does.
    fn segment(&self, at: RevSub) -> Result<&Sealed, Fault> {
        let index = self.sealed.partition_point(|segment| segment.last() < at);
        let segment = self.sealed.get(index).ok_or_else(|| missing(at, "the value segments"))?;
        Ok(segment)
    }

    /// The first revision that is in memory; nothing before the end of time if none is.
    pub(crate) fn resident(&self) -> RevSub {
        let never = RevSub { main: Revision(i64::MAX), sub: u32::MAX };
        self.active.first().unwrap_or(never)
    }

    /// Visits the records from `from` on in revision order until `visit` breaks.
    pub(crate) fn scan(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let index = self.sealed.partition_point(|segment| segment.last() < from);
        for segment in &self.sealed[index..] {
            if segment.scan(&self.source, from, visit)?.is_break() {
                return Ok(());
            }
        }
        for ordinal in self.active.lower_bound(from)..self.active.end() {
            let record = self.active.get(ordinal).expect("the ordinal is within the run");
            if visit(record).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Puts a segment that holds the active records before ordinal `end` in their place; what held
    /// them is given to be freed at leisure.
    pub(crate) fn seal(&mut self, segment: Arc<Sealed>, end: u64) -> Vec<Arc<Chunk>> {
        Arc::make_mut(&mut self.sealed).push(segment);
        self.active.trim(end)
    }

    /// The revision of the last record.
    pub(crate) fn last(&self) -> Option<RevSub> {
        self.active.last().or_else(|| self.sealed.last().map(|segment| segment.last()))
    }

    /// Bytes of all sealed records.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.sealed.iter().map(|segment| segment.footer.kv_bytes).sum()
    }
}

fn missing(at: RevSub, place: &str) -> Fault {
    Fault::new("cannot read a value that must exist", place, format!("there is no record {at}"))
}
