//! A queue of orders in front of one thread.
//!
//! Leaves out what the thread does with them, and any bound: submitters have theirs.
//!
//! Laws:
//!  1. Orders are taken in the order in which they were pushed.
//!  2. A closed lane still gives out what it holds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{DiskOp, Token};

/// Where orders wait for a thread.
#[derive(Default)]
pub(super) struct Lane {
    /// Orders in `queue`, readable without its lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The orders of a lane.
#[derive(Default)]
pub(super) struct Queue {
    pub orders: VecDeque<(Token, DiskOp)>,
    parked: bool,
    closed: bool,
}

impl Lane {
    pub fn push(&self, token: Token, op: DiskOp) {
        let mut queue = held(&self.queue);
        queue.orders.push_back((token, op));
        self.waiting.store(queue.orders.len(), Ordering::Release);
        let parked = queue.parked;
        drop(queue);
        if parked {
            self.arrived.notify_one();
        }
    }

    pub fn close(&self) {
        held(&self.queue).closed = true;
        self.arrived.notify_one();
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Takes orders by `take` from a queue that is not empty; `None` once closed and empty. Spins
    /// this often before it parks.
    pub fn next<T>(&self, spins: usize, take: impl FnOnce(&mut Queue) -> T) -> Option<T> {
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

/// No holder of these locks can leave them half changed, so a poisoned one is as good as any.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
