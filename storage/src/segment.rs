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

use active::{Chunk, Run};
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
        let mut held = None;
        for at in at {
            let broke = match self.active.find(*at).filter(|_| *at >= first) {
                Some(record) => visit(Pair::whole(&record.kv)),
                None => self.sealed_pair(*at, &mut held, visit)?,
            };
            if broke.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits a pair of a sealed segment; `held` is the block of the one before it.
    fn sealed_pair(
        &self,
        at: RevSub,
        held: &mut Option<(BlockPlace, Block)>,
        visit: &mut VisitPair<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let segment = self.segment(at)?;
        let absent = || missing(at, &segment.file.name.to_string());
        let place = segment.place(at).ok_or_else(absent)?;
        if held.as_ref().is_none_or(|(here, _)| *here != place) {
            *held = Some((place, segment.load(&self.source, place)?));
        }
        let (_, block) = held.as_ref().expect("it was just loaded if it was not there");
        let damaged = |cause| segment.damaged_block(place.1 as usize, &cause);
        let pair = block.pair(at).map_err(damaged)?.ok_or_else(absent)?;
        Ok(visit(Pair::within(block.bytes(), pair)))
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
