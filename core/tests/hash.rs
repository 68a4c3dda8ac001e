//! HashKV gives the numbers that etcd's own tests know for the same writes and compactions, before and
//! after the physical compaction, and the same number in one step and in many.

use holdfast_core::command::Command;
use holdfast_core::id::{LeaseId, Position, RequestId, Revision};
use holdfast_core::limits::Limits;
use holdfast_core::machine::{Applied, Machine};
use holdfast_core::mvcc::Budget;
use holdfast_core::mvcc::hash::{HashAll, HashKv, KvHash, hash_kv};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{DeleteRange, Identity, KeyRange, Op, Put};
use holdfast_core::store::View;

struct World {
    machine: Machine,
    store: MemoryStore,
    index: u64,
}

impl World {
    fn new() -> World {
        let store = MemoryStore::default();
        World { machine: Machine::load(&Limits::default(), &store), store, index: 0 }
    }

    fn apply(&mut self, op: Op) {
        self.index += 1;
        let at = Position::new(self.index, 1);
        let command = Command { id: RequestId::default(), identity: Identity::default(), op };
        let mut out = Applied::default();
        self.machine.apply(at, &command, &mut self.store, &mut out).expect("memory works");
        out.result.expect("is not refused");
    }

    fn put(&mut self, key: String, value: String) {
        self.apply(Op::Put(Put {
            key: key.into(),
            value: value.into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }));
    }

    /// etcd's `putKVs`: both ends are included.
    fn put_cycle(&mut self, from: i64, count: i64) {
        for i in from..=from + count {
            self.put(key(i).to_owned(), i.to_string());
        }
    }

    fn put_twenty(&mut self) {
        (0..20).for_each(|i| self.put(format!("k{i}"), i.to_string()));
    }

    fn delete_twenty(&mut self) {
        let keys = KeyRange::from_wire("k".into(), "l".into());
        self.apply(Op::DeleteRange(DeleteRange { keys, prev_kv: false }));
    }

    fn revision(&self) -> i64 {
        self.store.mark().revision.0
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Op::Compact { revision: Revision(revision) });
    }

    /// Removes what the compaction allows, physically.
    fn carry_out(&mut self) {
        while self.machine.compaction_pending() {
            self.machine.compact_slice(&mut self.store).expect("memory works");
        }
        self.store.reclaim();
    }

    /// The hash at a revision, which must not depend on the size of the steps; then a compaction there.
    fn hash_and_compact(&mut self, revision: i64) -> (u32, i64, i64) {
        let whole = hash_kv(&self.store, revision).expect("can be read");
        let mut pieces = HashKv::new(&self.store, revision).expect("can be read");
        while !pieces.step(&self.store, &mut Budget::new(3, 1 << 20)).expect("can be read") {}
        assert_eq!(pieces.finish(), whole);
        self.compact(whole.revision.0);
        self.carry_out();
        let KvHash { hash, compacted, revision } = whole;
        (hash, compacted.0, revision.0)
    }
}

const CYCLE: i64 = 71;

fn key(i: i64) -> &'static str {
    match (i % (CYCLE * 2), i % CYCLE) {
        (30, _) => "zenek",
        (_, 30) => "xavery",
        _ => ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"][(i % 7) as usize],
    }
}

fn run(last: bool) -> Vec<(u32, i64, i64)> {
    const TOTAL: i64 = 1210;
    let mut world = World::new();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < TOTAL {
        world.put_cycle(at, CYCLE);
        found.push(world.hash_and_compact(if last { 0 } else { at + CYCLE / 2 }));
        at += CYCLE;
    }
    world.put_cycle(at, TOTAL);
    found.push(world.hash_and_compact(if last { 0 } else { at + TOTAL / 2 }));
    found
}

/// etcd v3.7.1, server/storage/mvcc/hash_test.go, TestHashByRevValue.
#[test]
fn hashes_of_past_revisions_are_etcds() {
    let expected = [
        (4082599214, -1, 35),
        (2279933401, 35, 106),
        (3284231217, 106, 177),
        (126286495, 177, 248),
        (900108730, 248, 319),
        (2475485232, 319, 390),
        (1226296507, 390, 461),
        (2503661030, 461, 532),
        (4155130747, 532, 603),
        (106915399, 603, 674),
        (406914006, 674, 745),
        (1882211381, 745, 816),
        (806177088, 816, 887),
        (664311366, 887, 958),
        (1496914449, 958, 1029),
        (2434525091, 1029, 1100),
        (3988652253, 1100, 1171),
        (1122462288, 1171, 1242),
        (724436716, 1242, 1883),
    ];
    assert_eq!(run(false), expected);
}

