//! The pool against its laws, on a disk that can be stopped and made to fail.
//!
//! Leaves out the disk itself, which has its own suite, and what holds for every queue
//! (`disk/queues.rs`).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Pool;
use crate::disk::{
    BLOCK, Buffer, Completion, Disk, DiskOp, DiskQueue, Done, FileName, MemoryDisk, Owner, Token,
};

/// A disk in memory that notes what it is asked, waits at a gate, and fails writes of one byte
/// value.
#[derive(Default)]
struct Gate {
    disk: MemoryDisk,
    seen: Mutex<Vec<(u8, bool)>>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    const BAD: u8 = 99;

    fn open(&self) {
        *self.open.lock().expect("not poisoned") = true;
        self.opened.notify_all();
    }
}

impl Disk for Gate {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        self.disk.list(folder)
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read(file, offset, into)
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        let mut open = self.open.lock().expect("not poisoned");
        while !*open {
            open = self.opened.wait(open).expect("not poisoned");
        }
        if let DiskOp::Write { parts, sync, .. } = &op {
            let byte = parts[0].1[0];
            self.seen.lock().expect("not poisoned").push((byte, *sync));
            if byte == Gate::BAD {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.disk.perform(op)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.disk.space()
    }
}

fn create(file: &FileName) -> DiskOp {
    DiskOp::Create { file: file.clone(), len: 4 * BLOCK as u64 }
}

fn write(file: &FileName, byte: u8) -> DiskOp {
    let parts = vec![(0, Buffer::from_slice(&[byte; BLOCK]))];
    DiskOp::Write { file: file.clone(), parts, sync: true }
}

fn token(owner: Owner, number: u64) -> Token {
    Token { owner, number }
}

/// Waits until `count` orders have completed.
fn reap(pool: &Pool, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    let start = Instant::now();
    while done.len() < count {
        assert!(start.elapsed() < Duration::from_secs(20), "{} of {count} completed", done.len());
        pool.reap(&mut done);
        std::thread::yield_now();
    }
    done
}

/// A gated pool whose log thread is stuck in a write of byte 1, with files `wal/a` and `wal/b`.
fn stuck() -> (Arc<Gate>, Pool, FileName, FileName) {
    let gate = Arc::new(Gate::default());
    let (a, b) = (FileName::new("wal", "a"), FileName::new("wal", "b"));
    gate.disk.perform(create(&a)).expect("creates");
    gate.disk.perform(create(&b)).expect("creates");
    let pool = Pool::new(gate.clone(), Box::new(|| {}));
    pool.submit(token(Owner::Wal, 1), write(&a, 1));
    // Until the thread has taken it, the next order would join its run.
    while !pool.log.is_idle() {
        std::thread::yield_now();
    }
    (gate, pool, a, b)
}

#[test]
fn writes_that_wait_for_one_file_share_a_sync() {
    let (gate, pool, a, b) = stuck();
    for (number, file) in [(2, &a), (3, &a), (4, &b), (5, &a)] {
        pool.submit(token(Owner::Wal, number), write(file, number as u8));
    }
    gate.open();
    let done = reap(&pool, 5);
    let order: Vec<_> = done.iter().map(|completion| completion.token.number).collect();
    assert_eq!(order, [1, 2, 3, 4, 5], "in the order of submission");
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    let seen = gate.seen.lock().expect("not poisoned").clone();
    assert_eq!(seen, [(1, true), (2, false), (3, true), (4, true), (5, true)]);
}

#[test]
fn what_shared_a_failure_has_failed() {
    let (gate, pool, a, _) = stuck();
    for (number, byte) in [(2, 2), (3, Gate::BAD), (4, 4)] {
        pool.submit(token(Owner::Wal, number), write(&a, byte));
    }
    gate.open();
    let done = reap(&pool, 4);
    let failed: Vec<_> = done.iter().map(|completion| completion.result.is_err()).collect();
    assert_eq!(failed, [false, true, true, true]);
    for completion in done.iter().skip(1) {
        let error = completion.result.as_ref().expect_err("failed");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "the kind survives");
    }
}

#[test]
fn the_log_does_not_wait_for_the_rest() {
    let disk = Arc::new(MemoryDisk::new());
    let wakes = Arc::new(AtomicU64::new(0));
    let counter = wakes.clone();
    let wake = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let pool = Pool::new(disk, wake);
    let file = FileName::new("wal", "x");
    pool.submit(token(Owner::Wal, 1), create(&file));
    assert_eq!(reap(&pool, 1)[0].token.number, 1, "making a file is not the log thread's");
    pool.submit(token(Owner::Engine, 2), write(&file, 2));
    pool.submit(token(Owner::Wal, 3), write(&file, 3));
    reap(&pool, 2);
    assert!(wakes.load(Ordering::SeqCst) >= 2);
}

#[test]
fn dropping_performs_what_was_submitted() {
    let (gate, pool, a, _) = stuck();
    for number in 2..50 {
        pool.submit(token(Owner::Wal, number), write(&a, number as u8));
    }
    gate.open();
    drop(pool);
    let mut bytes = [0; 1];
    gate.read(&a, 0, &mut bytes).expect("reads");
    assert_eq!(bytes, [49]);
}
