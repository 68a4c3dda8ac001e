//! The ring itself, and the orders whose buffers the kernel reads: the only place that hands it
//! addresses.
//!
//! Laws:
//!  1. A flight leaves `flights` only when none of its pieces is with the kernel. When that cannot be
//!     waited for, it is leaked.
//!  2. Once the kernel has refused to take pieces, none is given to it any more: those it has not
//!     taken fail, those it has taken are waited for.
//!
//! What makes handing out the addresses sound is law 1: buffers are anonymous maps that are not moved
//! or written while their flight exists, and the descriptors are in the flight's handle.
#![expect(unsafe_code, reason = "hands the kernel addresses of buffers; proofs below")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::io::{Errno, ReadWriteFlags};

use super::flight::{Flight, Piece};
use crate::disk::Completion;
use crate::disk::file::FileDisk;

/// Pieces that one call can hand over; the log has a few in flight.
const ENTRIES: u32 = 64;

/// How often, and how long apart, the kernel is offered the same pieces by one who has to wait.
const REFUSALS_MAX: u32 = 5_000;
const REFUSAL_PAUSE: Duration = Duration::from_millis(1);

/// Waits for completions, as `io_uring_enter` wants it said.
const ENTER_GETEVENTS: u32 = 1;

/// A ring and what is in it.
pub(super) struct Ring {
    uring: IoUring,
    /// By slot; the number of slots is that of the most orders that were in flight together.
    flights: Vec<Option<Flight>>,
    /// In the submission queue, not taken by the kernel yet.
    unsent: VecDeque<Tag>,
    /// Why nothing is given to the kernel any more.
    broken: Option<Errno>,
}

/// Names a piece to the kernel.
#[derive(Clone, Copy)]
struct Tag {
    slot: usize,
    piece: Piece,
}

impl Ring {
    /// A ring that rings `event` at each completion.
    ///
    /// # Errors
    /// The kernel has no rings, or forbids them, or lacks what the log needs.
    pub fn new(event: BorrowedFd<'_>) -> io::Result<Ring> {
        let uring = IoUring::new(ENTRIES)?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        let known = [opcode::Write::CODE, opcode::Fsync::CODE];
        if !known.iter().all(|code| probe.is_supported(*code))
            || !uring.params().is_feature_nodrop()
        {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is too old for it"));
        }
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(Ring { uring, flights: Vec::new(), unsent: VecDeque::new(), broken: None })
    }

    /// Takes an order; it is given to the kernel by the next [`Ring::send`].
    pub fn take(&mut self, (flight, pieces): (Flight, Vec<Piece>), ended: &mut Vec<Completion>) {
        let slot = self.flights.iter().position(Option::is_none).unwrap_or(self.flights.len());
        if slot == self.flights.len() {
            self.flights.push(None);
        }
        self.flights[slot] = Some(flight);
        for piece in pieces {
            self.push(Tag { slot, piece });
        }
        self.settle(slot, ended);
    }

    /// Gives the kernel what was taken, in one call.
    pub fn send(&mut self, ended: &mut Vec<Completion>) {
        while !self.unsent.is_empty() && self.broken.is_none() {
            match self.uring.submit() {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match Errno::from_io_error(&error) {
                    // Short of memory, or of room for completions: the next call may do better.
                    Some(Errno::AGAIN | Errno::BUSY) => return,
                    errno => self.break_off(errno.unwrap_or(Errno::IO), ended),
                },
            }
        }
    }

    /// Takes in what the kernel has done, without a call, and sends what follows from it.
    pub fn collect(&mut self, disk: &FileDisk, ended: &mut Vec<Completion>) {
        loop {
            if self.uring.submission().cq_overflow() {
                // More was done than there is room to say; if this fails, the next look does it.
                let _ = self.enter(0);
            }
            let entry = self.uring.completion().next();
            let Some(entry) = entry else { break };
            let tag = Tag::from_number(entry.user_data());
            let flight = self.flights[tag.slot].as_mut().expect("a piece keeps its flight (law 1)");
            if let Some(piece) = flight.returned(tag.piece, entry.result(), disk) {
                self.push(Tag { slot: tag.slot, piece });
            }
            self.settle(tag.slot, ended);
        }
        self.send(ended);
    }

