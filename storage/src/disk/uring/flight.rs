//! One write of the log on its way: which pieces the kernel has, what came of them, and when the
//! order has ended. Knows nothing of rings.
//!
//! Every part of a durable order is written with `RWF_DSYNC`, all of them at once: each is durable by
//! itself when it completes, so that nothing has to wait for a flush of its own, and the order has
//! ended when the last one has. A flush of its own (`fdatasync`) runs on a thread of this process, and cost
//! it 33 to 45 us of CPU more for each put of a lone client (what the kernel's own threads spend is in
//! neither figure), whether it was linked behind the body or submitted after the last write; neither
//! was faster beyond the noise. A chain of descriptor, body and flush was slower by about a write. On a disk without a
//! volatile cache, or with FUA, nothing is flushed at all.
//!
//! Laws:
//!  1. An order ends when the kernel has none of its pieces, and not before: its buffers and its file
//!     stay until then.
//!  2. An order is good only if every byte of it was written by a piece that succeeded, durably if it
//!     was to be.
//!  3. A short write is continued, an interrupted one done again, a bounded number of times. Nothing
//!     else is: the first other failure fails the order, and no piece of it is begun after that.
//!
//! Worked example: a batch of parts `[(8192, 4 KiB), (24576, 64 KiB)]` begins as pieces 0 and 1.
//! Piece 1 writes 32 KiB: it is begun again with the rest. When all bytes are written, it has ended.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::disk::file::{FileDisk, Handle};
use crate::disk::{Buffer, Completion, Done, Token};

/// Times that one part is begun at most. A healthy kernel needs one; each further one has written
/// something, or was put off.
const ATTEMPTS_MAX: u32 = 1_000;

/// A log write that has been taken and has not ended.
pub(super) struct Flight {
    pub token: Token,
    pub handle: Arc<Handle>,
    /// Durably.
    pub sync: bool,
    parts: Vec<Part>,
    /// Pieces that the kernel has.
    pending: usize,
    failed: Option<io::Error>,
}

struct Part {
    offset: u64,
    bytes: Buffer,
    written: usize,
    attempts: u32,
    /// Past the cache.
    direct: bool,
}

/// What to have the kernel do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// What is left of this part.
    Write(usize),
    /// Only the flush, of an order without parts.
    Flush,
}

impl Flight {
    /// An order of these parts, and the pieces to begin with.
    pub fn new(
        token: Token,
        handle: Arc<Handle>,
        parts: Vec<(u64, Buffer)>,
        sync: bool,
    ) -> (Flight, Vec<Piece>) {
        let direct = handle.direct().is_some();
        let part = |(offset, bytes)| Part { offset, bytes, written: 0, attempts: 0, direct };
        let parts: Vec<Part> = parts.into_iter().map(part).collect();
        let filled = |(_, part): &(usize, &Part)| !part.bytes.is_empty();
        let mut pieces: Vec<Piece> =
            parts.iter().enumerate().filter(filled).map(|(nth, _)| Piece::Write(nth)).collect();
        if pieces.is_empty() && sync {
            pieces.push(Piece::Flush);
        }
        (Flight { token, handle, sync, parts, pending: 0, failed: None }, pieces)
    }

    /// What is left of a part: where it goes, its bytes, and whether past the cache.
    pub fn rest(&self, nth: usize) -> (u64, &[u8], bool) {
        let part = &self.parts[nth];
        (part.offset + part.written as u64, &part.bytes[part.written..], part.direct)
    }

    /// The kernel is about to get a piece.
    pub fn begun(&mut self) {
        self.pending += 1;
    }

    /// The kernel has done with a piece. Returns what must be begun now.
    pub fn returned(&mut self, piece: Piece, result: i32, disk: &FileDisk) -> Option<Piece> {
        self.pending -= 1;
        let outcome = match (u32::try_from(result), piece) {
            (Err(_), Piece::Write(nth)) => self.refused(nth, result, disk),
            (Err(_), Piece::Flush) => Err(error(result)),
            (Ok(count), Piece::Write(nth)) => self.written(nth, count as usize),
            (Ok(_), Piece::Flush) => Ok(None),
        };
        match outcome {
            Ok(next) => next.filter(|_| self.failed.is_none()),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The kernel has not taken a piece, and never will.
    pub fn withdrawn(&mut self, error: io::Error) {
        self.pending -= 1;
        self.fail(error);
    }

    /// The order has failed; the first cause counts.
    pub fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }

    /// Nothing of it is with the kernel.
    pub fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// What came of it.
    pub fn end(self) -> Completion {
        assert!(self.is_idle(), "the kernel may still read the buffers (law 1)");
        let whole = self.parts.iter().all(|part| part.written == part.bytes.len());
        let result = match self.failed {
            Some(error) => Err(error),
            None => {
                assert!(whole, "an order without a failure is complete (law 2)");
                let buffers = self.parts.into_iter().map(|part| part.bytes).collect();
                Ok(Done { buffers, ..Done::default() })
            }
        };
        Completion { token: self.token, result }
    }

    fn written(&mut self, nth: usize, count: usize) -> io::Result<Option<Piece>> {
        let part = &mut self.parts[nth];
        part.written += count;
        assert!(part.written <= part.bytes.len(), "no more is written than was given");
        match count {
            _ if part.written == part.bytes.len() => Ok(None),
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => self.again(nth, io::ErrorKind::WriteZero.into()),
        }
    }

    /// A write that has written nothing.
    fn refused(&mut self, nth: usize, result: i32, disk: &FileDisk) -> io::Result<Option<Piece>> {
        let part = &mut self.parts[nth];
        match Errno::from_raw_os_error(-result) {
            Errno::INTR | Errno::AGAIN => self.again(nth, error(result)),
            // An odd rest of a short write, or a device with larger sectors than ours.
            Errno::INVAL if part.direct => {
                part.direct = false;
                disk.note("a direct write was refused: written through the cache");
                self.again(nth, error(result))
            }
            _ => Err(error(result)),
        }
    }

    fn again(&mut self, nth: usize, otherwise: io::Error) -> io::Result<Option<Piece>> {
        let part = &mut self.parts[nth];
        part.attempts += 1;
        if part.attempts == ATTEMPTS_MAX { Err(otherwise) } else { Ok(Some(Piece::Write(nth))) }
    }
}

fn error(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}
