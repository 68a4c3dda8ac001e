//! Which files of the log a restart need not read: those whose every batch is proven to have been durable and
//! is below the checkpoint. They are kept for followers that were away, and may be many.
//!
//! Such a file's directory says all that recovery asks. What has happened to the batches themselves since is
//! found when they are read: each is verified then ([`read`](super::read)).
//!
//! Laws: a file is settled only if
//!  1. another follows it, and its directory is complete and chained from its header to that one's;
//!  2. a watermark proves each of its batches, so that none can be of a torn end;
//!  3. no batch has an entry above the checkpoint, begins a log anew, or changes the term among its entries.
//!
//! Worked example: files of the batches 1–9, 10–19 and 20–24 of entries 1 to 240, a checkpoint at entry 195,
//! the newest watermark 23: the first file is settled, the second has entries above 195, the third is the last.

use std::collections::BTreeMap;

use holdfast_core::id::{Index, Position};

use super::batch::{Header, header_crc};
use super::classify::{Body, Descriptor};
use super::scan::{Found, Scan};

/// Those of the surveyed files that are settled, by their sequence, with what their batches hold.
pub fn settled(mut surveys: Vec<Scan>, after: Index) -> BTreeMap<u64, Scan> {
    surveys.sort_by_key(|scan| scan.head.as_ref().map(|head| head.first_number));
    let marks = surveys.iter().flat_map(|scan| scan.found.values());
    let proven = marks.map(|found| found.header.watermark).max().unwrap_or(0);
    let mut settled = BTreeMap::new();
    let mut files = surveys.into_iter().peekable();
    while let (Some(mut scan), Some(next)) = (files.next(), files.peek()) {
        if is_linked(&scan, next) && scan.found.values().all(|found| is_past(found, proven, after))
        {
            scan.found.values_mut().for_each(settle);
            settled.insert(scan.sequence, scan);
        }
    }
    settled
}

/// Law 1.
fn is_linked(scan: &Scan, next: &Scan) -> bool {
    let (Some(head), Some(next)) = (&scan.head, &next.head) else { return false };
    let mut chain = head.chain;
    let mut numbers = head.first_number..next.first_number;
    let complete = numbers.clone().count() == scan.found.len() && !scan.found.is_empty();
    complete
        && numbers.all(|number| {
            let header = scan.found.get(&number).map(|found| &found.header);
            let fits = header.is_some_and(|header| header.chain == chain);
            chain = header.map_or(0, |header| header_crc(&header.encode()));
            fits
        })
        && chain == next.chain
}

/// Laws 2 and 3.
fn is_past(found: &Found, proven: u64, after: Index) -> bool {
    let Header { number, flags, count, prev_term, last_term, .. } = found.header;
    found.descriptor == Descriptor::Same
        && number <= proven
        && flags == 0
        && found.header.last().index <= after
        && (count < 2 || prev_term == last_term)
}

/// Its entries are not kept, and have one term.
fn settle(found: &mut Found) {
    found.body = Body::Whole;
    if found.header.count > 0 {
        found.runs = vec![Position { index: found.header.first, term: found.header.last_term }];
    }
}
