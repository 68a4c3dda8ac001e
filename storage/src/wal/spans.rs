//! Where on the disk each entry of the durable log lies, by batch.
//!
//! Leaves out batches that are not durable yet: they are added when they are. Costs 40 bytes a
//! batch, so 1 GiB of 4 KiB batches costs 10 MiB.
//!
//! Laws:
//!  1. Spans are ascending in index and do not overlap: a truncation trims or drops the older ones.
//!  2. They are ascending in segment age, too, since a later batch ends higher than what it left.
//!
//! Worked example: a batch of entries 5 to 10, then one of 8 to 9, leave the spans 5–7 and 8–9.

use std::collections::VecDeque;

use holdfast_core::id::Index;

/// The live entries of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First index of the batch.
    pub first: Index,
    /// Last index of it that is still part of the log.
    pub last: Index,
    /// The number of the segment's file.
    pub sequence: u64,
    /// Where in it the batch begins.
    pub offset: u64,
    /// Bytes of records.
    pub body_len: u32,
}

/// The live entries of the durable log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(VecDeque<Span>);

impl Spans {
    /// Forgets entries from `first` on.
    pub fn truncate(&mut self, first: Index) {
        while self.0.back().is_some_and(|span| span.first >= first) {
            self.0.pop_back();
        }
        if let Some(span) = self.0.back_mut() {
            span.last = span.last.min(Index(first.0 - 1));
        }
    }

    /// Adds a batch at the end, after truncating there.
    pub fn push(&mut self, span: Span) {
        self.truncate(span.first);
        self.0.push_back(span);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The lowest index there is.
    pub fn first(&self) -> Option<Index> {
        self.0.front().map(|span| span.first)
    }

    /// The spans from the one that holds `from` on; none if no span holds it.
    pub fn from(&self, from: Index) -> impl Iterator<Item = &Span> {
        let at = self.0.partition_point(|span| span.last < from);
        let holds = self.0.get(at).is_some_and(|span| span.first <= from);
        self.0.range(if holds { at } else { self.0.len() }..)
    }

    /// Drops the spans of a segment, the oldest there is, if it has no entry above `upto`.
    pub fn purge(&mut self, sequence: u64, upto: Index) -> bool {
        let inside = self.0.iter().take_while(|span| span.sequence == sequence);
        let (count, last) = inside.fold((0, Index(0)), |(count, _), span| (count + 1, span.last));
        if last > upto {
            return false;
        }
        self.0.drain(..count);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64, sequence: u64) -> Span {
        Span { first: Index(first), last: Index(last), sequence, offset: 0, body_len: 0 }
    }

    #[test]
    fn a_later_batch_trims_what_it_replaces() {
        let mut spans = Spans::default();
        spans.push(span(1, 4, 1));
        spans.push(span(5, 10, 1));
        spans.push(span(8, 9, 2));
        let seen: Vec<_> = spans.from(Index(2)).map(|span| (span.first.0, span.last.0)).collect();
        assert_eq!(seen, [(1, 4), (5, 7), (8, 9)]);
        assert_eq!(spans.from(Index(10)).count(), 0);
        assert!(!spans.purge(1, Index(6)));
        assert!(spans.purge(1, Index(7)));
        assert_eq!(spans.first(), Some(Index(8)));
        assert_eq!(spans.from(Index(7)).count(), 0);
    }
}
