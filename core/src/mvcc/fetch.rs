//! Reading the pairs of the keys that a range has found, a stretch of them at a time.
//!
//! Where values lie by revision, what is not in memory is read in that order, so that neighbours are read
//! together, and kept until the answer takes it. Leaves out which keys are found, and the answer.
//!
//! Laws:
//!  1. `kept` is at least what the pairs of the stretch that were read and not taken hold in memory.
//!  2. Blocks of which pairs are parts are kept up to [`SHARED_BYTES`]; the pairs of further ones are copied.
//!
//! Worked example: of a, b and c, the pairs of a (r7) and c (r3) are on disk, b is in memory. The turns are
//! c, a. They lie in one block of 16 KiB: `kept` is 16 KiB until both are taken, b is never kept.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::Budget;
use super::range::Found;
use crate::arena::Arena;
use crate::id::RevSub;
use crate::store::{Fault, Pair, View};

/// Makes of a pair what is kept of it; nothing if it is kept as it is.
pub(super) type Make<'a> = dyn Fn(RevSub, &[u8]) -> Result<Option<Bytes>, Fault> + 'a;

/// A stretch being read.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    /// The places, among those found, of the keys to be read, by revision; so many have been.
    turns: Vec<usize>,
    done: usize,
    /// Changes whose pairs are read together; reused.
    together: Vec<RevSub>,
    arena: Arena,
    /// Where the block lies that was shared last, and bytes of those that are shared.
    owner: usize,
    shared: usize,
    kept: usize,
}

impl Fetch {
    /// The next stretch, of those found that `wanted` names; `kept` bytes of it were read before.
    pub fn begin(
        &mut self,
        (found, stretch): (&[Found], Range<usize>),
        kept: usize,
        wanted: impl Fn(&Found) -> bool,
    ) {
        self.turns.clear();
        self.turns.extend(stretch.filter(|place| wanted(&found[*place])));
        self.turns.sort_unstable_by_key(|place| found[*place].at);
        (self.done, self.owner, self.shared, self.kept) = (0, 0, 0, kept);
    }

    /// Whether all of the stretch that was wanted is read.
    pub fn is_done(&self) -> bool {
        self.done == self.turns.len()
    }

    /// Bytes that are kept for the stretch.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Reads on, until the stretch is read or the budget is spent.
    pub fn read(
        &mut self,
        view: &dyn View,
        found: &mut [Found],
        make: &Make<'_>,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        let mut together = std::mem::take(&mut self.together);
        let batch = self.turns[self.done..].iter().take(budget.keys());
        together.clear();
        together.extend(batch.map(|place| found[*place].at));
        let mut fault = None;
        view.pairs(&together, &mut |pair| {
            let place = self.turns[self.done];
            budget.spend(1, pair.len());
            match make(found[place].at, &pair) {
                Ok(made) => found[place].kv = Some(self.keep(pair, made)),
                Err(cause) => {
                    fault = Some(cause);
                    return ControlFlow::Break(());
                }
            }
            self.done += 1;
            if budget.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.together = together;
        fault.map_or(Ok(()), Err)
    }

    /// The pair of a key that was read, for the answer.
    pub fn take(&mut self, found: &mut Found) -> Option<Bytes> {
        let pair = found.kv.take()?;
        self.kept = self.kept.checked_sub(pair.len()).expect("law 1");
        Some(pair)
    }

    /// Somebody else counts what is kept.
    pub fn let_go(&mut self) -> usize {
        std::mem::take(&mut self.kept)
    }

    fn keep(&mut self, pair: Pair<'_>, made: Option<Bytes>) -> Bytes {
        if let Some(made) = made {
            self.kept += made.len();
            return made;
        }
        let (owner, bytes) = (pair.owner().as_ptr() as usize, pair.owner().len());
        if owner != self.owner {
            let more = if pair.len() < bytes / 2 { bytes } else { 0 };
            if more > 0 && self.shared + more > SHARED_BYTES {
                self.kept += pair.len();
                return self.arena.copy(&pair);
            }
            (self.owner, self.shared) = (owner, self.shared + more);
            self.kept += bytes;
        }
        pair.share()
    }
}

/// The most that blocks hold of which pairs are kept.
const SHARED_BYTES: usize = 4 << 20;
