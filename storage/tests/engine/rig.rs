//! An engine on a disk that can crash, beside its twin.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use holdfast_core::id::{ClusterId, MemberId, Position};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::rng::Rng;
use holdfast_core::store::{Batch, Mark, Store, View};
use holdfast_storage::disk::{Disk, DiskOp, Token};
use holdfast_storage::engine::{Engine, EngineEvent, EngineIdentity, EngineOptions};

use super::crash_disk::CrashDisk;
use super::twin::Twin;

pub struct Rig {
    pub disk: Arc<CrashDisk>,
    pub engine: Engine,
    pub twin: Twin,
    /// The state as last published.
    pub published: Twin,
    /// The states of the checkpoints begun since: the last is under way, the others failed, but
    /// their superblock may have reached the disk.
    pub begun: Vec<Twin>,
    pub durable: Twin,
    pub ops: VecDeque<(Token, DiskOp)>,
}

pub fn identity(member: u64) -> EngineIdentity {
    EngineIdentity { cluster: ClusterId(0xc), member: MemberId(member) }
}

pub fn options(seed: u64) -> EngineOptions {
    EngineOptions { cache_bytes: 100_000, chunk_bytes: 8192, seed }
}

pub fn meta(at: Position) -> SnapshotMeta {
    SnapshotMeta { at, voters: vec![MemberId(1), MemberId(2)], learners: vec![MemberId(3)] }
}

impl Rig {
    pub fn new(member: u64, rng: &mut Rng) -> Rig {
        let disk = Arc::new(CrashDisk::default());
        let mut twin = Twin::new();
        let genesis = twin.batch(rng);
        let meta = meta(twin.mark.applied);
        let engine =
            Engine::create(disk.clone(), identity(member), options(rng.next()), genesis, meta)
                .expect("an empty disk takes a new engine");
        Rig::around(disk, engine, twin)
    }

    /// Member 1 after so many batches, with checkpoints (so often in a hundred) among them and one at
    /// the end.
    pub fn lived(batches: u64, checkpoints_percent: u64, rng: &mut Rng) -> Rig {
        let mut rig = Rig::new(1, rng);
        for _ in 0..batches {
            rig.absorb(rng);
            if rng.chance(checkpoints_percent) {
                rig.checkpoint();
            }
        }
        rig.checkpoint();
        rig
    }

    /// An engine with nothing in it.
    pub fn empty(member: u64, seed: u64) -> Rig {
        let disk = Arc::new(CrashDisk::default());
        let genesis = Batch::new(Mark::EMPTY);
        let meta = meta(Position::default());
        let engine = Engine::create(disk.clone(), identity(member), options(seed), genesis, meta)
            .expect("an empty disk takes a new engine");
        Rig::around(disk, engine, Twin::new())
    }

    fn around(disk: Arc<CrashDisk>, engine: Engine, twin: Twin) -> Rig {
        let (published, durable) = (twin.clone(), twin.clone());
        Rig { disk, engine, twin, published, begun: Vec::new(), durable, ops: VecDeque::new() }
    }

    pub fn absorb(&mut self, rng: &mut Rng) {
        let mut batch = self.twin.batch(rng);
        self.engine.absorb(&mut batch);
    }

    pub fn publish(&mut self) {
        drop(self.engine.publish());
        self.published = self.twin.clone();
    }

    pub fn begin_checkpoint(&mut self) -> bool {
        let mut ops = Vec::new();
        let begun = self.engine.begin_checkpoint(meta(self.published.mark.applied), &mut ops);
        self.ops.extend(ops);
        if begun {
            self.begun.push(self.published.clone());
        }
        begun
    }

    /// Completes the order that was given first.
    pub fn complete_one(&mut self) -> Vec<EngineEvent> {
        let Some((token, op)) = self.ops.pop_front() else { return Vec::new() };
        let result = self.disk.perform(op);
        self.complete(token, result.map_err(|error| error.kind()))
    }

