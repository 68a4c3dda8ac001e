//! One durable batch of the write-ahead log, from the order to the word that it is on disk: through
//! the thread pool and the real disk, in a folder of the build's target directory.
//!
//! A record is 300 bytes, about a small put. What a batch costs beyond its flush is the difference
//! between the sizes; `wal/durable_block` is one entry that fills a block, the least that is written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_core::entry::{Append, Entry, EntryKind, HardState};
use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId, Position, Term, WalSeq};
use holdfast_storage::disk::{Disk, DiskOp, DiskQueue, FileDisk, Pool, Token};
use holdfast_storage::wal::{Wal, WalIdentity, WalOptions};

/// Entries kept behind the end; what is older is purged, so that the disk does not fill.
const KEPT: u64 = 50_000;

/// A small put.
const RECORD_BYTES: usize = 300;

/// With its headers it fills most of a block of 4 KiB.
const BLOCK_BYTES: usize = 3_000;

struct Rig {
    wal: Wal,
    pool: Pool,
    wakes: mpsc::Receiver<()>,
    last: u64,
}

impl Rig {
    fn new(folder: &Path) -> Rig {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(folder).expect("a folder of our own"));
        let identity = WalIdentity {
            cluster: ClusterId(1),
            member: MemberId(1),
            incarnation: Incarnation(1),
            boot: 1,
        };
        let wal = Wal::create(&*disk, identity, WalOptions::default());
        let (wake, wakes) = mpsc::channel();
        let pool = Pool::new(disk, Box::new(move || wake.send(()).unwrap_or(())));
        Rig { wal: wal.expect("an empty folder takes a log"), pool, wakes, last: 0 }
    }

    /// Appends `records` of `length` bytes and waits until they are durable.
    fn durable(&mut self, records: u64, length: usize) {
        let data = bytes(length);
        let entry = |index| Entry {
            at: Position::new(index, 1),
            kind: EntryKind::Normal,
            data: data.clone(),
        };
        let entries = (self.last + 1..=self.last + records).map(entry).collect();
        self.last += records;
        let seq = self.wal.next_seq();
        let commit = Index(self.last.saturating_sub(records));
        let hard_state = HardState { term: Term(1), vote: Some(MemberId(1)), commit };
        let mut ops = Vec::new();
        self.wal.append(Append { seq, hard_state, entries }, &mut ops);
        self.wal.purge(Index(self.last.saturating_sub(KEPT)), &mut ops);
        self.submit(ops);
        while self.wal.synced() < seq {
            self.wait();
        }
    }

    fn submit(&self, ops: Vec<(Token, DiskOp)>) {
        for (token, op) in ops {
            self.pool.submit(token, op);
        }
    }

    fn wait(&mut self) {
        self.wakes.recv().expect("the pool lives as long as the rig");
        let mut done = Vec::new();
        self.pool.reap(&mut done);
        let mut ops = Vec::new();
        for completion in done {
            let synced = self.wal.completed(completion.token.number, completion.result, &mut ops);
            synced.expect("the disk works");
        }
        self.submit(ops);
    }
}

fn bytes(length: usize) -> bytes::Bytes {
    vec![b'v'; length].into()
}

fn durable_batches(criterion: &mut Criterion) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-wal");
    // Left by a run that was interrupted.
    let _ = std::fs::remove_dir_all(&folder);
    let mut rig = Rig::new(&folder);
    assert_eq!(rig.wal.next_seq(), WalSeq(1));
    let mut group = criterion.benchmark_group("wal/durable_batch");
    group.sample_size(30).measurement_time(Duration::from_secs(3));
    for records in [1, 64, 1024] {
        group.throughput(Throughput::Elements(records));
        group.bench_with_input(
            BenchmarkId::from_parameter(records),
            &records,
            |bencher, records| {
                bencher.iter(|| rig.durable(*records, RECORD_BYTES));
            },
        );
    }
    group.finish();
    let mut group = criterion.benchmark_group("wal/durable_block");
    group.sample_size(50).measurement_time(Duration::from_secs(5));
    group.bench_function("1", |bencher| bencher.iter(|| rig.durable(1, BLOCK_BYTES)));
    group.finish();
    drop(rig);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

criterion_group!(benches, durable_batches);
criterion_main!(benches);
