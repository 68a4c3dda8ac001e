//! Wake-ups of one connection's task: one waker for everything, and a list of the calls that have
//! news.
//!
//! HTTP/2 gives every call its own reason to wake. Were they all the task's own waker, each wake-up
//! would look at every open call; instead a call's waker notes its slot in a list. And while the
//! task runs, nothing wakes it again: it looks at the bell before it sleeps.
//!
//! Leaves out what the news is. Law: a ring is never lost; it either wakes the task or is seen by
//! [`Bell::sleep`].
//!
//! Worked example: while the task writes an answer, HTTP/2 wakes it to flush; `ring` only notes it,
//! `sleep` says no, and the task takes another turn without going through its scheduler.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// One connection's bell.
#[derive(Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    awake: AtomicBool,
    task: Mutex<Option<Waker>>,
    slots: Mutex<Vec<u32>>,
}

/// The panic of another thread leaves a list or a waker whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    /// The task runs, and is this one.
    pub(super) fn wake_up(&self, task: &Waker) {
        let mut known = lock(&self.task);
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
        drop(known);
        self.awake.store(true, SeqCst);
    }

    /// Forgets rings; the task is about to look at everything that could have rung.
    pub(super) fn hush(&self) {
        self.rung.store(false, SeqCst);
    }

    /// The task wants to sleep; false if there was a ring meanwhile.
    pub(super) fn sleep(&self) -> bool {
        self.awake.store(false, SeqCst);
        let quiet = !self.rung.load(SeqCst);
        self.awake.store(!quiet, SeqCst);
        quiet
    }

    /// The task gives way although there is more to do.
    pub(super) fn give_way(&self) {
        self.awake.store(false, SeqCst);
    }

    /// There is news.
    pub(super) fn ring(&self) {
        self.rung.store(true, SeqCst);
        if !self.awake.load(SeqCst)
            && let Some(task) = &*lock(&self.task)
        {
            task.wake_by_ref();
        }
    }

    /// Moves the slots that have news into `into`, each once.
    pub(super) fn take_slots(&self, into: &mut Vec<u32>) {
        into.append(&mut lock(&self.slots));
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The bell of one slot; kept and used again by the calls that follow each other in the slot.
pub(super) struct SlotBell {
    bell: Arc<Bell>,
    slot: u32,
    listed: AtomicBool,
}

impl SlotBell {
    /// For one slot of a connection.
    pub(super) fn new(bell: &Arc<Bell>, slot: u32) -> Arc<SlotBell> {
        Arc::new(SlotBell { bell: bell.clone(), slot, listed: AtomicBool::new(false) })
    }

    /// The slot is about to be looked at: the next news lists it again.
    pub(super) fn unlist(&self) {
        self.listed.store(false, SeqCst);
    }
}

impl Wake for SlotBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, SeqCst) {
            lock(&self.bell.slots).push(self.slot);
        }
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_ring_wakes_a_sleeper_and_keeps_a_runner_awake() {
        let count = Arc::new(Count::default());
        let bell = Arc::new(Bell::default());
        bell.wake_up(&Waker::from(count.clone()));
        bell.hush();
        bell.ring();
        assert_eq!((count.0.load(SeqCst), bell.sleep()), (0, false));
        bell.hush();
        assert!(bell.sleep());
        bell.ring();
        assert_eq!(count.0.load(SeqCst), 1);
    }

    #[test]
    fn a_slot_is_listed_once_until_it_is_looked_at() {
        let bell = Arc::new(Bell::default());
        let slot = SlotBell::new(&bell, 3);
        let waker = Waker::from(slot.clone());
        waker.wake_by_ref();
        waker.wake_by_ref();
        let mut slots = Vec::new();
        bell.take_slots(&mut slots);
        assert_eq!(slots, [3]);
        slot.unlist();
        waker.wake();
        bell.take_slots(&mut slots);
        assert_eq!(slots, [3, 3]);
    }
}
