//! One thread that performs disk orders, and what it has completed.
//!
//! How it goes about its orders is given: one by one for everything that may take long, in runs for
//! the log. Leaves out the choice of who gets which order.
//!
//! Laws:
//!  1. Every order is answered by exactly one completion, unless the station is dropped first.
//!  2. `wake` is called after the completions it announces can be reaped.
//!  3. Dropping performs what was submitted, and joins the thread.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::lane::{Lane, held};
use crate::disk::{Completion, Disk, DiskOp, Token};

/// Called from the thread whenever there is something to reap.
pub(in crate::disk) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A thread with its orders and its completions.
pub(in crate::disk) struct Station {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread sees.
pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub lane: Lane,
    wake: Wake,
    done: Mutex<Vec<Completion>>,
}

impl Station {
    /// A thread that performs one order after the other.
    pub fn new(name: &str, disk: Arc<dyn Disk>, wake: Wake) -> Station {
        Station::run(name, disk, wake, one_by_one)
    }

    /// A thread that does `work` until its lane is closed.
    pub(super) fn run(name: &str, disk: Arc<dyn Disk>, wake: Wake, work: fn(&Shared)) -> Station {
        let (lane, done) = (Lane::default(), Mutex::default());
        let shared = Arc::new(Shared { disk, lane, wake, done });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || work(&own)).expect("a thread can be started");
        Station { shared, thread: Some(thread) }
    }

    /// Hands over one order.
    pub fn submit(&self, token: Token, op: DiskOp) {
        self.shared.lane.push(token, op);
    }

    /// Adds what has completed since the last call.
    pub fn reap(&self, into: &mut Vec<Completion>) {
        into.append(&mut held(&self.shared.done));
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.shared.lane.is_empty()
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.shared.lane.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already said why.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Makes completions known.
    pub fn complete(&self, completions: &mut Vec<Completion>) {
        held(&self.done).append(completions);
        (self.wake)();
    }
}

fn one_by_one(shared: &Shared) {
    let mut completions = Vec::new();
    while let Some((token, op)) = shared.lane.next(0, |queue| queue.orders.pop_front()).flatten() {
        let result = shared.disk.perform(op);
        completions.push(Completion { token, result });
        shared.complete(&mut completions);
    }
}
