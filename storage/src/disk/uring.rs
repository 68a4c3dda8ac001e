//! Performs the log's writes through io_uring, without a thread in between, and everything else on
//! one thread of the [`Pool`](super::Pool)'s kind.
//!
//! The owner's thread hands all writes of a turn to the kernel in one call ([`DiskQueue::kick`]) and
//! finds their completions in shared memory. An eventfd announces them ([`Uring::event`]): whoever
//! waits for sockets waits for it, too, and calls [`Uring::look`]. Leaves out that waiting, and any
//! limit: what is pending is what was submitted, and submitters bound that.
//!
//! Beside the pool, on two cores shared with the clients and other work, medians of ten alternating
//! runs: a lone client's put took 246 us instead of 356 us, and 145 us of the server's CPU instead of
//! 254 us (the kernel's own threads not counted). With 64 and 256 clients the spread of either was larger
//! than their difference. Registered buffers, files and rings, and deferred and cooperative
//! completion, showed no gain beyond the noise: what is there is simplest, and locks no memory.
//!
//! Laws:
//!  1. Every order is answered by exactly one completion, unless the queue is dropped first.
//!  2. The eventfd is rung after a completion of the ring, `wake` after one of the thread, and after an
//!     order that ended when it was submitted.
//!  3. Writes of one file that are in flight together are durable each by itself, in any order.
//!  4. Dropping performs what was submitted, and waits for it.
//!  5. A synced order makes its own parts durable, no earlier order's: all writes of the log are synced.
//!
//! Worked example: `submit(w1, Write)`, `submit(w2, Write)`, `kick()` is one system call. The eventfd
//! rings, `look()` says true, `reap` gives `w2` and then `w1`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::file::{FileDisk, check_aligned};
use super::pool::{Station, Wake};
use super::{BLOCK, Buffer, Completion, Disk, DiskOp, DiskQueue, FileName, Owner, Token};

mod flight;
mod ring;

use flight::Flight;
use ring::Ring;

/// A ring and a thread in front of a [`FileDisk`].
pub struct Uring {
    disk: Arc<FileDisk>,
    state: RefCell<State>,
    rest: Station,
    wake: Wake,
    event: OwnedFd,
}

struct State {
    ring: Ring,
    ended: Vec<Completion>,
}

impl Uring {
    /// Makes a ring and proves it with one durable write of a file of its own. `wake` is called, from
    /// any thread, whenever something other than the ring has something to reap.
    ///
    /// # Errors
    /// The kernel forbids or lacks io_uring, or the write fails.
    pub fn new(disk: Arc<FileDisk>, wake: Box<dyn Fn() + Send + Sync>) -> io::Result<Uring> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ring = Ring::new(event.as_fd())?;
        let wake: Wake = wake.into();
        let rest = Station::new("disk-rest", disk.clone(), wake.clone());
        let state = RefCell::new(State { ring, ended: Vec::new() });
        let uring = Uring { disk, state, rest, wake, event };
        uring.prove()?;
        Ok(uring)
    }

    /// The eventfd that rings at completions of the ring. It need not be read by whoever watches it
    /// edge-triggered.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn event(&self) -> io::Result<OwnedFd> {
        self.event.try_clone()
    }

    /// Takes in what the kernel has done. Says whether an order has ended and waits to be reaped.
    pub fn look(&self) -> bool {
        let State { ring, ended } = &mut *self.state.borrow_mut();
        ring.collect(&self.disk, ended);
        !ended.is_empty()
    }

    fn write(&self, token: Token, op: DiskOp) {
        let DiskOp::Write { file, parts, sync } = op else { unreachable!("it is a write") };
        let State { ring, ended } = &mut *self.state.borrow_mut();
        check_aligned(&file, &parts);
        let before = ended.len();
        // The first write of a file opens its descriptor past the cache.
        let handle = self.disk.handle(&file);
        let opened =
            handle.and_then(|handle| self.disk.direct(&handle, &file).map(|_| handle.clone()));
        match opened {
            Ok(handle) => {
                let sync = sync && !self.disk.options().no_fsync;
                ring.take(Flight::new(token, handle, parts, sync), ended);
            }
            Err(error) => ended.push(Completion { token, result: Err(error) }),
        }
        if ended.len() > before {
            (self.wake)();
        }
    }

    /// Waits until something has ended; for those who have nothing else to do.
    fn wait(&self) -> io::Result<()> {
        let State { ring, ended } = &mut *self.state.borrow_mut();
        while ended.is_empty() && ring.is_busy() {
            ring.wait(ended)?;
            ring.collect(&self.disk, ended);
        }
        Ok(())
    }

    /// Writes one block, as the log will.
    fn prove(&self) -> io::Result<()> {
        let file = FileName::new("probe", "io-uring");
        self.disk.perform(DiskOp::Remove { file: file.clone() })?;
        self.disk.perform(DiskOp::Create { file: file.clone(), len: BLOCK as u64 })?;
        let parts = vec![(0, Buffer::from_slice(&[0x5a; BLOCK]))];
        let token = Token { owner: Owner::Wal, number: 0 };
        self.submit(token, DiskOp::Write { file: file.clone(), parts, sync: true });
        self.wait()?;
        let mut completions = Vec::new();
        self.reap(&mut completions);
        self.disk.perform(DiskOp::Remove { file })?;
        self.disk.remove_folder("probe");
        let completion = completions.pop().expect("it has ended");
        completion.result.map(|_| ())
    }
}

impl DiskQueue for Uring {
    fn submit(&self, token: Token, op: DiskOp) {
        match (token.owner, &op) {
            (Owner::Wal, DiskOp::Write { .. }) => self.write(token, op),
            _ => self.rest.submit(token, op),
        }
    }

    fn kick(&self) {
        let State { ring, ended } = &mut *self.state.borrow_mut();
        let before = ended.len();
        ring.send(ended);
        if ended.len() > before {
            (self.wake)();
        }
    }

    fn reap(&self, into: &mut Vec<Completion>) {
        let State { ring, ended } = &mut *self.state.borrow_mut();
        ring.collect(&self.disk, ended);
        into.append(ended);
        self.rest.reap(into);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let State { ring, ended } = self.state.get_mut();
        while ring.is_busy() {
            // A ring that cannot be waited for keeps its buffers for ever, by its law 1.
            if ring.wait(ended).is_err() {
                return;
            }
            ring.collect(&self.disk, ended);
        }
    }
}

#[cfg(test)]
mod tests;
