//! `Node::step` of one batch of puts on a lone member over the memory store: admit, propose, append,
//! and after the word of the disk apply, publish and answer. No disk, no network, no encoding.

use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_core::entry::HardState;
use holdfast_core::id::{Incarnation, LeaseId, MemberId, RequestId, WalSeq};
use holdfast_core::input::Input;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::message::SnapshotMeta;
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::node::{Node, NodeConfig};
use holdfast_core::output::{Effect, Output};
use holdfast_core::raft::Boot;
use holdfast_core::request::{Ask, Identity, Op, Put, Request};
use holdfast_core::response::Member;
use holdfast_core::store::Store;
use holdfast_core::time::Instant;

const MEMBER: MemberId = MemberId(1);

/// Puts after which a fresh member takes over: the memory store never forgets.
const PUTS_MAX: u64 = 300_000;

struct Rig {
    node: Node,
    store: MemoryStore,
    out: Output,
    now: Instant,
    sequence: u64,
}

impl Rig {
    fn new() -> Rig {
        let mut store = MemoryStore::default();
        store.absorb(&mut machine::genesis(&[Member { id: MEMBER, ..Member::default() }]));
        let boot = Boot {
            checkpoint: SnapshotMeta { voters: vec![MEMBER], ..SnapshotMeta::default() },
            hard_state: HardState::default(),
            entries: Vec::new(),
            last_seq: WalSeq(0),
            force_new: false,
        };
        let config = NodeConfig {
            member: MEMBER,
            incarnation: Incarnation(1),
            limits: Limits::default(),
            seed: 1,
            started: None,
        };
        let node = Node::new(config, boot, &store, Instant(0)).expect("an empty log starts");
        let mut rig = Rig { node, store, out: Output::default(), now: Instant(0), sequence: 0 };
        assert_eq!(rig.turns(), 0, "the election has nobody to answer");
        rig
    }

    /// One request a put, all in one turn.
    fn give(&mut self, puts: u64) {
        for _ in 0..puts {
            self.sequence += 1;
            let id =
                RequestId { member: MEMBER, incarnation: Incarnation(1), sequence: self.sequence };
            let deadline = self.now + Duration::from_secs(7);
            let ask = Ask::Propose(Op::Put(put(self.sequence % 10_000)));
            let request = Request { id, identity: Identity::default(), ask, deadline };
            let input = Input::Request(request);
            self.node.step(self.now, input, &mut self.store, &mut self.out);
        }
    }

    /// Turns until the disk has nothing left to do; returns the answers.
    fn turns(&mut self) -> u64 {
        let mut answers = 0;
        loop {
            self.node.step(self.now, Input::Drained, &mut self.store, &mut self.out);
            let mut inputs = Vec::new();
            for effect in self.out.effects.drain(..) {
                match effect {
                    Effect::Append(append) => inputs.push(Input::Synced { seq: append.seq }),
                    Effect::Flush { meta } => inputs.push(Input::Flushed { at: meta.at }),
                    Effect::Reply { result, .. } => {
                        result.expect("a lone member refuses no put");
                        answers += 1;
                    }
                    _ => {}
                }
            }
            self.out.clear();
            if inputs.is_empty() {
                return answers;
            }
            for input in inputs {
                self.node.step(self.now, input, &mut self.store, &mut self.out);
            }
        }
    }
}

fn put(number: u64) -> Put {
    Put {
        key: format!("/bench/{number:08}").into(),
        value: vec![b'v'; 256].into(),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step/batch_of_puts");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for puts in [1, 64, 1024] {
        group.throughput(Throughput::Elements(puts));
        group.bench_with_input(BenchmarkId::from_parameter(puts), &puts, |bencher, puts| {
            let mut rig = Rig::new();
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    if rig.sequence > PUTS_MAX {
                        rig = Rig::new();
                    }
                    let begun = Clock::now();
                    rig.give(*puts);
                    let answers = rig.turns();
                    took += begun.elapsed();
                    assert_eq!(answers, *puts, "each put is answered");
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
