//! Single situations, one a test, in the order of a log's life.
//!
//! Leaves out chance ([`crash`](super::crash)) and damage ([`damage`](super::damage)).

use std::io;

use holdfast_core::entry::{Append, Entry};
use holdfast_core::id::{Index, Position, WalSeq};
use holdfast_core::rng::Rng;

use super::world::{World, entry, hard_state, identity};
use crate::disk::{BLOCK, Disk, DiskOp, MemoryDisk, Token};
use crate::wal::{RecoveryNote, Wal, WalEvent, WalOptions};

const SMALL: u64 = 64 << 10;

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| entry(index, term, 100)).collect()
}

fn is_write(waiting: &(Token, DiskOp)) -> bool {
    matches!(waiting.1, DiskOp::Write { .. })
}

/// The waiting batches, first issued first.
fn batches(world: &World) -> Vec<usize> {
    let waiting = world.waiting.iter().enumerate().filter(|(_, op)| is_write(op));
    let mut batches: Vec<_> = waiting.map(|(at, (token, _))| (token.number, at)).collect();
    batches.sort_unstable();
    batches.into_iter().map(|(_, at)| at).collect()
}

#[test]
fn appends_gather_while_the_pipeline_is_full_and_are_reported_in_order() {
    let mut world = World::new(SMALL, 2);
    for index in 1..=5 {
        world.append(entries(index..=index, 1), hard_state(1, 0, 0));
    }
    assert_eq!(batches(&world).len(), 2, "two in flight, three gather");
    world.perform(batches(&world)[1]);
    assert_eq!(world.wal.synced(), WalSeq(0), "the second of two alone proves nothing");
    world.perform(batches(&world)[0]);
    assert_eq!(world.wal.synced(), WalSeq(2));
    assert_eq!(batches(&world).len(), 1, "the other three are one batch");
    world.perform(batches(&world)[0]);
    assert_eq!(world.wal.synced(), WalSeq(5));
    assert_eq!(world.wal.durable(), 4, "the first batch was the log's own");
}

#[test]
fn one_append_is_one_operation_of_whole_blocks() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=3, 1), hard_state(1, 2, 0));
    let at = batches(&world)[0];
    let DiskOp::Write { parts, sync, .. } = &world.waiting[at].1 else { panic!("it is a write") };
    assert!(sync);
    let sizes: Vec<_> = parts.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(sizes, [BLOCK, BLOCK], "a directory block and the batch");
    let headers: Vec<_> = parts.iter().map(|(_, bytes)| bytes.to_vec()).collect();
    let descriptor = &headers[0][..128];
    assert_eq!(descriptor, &headers[1][..128], "the descriptor is the header, byte for byte");
}

#[test]
fn a_new_leader_replaces_the_end_of_the_log() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=9, 2), hard_state(2, 1, 3));
    world.append(entries(7..=7, 3), hard_state(3, 2, 3));
    world.settle();
    let log = world.restart_checked(world.disk.image());
    let terms: Vec<_> =
        log.entries.iter().map(|entry| (entry.at.index.0, entry.at.term.0)).collect();
    assert_eq!(terms, [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3)]);
    assert_eq!(world.wal.last(), Position::new(7, 3));
    let read = world.wal.entries(&world.disk, Index(5), Index(100), u64::MAX).expect("reads");
    assert_eq!(read, log.entries[4..]);
}

#[test]
fn a_batch_larger_than_a_segment_gets_a_file_of_its_own() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=1, 1), hard_state(1, 0, 0));
    world.append(vec![entry(2, 1, 10 << 20)], hard_state(1, 0, 0));
    world.append(entries(3..=3, 1), hard_state(1, 0, 2));
    world.settle();
    assert_eq!(world.wal.synced(), WalSeq(3));
    let read = world.wal.entries(&world.disk, Index(2), Index(3), 0).expect("reads");
    assert_eq!(read[0].data.len(), 10 << 20);
    let log = world.restart_checked(world.disk.image());
    assert_eq!(log.entries.len(), 3);
    for index in 4..40 {
        world.append(vec![entry(index, 1, 5_000)], hard_state(1, 0, index - 1));
    }
    world.settle();
    world.after = Position::new(30, 1);
    world.wal.purge(Index(30), &mut world.waiting);
    world.settle();
    let files = world.disk.list("wal").expect("lists");
    assert!(files.iter().all(|(_, len)| *len <= SMALL), "the large file is gone: {files:?}");
    world.restart_checked(world.disk.image());
}

