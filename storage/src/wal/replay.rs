//! Turns the batches that recovery believes into the log they mean.
//!
//! A batch whose first index is not above the last replaces everything from there on: that is how a
//! new leader's truncation is recorded. A restart forgets what came before it. Leaves out where
//! batches come from and whether they are whole.
//!
//! Laws:
//!  1. The entries are consecutive and above the checkpoint.
//!  2. Replaying a prefix and then the rest is replaying the whole.
//!
//! Worked example: batches 5–9 of term 2 and 7–7 of term 3 mean the entries 5@2 6@2 7@3.

use std::collections::BTreeMap;

use holdfast_core::entry::Entry;
use holdfast_core::id::{Index, Position};
use holdfast_core::mutant;
use holdfast_core::store::Fault;

use super::batch::Header;
use super::scan::Found;
use super::segment::file_name;
use super::span_of;
use super::spans::Spans;
use super::terms::Terms;

/// A log while it is being replayed.
#[derive(Debug)]
pub struct Replay {
    /// Which index has which term.
    pub terms: Terms,
    /// Where the entries lie.
    pub spans: Spans,
    /// The entries above the checkpoint.
    pub entries: BTreeMap<Index, Entry>,
}

impl Replay {
    /// Begins with the first batch of the log, which says what came before it.
    pub fn new(first: &Header) -> Replay {
        let base = Position { index: Index(first.first.0 - 1), term: first.prev_term };
        Replay { terms: Terms::new(base), spans: Spans::default(), entries: BTreeMap::new() }
    }

    /// Takes the next batch, found in the file with this number, and its entries.
    pub fn batch(&mut self, found: &mut Found, sequence: u64) -> Result<(), Fault> {
        let header = &found.header;
        let last = self.terms.last().index;
        if header.first > last.next() {
            let cause = format!(
                "batch {} begins with entry {}, but the log before it ends with entry {last}",
                header.number, header.first
            );
            let place = format!("{} at {}", file_name(sequence), header.offset);
            return Err(Fault::new("replay the log", place, cause));
        }
        if header.count == 0 {
            return Ok(());
        }
        if header.first <= last && !mutant::on(23) {
            self.terms.truncate(header.first, header.prev_term);
            self.entries.split_off(&header.first);
        }
        self.spans.push(span_of(header, sequence));
        self.terms.extend(&found.runs, header.last().index);
        for entry in found.entries.drain(..) {
            self.entries.entry(entry.at.index).or_insert(entry);
        }
        Ok(())
    }

    /// The log goes on behind a snapshot.
    pub fn restart(&mut self, at: Position) {
        self.terms = Terms::new(at);
        self.spans.clear();
        self.entries.clear();
    }
}