/// The same, TestHashByRevValueLastRevision.
#[test]
fn hashes_of_the_newest_revision_are_etcds() {
    let expected = [
        (1913897190, -1, 73),
        (224860069, 73, 145),
        (1565167519, 145, 217),
        (1566261620, 217, 289),
        (2037173024, 289, 361),
        (691659396, 361, 433),
        (2713730748, 433, 505),
        (3919322507, 505, 577),
        (769967540, 577, 649),
        (2909194793, 649, 721),
        (1576921157, 721, 793),
        (4067701532, 793, 865),
        (2226384237, 865, 937),
        (2923408134, 937, 1009),
        (2680329256, 1009, 1081),
        (1546717673, 1081, 1153),
        (2713657846, 1153, 1225),
        (1046575299, 1225, 1297),
        (2017735779, 1297, 2508),
    ];
    assert_eq!(run(true), expected);
}

/// The same, TestHashByRevAcrossPhysicalCompaction.
#[test]
fn a_hash_does_not_depend_on_the_physical_compaction() {
    type Setup = fn(&mut World);
    let deleted_at: Setup = |world| {
        world.put_twenty();
        world.delete_twenty();
    };
    let one_left: Setup = |world| {
        world.put_twenty();
        world.put("survivor".into(), "v".into());
        world.delete_twenty();
    };
    let twice: Setup = |world| {
        world.put_twenty();
        world.put_twenty();
    };
    let cases: [(Setup, Setup, u32, i64, i64); 3] = [
        (deleted_at, |_| (), 0x40a4_756d, 22, 22),
        (one_left, |_| (), 0x145a_cb52, 23, 23),
        (twice, World::delete_twenty, 0x0480_3ce7, 41, 42),
    ];
    for (setup, then, hash, compacted, revision) in cases {
        let mut world = World::new();
        setup(&mut world);
        let at = world.revision();
        world.compact(at);
        then(&mut world);
        let before = hash_kv(&world.store, 0).expect("can be read");
        world.carry_out();
        let after = hash_kv(&world.store, 0).expect("can be read");
        assert_eq!(before, after);
        let (compacted, revision) = (Revision(compacted), Revision(revision));
        assert_eq!(after, KvHash { hash, compacted, revision });
    }
}

#[test]
fn revisions_that_cannot_be_read_are_refused_and_hash_covers_the_tables() {
    let mut world = World::new();
    world.put_twenty();
    world.compact(9);
    assert_eq!(HashKv::new(&world.store, 8).err(), Some(Rejection::Compacted));
    assert!(HashKv::new(&world.store, 9).is_ok());
    assert_eq!(HashKv::new(&world.store, 22).err(), Some(Rejection::FutureRevision));
    let all = |world: &World, step: usize| {
        let mut hash = HashAll::new(&world.store).expect("can be read");
        while !hash.step(&world.store, &mut Budget::new(step, 1 << 20)).expect("can be read") {}
        hash.finish()
    };
    let before = all(&world, 1000);
    assert_eq!(before, all(&world, 2));
    world.carry_out();
    assert_eq!(before, all(&world, 1000), "physical work is no part of it");
    world.apply(Op::LeaseGrant { id: LeaseId(7), ttl: 60 });
    assert_ne!(before, all(&world, 1000));
}

/// What a compaction finds is what could be read at its revision just before, and is found again whatever was
/// written and decided since, as long as nothing was carried out.
#[test]
fn a_compactions_hash_is_that_of_its_revision_before_it() {
    for (last, deleted) in [(0, false), (20, false), (20, true)] {
        let mut world = World::new();
        world.put_twenty();
        world.compact(9);
        world.carry_out();
        world.put_cycle(0, last);
        if deleted {
            world.delete_twenty();
        }
        let at = world.revision();
        let before = hash_kv(&world.store, at).expect("it can be read");
        world.put_cycle(3, 5);
        world.compact(at);
        world.put_cycle(1, 2);
        let mut hash = HashKv::of_compaction(Revision(at), Revision(9));
        while !hash.step(&world.store, &mut Budget::new(1, 1)).expect("memory works") {}
        assert_eq!(hash.finish(), before);
        let now = hash_kv(&world.store, at).expect("the compacted revision itself can be read");
        assert_ne!((now.hash, now.compacted), (before.hash, before.compacted));
        world.compact(at + 2);
        assert_eq!(hash_kv(&world.store, at), Err(Rejection::Compacted.into()));
    }
}
