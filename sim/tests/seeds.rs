//! Seeds that every `cargo test` runs, all checkers on, and what together they must have done: a gate
//! that tests nothing must not be green.
//!
//! `SIM_SEEDS=A..B` runs others.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_sim::report::{Race, Report, Totals};
use holdfast_sim::swarm::Swarm;
use holdfast_sim::watchdog::watched;
use holdfast_sim::world::{RunOptions, run};

/// How many seeds plain `cargo test` runs.
const SEEDS: u64 = 300;

fn range() -> (u64, u64) {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return (0, SEEDS) };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS is A..B");
    let number = |text: &str| text.parse().expect("SIM_SEEDS is A..B, two numbers");
    (number(from), number(to))
}

fn run_all(from: u64, to: u64) -> Totals {
    let next = AtomicU64::new(from);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let report =
                        watched(seed, || run(RunOptions { seed, ..RunOptions::default() }));
                    totals.lock().expect("nothing panics while it is held").add(&report);
                }
            });
        }
    });
    totals.into_inner().expect("nothing panics while it is held")
}

#[test]
fn seeds_break_no_law_and_do_enough() {
    let (from, to) = range();
    let totals = run_all(from, to);
    // Past the capture of test output: a gate must show what ran.
    drop(writeln!(std::io::stdout(), "{totals}"));
    assert!(totals.failures.is_empty(), "{}", totals.failures.join("\n"));
    assert_eq!(totals.seeds, to - from);
    assert!(totals.bytes_lost_median() > 0, "the median seed loses no unsynced byte");
    if totals.seeds >= SEEDS {
        assert!(totals.seeds_chunked >= 50, "{} seeds ship a snapshot", totals.seeds_chunked);
        let interrupted = totals.sum.crashes_in_snapshot;
        assert!(interrupted > 0, "no member crashes while it receives a snapshot");
        assert!(totals.sum.windows > 1_000, "{} windows were searched", totals.sum.windows);
        assert!(totals.sum.watch_events > 10_000, "{} watch events", totals.sum.watch_events);
        assert!(totals.sum.leases_expired > 100, "{} leases expired", totals.sum.leases_expired);
        assert!(totals.sum.recoveries_cut > 0, "no recovery is cut off");
        assert!(totals.sum.strangers_refused > 10, "{} strangers", totals.sum.strangers_refused);
        over_http2(&totals);
        everything_races(&totals);
        for (law, compared) in &totals.sum.compared {
            // R12 compares once for each disk that is lost.
            let least = if *law == "R12" { 50 } else { 100 };
            assert!(*compared >= least, "{law} had something to compare only {compared} times");
        }
    }
}

/// Nothing that changes a cluster has run in calm weather only, and clusters of every size have.
fn everything_races(totals: &Totals) {
    for race in Race::ALL {
        let [crash, partition, pause] = totals.sum.races.of(race);
        let name = race.name();
        assert!(crash > 0, "no {name} while a member was down");
        assert!(partition > 0, "no {name} during a partition");
        assert!(pause > 0, "no {name} while a member stood still");
    }
    let sum = &totals.sum;
    assert!(sum.wiped > 0 && sum.wiped_stopped > 0, "no member has lost its data and been told so");
    assert!(sum.forced > 0, "no member has gone on alone");
    for members in [1, 3, 5, 7] {
        let seeds = totals.sizes.get(&members).copied().unwrap_or(0);
        assert!(seeds >= 5, "{seeds} seeds begin with {members} members");
    }
}

/// The seeds whose clients have connections have run, and done enough.
fn over_http2(totals: &Totals) {
    let sum = &totals.sum;
    assert!(sum.over_http2 * 5 >= totals.seeds, "{} seeds over HTTP/2", sum.over_http2);
    assert!(sum.over_http2 * 3 <= totals.seeds, "{} seeds over HTTP/2", sum.over_http2);
    let each = [
        ("calls", sum.calls, 500),
        ("watch events", sum.watch_events_http2, 500),
        ("connections", sum.connections, 20),
        ("broken connections", sum.connections_broken, 5),
        ("hostile clients", sum.hostile, 5),
        ("stops", sum.stops, 1),
    ];
    for (what, count, least) in each {
        let wanted = sum.over_http2 * least;
        assert!(count >= wanted, "{count} {what} over HTTP/2, {wanted} are wanted");
    }
}

fn trace(seed: u64) -> (u64, u64) {
    let Report { trace, counts, .. } = run(RunOptions { seed, ..RunOptions::default() });
    (trace, counts.events)
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let http2 = |seed: &u64| Swarm::draw(*seed).transport.is_some();
    let direct = (0..).find(|seed| !http2(seed)).expect("most seeds are");
    let served: Vec<u64> = (0..).filter(http2).take(2).collect();
    for seed in [direct, served[0], served[1]] {
        let first = trace(seed);
        assert_eq!(first, trace(seed), "seed {seed}, one after the other");
        let twice = std::thread::scope(|scope| {
            let other = scope.spawn(|| trace(seed));
            let own = trace(seed);
            [own, other.join().expect("no run panics")]
        });
        assert_eq!(twice, [first, first], "seed {seed}, side by side");
        for _ in 0..2 {
            let program = env!("CARGO_BIN_EXE_holdfast-sim");
            let mut replay = std::process::Command::new(program);
            let output = replay.args(["replay", &seed.to_string()]).output();
            let text = output.expect("the program is there").stdout;
            let text = String::from_utf8_lossy(&text).into_owned();
            let wanted = format!("trace {:016x}", first.0);
            assert!(text.contains(&wanted), "seed {seed}, in another process: {text}");
        }
    }
}
