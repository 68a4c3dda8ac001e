//! The ring against its laws, on the real disk: nothing here can be simulated.
//!
//! Where the kernel forbids io_uring these tests say so and check nothing. Leaves out what it shares
//! with the pool, which `disk/queues.rs` checks for both.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::flight::Piece;
use super::*;
use crate::disk::scratch::Scratch;

/// A queue on a directory of its own, with the log file `wal/a` of 8 blocks; `None` where the kernel
/// has no rings for us.
fn rig(scratch: &Scratch) -> Option<(Arc<FileDisk>, Uring, FileName)> {
    let disk = Arc::new(FileDisk::open(scratch.path()).expect("opens"));
    let uring = match Uring::new(disk.clone(), Box::new(|| {})) {
        Ok(uring) => uring,
        Err(error) => {
            eprintln!("not checked: io_uring is not to be had: {error}");
            return None;
        }
    };
    let file = FileName::new("wal", "a");
    let create = DiskOp::Create { file: file.clone(), len: 8 * BLOCK as u64 };
    disk.perform(create).expect("creates");
    Some((disk, uring, file))
}

fn write(file: &FileName, parts: &[(u64, usize, u8)], sync: bool) -> DiskOp {
    let part = |(block, count, byte): &(u64, usize, u8)| {
        (block * BLOCK as u64, Buffer::from_slice(&vec![*byte; count * BLOCK]))
    };
    DiskOp::Write { file: file.clone(), parts: parts.iter().map(part).collect(), sync }
}

fn token(number: u64) -> Token {
    Token { owner: Owner::Wal, number }
}

/// Waits until `count` orders have completed, as a runtime would.
fn reap(uring: &Uring, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    let start = Instant::now();
    while done.len() < count {
        assert!(start.elapsed() < Duration::from_secs(20), "{} of {count} completed", done.len());
        uring.wait().expect("can be waited for");
        uring.reap(&mut done);
    }
    done
}

fn bytes(disk: &FileDisk, file: &FileName, blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; blocks * BLOCK];
    disk.read(file, 0, &mut bytes).expect("reads");
    bytes.chunks(BLOCK).map(|block| block[BLOCK - 1]).collect()
}

#[test]
fn two_batches_are_in_flight_together() {
    let scratch = Scratch::new("uring-two");
    let Some((disk, uring, file)) = rig(&scratch) else { return };
    for round in 0..50 {
        let (first, second) = (2 * round, 2 * round + 1);
        uring.submit(token(first), write(&file, &[(0, 1, 1), (2, 2, 2)], true));
        uring.submit(token(second), write(&file, &[(1, 1, 3), (4, 3, 4)], true));
        uring.kick();
        let mut done = reap(&uring, 2);
        done.sort_by_key(|completion| completion.token);
        let tokens: Vec<u64> = done.iter().map(|completion| completion.token.number).collect();
        assert_eq!(tokens, [first, second]);
        for completion in done {
            let done = completion.result.expect("is written");
            assert_eq!(done.buffers.len(), 2, "the buffers come back");
        }
        assert_eq!(bytes(&disk, &file, 8), [1, 3, 2, 2, 4, 4, 4, 0]);
    }
    assert!(!scratch.path().join("probe").exists(), "the proof cleans up");
}

#[test]
fn the_event_announces_completions() {
    let scratch = Scratch::new("uring-event");
    let Some((_, uring, file)) = rig(&scratch) else { return };
    let event = uring.event().expect("can be cloned");
    let rung = |event: &OwnedFd| rustix::io::read(event, &mut [0; 8][..]).is_ok();
    while rung(&event) {}
    assert!(!uring.look(), "nothing has ended");
    uring.submit(token(1), write(&file, &[(0, 1, 1)], true));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!rung(&event), "nothing is started before the kick");
    uring.kick();
    let start = Instant::now();
    while !uring.look() {
        assert!(start.elapsed() < Duration::from_secs(20), "it ends");
    }
    assert!(rung(&event), "and the event was rung by then");
}

