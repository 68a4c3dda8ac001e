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

use std::io;
use std::sync::Arc;

use super::{Completion, Disk, DiskOp, DiskQueue, FileName, Owner, Token};

mod lane;
mod station;

use lane::Queue;
use station::Shared;
pub(super) use station::{Station, Wake};

/// Turns of an empty log thread before it parks: some tens of microseconds, less than a wake-up
/// costs, and short enough not to starve the other threads of a small machine.
const SPINS: usize = 2_000;

/// Two threads in front of a [`Disk`].
pub struct Pool {
    log: Station,
    rest: Station,
}

impl Pool {
    /// Starts the threads. `wake` is called from them whenever there is something to reap.
    pub fn new(disk: Arc<dyn Disk>, wake: Box<dyn Fn() + Send + Sync>) -> Pool {
        let wake: Wake = wake.into();
        let log = Station::run("disk-log", disk.clone(), wake.clone(), run_log);
        Pool { log, rest: Station::new("disk-rest", disk, wake) }
    }
}

impl DiskQueue for Pool {
    fn submit(&self, token: Token, op: DiskOp) {
        match (token.owner, &op) {
            (Owner::Wal, DiskOp::Write { .. }) => self.log.submit(token, op),
            _ => self.rest.submit(token, op),
        }
    }

    fn reap(&self, into: &mut Vec<Completion>) {
        self.log.reap(into);
        self.rest.reap(into);
    }
}

fn run_log(shared: &Shared) {
    let mut completions = Vec::new();
    while let Some(run) = shared.lane.next(SPINS, take_run) {
        perform_run(&*shared.disk, run, &mut completions);
        shared.complete(&mut completions);
    }
}

/// Writes all orders of a run, the last of them with its sync, which covers the others: they
/// are writes of one file that had completed before (law 1 of the disk).
fn perform_run(disk: &dyn Disk, mut run: Vec<(Token, DiskOp)>, into: &mut Vec<Completion>) {
    let last = run.len() - 1;
    let mut failed: Option<(io::ErrorKind, String)> = None;
    for (at, (token, mut op)) in run.drain(..).enumerate() {
        if let DiskOp::Write { sync, .. } = &mut op {
            *sync = *sync && at == last;
        }
        let result = match &failed {
            Some((kind, cause)) => Err(io::Error::new(*kind, cause.clone())),
            None => disk.perform(op),
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

#[cfg(test)]
mod tests;
