//! What every disk must do, as assertions: run on the real one here, and on any other by its owner.
//!
//! Checks everything that can be seen without a crash (law 4 of [`disk`](super) and the words of
//! each [`DiskOp`]). What a crash may lose is the matter of the disk that can crash. Uses the
//! folder `conform` and leaves it empty.
//!
//! Worked example: `conformance(&FileDisk::open(dir)?)` panics with the sentence that is not true.

use std::io;

use super::{BLOCK, Buffer, Disk, DiskOp, FileName};

const FOLDER: &str = "conform";

/// Asserts that `disk` behaves as its users rely on.
///
/// # Panics
/// When it does not.
pub fn conformance(disk: &dyn Disk) {
    for (file, _) in disk.list(FOLDER).expect("the folder can be listed") {
        disk.perform(DiskOp::Remove { file }).expect("a file can be removed");
    }
    missing_things(disk);
    creating(disk);
    writing(disk);
    reading(disk);
    renaming(disk);
    log_folder(disk);
    let (free, total) = disk.space().expect("the space is known");
    assert!(free <= total && total > 0, "free space is at most the total");
    assert_eq!(names(disk), Vec::<String>::new(), "the suite cleans up");
}

fn missing_things(disk: &dyn Disk) {
    assert!(disk.list("nowhere").expect("lists").is_empty(), "a missing folder is empty");
    remove(disk, "never");
    let mut bytes = [0; 1];
    let error = disk.read(&name("never"), 0, &mut bytes).expect_err("a missing file has no bytes");
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "reading a missing file says so");
    let parts = vec![(0, block(1))];
    let write = DiskOp::Write { file: name("never"), parts, sync: false };
    let error = disk.perform(write).expect_err("a missing file cannot be written");
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "writing a missing file says so");
}

fn creating(disk: &dyn Disk) {
    create(disk, "b", 3);
    create(disk, "a", 1);
    create(disk, "empty", 0);
    assert_eq!(names(disk), ["a 4096", "b 12288", "empty 0"], "files are listed in name order");
    assert!(read(disk, "b", 0, 3 * BLOCK).iter().all(|byte| *byte == 0), "a new file is zeros");
    let again = DiskOp::Create { file: name("a"), len: BLOCK as u64 };
    let error = disk.perform(again).expect_err("a file is not created twice");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "creating twice says so");
    assert_eq!(read(disk, "a", 0, BLOCK).len(), BLOCK, "and does not harm the first");
    remove(disk, "empty");
    remove(disk, "b");
    remove(disk, "b");
    assert_eq!(names(disk), ["a 4096"], "removed files are gone");
}

fn writing(disk: &dyn Disk) {
    let block_bytes = BLOCK as u64;
    write(disk, "a", vec![(0, block(1))], false);
    assert_eq!(read(disk, "a", 0, BLOCK), vec![1; BLOCK], "an unsynced write is read back");
    let parts = vec![(2 * block_bytes, block(3)), (0, block(2))];
    let done = write(disk, "a", parts, true);
    assert_eq!(done.len(), 2, "a write gives its buffers back");
    assert_eq!(read(disk, "a", 0, BLOCK), vec![2; BLOCK], "a later write wins");
    assert_eq!(read(disk, "a", block_bytes, BLOCK), vec![0; BLOCK], "a gap reads as zeros");
    assert_eq!(read(disk, "a", 2 * block_bytes, BLOCK), vec![3; BLOCK], "past the end it grows");
    assert_eq!(names(disk), ["a 12288"], "and is longer");
    write(disk, "a", Vec::new(), true);
}

