//! The segment that is being written: where the next batch goes, and the directory blocks that its
//! descriptor shares with earlier ones.
//!
//! Leaves out which file it is and whether the writes succeed.
//!
//! Laws:
//!  1. A block of the data area is written once.
//!  2. Of two batches that are in flight together no directory block is shared (`LANES`), so that
//!     their writes may be carried out in any order.
//!
//! Worked example: the fifth batch of a segment shares its directory block with the first, which
//! was durable before the fifth was issued.

use super::batch::HEADER;
use super::segment::{Geometry, LANES, SLOTS};
use crate::disk::BLOCK;

/// The place where the log grows.
#[derive(Debug)]
pub struct Tail {
    geometry: Geometry,
    at: u64,
    nth: u64,
    /// The directory blocks of the present group of descriptors.
    lanes: Vec<u8>,
}

impl Tail {
    /// At the start of a segment.
    pub fn new(geometry: Geometry) -> Tail {
        Tail { geometry, at: geometry.data, nth: 0, lanes: vec![0; LANES as usize * BLOCK] }
    }

    /// Within a segment that has `nth` batches up to offset `at`, and this directory.
    pub fn resume(geometry: Geometry, at: u64, nth: u64, directory: &[u8]) -> Tail {
        let mut tail = Tail { at, nth, ..Tail::new(geometry) };
        let start = (nth / (LANES * SLOTS)) as usize * tail.lanes.len();
        if !nth.is_multiple_of(LANES * SLOTS) {
            let present = directory.get(start..).unwrap_or_default();
            let len = present.len().min(tail.lanes.len());
            tail.lanes[..len].copy_from_slice(&present[..len]);
        }
        tail
    }

    /// Whether a batch of `bytes` fits.
    pub fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.geometry.len - self.at
    }

    /// Whether nothing has been placed yet.
    pub fn is_new(&self) -> bool {
        self.nth == 0
    }

    /// Where the next batch goes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Places a batch of `bytes` with this header. Returns the directory block to write with it,
    /// and where.
    pub fn place(&mut self, bytes: u64, header: &[u8; HEADER]) -> (u64, &[u8]) {
        assert!(self.has_room(bytes), "the caller made sure of room");
        if self.nth.is_multiple_of(LANES * SLOTS) {
            self.lanes.fill(0);
        }
        let (offset, slot) = self.geometry.slot(self.nth);
        let lane = (self.nth % LANES) as usize * BLOCK;
        self.lanes[lane + slot..lane + slot + HEADER].copy_from_slice(header);
        self.at += bytes;
        self.nth += 1;
        (offset, &self.lanes[lane..lane + BLOCK])
    }
}
