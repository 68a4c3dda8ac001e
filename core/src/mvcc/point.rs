//! Reads of one key each that come together, such as a connection's: what one waits for is the memory of a page, of a
//! record and of its pair, and many can wait for theirs at the same time.
//!
//! Leaves out: whether the readers may see the keys, and every read that is more than the newest pair of a key.
//!
//! Law: the answer is what [`super::range::RangeScan`] gives, on the same state.
//!
//! Worked example: a=1 and b deleted; the reads of a, b, c and a again are answered with a=1, nothing, nothing, and
//! a=1, from one pass over the index and one over the records.

use std::ops::ControlFlow;

use super::Pairs;
use crate::query::RangeAnswer;
use crate::request::{Range, RangeEnd};
use crate::store::{Fault, View};

/// Pairs from this size on are for [`super::range::RangeScan`], which counts what large answers hold.
const PAIR_BYTES_MAX: usize = 32 << 10;

/// Whether a read is of one key, at the newest revision, and of no more than its pair.
pub fn is_newest(range: &Range) -> bool {
    range.revision <= 0 && is_point(range)
}

/// Whether a read is of one key and of no more than its pair.
pub(super) fn is_point(range: &Range) -> bool {
    let Range { keys_only, count_only, mod_min, mod_max, create_min, create_max, .. } = *range;
    let filters = [mod_min, mod_max, create_min, create_max] != [0; 4];
    range.keys.end == RangeEnd::Single && !keys_only && !count_only && !filters
}

/// Calls `visit` with the place of each key and its answer, in no certain order, and with `None` instead of a
/// large one, which has not been read.
pub fn read(
    view: &dyn View,
    keys: &[&[u8]],
    visit: &mut dyn FnMut(usize, Option<RangeAnswer>),
) -> Result<(), Fault> {
    let (mut places, mut at) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
    let mut place = 0;
    view.rows(keys, &mut |row| {
        match row.filter(|row| !row.is_tombstone()) {
            Some(row) => {
                places.push(place);
                at.push(row.modified);
            }
            None => {
                visit(place, Some(RangeAnswer { kvs: Pairs::default(), more: false, count: 0 }))
            }
        }
        place += 1;
    });
    let mut places = places.into_iter();
    view.pairs(&at, &mut |pair| {
        let place = places.next().expect("as many pairs as revisions");
        let answer = (pair.len() < PAIR_BYTES_MAX).then(|| {
            let mut kvs = Pairs::default();
            kvs.push(pair, 0);
            kvs.finish();
            RangeAnswer { kvs, more: false, count: 1 }
        });
        visit(place, answer);
        ControlFlow::Continue(())
    })
}