    /// Waits until the kernel has done something, if it has anything to do.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&mut self, ended: &mut Vec<Completion>) -> io::Result<()> {
        for _ in 0..REFUSALS_MAX {
            self.send(ended);
            if self.unsent.is_empty() {
                break;
            }
            std::thread::sleep(REFUSAL_PAUSE);
        }
        if !self.unsent.is_empty() {
            self.break_off(Errno::AGAIN, ended);
        }
        if self.is_busy() { self.enter(1) } else { Ok(()) }
    }

    /// Whether an order has not ended.
    pub fn is_busy(&self) -> bool {
        self.flights.iter().any(Option::is_some)
    }

    /// Lets the kernel say what it has done, at least so many things.
    fn enter(&self, completions_min: u32) -> io::Result<()> {
        let submitter = self.uring.submitter();
        // SAFETY: nothing is submitted, and no argument is passed.
        let entered = unsafe { submitter.enter::<()>(0, completions_min, ENTER_GETEVENTS, None) };
        match entered {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn push(&mut self, tag: Tag) {
        let flight = self.flights[tag.slot].as_mut().expect("its order has not ended");
        if let Some(errno) = self.broken {
            return flight.fail(errno.into());
        }
        let entry = entry(flight, tag.piece).user_data(tag.number());
        // SAFETY: the entry names a buffer and a descriptor of the flight, valid until the flight
        // leaves `flights`; from here on it counts a piece with the kernel, which keeps it there until
        // the kernel has returned the piece (law 1) or has not taken it and never will (law 2).
        let mut pushed = unsafe { self.uring.submission().push(&entry) };
        if pushed.is_err() {
            // Full: the kernel takes what is there first.
            if let Ok(count) = self.uring.submit() {
                drop(self.unsent.drain(..count));
            }
            // SAFETY: as above; the entry was not put into the queue before.
            pushed = unsafe { self.uring.submission().push(&entry) };
        }
        match pushed {
            Ok(()) => {
                flight.begun();
                self.unsent.push_back(tag);
            }
            Err(_) => flight.fail(Errno::BUSY.into()),
        }
    }

    /// Gives up on the kernel (law 2).
    fn break_off(&mut self, errno: Errno, ended: &mut Vec<Completion>) {
        self.broken = Some(errno);
        for tag in std::mem::take(&mut self.unsent) {
            let flight = self.flights[tag.slot].as_mut().expect("a piece keeps its flight (law 1)");
            flight.withdrawn(errno.into());
            self.settle(tag.slot, ended);
        }
    }

    /// An order that the kernel has nothing of has ended.
    fn settle(&mut self, slot: usize, ended: &mut Vec<Completion>) {
        ended.extend(self.flights[slot].take_if(|flight| flight.is_idle()).map(Flight::end));
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Whoever dropped it has waited, unless that failed; then the kernel may still read.
        self.flights.drain(..).for_each(std::mem::forget);
    }
}

fn entry(flight: &Flight, piece: Piece) -> squeue::Entry {
    let file = |direct: bool| match flight.handle.direct() {
        Some(fd) if direct => Fd(fd.as_fd().as_raw_fd()),
        _ => Fd(flight.handle.buffered.as_fd().as_raw_fd()),
    };
    match piece {
        Piece::Write(nth) => {
            let (offset, bytes, direct) = flight.rest(nth);
            let len = u32::try_from(bytes.len()).unwrap_or(PIECE_MAX).min(PIECE_MAX);
            let flags = if flight.sync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
            let write = opcode::Write::new(file(direct), bytes.as_ptr(), len);
            write.offset(offset).rw_flags(flags.bits() as i32).build()
        }
        Piece::Flush => opcode::Fsync::new(file(false)).flags(FsyncFlags::DATASYNC).build(),
    }
}

/// Bytes of one piece at most; what is longer goes on as a short write does.
const PIECE_MAX: u32 = 1 << 30;

impl Tag {
    fn number(self) -> u64 {
        let piece = match self.piece {
            Piece::Write(nth) => nth as u64 + 1,
            Piece::Flush => 0,
        };
        (self.slot as u64) << 32 | piece
    }

    fn from_number(number: u64) -> Tag {
        let piece = match number & u64::from(u32::MAX) {
            0 => Piece::Flush,
            nth => Piece::Write(nth as usize - 1),
        };
        Tag { slot: (number >> 32) as usize, piece }
    }
}