#[test]
fn purged_segments_are_used_again() {
    let mut world = World::new(SMALL, 2);
    for index in 1..=400 {
        world.append(vec![entry(index, 1, 3_000)], hard_state(1, 0, index - 1));
        world.settle();
        if index % 10 == 0 {
            world.after = Position::new(index - 1, 1);
            world.wal.purge(Index(index - 1), &mut world.waiting);
            world.settle();
        }
    }
    let files = world.disk.list("wal").expect("lists");
    assert!(files.len() <= 6, "40 segments were filled, these files were used: {files:?}");
    let numbers: Vec<_> = files.iter().filter_map(|(file, _)| file.name().get(..16)).collect();
    assert!(numbers.iter().all(|number| *number < "0000000000000008"), "{numbers:?}");
    let log = world.restart_checked(world.disk.image());
    assert_eq!(log.entries.len(), 1);
    assert!(log.notes.is_empty(), "{:?}", log.notes);
}

#[test]
fn a_full_disk_stops_the_next_segment_and_not_the_log() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=1, 1), hard_state(1, 0, 0));
    world.settle();
    let used: u64 = world.disk.list("wal").expect("lists").iter().map(|(_, len)| len).sum();
    world.disk.set_capacity(used + 1_000);
    for index in 2..=40 {
        world.append(vec![entry(index, 1, 3_000)], hard_state(1, 0, 0));
        world.settle();
    }
    assert!(matches!(world.wal.take_event(), Some(WalEvent::NoSpace { .. })));
    assert_eq!(world.wal.take_event(), None, "it is said once");
    let synced = world.wal.synced();
    assert!(
        synced > WalSeq(15) && synced < WalSeq(40),
        "{synced}: the files there are were filled"
    );
    assert!(world.wal.is_full() && world.wal.queued_bytes() > 0);
    assert_eq!(world.wal.fault(), None);
    let image = world.disk.image();
    for _ in 0..3 {
        let upto = world.wal.synced();
        world.wal.purge(Index(upto.0), &mut world.waiting);
        world.settle();
        assert!(world.wal.synced() > upto || upto == WalSeq(40), "a purge makes room");
    }
    assert_eq!(world.wal.synced(), WalSeq(40), "nothing that waited was lost");
    assert_eq!(world.wal.take_event(), Some(WalEvent::SpaceAgain));
    assert!(!world.wal.is_full());
    let full = MemoryDisk::from_image(image);
    full.set_capacity(0);
    let (wal, log) = Wal::recover(&full, identity(9), world.options, Position::default())
        .expect("recovers without a byte to spare");
    assert_eq!((log.last_seq, log.entries.len() as u64), (synced, synced.0));
    assert_eq!(wal.fault(), None);
}

#[test]
fn a_failed_write_is_never_believed_again() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=1, 1), hard_state(1, 0, 0));
    world.append(entries(2..=2, 1), hard_state(1, 0, 0));
    let [first, second] = batches(&world)[..] else { panic!("two are in flight") };
    let (first, second) = (world.waiting[first].0.number, world.waiting[second].0.number);
    let mut ops = Vec::new();
    let eio = io::Error::other("the device says no");
    let fault = world.wal.completed(first, Err(eio), &mut ops).expect_err("is a fault");
    assert!(fault.place.contains(".seg") && fault.cause.contains("says no"), "{fault}");
    let later = world.wal.completed(second, Ok(Default::default()), &mut ops);
    assert_eq!(later, Err(fault.clone()), "what succeeds later is not believed");
    let append = Append { seq: WalSeq(3), hard_state: hard_state(1, 0, 0), entries: vec![] };
    world.wal.append(append, &mut ops);
    assert!(!world.wal.seal(&mut ops));
    world.wal.purge(Index(2), &mut ops);
    world.wal.retry(&mut ops);
    assert!(ops.is_empty(), "nothing is tried again: {ops:?}");
    assert_eq!((world.wal.synced(), world.wal.fault()), (WalSeq(0), Some(&fault)));
}

#[test]
fn a_seal_is_written_once_and_only_when_there_is_something_to_prove() {
    let mut world = World::new(SMALL, 2);
    let mut ops = Vec::new();
    assert!(!world.wal.seal(&mut ops), "a new log has nothing to prove");
    world.append(entries(1..=1, 1), hard_state(1, 0, 0));
    assert!(!world.wal.seal(&mut world.waiting), "it is not idle");
    world.settle();
    assert!(world.wal.seal(&mut world.waiting));
    world.settle();
    assert!(!world.wal.seal(&mut world.waiting), "it is sealed");
    world.append(vec![], hard_state(2, 1, 0));
    world.settle();
    assert!(world.wal.seal(&mut world.waiting), "a vote is something");
    world.settle();
    world.restart_checked(world.disk.image());
}

