//! DeleteRange: every living key of a range gets a tombstone, all in one revision.
//!
//! Law: a range without a living key changes nothing, not even the revision.
//!
//! Price: a row that is looked at counts as a key of the slice, and one that is deleted as
//! [`DELETION_KEYS`], twice that where it hangs on a lease: that much longer does it take to write a
//! tombstone, and to take the key off its lease, than to pass by a row.
//!
//! Worked example: with "a" at r2 and "b" at r3, deleting [a, c) writes tombstones r4.0 and r4.1 and
//! answers 2, and r2.0 and r3.0 when the previous pairs are wanted.

use std::ops::{ControlFlow, Range};

use crate::id::LeaseId;
use crate::machine::draft::Draft;
use crate::mvcc::Budget;
use crate::mvcc::range::after;
use crate::request::{DeleteRange, KeyRange, RangeEnd};
use crate::response::DeleteDone;
use crate::store::Row;

/// What a deletion spends of a slice, in keys.
pub(super) const DELETION_KEYS: usize = 4;

/// The same for a row that may hang on a lease.
fn deletion_keys(row: &Row) -> usize {
    if row.lease == LeaseId::NONE { DELETION_KEYS } else { 2 * DELETION_KEYS }
}

/// A DeleteRange under way.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    /// What has not been looked at.
    rest: KeyRange,
    done: DeleteDone,
}

impl Removal {
    /// Nothing was looked at.
    pub(super) fn new(request: &DeleteRange) -> Removal {
        Removal { rest: request.keys.clone(), done: DeleteDone::default() }
    }

    /// Deletes what is alive in the next stretch of the range, as much as the budget allows. Says what
    /// was done once that was all. `request` is the one it began with.
    pub(super) fn step(
        &mut self,
        draft: &mut Draft<'_>,
        request: &DeleteRange,
        budget: &mut Budget,
    ) -> Option<DeleteDone> {
        let Stretch { names, found, ended } = self.look(draft, budget);
        self.done.deleted += found.len() as u64;
        if request.prev_kv {
            self.done.prev.extend(found.iter().map(|(_, row)| row.modified));
        }
        for (name, row) in found {
            draft.delete(&names[name], row);
        }
        ended.then(|| std::mem::take(&mut self.done))
    }

    fn look(&mut self, draft: &Draft<'_>, budget: &mut Budget) -> Stretch {
        let (mut names, mut found, mut last) = (Vec::new(), Vec::new(), None);
        let single = self.rest.end == RangeEnd::Single;
        draft.view().scan(&self.rest, &mut |key, row| {
            budget.spend(1, 0);
            if !row.is_tombstone() {
                budget.spend(deletion_keys(row) - 1, key.len());
                let start = names.len();
                names.extend_from_slice(key);
                found.push((start..names.len(), *row));
            }
            if budget.is_spent() && !single {
                last = Some(after(key));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let ended = last.is_none();
        self.rest.start = last.unwrap_or_default();
        Stretch { names, found, ended }
    }
}

/// A part of a range.
struct Stretch {
    /// The living keys, side by side.
    names: Vec<u8>,
    /// Where each is there, and its row.
    found: Vec<(Range<usize>, Row)>,
    /// Whether it is the last part.
    ended: bool,
}
