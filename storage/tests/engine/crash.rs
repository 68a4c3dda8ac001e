//! Random runs with checkpoints, failures and power cuts; readers that stay behind.

use std::io::ErrorKind;

use holdfast_core::id::{MemberId, RevSub};
use holdfast_core::rng::Rng;
use holdfast_core::store::{Batch, Mark, Store, View};
use holdfast_storage::engine::{Engine, EngineEvent};

use super::rig::{Rig, identity, meta, options};
use super::twin::records;

#[test]
fn any_run_shows_what_its_twin_shows_and_a_crash_leaves_a_checkpoint() {
    let mut crashes = 0;
    for seed in 0..60 {
        let rng = &mut Rng::new(seed);
        let mut rig = Rig::new(1, rng);
        let mut readers = Vec::new();
        for _ in 0..400 {
            match rng.below(100) {
                0..35 => rig.absorb(rng),
                35..50 => rig.publish(),
                50..58 => drop(rig.begin_checkpoint()),
                58..93 => {
                    let events = rig.complete_one();
                    assert!(events.iter().all(|e| matches!(e, EngineEvent::Flushed { .. })));
                }
                93..95 => {
                    let events = rig.fail_one(ErrorKind::StorageFull, rng);
                    assert!(!events.iter().any(|e| matches!(e, EngineEvent::Poisoned(_))));
                    assert_eq!(rig.engine.fault(), None);
                }
                95..97 => {
                    readers.truncate(4);
                    readers.insert(0, (rig.engine.snapshot(), rig.published.clone()));
                }
                97 => rig.assert_equal(),
                _ => {
                    crashes += 1;
                    readers.iter().for_each(|(view, twin)| twin.assert_equal(view));
                    readers.clear();
                    if rng.chance(50) {
                        rig.kill(rng);
                    }
                    rig.crash(rng);
                }
            }
        }
        rig.assert_equal();
        readers.iter().for_each(|(view, twin)| twin.assert_equal(view));
    }
    assert!(crashes > 200, "the runs crashed {crashes} times");
}

#[test]
fn everything_is_read_back_from_a_checkpoint_alone() {
    let rng = &mut Rng::new(4);
    let mut rig = Rig::lived(200, 5, rng);
    rig.reopen(9);
    assert!(rig.twin.records.len() > 500);
}

#[test]
fn a_checkpoint_without_new_records_writes_no_segment() {
    let rng = &mut Rng::new(5);
    let mut rig = Rig::new(1, rng);
    rig.absorb(rng);
    rig.checkpoint();
    let segments = |rig: &Rig| rig.disk.names().iter().filter(|n| n.ends_with("values")).count();
    let before = segments(&rig);
    for _ in 0..3 {
        rig.checkpoint();
        rig.assert_no_leftovers();
    }
    assert_eq!(segments(&rig), before);
}

#[test]
fn a_full_disk_at_any_order_abandons_the_checkpoint_and_nothing_else() {
    let rng = &mut Rng::new(6);
    let mut rig = Rig::new(1, rng);
    for failing in 0.. {
        for _ in 0..20 {
            rig.absorb(rng);
        }
        rig.publish();
        assert!(rig.begin_checkpoint());
        assert!(!rig.begin_checkpoint(), "one at a time");
        let mut events = Vec::new();
        for _ in 0..failing {
            events.extend(rig.complete_one());
        }
        if !events.is_empty() {
            assert!(failing > 6, "values, pages, manifest, superblock");
            break;
        }
        let events = rig.fail_one(ErrorKind::StorageFull, rng);
        assert!(matches!(events[..], [EngineEvent::CheckpointFailed { .. }]), "{events:?}");
        assert!(rig.settle().is_empty());
        rig.assert_equal();
        let disk = rig.disk.crash(Vec::new(), rng);
        let engine = Engine::open(std::sync::Arc::new(disk), identity(1), options(1)).unwrap();
        let begun = rig.begun.last().expect("a checkpoint was begun");
        let state = if engine.mark() == begun.mark { begun } else { &rig.durable };
        state.assert_equal(&engine);
    }
    rig.checkpoint();
    rig.assert_no_leftovers();
    rig.reopen(1);
}

#[test]
fn another_failure_of_the_superblock_poisons() {
    let rng = &mut Rng::new(7);
    let mut rig = Rig::new(1, rng);
    rig.absorb(rng);
    rig.publish();
    assert!(rig.begin_checkpoint());
    let superblock = |rig: &Rig| match rig.ops.front() {
        Some((_, holdfast_storage::disk::DiskOp::Write { file, .. })) => {
            file.name() == "superblock"
        }
        _ => false,
    };
    while !superblock(&rig) {
        assert!(rig.complete_one().is_empty());
    }
    let events = rig.fail_one(ErrorKind::Other, rng);
    assert!(
        matches!(&events[..], [EngineEvent::Poisoned(fault)] if fault.place == "data/superblock")
    );
    assert!(rig.engine.fault().is_some());
    assert!(!rig.begin_checkpoint());
}