#[test]
fn what_cannot_be_opened_ends_at_once() {
    let scratch = Scratch::new("uring-missing");
    let Some((_, uring, _)) = rig(&scratch) else { return };
    uring.submit(token(1), write(&FileName::new("wal", "never"), &[(0, 1, 1)], true));
    let done = reap(&uring, 1);
    let error = done[0].result.as_ref().expect_err("is missing");
    assert_eq!((done[0].token, error.kind()), (token(1), io::ErrorKind::NotFound));
}

/// One piece of an order fails, whatever became of the other; the next order is as good as ever.
#[test]
fn a_write_that_fails_fails_its_order_alone() {
    let scratch = Scratch::new("uring-failing");
    let Some((disk, uring, file)) = rig(&scratch) else { return };
    // The kernel refuses offsets beyond what a file may have.
    let beyond = (i64::MAX as u64 / BLOCK as u64) - 1;
    uring.submit(token(1), write(&file, &[(0, 1, 1), (beyond, 1, 1)], true));
    uring.submit(token(2), write(&file, &[(1, 1, 2), (2, 1, 2)], true));
    uring.kick();
    let mut done = reap(&uring, 2);
    done.sort_by_key(|completion| completion.token);
    let error = done[0].result.as_ref().expect_err("cannot be written");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    assert!(done[1].result.is_ok());
    assert_eq!(bytes(&disk, &file, 3)[1..], [2, 2]);
}

/// A write that the limit on file sizes cuts short is continued, and fails where nothing more goes.
#[test]
fn a_full_file_fails() {
    let scratch = Scratch::new("uring-full");
    if std::env::var_os(ALONE).is_none() {
        return run_alone("disk::uring::tests::a_full_file_fails");
    }
    let Some((disk, uring, file)) = rig(&scratch) else { return };
    uring.submit(token(1), write(&file, &[(0, 1, 7), (8, 4, 7)], true));
    uring.kick();
    let done = reap(&uring, 1);
    let error = done[0].result.as_ref().expect_err("does not fit");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    assert_eq!(bytes(&disk, &file, 10), [7, 0, 0, 0, 0, 0, 0, 0, 7, 7], "what fits is written");
    uring.submit(token(2), write(&file, &[(8, 2, 8)], true));
    uring.kick();
    assert!(reap(&uring, 1)[0].result.is_ok(), "the queue goes on");
}

const ALONE: &str = "HOLDFAST_TEST_ALONE";

/// Runs a test in a process where files end at 10 blocks: the limit would harm the tests beside it.
fn run_alone(test: &str) {
    let own = std::env::current_exe().expect("is running");
    // The limit counts halves of a KiB. Its signal would kill; ignored, the write fails instead.
    let script = r#"trap "" XFSZ; ulimit -f 80; exec "$0" --exact "$1" --nocapture"#;
    let mut again = std::process::Command::new("sh");
    again.args(["-c", script]).arg(own).arg(test).env(ALONE, "1");
    let output = again.output().expect("there is a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{cause}");
}

#[test]
fn dropping_waits_for_what_was_submitted() {
    let scratch = Scratch::new("uring-drop");
    for kicked in [true, false] {
        let Some((disk, uring, file)) = rig(&scratch) else { return };
        for number in 0..40_u8 {
            let block = u64::from(number % 8);
            uring.submit(token(1), write(&file, &[(block, 1, 1)], false));
        }
        uring.submit(token(2), write(&file, &[(1, 7, 9)], true));
        uring.submit(token(3), DiskOp::Remove { file: FileName::new("wal", "never") });
        if kicked {
            uring.kick();
        }
        drop(uring);
        let written = bytes(&disk, &file, 8);
        assert!(written.iter().all(|byte| matches!(byte, 1 | 9)), "{kicked}: {written:?}");
        disk.perform(DiskOp::Remove { file }).expect("removes");
    }
}

/// More than a ring holds at once.
#[test]
fn a_full_ring_makes_room() {
    let scratch = Scratch::new("uring-many");
    let Some((disk, uring, file)) = rig(&scratch) else { return };
    for number in 0..200 {
        uring.submit(token(number), write(&file, &[(number % 8, 1, 5)], false));
    }
    uring.kick();
    let done = reap(&uring, 200);
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    assert_eq!(bytes(&disk, &file, 8), [5; 8]);
}

