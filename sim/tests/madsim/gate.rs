//! How many seeds run, in how many threads, and what is printed about them.

use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::world::{Outcome, run};

/// Seeds of a plain run.
const SEEDS: Range<u64> = 0..24;

/// Fewer seeds than this prove too little, unless a range was asked for.
const SEEDS_MIN: usize = 20;

/// Threads that run seeds at the same time.
const THREADS: usize = 2;

/// `MADSIM_SEEDS=A..B`, or [`SEEDS`].
fn seeds() -> (Range<u64>, usize) {
    let Ok(text) = std::env::var("MADSIM_SEEDS") else { return (SEEDS, SEEDS_MIN) };
    let range =
        text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    (range.unwrap_or_else(|| panic!("MADSIM_SEEDS is A..B, not {text}")), 1)
}

fn run_all(seeds: Range<u64>) -> Vec<Result<Outcome, String>> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run(seed);
                    results.lock().expect("no holder panics").push((seed, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no holder panics");
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn worlds() {
    let (seeds, least) = seeds();
    let begin = Instant::now();
    let results = run_all(seeds);
    let good: Vec<&Outcome> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    for outcome in &good {
        println!("{outcome:?}");
    }
    let bad: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    for failure in &bad {
        println!("{failure}\n");
    }
    let simulated: u64 = good.iter().map(|outcome| outcome.simulated.as_secs()).sum();
    // Past the capture of test output: a gate must show what ran.
    let shown = writeln!(
        std::io::stdout(),
        "madsim: {} seeds ran, {} failed, {} writes acknowledged, {} reads, {} events, {} leaders \
         lost under load, {} bytes lost, {simulated} s simulated in {:.1} s",
        results.len(),
        bad.len(),
        sum(&good, |outcome| outcome.acknowledged as u64),
        sum(&good, |outcome| outcome.reads as u64),
        sum(&good, |outcome| outcome.events as u64),
        sum(&good, |outcome| outcome.counts.leaders_lost),
        sum(&good, |outcome| outcome.counts.bytes_lost),
        begin.elapsed().as_secs_f64(),
    );
    drop(shown);
    let lost = sum(&good, |outcome| outcome.counts.bytes_lost);
    assert!(lost > 0 || results.len() < SEEDS_MIN, "no crash took a byte that was not synced");
    assert!(results.len() >= least, "{} seeds ran, at least {least} must", results.len());
    assert!(bad.is_empty(), "{} of {} seeds failed", bad.len(), results.len());
}

fn sum(outcomes: &[&Outcome], what: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(|outcome| what(outcome)).sum()
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in [1, 2] {
        let first = run(seed).expect("the seed passes");
        let others = std::thread::scope(|scope| {
            let threads = [scope.spawn(|| run(seed)), scope.spawn(|| run(seed))];
            threads.map(|thread| thread.join().expect("a seed's panic is caught"))
        });
        for other in others {
            assert_eq!(other.as_ref(), Ok(&first));
        }
    }
}
