//! The planted bugs, each with the checker that must catch it; `MUTANTS.md` says where they are and why
//! that checker can. Only in builds with the feature `mutants`.
//!
//! Leaves out what a bug does: that stands where it is planted.
//!
//! Laws:
//!  1. A bug counts as caught only by its own checker, with every other one silent: none may hide behind
//!     another.
//!  2. It is caught within [`SEEDS_MAX`] seeds, nine of ten within [`SEEDS_MOST`]. That no checker speaks
//!     without a bug is what `tests/seeds.rs` shows, on seeds that include these.
//!
//! Worked example: M38 is hunted by K1 from its seed on, and found at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_core::mutant;

use crate::report::Report;
use crate::world::{RunOptions, run_with};

mod table;

pub use table::MUTANTS;

/// Seeds within which every bug is caught.
pub const SEEDS_MAX: u64 = 5_000;

/// Seeds within which nine of ten are.
pub const SEEDS_MOST: u64 = 200;

/// One planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its number: 1 is M1.
    pub number: u16,
    /// Who must catch it.
    pub checker: &'static str,
    /// A seed that has caught it, where a short hunt begins. It saves time and decides nothing.
    pub near: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl Mutant {
    /// The first of at most `most` seeds from `from` on whose run its checker fails, by two threads.
    pub fn hunt(&self, from: u64, most: u64) -> Option<Report> {
        let next = AtomicU64::new(from);
        let caught: Mutex<Option<Report>> = Mutex::new(None);
        let look = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let over = seed >= from + most;
                if over || caught.lock().expect("nothing panics here").is_some() {
                    return;
                }
                let options =
                    RunOptions { seed, only: Some(self.checker), ..RunOptions::default() };
                let report = run_with(options, || mutant::activate(self.number));
                if report.violation.is_some() {
                    let mut first = caught.lock().expect("nothing panics here");
                    if first.as_ref().is_none_or(|other| other.seed > seed) {
                        *first = Some(report);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(look);
            scope.spawn(look);
        });
        caught.into_inner().expect("nothing panics here")
    }

    /// Whoever else would have caught it at this seed: all laws that the run breaks if it goes on.
    pub fn noticed_by(&self, seed: u64) -> Vec<&'static str> {
        let options = RunOptions { seed, all: true, ..RunOptions::default() };
        let report = run_with(options, || mutant::activate(self.number));
        report.broken.into_keys().filter(|law| *law != self.checker).collect()
    }
}