#[test]
fn large_keys_and_values_come_back() {
    let rng = &mut Rng::new(8);
    let mut rig = Rig::empty(1, 3);
    let mut batch = Batch::new(Mark::EMPTY);
    for main in 2..6 {
        let mut key = vec![b'x'; 1 << 20];
        key.push(main as u8);
        batch.push(rig.twin.write(key, RevSub::new(main, 0), rng));
        rig.twin.mark.revision.0 = main;
    }
    rig.twin.mark.applied.index.0 = 9;
    batch.set_mark(rig.twin.mark);
    rig.engine.absorb(&mut batch);
    rig.assert_engine_equal();
    rig.checkpoint();
    rig.reopen(1);
    assert!(records(&rig.engine, RevSub::new(4, 0)).len() == 2);
}

#[test]
fn a_folder_is_used_by_its_own_member_only() {
    let rng = &mut Rng::new(9);
    let rig = Rig::new(1, rng);
    assert_eq!(Engine::exists(&*rig.disk), Ok(true));
    assert_eq!(Engine::identity(&*rig.disk), Ok(identity(1)));
    let refused = Engine::open(rig.disk.clone(), identity(2), options(1)).err().expect("refused");
    assert!(refused.cause.contains("member n1 of cluster cc"), "{refused}");
    assert!(refused.cause.contains("this is member n2"), "{refused}");
    let genesis = Batch::new(Mark::EMPTY);
    let again = Engine::create(
        rig.disk.clone(),
        identity(1),
        options(1),
        genesis,
        meta(Mark::EMPTY.applied),
    );
    assert!(again.err().expect("refused").cause.contains("already"));
    rig.twin.assert_equal(&Engine::open(rig.disk, identity(1), options(1)).unwrap());
}

#[test]
fn a_crash_while_the_first_state_is_made_leaves_none_or_all_of_it() {
    use holdfast_storage::disk::{Disk, DiskOp, Done, FileName};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Fails every order after the first few.
    struct Fuse(super::crash_disk::CrashDisk, AtomicU64);
    impl Disk for Fuse {
        fn list(&self, folder: &str) -> std::io::Result<Vec<(FileName, u64)>> {
            self.0.list(folder)
        }
        fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
            self.0.read(file, offset, into)
        }
        fn perform(&self, op: DiskOp) -> std::io::Result<Done> {
            let left =
                self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            left.map_err(|_| std::io::Error::from(ErrorKind::Other))?;
            self.0.perform(op)
        }
        fn space(&self) -> std::io::Result<(u64, u64)> {
            self.0.space()
        }
    }

    let create = |disk: Arc<dyn Disk>| {
        let genesis = super::twin::Twin::new().batch(&mut Rng::new(3));
        let meta = meta(genesis.mark().applied);
        Engine::create(disk, identity(1), options(1), genesis, meta)
    };
    for orders in 0.. {
        let fuse = Arc::new(Fuse(Default::default(), AtomicU64::new(orders)));
        let created = create(fuse.clone()).is_ok();
        let disk = Arc::new(fuse.0.crash(Vec::new(), &mut Rng::new(orders)));
        assert_eq!(Engine::exists(&*disk), Ok(created), "after {orders} orders");
        if created {
            assert!(orders > 6);
            assert!(Engine::open(disk, identity(1), options(1)).is_ok());
            return;
        }
        assert!(create(disk).is_ok(), "it can be tried again");
    }
}

#[test]
fn publishing_gives_each_reader_its_own_state() {
    let rng = &mut Rng::new(10);
    let mut rig = Rig::new(1, rng);
    let before = rig.engine.snapshot();
    let twin = rig.published.clone();
    rig.absorb(rng);
    twin.assert_equal(&rig.engine.snapshot());
    rig.publish();
    rig.published.assert_equal(&rig.engine.snapshot());
    twin.assert_equal(&before);
    let elsewhere = std::thread::spawn(move || twin.assert_equal(&before));
    elsewhere.join().expect("a snapshot can be read on another thread");
    assert_eq!(rig.engine.checkpoint().0.voters, [MemberId(1), MemberId(2)]);
    assert!(rig.engine.mark().applied > rig.durable.mark.applied);
}