/// More completions than the ring has room for, and an owner who never waits in the kernel.
#[test]
fn completions_beyond_the_ring_are_found() {
    let scratch = Scratch::new("uring-overflow");
    let Some((_, uring, file)) = rig(&scratch) else { return };
    for number in 0..400 {
        uring.submit(token(number), write(&file, &[(number % 8, 1, 5)], false));
    }
    uring.kick();
    let (mut done, start) = (Vec::new(), Instant::now());
    std::thread::sleep(Duration::from_millis(50));
    while done.len() < 400 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} of 400 completed", done.len());
        uring.reap(&mut done);
        std::thread::yield_now();
    }
}

/// A flight as the kernel might treat it, without a kernel.
fn flight(disk: &FileDisk, file: &FileName) -> Flight {
    let parts =
        vec![(0, Buffer::from_slice(&[1; BLOCK])), (8192, Buffer::from_slice(&vec![2; 4 * BLOCK]))];
    let handle = disk.handle(file).expect("opens");
    disk.direct(&handle, file).expect("opens past the cache");
    let (mut flight, pieces) = Flight::new(token(1), handle, parts, true);
    assert_eq!(pieces, [Piece::Write(0), Piece::Write(1)]);
    flight.begun();
    flight.begun();
    flight
}

#[test]
fn short_and_interrupted_writes_are_continued() {
    const INTR: i32 = -4;
    const AGAIN: i32 = -11;
    const INVAL: i32 = -22;
    let scratch = Scratch::new("uring-short");
    let Some((disk, _uring, file)) = rig(&scratch) else { return };
    let mut flight = flight(&disk, &file);
    let mut next = |result| {
        let piece = flight.returned(Piece::Write(1), result, &disk)?;
        flight.begun();
        let (offset, rest, direct) = flight.rest(1);
        assert_eq!(piece, Piece::Write(1));
        Some((offset, rest.len(), direct))
    };
    assert_eq!(next(AGAIN), Some((8192, 16384, true)));
    assert_eq!(next(4096), Some((12288, 12288, true)));
    assert_eq!(next(INTR), Some((12288, 12288, true)));
    assert_eq!(next(1000), Some((13288, 11288, true)));
    assert_eq!(next(INVAL), Some((13288, 11288, false)), "the odd rest goes through the cache");
    assert_eq!(next(11288), None);
    assert!(!flight.is_idle(), "the other part is with the kernel");
    assert_eq!(flight.returned(Piece::Write(0), 4096, &disk), None);
    assert!(flight.end().result.is_ok());
}

#[test]
fn a_failure_is_final() {
    const IO: i32 = -5;
    const CANCELED: i32 = -125;
    let scratch = Scratch::new("uring-final");
    let Some((disk, _uring, file)) = rig(&scratch) else { return };
    for first in [IO, CANCELED, 0] {
        let mut flight = flight(&disk, &file);
        assert_eq!(flight.returned(Piece::Write(0), first, &disk), None, "never retried");
        assert!(!flight.is_idle(), "the kernel may still read the other buffer");
        assert_eq!(flight.returned(Piece::Write(1), 4096, &disk), None, "nor is the rest begun");
        assert!(flight.end().result.is_err(), "never believed");
    }
}

/// A kernel that puts a write off for ever does not keep us busy for ever.
#[test]
fn patience_ends() {
    let scratch = Scratch::new("uring-patience");
    let Some((disk, _uring, file)) = rig(&scratch) else { return };
    let mut flight = flight(&disk, &file);
    let mut rounds = 0;
    while flight.returned(Piece::Write(0), -11, &disk).is_some() {
        flight.begun();
        rounds += 1;
        assert!(rounds < 10_000);
    }
    flight.returned(Piece::Write(1), 4 * BLOCK as i32, &disk);
    let error = flight.end().result.expect_err("has failed");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}
