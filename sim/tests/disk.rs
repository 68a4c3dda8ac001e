//! The simulated disk keeps the contract of every disk, and loses only what it may.

use holdfast_core::rng::Rng;
use holdfast_sim::disk::{Latency, SECTOR, SimDisk};

use holdfast_storage::disk::{BLOCK, Buffer, Disk, DiskOp, FileName, Owner, Token, conformance};

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Rng::new(seed), Latency::default(), 1 << 20)
}

fn name() -> FileName {
    FileName::new("folder", "file")
}

fn create(disk: &SimDisk, blocks: u64) {
    let op = DiskOp::Create { file: name(), len: blocks * BLOCK as u64 };
    disk.perform(op).expect("there is room");
}

fn write(block: u64, byte: u8, sync: bool) -> DiskOp {
    let parts = vec![(block * BLOCK as u64, Buffer::from_slice(&[byte; BLOCK]))];
    DiskOp::Write { file: name(), parts, sync }
}

fn contents(disk: &SimDisk, blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0; blocks * BLOCK];
    disk.read(&name(), 0, &mut bytes).expect("it is there");
    bytes
}

fn token(number: u64) -> Token {
    Token { owner: Owner::Wal, number }
}

#[test]
fn it_behaves_as_every_disk_does() {
    conformance(&disk(1));
}

#[test]
fn a_crash_chooses_old_or_new_for_each_unsynced_sector_and_never_a_mixture() {
    let mut kinds = [0; 2];
    for seed in 0..50 {
        let disk = disk(seed);
        create(&disk, 1);
        disk.perform(write(0, 1, true)).expect("it is written");
        disk.perform(write(0, 2, false)).expect("it is written");
        let loss = disk.crash();
        let bytes = contents(&disk, 1);
        let mut lost = 0;
        for sector in bytes.chunks(SECTOR) {
            assert!(sector.iter().all(|byte| byte == &sector[0]), "a sector is old or new");
            assert!(matches!(sector[0], 1 | 2), "and nothing else");
            kinds[usize::from(sector[0] - 1)] += 1;
            lost += u64::from(sector[0] == 1) * SECTOR as u64;
        }
        assert_eq!(loss.bytes_lost, lost);
    }
    assert!(kinds[0] > 100 && kinds[1] > 100, "both happen: {kinds:?}");
}

#[test]
fn a_sync_covers_what_had_completed_when_it_was_issued_and_its_own_write() {
    for seed in 0..50 {
        let disk = disk(seed);
        create(&disk, 3);
        disk.perform(write(0, 1, false)).expect("it is written");
        disk.begin(token(1), write(1, 1, true));
        // Completes while the sync is under way: not covered by it.
        disk.perform(write(2, 1, false)).expect("it is written");
        disk.finish(token(1)).expect("it is under way").result.expect("it succeeds");
        disk.crash();
        let bytes = contents(&disk, 3);
        assert!(bytes[..2 * BLOCK].iter().all(|byte| *byte == 1), "seed {seed}");
    }
}

#[test]
fn what_is_under_way_at_a_crash_is_torn_and_never_completes() {
    let mut torn = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        create(&disk, 1);
        disk.begin(token(1), write(0, 1, true));
        disk.crash();
        assert!(disk.finish(token(1)).is_none(), "nobody waits for it any more");
        let bytes = contents(&disk, 1);
        let new = bytes.chunks(SECTOR).filter(|sector| sector[0] == 1).count();
        torn += usize::from(new > 0 && new < BLOCK / SECTOR);
    }
    assert!(torn > 30, "{torn} of 50 writes are torn");
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    for seed in 0..20 {
        let disk = disk(seed);
        create(&disk, 1);
        disk.perform(write(0, 1, false)).expect("it is written");
        disk.kill();
        assert!(contents(&disk, 1).iter().all(|byte| *byte == 1));
    }
}

#[test]
fn the_power_can_go_in_the_middle_of_blocking_work_and_space_can_run_out() {
    let disk = disk(1);
    create(&disk, 1);
    disk.cut_after(1);
    disk.perform(write(0, 1, true)).expect("one operation is left");
    assert!(disk.perform(write(0, 2, true)).is_err() && disk.is_cut());
    assert!(disk.list("folder").is_err(), "nothing works until the power is back");
    disk.crash();
    assert!(disk.list("folder").is_ok());
    disk.set_capacity(disk.used());
    let op = DiskOp::Create { file: FileName::new("folder", "more"), len: BLOCK as u64 };
    let error = disk.perform(op).expect_err("there is no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    disk.perform(write(0, 3, true)).expect("what does not grow still works");
}