fn reading(disk: &dyn Disk) {
    let block_bytes = BLOCK as u64;
    let across = read(disk, "a", block_bytes - 2, 4);
    assert_eq!(across, [2, 2, 0, 0], "any offset and length can be read");
    assert!(read(disk, "a", 5, 0).is_empty(), "nothing can be read");
    let order = DiskOp::Read { file: name("a"), offset: 2 * block_bytes, len: 7 };
    let done = disk.perform(order).expect("reads");
    assert_eq!(done.data, [3; 7], "an ordered read gives the same bytes");
    let order = DiskOp::Read { file: name("a"), offset: 3 * block_bytes - 1, len: 2 };
    let error = disk.perform(order).expect_err("ends too early");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "an ordered read past the end says so");
    let mut bytes = [0; 2];
    let error = disk.read(&name("a"), 3 * block_bytes - 1, &mut bytes).expect_err("ends too early");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "a read past the end says so");
}

fn renaming(disk: &dyn Disk) {
    create(disk, "c", 1);
    write(disk, "c", vec![(0, block(9))], true);
    rename(disk, "a", "c");
    assert_eq!(names(disk), ["c 12288"], "renaming replaces what had the name");
    assert_eq!(read(disk, "c", 0, 1), [2], "with the bytes of the renamed file");
    write(disk, "c", vec![(0, block(7))], true);
    assert_eq!(read(disk, "c", 0, 1), [7], "which can be written under its new name");
    create(disk, "a", 1);
    assert_eq!(read(disk, "a", 0, 1), [0], "and whose old name is free");
    let missing = DiskOp::Rename { from: name("never"), to: name("c") };
    disk.perform(missing).expect_err("a missing file cannot be renamed");
    remove(disk, "a");
    remove(disk, "c");
}

/// The log's folder may be written in another way than the rest: the same must hold there.
fn log_folder(disk: &dyn Disk) {
    let file = FileName::new("wal", "conformance.tmp");
    disk.perform(DiskOp::Remove { file: file.clone() }).expect("removes");
    disk.perform(DiskOp::Create { file: file.clone(), len: 8 * BLOCK as u64 }).expect("creates");
    for round in 1..=3_u8 {
        let mut large = Buffer::with_capacity(2 * BLOCK);
        large.extend(&vec![round; 2 * BLOCK]);
        let parts = vec![(BLOCK as u64, block(round)), (4 * BLOCK as u64, large)];
        let op = DiskOp::Write { file: file.clone(), parts, sync: round % 2 == 1 };
        disk.perform(op).expect("writes");
        let mut bytes = vec![0; 8 * BLOCK];
        disk.read(&file, 0, &mut bytes).expect("reads");
        let expected: Vec<u8> = [0, round, 0, 0, round, round, 0, 0].into();
        let seen: Vec<u8> = bytes.chunks(BLOCK).map(|chunk| chunk[BLOCK - 1]).collect();
        assert_eq!(
            seen, expected,
            "round {round}: each part is where it was put, and nowhere else"
        );
    }
    disk.perform(DiskOp::Remove { file }).expect("removes");
}

fn name(file: &str) -> FileName {
    FileName::new(FOLDER, file)
}

fn block(byte: u8) -> Buffer {
    Buffer::from_slice(&[byte; BLOCK])
}

fn create(disk: &dyn Disk, file: &str, blocks: usize) {
    let len = (blocks * BLOCK) as u64;
    disk.perform(DiskOp::Create { file: name(file), len }).expect("a file can be created");
}

fn remove(disk: &dyn Disk, file: &str) {
    disk.perform(DiskOp::Remove { file: name(file) }).expect("removing is never an error");
}

fn rename(disk: &dyn Disk, from: &str, to: &str) {
    disk.perform(DiskOp::Rename { from: name(from), to: name(to) }).expect("a file can be renamed");
}

fn write(disk: &dyn Disk, file: &str, parts: Vec<(u64, Buffer)>, sync: bool) -> Vec<Buffer> {
    let op = DiskOp::Write { file: name(file), parts, sync };
    disk.perform(op).expect("a file can be written").buffers
}

fn read(disk: &dyn Disk, file: &str, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    disk.read(&name(file), offset, &mut bytes).expect("a file can be read");
    bytes
}

fn names(disk: &dyn Disk) -> Vec<String> {
    let files = disk.list(FOLDER).expect("the folder can be listed");
    files.iter().map(|(file, len)| format!("{} {len}", file.name())).collect()
}
