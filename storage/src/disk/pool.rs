//! Performs disk orders on two threads, for machines without io_uring.
//!
//! One thread has only the log's writes, so that a commit never waits behind a checkpoint or the
//! zeroing of a segment; the other has everything else. The log's thread takes all writes that wait
//! for the same file at once and syncs once for them. Each thread works in the order of submission.
//! Leaves out any limit: what is pending is what was submitted, and submitters bound that.
//!
//! Laws:
//!  1. Every order is answered by exactly one completion, unless the pool is dropped first.
//!  2. `wake` is called after the completions it announces can be reaped.
//!  3. An order that shared a failed write or sync has failed, too.
//!  4. Dropping performs what was submitted, and joins both threads.
//!
//! Worked example: `submit(w1, Write)`, `submit(w2, Write)` to one file while the thread is busy
//! become two unsynced writes and one sync; both complete together.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Completion, Disk, DiskOp, FileName, Owner, Token};

/// Turns of an empty log thread before it parks: some tens of microseconds, less than a wake-up
/// costs, and short enough not to starve the other threads of a small machine.
const SPINS: usize = 2_000;

/// Two threads in front of a [`Disk`].
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    wake: Box<dyn Fn() + Send + Sync>,
    log: Lane,
    rest: Lane,
    done: Mutex<Vec<Completion>>,
}

#[derive(Default)]
struct Lane {
    /// Orders in `queue`, readable without its lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<(Token, DiskOp)>,
    parked: bool,
    closed: bool,
}

impl Pool {
    /// Starts the threads. `wake` is called from them whenever there is something to reap.
    pub fn new(disk: Arc<dyn Disk>, wake: Box<dyn Fn() + Send + Sync>) -> Pool {
        let (log, rest, done) = (Lane::default(), Lane::default(), Mutex::default());
        let shared = Arc::new(Shared { disk, wake, log, rest, done });
        let start = |name: &str, run: fn(&Shared)| {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&shared)).expect("a thread can be started")
        };
        let threads =
            vec![start("disk-log", Shared::run_log), start("disk-rest", Shared::run_rest)];
        Pool { shared, threads }
    }

    /// Hands over one order. Its completion carries the same token.
    pub fn submit(&self, token: Token, op: DiskOp) {
        let lane = match (token.owner, &op) {
            (Owner::Wal, DiskOp::Write { .. }) => &self.shared.log,
            _ => &self.shared.rest,
        };
        lane.push(token, op);
    }

    /// Adds what has completed since the last call.
    pub fn reap(&self, into: &mut Vec<Completion>) {
        into.append(&mut held(&self.shared.done));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.log.close();
        self.shared.rest.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said why.
            let _ = thread.join();
        }
    }
}

impl Lane {
    fn push(&self, token: Token, op: DiskOp) {
        let mut queue = held(&self.queue);
        queue.orders.push_back((token, op));
        self.waiting.store(queue.orders.len(), Ordering::Release);
        let parked = queue.parked;
        drop(queue);
        if parked {
            self.arrived.notify_one();
        }
    }

    fn close(&self) {
        held(&self.queue).closed = true;
        self.arrived.notify_one();
    }

    /// Takes orders by `take` from a queue that is not empty; `None` once closed and empty.
    fn next<T>(&self, spins: usize, take: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        for _ in 0..spins {
            if self.waiting.load(Ordering::Acquire) > 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let mut queue = held(&self.queue);
        while queue.orders.is_empty() {
            if queue.closed {
                return None;
            }
            queue.parked = true;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.parked = false;
        }
        let taken = take(&mut queue);
        self.waiting.store(queue.orders.len(), Ordering::Release);
        Some(taken)
    }
}

impl Shared {
    fn run_rest(&self) {
        let take = |queue: &mut Queue| queue.orders.pop_front().expect("it is not empty");
        while let Some((token, op)) = self.rest.next(0, take) {
            let result = self.disk.perform(op);
            held(&self.done).push(Completion { token, result });
            (self.wake)();
        }
    }

    fn run_log(&self) {
        let mut completions = Vec::new();
        while let Some(run) = self.log.next(SPINS, take_run) {
            self.perform_run(run, &mut completions);
            held(&self.done).append(&mut completions);
            (self.wake)();
        }
    }

    /// Writes all orders of a run, the last of them with its sync, which covers the others: they
    /// are writes of one file that had completed before (law 1 of the disk).
    fn perform_run(&self, mut run: Vec<(Token, DiskOp)>, into: &mut Vec<Completion>) {
        let last = run.len() - 1;
        let mut failed: Option<(io::ErrorKind, String)> = None;
        for (at, (token, mut op)) in run.drain(..).enumerate() {
            if let DiskOp::Write { sync, .. } = &mut op {
                *sync = *sync && at == last;
            }
            let result = match &failed {
                Some((kind, cause)) => Err(io::Error::new(*kind, cause.clone())),
                None => self.disk.perform(op),
            };
            if let (Err(error), None) = (&result, &failed) {
                failed = Some((error.kind(), error.to_string()));
            }
            into.push(Completion { token, result });
        }
        if let Some((kind, cause)) = failed {
            for completion in into {
                if completion.result.is_ok() {
                    completion.result = Err(io::Error::new(kind, cause.clone()));
                }
            }
        }
    }
}

/// The longest run at the front of the queue that one sync can serve.
fn take_run(queue: &mut Queue) -> Vec<(Token, DiskOp)> {
    let synced = |op: &DiskOp| match op {
        DiskOp::Write { file, sync: true, .. } => Some(file.clone()),
        _ => None,
    };
    let first: Option<FileName> = queue.orders.front().and_then(|(_, op)| synced(op));
    let same = |(_, op): &&(Token, DiskOp)| first.is_some() && synced(op) == first;
    let count = queue.orders.iter().take_while(same).count().max(1);
    queue.orders.drain(..count).collect()
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
