//! Deliberate bugs, each of which the checker that is named for it must catch: a simulator that does
//! not see planted bugs proves nothing. Only the named checker is listened to, so that none can hide
//! behind another.
//!
//! A separate build, which no other test may share:
//! `cargo test -p holdfast-sim --features mutants --test mutants --target-dir target/mutants`.
//! `SIM_MUTANT=21` runs one. That no checker speaks without a bug is what `tests/seeds.rs` shows on
//! the same seeds.
#![cfg(feature = "mutants")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_core::mutant;
use holdfast_sim::report::Report;
use holdfast_sim::world::{RunOptions, run_with};

/// The bug, its checker, and what it is (`MUTANTS.md`).
const MUTANTS: [(u16, &str, &str); 33] = [
    (1, "R7", "messages leave before the log is flushed"),
    (2, "R1", "term and vote are not persisted"),
    (6, "K1", "a leader reads without asking the others"),
    (7, "K1", "a read index without a round of heartbeats"),
    (9, "K1", "a read before the read index is applied"),
    (13, "R11", "a membership change takes effect when appended"),
    (14, "R10", "a learner counts towards a quorum"),
    (16, "R10", "a removed member goes on voting"),
    (21, "R2", "the log's checksums are not looked at"),
    (23, "R2", "a conflicting append does not cut the log"),
    (28, "R6", "the log is purged before the checkpoint is durable"),
    (38, "K1", "a delete does not count as a revision"),
    (44, "W3", "a slow stream loses events"),
    (45, "W6", "progress runs ahead of events not sent"),
    (47, "W9", "a watch from a future revision gets earlier events"),
    (54, "A2", "the digest of what was applied holds something of the member"),
    (58, "L1", "a deposed leader goes on expiring leases"),
    (60, "L3", "a revocation and its keys are not one change"),
    (62, "A1", "a request is not checked against the auth revision"),
    (63, "R5", "a change of users is applied by one member alone"),
    (67, "R10", "a member's id is used again"),
    (68, "A3", "an alarm is not replicated"),
    (69, "R5", "the quota is looked at in apply, by each member's own"),
    (70, "R5", "a snapshot leaves a table out"),
    (71, "W9", "progress is told on a watch whose start lies in the future"),
    (72, "H2", "a stream's window is overdrawn"),
    (73, "H3", "a reset of one stream forgets the others' turns"),
    (74, "H3", "a connection that has room again does not look"),
    (75, "H1", "an answer leaves on the newest stream"),
    (76, "V5", "a full stream is not told that it can go on"),
    (77, "H3", "a connection that ends leaves its calls"),
    (90, "R5", "the state is published between the slices of a command"),
    (91, "L1", "a renewal is confirmed while what was left before it stands noted"),
];

/// Seeds after which a mutant has survived.
const SEEDS: u64 = 300;

#[test]
fn each_mutant_is_caught_by_its_own_checker() {
    std::panic::set_hook(Box::new(|_| {}));
    let wanted: Option<u16> = std::env::var("SIM_MUTANT").ok().and_then(|text| text.parse().ok());
    let mut survivors = Vec::new();
    for (number, checker, what) in MUTANTS.into_iter() {
        if wanted.is_some_and(|wanted| wanted != number) {
            continue;
        }
        match hunt(number, checker) {
            Some(report) => {
                let seed = report.seed;
                let seen = report.violation.map(|violation| violation.what).unwrap_or_default();
                let short: String = seen.chars().take(100).collect();
                eprintln!("M{number:<3} caught by {checker:<3} at seed {seed:<4} {what}: {short}");
            }
            None => {
                eprintln!("M{number:<3} SURVIVED {checker:<3} {SEEDS} seeds: {what}");
                survivors.push(number);
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(survivors.is_empty(), "mutants that no seed caught: {survivors:?}");
}

/// The first failing seed, by two threads.
fn hunt(number: u16, checker: &'static str) -> Option<Report> {
    let next = AtomicU64::new(0);
    let caught: Mutex<Option<Report>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || caught.lock().expect("nothing panics here").is_some() {
                        return;
                    }
                    let options = RunOptions { seed, only: Some(checker), ..RunOptions::default() };
                    let report = run_with(options, || mutant::activate(number));
                    if report.violation.is_some() {
                        let mut first = caught.lock().expect("nothing panics here");
                        if first.as_ref().is_none_or(|other| other.seed > seed) {
                            *first = Some(report);
                        }
                    }
                }
            });
        }
    });
    caught.into_inner().expect("nothing panics here")
}
