//! What has been durable and is not the same any more must be noticed, and never becomes another
//! entry.
//!
//! Flips, zeroed sectors, lost ends and lost files, on a log of several segments that has been
//! replaced, purged and recycled. Leaves out crashes.

use holdfast_core::id::{ClusterId, Index, MemberId, Position};
use holdfast_core::rng::Rng;

use super::world::{World, entry, hard_state, identity};
use crate::disk::{FileName, Image, MemoryDisk};
use crate::wal::{RecoveryNote, Wal, WalIdentity, fuzz_recover};

const SMALL: u64 = 64 << 10;

/// A log with a history: several segments, recycled files, replaced entries, everything durable.
fn lived(sealed: bool) -> World {
    let mut world = World::new(SMALL, 2);
    for index in 1..=100 {
        world.append(vec![entry(index, 1, 2_000)], hard_state(1, 1, index - 1));
        world.settle();
        if index == 60 {
            world.after = Position::new(50, 1);
            world.wal.purge(Index(50), &mut world.waiting);
        }
    }
    world.append(vec![entry(100, 2, 300), entry(101, 2, 9_000)], hard_state(2, 2, 99));
    world.append(vec![entry(102, 2, 4_500)], hard_state(2, 2, 99));
    world.settle();
    if sealed {
        assert!(world.wal.seal(&mut world.waiting));
        world.settle();
    }
    world
}

/// Recovers a damaged image. The log must be whole, or refused with the file's name.
fn whole_or_refused(world: &World, image: Image, file: &FileName, what: &str) -> bool {
    let disk = MemoryDisk::from_image(image);
    let (entries, hard_state) = world.state().expected(world.after.index.0);
    match Wal::recover(&disk, identity(99), world.options, world.after) {
        Ok((_, log)) => {
            assert_eq!(log.entries, entries, "{what}");
            assert_eq!(log.hard_state, hard_state, "{what}");
            true
        }
        Err(fault) => {
            assert!(fault.place.contains(&*file.0), "{what}: {fault}");
            assert!(!fault.cause.is_empty());
            false
        }
    }
}

fn pick(image: &Image, rng: &mut Rng) -> (FileName, usize) {
    let (file, bytes) = image.iter().nth(rng.below(image.len() as u64) as usize).expect("in range");
    (file.clone(), rng.below(bytes.len() as u64) as usize)
}

#[test]
fn a_flipped_bit_in_a_sealed_log_is_harmless_or_refused() {
    let world = lived(true);
    let image = world.disk.image();
    let mut rng = Rng::new(7);
    let (mut harmless, mut refused) = (0, 0);
    for round in 0..1_000 {
        let (file, at) = pick(&image, &mut rng);
        let mut image = image.clone();
        image.get_mut(&file).expect("it was picked")[at] ^= 1 << rng.below(8);
        let what = format!("round {round}: a bit of byte {at} of {file}");
        match whole_or_refused(&world, image, &file, &what) {
            true => harmless += 1,
            false => refused += 1,
        }
    }
    assert!(harmless > 150 && refused > 150, "{harmless} harmless, {refused} refused");
}

#[test]
fn a_zeroed_sector_in_a_sealed_log_is_harmless_or_refused() {
    let world = lived(true);
    let image = world.disk.image();
    let (mut harmless, mut refused) = (0, 0);
    for (file, bytes) in &image {
        for at in (0..bytes.len()).step_by(512) {
            let mut image = image.clone();
            image.get_mut(file).expect("it is there")[at..at + 512].fill(0);
            match whole_or_refused(&world, image, file, &format!("the sector at {at} of {file}")) {
                true => harmless += 1,
                false => refused += 1,
            }
        }
    }
    assert!(harmless > 100 && refused > 100, "{harmless} harmless, {refused} refused");
}

