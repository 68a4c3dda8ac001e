//! What a put costs behind consensus: its entry encoded, decoded, applied to the engine, and the new
//! state published. The engine lives in a real folder, and checkpoints itself there between the
//! measurements, outside their time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_core::codec;
use holdfast_core::command::Command;
use holdfast_core::id::{ClusterId, Incarnation, LeaseId, MemberId, Position, RequestId};
use holdfast_core::limits::Limits;
use holdfast_core::machine::{self, Applied, Machine};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::request::{Identity, Op, Put};
use holdfast_core::response::Member;
use holdfast_core::rng::Rng;
use holdfast_core::store::View;
use holdfast_storage::disk::{Disk, DiskOp, FileDisk, Token};
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};

/// Keys that are written over and over.
const KEYS: u64 = 100_000;

/// Puts between two checkpoints, so that memory and log stay bounded.
const PUTS_PER_CHECKPOINT: u64 = 200_000;

struct Rig {
    engine: Engine,
    machine: Machine,
    disk: Arc<dyn Disk>,
    rng: Rng,
    index: u64,
    since_checkpoint: u64,
}

impl Rig {
    fn new(folder: &Path) -> Rig {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(folder).expect("a folder of our own"));
        let identity = EngineIdentity { cluster: ClusterId(1), member: MemberId(1) };
        let genesis = machine::genesis(&[Member { id: MemberId(1), ..Member::default() }]);
        let options = EngineOptions::default();
        let meta = meta(Position::default());
        let engine = Engine::create(disk.clone(), identity, options, genesis, meta)
            .expect("an empty folder takes an engine");
        let machine = Machine::load(&Limits::default(), &engine);
        Rig { engine, machine, disk, rng: Rng::new(1), index: 0, since_checkpoint: 0 }
    }

    fn commands(&mut self, puts: u64) -> Vec<Command> {
        let command = |sequence| Command {
            id: RequestId { member: MemberId(1), incarnation: Incarnation(1), sequence },
            identity: Identity::default(),
            op: Op::Put(Put {
                key: format!("/bench/{:08}", self.rng.below(KEYS)).into(),
                value: vec![b'v'; 256].into(),
                lease: LeaseId::NONE,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            }),
        };
        (0..puts).map(command).collect()
    }

    fn batch(&mut self, puts: u64) -> Duration {
        if self.since_checkpoint > PUTS_PER_CHECKPOINT {
            self.checkpoint();
        }
        self.since_checkpoint += puts;
        self.index += 1;
        let commands = self.commands(puts);
        let begun = Instant::now();
        let entry = codec::encode_entry(&commands);
        let decoded = codec::decode_entry(&entry).expect("just encoded");
        for command in &decoded {
            let (at, mut applied) = (Position::new(self.index, 1), Applied::default());
            let done = self.machine.apply(at, command, &mut self.engine, &mut applied);
            done.expect("the disk works");
            assert!(applied.result.is_ok(), "a put is not refused");
        }
        drop(self.engine.publish());
        begun.elapsed()
    }

    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let mut ops: Vec<(Token, DiskOp)> = Vec::new();
        let at = self.engine.mark().applied;
        assert!(self.engine.begin_checkpoint(meta(at), &mut ops), "one at a time");
        while let Some((token, op)) = ops.pop() {
            self.engine.completed(token.number, self.disk.perform(op), &mut ops);
        }
    }
}

fn meta(at: Position) -> SnapshotMeta {
    SnapshotMeta { at, voters: vec![MemberId(1)], learners: Vec::new() }
}

fn puts(criterion: &mut Criterion) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-put");
    // Left by a run that was interrupted.
    let _ = std::fs::remove_dir_all(&folder);
    let mut rig = Rig::new(&folder);
    let mut group = criterion.benchmark_group("put/encode_apply_publish");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for puts in [1, 64, 1024] {
        group.throughput(Throughput::Elements(puts));
        group.bench_with_input(BenchmarkId::from_parameter(puts), &puts, |bencher, puts| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| rig.batch(*puts)).sum());
        });
    }
    group.finish();
    drop(rig);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

criterion_group!(benches, puts);
criterion_main!(benches);