    /// Makes the order that was given first fail, perhaps after it was done in part.
    pub fn fail_one(&mut self, kind: io::ErrorKind, rng: &mut Rng) -> Vec<EngineEvent> {
        let Some((token, op)) = self.ops.pop_front() else { return Vec::new() };
        self.disk.kill(vec![op], rng);
        self.complete(token, Err(kind))
    }

    fn complete(
        &mut self,
        token: Token,
        result: Result<holdfast_storage::disk::Done, io::ErrorKind>,
    ) -> Vec<EngineEvent> {
        let mut ops = Vec::new();
        let result = result.map_err(io::Error::from);
        let events = self.engine.completed(token.number, result, &mut ops);
        self.ops.extend(ops);
        for event in &events {
            if let EngineEvent::Flushed { at } = event {
                self.durable = self.begun.pop().expect("what is flushed was begun");
                self.begun.clear();
                assert_eq!(self.durable.mark.applied, *at);
                assert_eq!(self.engine.checkpoint(), (meta(*at), self.durable.mark));
            }
        }
        events
    }

    /// Completes orders until there are none.
    pub fn settle(&mut self) -> Vec<EngineEvent> {
        let mut events = Vec::new();
        while !self.ops.is_empty() {
            events.extend(self.complete_one());
        }
        events
    }

    /// A checkpoint of the present state, start to end.
    pub fn checkpoint(&mut self) {
        self.publish();
        assert!(self.begin_checkpoint());
        let events = self.settle();
        assert_eq!(events, [EngineEvent::Flushed { at: self.twin.mark.applied }]);
    }

    /// Cuts the power and starts again. Whatever was not in a durable checkpoint is gone.
    pub fn crash(&mut self, rng: &mut Rng) {
        let under_way = self.ops.drain(..).map(|(_, op)| op).collect();
        self.disk = Arc::new(self.disk.crash(under_way, rng));
        self.reopen(rng.next());
    }

    pub fn open(&self, seed: u64) -> Engine {
        let identity = Engine::identity(&*self.disk).expect("a superblock is there");
        Engine::open(self.disk.clone(), identity, options(seed)).expect("it opens")
    }

    /// Kills the process: what it wrote is still there, synced or not. Later a crash may take it.
    pub fn kill(&mut self, rng: &mut Rng) {
        let under_way = self.ops.drain(..).map(|(_, op)| op).collect();
        self.disk.kill(under_way, rng);
        self.reopen(rng.next());
    }

    /// Starts again on the disk as it is.
    pub fn reopen(&mut self, seed: u64) {
        self.engine = self.open(seed);
        let mark = self.engine.mark();
        if mark != self.durable.mark {
            let begun = self.begun.iter().find(|begun| begun.mark == mark);
            self.durable = begun.expect("neither the old nor the new state").clone();
        }
        self.begun.clear();
        self.twin = self.durable.clone();
        self.published = self.durable.clone();
        self.assert_equal();
        assert_eq!(self.engine.checkpoint().1, self.durable.mark);
        self.assert_no_leftovers();
    }

    pub fn assert_engine_equal(&self) {
        self.twin.assert_equal(&self.engine);
    }

    pub fn assert_equal(&self) {
        self.assert_engine_equal();
        self.published.assert_equal(&self.engine.snapshot());
        let live: i64 = (self.twin.rows.iter())
            .filter(|(_, row)| !row.is_tombstone())
            .map(|(key, row)| key.len() as i64 + i64::from(row.value_len))
            .sum();
        let all: i64 = self.twin.records.values().map(|record| record.kv.len() as i64).sum();
        assert_eq!(self.engine.bytes(), (all, live));
    }

    /// One superblock, one manifest, one page file.
    pub fn assert_no_leftovers(&self) {
        let names = self.disk.names();
        let count = |suffix| names.iter().filter(|name| name.ends_with(suffix)).count();
        let counts = (count("superblock"), count(".manifest"), count(".pages"));
        assert_eq!(counts, (1, 1, 1), "{names:?}");
        assert_eq!(names.len(), 3 + count(".values"), "{names:?}");
    }
}