#[test]
fn a_fault_says_what_is_lost() {
    let world = lived(true);
    let mut image = world.disk.image();
    let target = entry(70, 1, 2_000);
    let found = image.iter().find_map(|(file, bytes)| {
        let at = bytes.windows(64).position(|window| window == &target.data[..64])?;
        Some((file.clone(), at))
    });
    let (file, at) = found.expect("the entry is on the disk");
    image.get_mut(&file).expect("it is there")[at + 100] ^= 4;
    let disk = MemoryDisk::from_image(image);
    let fault = Wal::recover(&disk, identity(99), world.options, world.after).err().expect("rot");
    assert_eq!(fault.place, format!("{file} at {}", at / 4096 * 4096));
    assert!(fault.cause.contains("entries 70 to 70 are lost"), "{fault}");
    assert!(fault.cause.contains("restore this member from the others"), "{fault}");
}

#[test]
fn damage_in_the_last_batch_is_cut_while_nothing_proves_it_and_refused_once_something_does() {
    for sealed in [false, true] {
        let world = lived(sealed);
        let mut image = world.disk.image();
        let target = entry(102, 2, 4_500).data;
        let found = image.iter_mut().find_map(|(_, bytes)| {
            let at = bytes.windows(64).rposition(|window| window == &target[..64])?;
            Some(&mut bytes[at])
        });
        *found.expect("the entry is on the disk") ^= 1;
        let disk = MemoryDisk::from_image(image);
        let recovered = Wal::recover(&disk, identity(99), world.options, world.after);
        if sealed {
            let fault = recovered.err().expect("the seal proves it");
            assert!(fault.cause.contains("entries 102 to 102 are lost"), "{fault}");
        } else {
            let (_, log) = recovered.expect("it may have been torn");
            assert_eq!(log.entries.last().map(|entry| entry.at), Some(Position::new(101, 2)));
            let RecoveryNote::Cut { entries, .. } = &log.notes[0] else {
                panic!("{:?}", log.notes)
            };
            assert_eq!(*entries, Some((Index(102), Index(102))));
        }
    }
}

#[test]
fn a_shortened_file_is_harmless_or_refused() {
    let world = lived(true);
    let image = world.disk.image();
    let (mut harmless, mut refused) = (0, 0);
    for (file, bytes) in &image {
        for len in (0..bytes.len()).step_by(1_000) {
            let mut image = image.clone();
            image.get_mut(file).expect("it is there").truncate(len);
            match whole_or_refused(&world, image, file, &format!("{file} cut to {len}")) {
                true => harmless += 1,
                false => refused += 1,
            }
        }
    }
    assert!(harmless > 10 && refused > 100, "{harmless} harmless, {refused} refused");
}

#[test]
fn a_missing_file_in_the_middle_is_refused() {
    let world = lived(true);
    let image = world.disk.image();
    let mut refused = 0;
    for file in image.keys() {
        let mut image = image.clone();
        image.remove(file);
        let disk = MemoryDisk::from_image(image);
        match Wal::recover(&disk, identity(99), world.options, world.after) {
            Ok((_, log)) => {
                let (entries, _) = world.state().expected(world.after.index.0);
                let lost_the_newest = entries.starts_with(&log.entries);
                assert!(lost_the_newest, "{file}: only an end can be missed without a trace");
            }
            Err(fault) => {
                refused += 1;
                let told = fault.cause.contains("lost") || fault.cause.contains("missing");
                assert!(told, "{fault}");
            }
        }
    }
    assert!(refused >= 2, "{refused} of {} files were missed", image.len());
}

#[test]
fn the_log_of_another_member_or_cluster_is_refused() {
    let world = lived(true);
    let own = identity(99);
    let strangers = [
        WalIdentity { member: MemberId(0xbad), ..own },
        WalIdentity { cluster: ClusterId(0xbad), ..own },
    ];
    for stranger in strangers {
        let disk = MemoryDisk::from_image(world.disk.image());
        let fault = Wal::recover(&disk, stranger, world.options, world.after).err();
        let fault = fault.expect("it is not ours");
        assert!(fault.cause.contains("it belongs to member n1 of cluster cc1"), "{fault}");
    }
}

