//! Deliberate bugs, each of which the checker that is named for it must catch: a simulator that does
//! not see planted bugs proves nothing. Only the named checker is listened to, so that none can hide
//! behind another.
//!
//! A separate build, which no other test may share:
//! `cargo test -p holdfast-sim --features mutants --test mutants --target-dir target/mutants`.
//! `SIM_MUTANT=21,23` runs those two. Each hunt begins at a seed that has caught the bug before, so that
//! the gate stays short; `holdfast-sim mutants` begins at 0.
#![cfg(feature = "mutants")]

use holdfast_sim::mutants::{MUTANTS, SEEDS_MAX};

#[test]
fn each_mutant_is_caught_by_its_own_checker() {
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = std::env::var("SIM_MUTANT").ok();
    let wanted: Option<Vec<u16>> =
        wanted.map(|text| text.split(',').filter_map(|number| number.parse().ok()).collect());
    let mut survivors = Vec::new();
    for mutant in MUTANTS {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&mutant.number)) {
            continue;
        }
        let (number, checker, what) = (mutant.number, mutant.checker, mutant.what);
        match mutant.hunt(mutant.near, SEEDS_MAX) {
            Some(report) => {
                let seed = report.seed;
                let seen = report.violation.map(|violation| violation.what).unwrap_or_default();
                let short: String = seen.chars().take(100).collect();
                eprintln!("M{number:<3} caught by {checker:<3} at seed {seed:<4} {what}: {short}");
            }
            None => {
                eprintln!("M{number:<3} SURVIVED {checker:<3} {SEEDS_MAX} seeds: {what}");
                survivors.push(number);
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(survivors.is_empty(), "mutants that no seed caught: {survivors:?}");
}
