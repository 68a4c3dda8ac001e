//! Segment files that wait for use, and the making of new ones ahead of need.
//!
//! A file is made under a name of its own and renamed when its zeros are durable, so a `.seg` file
//! that is too short has always been damaged. A full disk stops the making, not the log: it is
//! tried again when something happens that might have helped. Leaves out when a segment is needed.
//!
//! Laws:
//!  1. One file is made at a time.
//!  2. At most [`READY_MAX`] wait.
//!  3. No number is used for two files.
//!
//! Worked example: `Create 2.new → Rename 2.new 2.seg → ready`, then taken as the log's second
//! segment.

use super::segment::{Geometry, file_name, new_name};
use crate::disk::DiskOp;

/// Files that wait at most; recycled ones beyond it are removed.
pub const READY_MAX: usize = 2;

/// A file that is or will be a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// The number in its name.
    pub sequence: u64,
    /// Its shape.
    pub geometry: Geometry,
}

/// How far the file that is being made has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Rename,
}

/// The spare files of a log.
#[derive(Debug)]
pub struct Spares {
    geometry: Geometry,
    next_sequence: u64,
    ready: Vec<Spare>,
    making: Option<(Spare, Step)>,
    /// The last attempt found the disk full.
    full: bool,
}

impl Spares {
    /// None, for segments of this shape; new files are numbered from `next_sequence`.
    pub fn new(geometry: Geometry, next_sequence: u64) -> Spares {
        Spares { geometry, next_sequence, ready: Vec::new(), making: None, full: false }
    }

    /// Takes a file that holds a batch of `bytes`.
    pub fn take(&mut self, bytes: u64) -> Option<Spare> {
        let at = self.ready.iter().position(|spare| spare.geometry.room() >= bytes)?;
        Some(self.ready.remove(at))
    }

    /// Whether a file of this shape would be of use as a spare.
    pub fn wants(&self, geometry: Geometry) -> bool {
        geometry == self.geometry && self.ready.len() < READY_MAX
    }

    /// Adds a file that is not needed otherwise.
    pub fn add(&mut self, spare: Spare) {
        self.ready.push(spare);
    }

    /// Bytes that a batch may have to fit a segment of the usual size.
    pub fn room(&self) -> u64 {
        self.geometry.room()
    }

    /// Whether a file waits.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no file of the usual size waits or is being made.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.making.is_none()
    }

    /// Begins to make a file for a batch of `bytes`, unless one is being made or the disk is full.
    pub fn make(&mut self, bytes: u64) -> Option<DiskOp> {
        if self.full || self.making.is_some() {
            return None;
        }
        let usual = self.geometry.room() >= bytes;
        let geometry = if usual { self.geometry } else { Geometry::holding(bytes) };
        let spare = Spare { sequence: self.next_sequence, geometry };
        self.next_sequence += 1;
        self.making = Some((spare, Step::Create));
        Some(DiskOp::Create { file: new_name(spare.sequence), len: geometry.len })
    }

    /// A step of the making is done. Returns the next, or `None` when there is a new spare.
    pub fn made(&mut self) -> Option<DiskOp> {
        let (spare, step) = self.making.take().expect("an order was out");
        match step {
            Step::Create => {
                self.making = Some((spare, Step::Rename));
                let (from, to) = (new_name(spare.sequence), file_name(spare.sequence));
                Some(DiskOp::Rename { from, to })
            }
            Step::Rename => {
                self.ready.push(spare);
                None
            }
        }
    }

    /// The making failed for lack of space. Returns the order that removes what there may be.
    pub fn fail_full(&mut self) -> DiskOp {
        let (spare, _) = self.making.take().expect("an order was out");
        self.full = true;
        DiskOp::Remove { file: new_name(spare.sequence) }
    }

    /// Allows another attempt.
    pub fn retry(&mut self) {
        self.full = false;
    }
}