#[test]
fn a_checkpoint_of_another_history_is_refused() {
    let mut world = lived(true);
    let image = world.disk.image();
    for (after, told) in [
        (Position::new(60, 7), "has term t1 at that index"),
        (Position::new(200, 2), "ends with entry 102"),
        (Position::new(3, 1), "begins behind entry"),
    ] {
        world.after = after;
        let fault = world.try_restart(image.clone()).expect_err("does not fit");
        assert!(fault.cause.contains(told), "{fault}");
    }
}

#[test]
fn entries_are_verified_when_read_back() {
    let mut world = lived(true);
    let mut image = world.disk.image();
    let target = entry(70, 1, 2_000).data;
    let byte = image.values_mut().find_map(|bytes| {
        let at = bytes.windows(64).position(|window| window == &target[..64])?;
        Some(&mut bytes[at])
    });
    *byte.expect("the entry is on the disk") ^= 1;
    world.disk = MemoryDisk::from_image(image);
    let read = |from, below| world.wal.entries(&world.disk, Index(from), Index(below), u64::MAX);
    assert_eq!(read(71, 103).expect("these are whole").len(), 32);
    let fault = read(69, 72).expect_err("one of these is not");
    assert!(fault.cause.contains("entries 70 to 70 are damaged"), "{fault}");
}

/// Files below the checkpoint are not read by recovery, and hand out what they hold all the same; damage in them
/// is found when it is read.
#[test]
fn a_settled_file_is_as_if_it_had_been_read_and_is_verified_when_it_is() {
    let image = lived(true).disk.image();
    for after in 50..=102 {
        let mut world = lived(true);
        world.after = Position::new(after, if after < 100 { 1 } else { 2 });
        let log = world.restart(image.clone());
        assert_eq!((log.entries, log.hard_state), world.state().expected(after));
        let kept = world.wal.entries(&world.disk, Index(51), Index(103), u64::MAX);
        assert_eq!(kept.expect("all is whole"), world.state().expected(50).0, "after {after}");
        let terms: Vec<u64> =
            (50..103).filter_map(|i| Some(world.wal.terms.at(Index(i))?.0)).collect();
        assert_eq!(terms, [vec![1; 50], vec![2; 3]].concat(), "after {after}");
    }
    let mut damaged = image;
    let target = entry(70, 1, 2_000).data;
    let byte = damaged.values_mut().find_map(|bytes| {
        let at = bytes.windows(64).position(|window| window == &target[..64])?;
        Some(&mut bytes[at])
    });
    *byte.expect("the entry is on the disk") ^= 1;
    let mut world = lived(true);
    world.after = Position::new(99, 1);
    world.restart(damaged.clone());
    let read = |from, below| world.wal.entries(&world.disk, Index(from), Index(below), u64::MAX);
    assert_eq!(read(71, 103).expect("these are whole").len(), 32);
    assert!(read(70, 71).expect_err("damaged").cause.contains("entries 70 to 70 are damaged"));
    for after in [60, 70] {
        world.after = Position::new(after, 1);
        let fault = world.try_restart(damaged.clone()).expect_err("its file may hold what is new");
        assert!(fault.cause.contains("entries 70 to 70 are lost"), "{fault}");
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut rng = Rng::new(3);
    let image: Vec<Vec<u8>> = lived(false).disk.image().into_values().collect();
    for _ in 0..100 {
        let mut files = image.clone();
        for _ in 0..rng.between(1, 6) {
            let file = rng.below(files.len() as u64) as usize;
            let other = files[rng.below(files.len() as u64) as usize].clone();
            let len = files[file].len().max(1) as u64;
            let at = rng.below(len) as usize & !511;
            match rng.below(4) {
                0 => files[file].truncate(at),
                1 => files[file].iter_mut().skip(at).take(512).for_each(|byte| *byte = 0xa5),
                2 => {
                    let blocks = other.iter().copied().skip(at & !4095).take(4096);
                    let at = rng.below(len) as usize & !4095;
                    files[file].splice(at..(at + 4096).min(len as usize), blocks);
                }
                _ => files[file] = other,
            }
            if files[file].is_empty() {
                files[file] = vec![0; 4096];
            }
        }
        fuzz_recover(&files);
    }
}
