//! What holds for every queue of orders in front of the real disk: the disk's own suite, and a log.
//!
//! Leaves out what is peculiar to one of them. `commit_latency` is run by hand:
//! `cargo test --release -p holdfast-storage commit_latency -- --ignored --nocapture`.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use holdfast_core::entry::{Append, Entry, EntryKind, HardState};
use holdfast_core::id::{ClusterId, Incarnation, MemberId, Position};

use super::scratch::Scratch;
use super::{
    BLOCK, Buffer, Completion, Disk, DiskOp, DiskQueue, Done, FileDisk, FileName, Owner, Pool,
    Token, conformance,
};
use crate::wal::{RecoveryNote, Wal, WalIdentity, WalOptions};

/// Makes a queue; `None` where the machine does not let us.
type Make = fn(Arc<FileDisk>) -> Option<Box<dyn DiskQueue>>;

fn pool(disk: Arc<FileDisk>) -> Option<Box<dyn DiskQueue>> {
    Some(Box::new(Pool::new(disk, Box::new(|| {}))))
}

#[cfg(target_os = "linux")]
fn uring(disk: Arc<FileDisk>) -> Option<Box<dyn DiskQueue>> {
    match super::Uring::new(disk, Box::new(|| {})) {
        Ok(uring) => Some(Box::new(uring)),
        Err(error) => {
            eprintln!("not checked: io_uring is not to be had: {error}");
            None
        }
    }
}

#[cfg(target_os = "linux")]
const QUEUES: [(&str, Make); 2] = [("pool", pool), ("uring", uring)];
#[cfg(not(target_os = "linux"))]
const QUEUES: [(&str, Make); 1] = [("pool", pool)];

/// Runs `test` for each queue, with a directory and a disk of its own.
fn each(name: &str, test: impl Fn(&Path, Make)) {
    for (kind, make) in QUEUES {
        let scratch = Scratch::new(&format!("{name}-{kind}"));
        if make(Arc::new(FileDisk::open(scratch.path()).expect("opens"))).is_some() {
            test(scratch.path(), make);
        }
    }
}

fn open(dir: &Path) -> Arc<FileDisk> {
    Arc::new(FileDisk::open(dir).expect("opens"))
}

/// Waits until `count` orders have completed.
fn reap(queue: &dyn DiskQueue, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    let start = Instant::now();
    while done.len() < count {
        assert!(start.elapsed() < Duration::from_secs(20), "{} of {count} completed", done.len());
        queue.reap(&mut done);
        std::thread::yield_now();
    }
    done
}

/// A queue as a disk: its owner is a thread, and each order is waited for.
struct Queued {
    disk: Arc<FileDisk>,
    orders: Mutex<mpsc::Sender<DiskOp>>,
    done: Mutex<mpsc::Receiver<io::Result<Done>>>,
}

impl Queued {
    fn new(disk: Arc<FileDisk>, make: Make) -> Queued {
        let (orders, taken) = mpsc::channel();
        let (answers, done) = mpsc::channel();
        let own = disk.clone();
        std::thread::spawn(move || {
            let queue = make(own).expect("worked before");
            for (number, op) in taken.iter().enumerate() {
                let token = Token { owner: Owner::Wal, number: number as u64 };
                queue.submit(token, op);
                queue.kick();
                let completion = reap(&*queue, 1).remove(0);
                assert_eq!(completion.token, token);
                let _ = answers.send(completion.result);
            }
        });
        Queued { disk, orders: Mutex::new(orders), done: Mutex::new(done) }
    }
}

impl Disk for Queued {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        self.disk.list(folder)
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read(file, offset, into)
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        self.orders.lock().expect("not poisoned").send(op).expect("the thread lives");
        self.done.lock().expect("not poisoned").recv().expect("the thread answers")
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.disk.space()
    }
}

#[test]
fn conforms() {
    each("queue-conforms", |dir, make| conformance(&Queued::new(open(dir), make)));
}

#[test]
fn every_order_is_answered_once() {
    each("queue-answers", |dir, make| {
        let disk = open(dir);
        let queue = make(disk.clone()).expect("worked before");
        let file = FileName::new("wal", "a");
        let create = DiskOp::Create { file: file.clone(), len: 64 * BLOCK as u64 };
        let token = |owner, number| Token { owner, number };
        queue.submit(token(Owner::Wal, 0), create);
        queue.kick();
        assert_eq!(reap(&*queue, 1)[0].token, token(Owner::Wal, 0));
        for number in 1..=40 {
            let owner = if number % 4 == 0 { Owner::Engine } else { Owner::Wal };
            let part = (number * BLOCK as u64, Buffer::from_slice(&[number as u8; BLOCK]));
            let op = DiskOp::Write { file: file.clone(), parts: vec![part], sync: number % 3 > 0 };
            queue.submit(token(owner, number), op);
            if number % 2 == 0 {
                queue.kick();
            }
        }
        let mut done = reap(&*queue, 40);
        done.sort_by_key(|completion| completion.token.number);
        let numbers: Vec<u64> = done.iter().map(|completion| completion.token.number).collect();
        assert_eq!(numbers, (1..=40).collect::<Vec<u64>>());
        assert!(done.iter().all(|completion| completion.result.is_ok()));
        queue.reap(&mut done);
        assert_eq!(done.len(), 40, "and no more often");
        let mut bytes = vec![0; 41 * BLOCK];
        disk.read(&file, 0, &mut bytes).expect("reads");
        assert!(bytes.chunks(BLOCK).zip(0..).all(|(block, number)| block[BLOCK - 1] == number));
    });
}

fn identity(incarnation: u64) -> WalIdentity {
    let (cluster, member) = (ClusterId(1), MemberId(1));
    WalIdentity { cluster, member, incarnation: Incarnation(incarnation), boot: 1 }
}

/// Appends one entry of `len` bytes and waits until it is durable.
fn commit(wal: &mut Wal, queue: &dyn DiskQueue, len: usize) {
    let (mut ops, mut done, seq) = (Vec::new(), Vec::new(), wal.next_seq());
    let (at, data) = (Position::new(seq.0, 1), vec![1; len].into());
    let entries = vec![Entry { at, kind: EntryKind::Normal, data }];
    wal.append(Append { seq, hard_state: HardState::default(), entries }, &mut ops);
    while wal.synced() < seq {
        ops.drain(..).for_each(|(token, op)| queue.submit(token, op));
        queue.kick();
        queue.reap(&mut done);
        for completion in done.drain(..) {
            wal.completed(completion.token.number, completion.result, &mut ops).expect("works");
        }
    }
    // A spare may have been ordered by the last completion.
    ops.drain(..).for_each(|(token, op)| queue.submit(token, op));
    queue.kick();
}

#[test]
fn a_log_comes_back_after_each_run() {
    let options = WalOptions { segment_bytes: 64 << 10, depth: 2 };
    each("queue-log", |dir, make| {
        for run in 0..4 {
            let disk = open(dir);
            let recovered = Wal::recover(&*disk, identity(run + 1), options, Position::default());
            let (mut wal, log) = recovered.expect("recovers");
            assert_eq!(log.entries.len() as u64, run * 30);
            let unfinished = |note: &RecoveryNote| matches!(note, RecoveryNote::Unfinished { .. });
            assert!(run == 0 || log.notes.iter().all(unfinished), "{:?}", log.notes);
            let queue = make(disk).expect("worked before");
            for _ in 0..30 {
                commit(&mut wal, &*queue, 3_000);
            }
        }
    });
}
