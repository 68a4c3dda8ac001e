//! A batch that is being gathered: encoded at once, issued when the pipeline has room.
//!
//! While `depth` batches are in flight appends gather here, and all that gathered become one batch:
//! group commit without a timer. Leaves out everything that is known only when it is issued (its
//! number, place, chain and watermark).
//!
//! Laws:
//!  1. Records are consecutive: an append that replaces entries begins a batch of its own.
//!  2. Gathering never makes a batch larger than [`GROUP_BYTES_MAX`] or a segment; one append may
//!     be.
//!
//! Worked example: appends w5 (entries 7, 8), w6 (no entries, a vote) and w7 (entry 9) that wait
//! become one batch of three records with `seq` w7 and the vote.

use holdfast_core::entry::{Append, HardState};
use holdfast_core::id::{Index, Position, Term, WalSeq};

use super::batch::{HEADER, push_record, record_len};
use crate::disk::Buffer;

/// Appends are gathered into one batch up to this size.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// Room for a header, then records.
#[derive(Debug)]
pub struct Pending {
    /// The bytes, the header still zeros.
    pub buffer: Buffer,
    /// As [`Header::flags`](super::batch::Header).
    pub flags: u16,
    /// Records so far.
    pub count: u32,
    /// Index of the first, or of the one that comes next.
    pub first: Index,
    /// Term of the entry before.
    pub prev_term: Term,
    /// Term of the last record.
    pub last_term: Term,
    /// The newest.
    pub hard_state: HardState,
    /// The newest append.
    pub seq: WalSeq,
}

impl Pending {
    /// An empty batch behind `prev`, in a buffer given for reuse.
    pub fn new(mut buffer: Buffer, prev: Position, hard_state: HardState, seq: WalSeq) -> Pending {
        buffer.clear();
        buffer.extend(&[0; HEADER]);
        Pending {
            buffer,
            flags: 0,
            count: 0,
            first: prev.index.next(),
            prev_term: prev.term,
            last_term: prev.term,
            hard_state,
            seq,
        }
    }

    /// Whether the append can be part of this batch of at most `bytes_max` (laws 1 and 2).
    pub fn takes(&self, append: &Append, bytes_max: usize) -> bool {
        let next = Index(self.first.0 + u64::from(self.count));
        let follows = append.entries.first().is_none_or(|entry| entry.at.index == next);
        self.flags == 0 && follows && self.buffer.len() + bytes_of(append) <= bytes_max
    }

    /// Adds an append.
    pub fn add(&mut self, append: &Append) {
        for entry in &append.entries {
            let next = self.first.0 + u64::from(self.count);
            assert_eq!(entry.at.index.0, next, "entries of one append are consecutive");
            push_record(&mut self.buffer, entry);
            self.count += 1;
            self.last_term = entry.at.term;
        }
        self.hard_state = append.hard_state;
        self.seq = append.seq;
    }
}

/// Bytes that the entries of an append take.
pub fn bytes_of(append: &Append) -> usize {
    append.entries.iter().map(record_len).sum()
}
