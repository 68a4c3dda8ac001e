//! Damaged, shortened and missing files: always a fault that names the file, never wrong data.

use std::ops::ControlFlow;
use std::sync::Arc;

use holdfast_core::id::RevSub;
use holdfast_core::rng::Rng;
use holdfast_core::store::{Fault, Store, View};
use holdfast_storage::disk::FileName;
use holdfast_storage::engine::Engine;

use super::crash_disk::CrashDisk;
use super::rig::{Rig, identity, options};

const STRIDE: usize = 16 << 10;

fn checkpointed(seed: u64) -> Rig {
    let rng = &mut Rng::new(seed);
    let mut rig = Rig::new(1, rng);
    for round in 0..80 {
        rig.absorb(rng);
        if round % 20 == 19 {
            rig.checkpoint();
        }
    }
    rig
}

fn open(disk: CrashDisk) -> Result<Engine, Fault> {
    Engine::open(Arc::new(disk), identity(1), options(1))
}

/// Opens and reads every record.
fn open_and_read(disk: CrashDisk) -> Result<Engine, Fault> {
    let engine = open(disk)?;
    engine.records(RevSub::default(), &mut |_| ControlFlow::Continue(()))?;
    Ok(engine)
}

#[test]
fn every_flipped_bit_of_a_sealed_file_is_found_and_its_file_named() {
    let rig = checkpointed(1);
    let rng = &mut Rng::new(2);
    for suffix in [".manifest", ".pages", ".values"] {
        let file = rig.disk.find(suffix);
        let bits = rig.disk.len(&file) as u64 * 8;
        for _ in 0..150 {
            let disk = rig.disk.copy();
            let bit = rng.below(bits) as usize;
            disk.damage(&file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let fault = open_and_read(disk).err().expect("the damage is found");
            assert!(fault.place.contains(&*file.0), "{fault} does not name {file}, bit {bit}");
        }
    }
}

#[test]
fn a_damaged_block_harms_only_its_own_records() {
    let rig = checkpointed(3);
    let file = rig.disk.find(".values");
    let disk = rig.disk.copy();
    disk.damage(&file, |bytes| bytes[100] ^= 1);
    let engine = open(disk).expect("blocks are verified when they are read");
    let outcomes: Vec<_> =
        rig.twin.records.iter().map(|(at, record)| (record, engine.record(*at))).collect();
    let (bad, good): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(_, found)| found.is_err());
    assert!(!bad.is_empty() && !good.is_empty());
    assert!(good.iter().all(|(record, found)| found.as_ref() == Ok(record)));
    assert!(
        bad.iter().all(|(_, f)| f.as_ref().unwrap_err().place == format!("{file} at offset 0"))
    );
    let noted = engine.fault().expect("the engine remembers the first fault");
    assert_eq!(noted.cause, "the block's checksum does not match");
}

#[test]
fn shortened_swapped_and_missing_files_are_refused() {
    let rig = checkpointed(4);
    let other = checkpointed(5);
    for suffix in [".manifest", ".pages", ".values"] {
        let file = rig.disk.find(suffix);
        for cut in [1, 4096, rig.disk.len(&file)] {
            let disk = rig.disk.copy();
            disk.damage(&file, |bytes| bytes.truncate(bytes.len() - cut));
            refused(disk, &file);
        }
        let disk = rig.disk.copy();
        let foreign = other.disk.bytes(&other.disk.find(suffix));
        disk.damage(&file, |bytes| {
            let len = bytes.len();
            *bytes = foreign;
            bytes.resize(len, 0);
        });
        refused(disk, &file);
        let disk = rig.disk.copy();
        disk.remove(&file);
        refused(disk, &file);
    }
}

fn refused(disk: CrashDisk, file: &FileName) {
    let fault = open(disk).err().expect("it is refused");
    assert!(fault.place.contains(&*file.0), "{fault} does not name {file}");
}

#[test]
fn one_good_copy_of_the_superblock_is_enough_and_none_is_told() {
    let rig = checkpointed(6);
    let superblock = rig.disk.find("superblock");
    let damaged = |copies: &[usize]| {
        let disk = rig.disk.copy();
        disk.damage(&superblock, |bytes| {
            copies.iter().for_each(|copy| bytes[copy * STRIDE + 60] ^= 1)
        });
        disk
    };
    // Five checkpoints: the last one is in the pair of copies 0 and 1.
    for copies in [&[0][..], &[1], &[2], &[3], &[0, 2, 3], &[1, 2, 3]] {
        rig.twin.assert_equal(&open(damaged(copies)).expect("a good copy is left"));
    }
    let fault = open(damaged(&[0, 1])).err().expect("the older state is gone");
    assert!(fault.place.ends_with(".manifest"), "{fault}");
    let fault = open(damaged(&[0, 1, 2, 3])).err().expect("there is nothing to go by");
    assert_eq!(fault.place, "data/superblock");
    assert!(fault.cause.contains("copy 3: its checksum does not match"), "{fault}");
    let empty = open(CrashDisk::default()).err().expect("nothing is there");
    assert_eq!(empty.place, "data/superblock");
    assert_eq!(Engine::exists(&CrashDisk::default()), Ok(false));
}

#[test]
fn hot_blocks_are_read_once() {
    let mut rig = checkpointed(7);
    rig.reopen(1);
    let at = *rig.twin.records.keys().next().expect("there are records");
    rig.engine.record(at).expect("it can be read");
    let reads = rig.disk.reads();
    for _ in 0..100 {
        rig.engine.record(at).expect("it can be read");
    }
    assert_eq!(rig.disk.reads(), reads);
}