#[test]
fn a_torn_tail_is_cut_with_a_note_and_does_not_come_back() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=3, 1), hard_state(1, 0, 0));
    world.settle();
    world.append(entries(4..=5, 1), hard_state(1, 0, 0));
    world.append(entries(6..=7, 1), hard_state(1, 0, 0));
    let [_, second] = batches(&world)[..] else { panic!("two are in flight") };
    world.perform(second);
    let log = world.restart_checked(world.disk.image());
    assert_eq!(log.entries.len(), 3);
    let notes: Vec<_> = log.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("the log was cut before batch 3 (wal/0000000000000001.seg at "));
    let again = world.restart_checked(world.disk.image());
    assert_eq!((again.entries.len(), again.notes), (3, vec![]), "it was cut for good");
}

#[test]
fn a_restart_behind_a_snapshot_holds_once_the_checkpoint_does() {
    let mut world = World::new(SMALL, 2);
    world.append(entries(1..=8, 1), hard_state(1, 0, 5));
    world.settle();
    let at = Position::new(100, 4);
    let ticket = world.wal.restart_at(at, hard_state(4, 0, 100), &mut world.waiting);
    assert!(world.wal.durable() < ticket);
    world.settle();
    assert!(world.wal.durable() >= ticket);
    let image = world.disk.image();

    let mut undone = World::new(SMALL, 2);
    undone.incarnation = 70;
    let log = undone.restart(image.clone());
    assert_eq!(log.entries.len(), 8, "the snapshot did not come into use: the log is as before");
    assert_eq!(log.hard_state, hard_state(4, 0, 5), "of the restart only term and vote stay");
    assert!(matches!(log.notes[..], [RecoveryNote::RestartVoid { at: seen }] if seen == at));
    let again = undone.restart(undone.disk.image());
    assert_eq!(
        (again.entries, again.hard_state, again.notes),
        (log.entries, log.hard_state, vec![])
    );

    world.after = at;
    let log = world.restart(image);
    assert_eq!((log.entries.len(), log.hard_state), (0, hard_state(4, 0, 100)));
    let append = Append {
        seq: world.wal.next_seq(),
        hard_state: hard_state(4, 0, 100),
        entries: entries(101..=102, 4),
    };
    world.wal.append(append, &mut world.waiting);
    world.settle();
    assert_eq!(world.wal.first_index(), Some(Index(101)), "nothing older can be read");
    let log = world.restart(world.disk.image());
    assert_eq!(log.entries, entries(101..=102, 4));
    world.after = Position::new(5, 1);
    let fault = world.try_restart(world.disk.image()).expect_err("the checkpoint went back");
    assert!(fault.cause.contains("begins behind entry 100"), "{fault}");
}

#[test]
fn an_empty_folder_is_a_new_log_unless_there_is_a_checkpoint() {
    let options = WalOptions { segment_bytes: SMALL, depth: 2 };
    let disk = MemoryDisk::new();
    let (wal, log) = Wal::recover(&disk, identity(1), options, Position::default()).expect("new");
    assert_eq!((wal.next_seq(), log.notes), (WalSeq(1), vec![RecoveryNote::Empty]));
    let fault = Wal::create(&disk, identity(2), options).err().expect("there is a log");
    assert!(fault.cause.contains("already"), "{fault}");
    let at = Position::new(7, 1);
    let fault = Wal::recover(&MemoryDisk::new(), identity(1), options, at).err();
    assert!(fault.expect("the log is gone").cause.contains("missing"));
    let full = MemoryDisk::new();
    full.set_capacity(10);
    assert!(Wal::create(&full, identity(1), options).is_err(), "no log without a disk");
}

#[test]
fn a_crash_while_the_log_is_created_begins_anew() {
    let mut rng = Rng::new(1);
    let options = WalOptions { segment_bytes: SMALL, depth: 2 };
    let mut world = World::new(SMALL, 2);
    let whole = world.disk.image();
    for _ in 0..200 {
        let mut image = whole.clone();
        for bytes in image.values_mut() {
            for sector in bytes.chunks_mut(512).filter(|_| rng.chance(50)) {
                sector.fill(0);
            }
        }
        let disk = MemoryDisk::from_image(image);
        let (wal, log) = Wal::recover(&disk, identity(2), options, Position::default())
            .expect("nothing was durable");
        assert_eq!((log.entries.len(), log.last_seq, wal.next_seq()), (0, WalSeq(0), WalSeq(1)));
    }
    world.restart(whole);
}

#[test]
fn sizes_may_change_between_runs() {
    let mut world = World::new(SMALL, 2);
    for index in 1..=30 {
        world.append(vec![entry(index, 1, 3_000)], hard_state(1, 0, 0));
    }
    world.settle();
    world.options = WalOptions { segment_bytes: 4 * SMALL, depth: 4 };
    world.restart_checked(world.disk.image());
    for index in 31..=90 {
        world.append(vec![entry(index, 1, 3_000)], hard_state(1, 0, 0));
    }
    world.settle();
    world.options = WalOptions { segment_bytes: SMALL / 2, depth: 1 };
    let log = world.restart_checked(world.disk.image());
    assert_eq!(log.entries.len(), 90);
}
