//! The simulator's command: runs seeds, replays one, shrinks a failure, hunts the planted bugs.
//!
//! `--mutant` plants a bug of `MUTANTS.md` and needs a build with that feature.
//!
//! A panic of a member ends a release build at once (it aborts); the seed is printed first. `shrink`
//! replays in child processes, so that it works on those as well.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdfast_sim::checker::law_named;
use holdfast_sim::nemesis::Mask;
use holdfast_sim::report::Totals;
use holdfast_sim::watchdog::watched;
use holdfast_sim::world::{RunOptions, run, run_with};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match expected(&words).and_then(|()| command(&words)) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str = "\
usage: holdfast-sim run [--seeds A..B] [--threads N] [--ledger FILE --commit ID]
       holdfast-sim replay SEED [--mask 0-3,7] [--only LAW] [--mutant N] [--verbose]
       holdfast-sim shrink SEED [--mask 0-3,7] [--only LAW] [--mutant N]
       holdfast-sim mutants [--mutant N] [--seeds MOST]";

/// Refuses a word that the command does not know: an hour of seeds is too long to learn of a typo.
fn expected(words: &[String]) -> Result<(), String> {
    let (numbers, flags): (usize, &[&str]) = match words.first().map(String::as_str) {
        Some("run") => (0, &["--seeds", "--threads", "--ledger", "--commit"]),
        Some("replay" | "shrink") => (1, &["--mask", "--only", "--mutant"]),
        Some("mutants") => (0, &["--mutant", "--seeds"]),
        _ => return Err("the first word is run, replay, shrink or mutants".into()),
    };
    let mut rest = words.iter().skip(1 + numbers);
    while let Some(word) = rest.next() {
        let valued = flags.contains(&word.as_str());
        if valued && rest.next().is_none() {
            return Err(format!("{word} wants a value"));
        }
        let switch = word == "--verbose" && words[0] == "replay";
        if !valued && !switch {
            return Err(format!("{word} is not known to {}", words[0]));
        }
    }
    Ok(())
}

fn command(words: &[String]) -> Result<ExitCode, String> {
    let value = |flag: &str| {
        let place = words.iter().position(|word| word == flag)?;
        words.get(place + 1).cloned()
    };
    let seed = || words.get(1).and_then(|word| word.parse().ok()).ok_or("a seed is a number");
    let mask = Mask::parse(&value("--mask").unwrap_or_default())?;
    match words.first().map(String::as_str) {
        Some("run") => {
            let range = value("--seeds").unwrap_or_else(|| "0..1000".to_string());
            let (from, to) = range.split_once("..").ok_or("--seeds is A..B")?;
            let number = |text: &str| text.parse::<u64>().map_err(|_| "--seeds is A..B");
            let threads = value("--threads").and_then(|text| text.parse().ok()).unwrap_or(2);
            let totals = run_all(number(from)?, number(to)?, threads);
            if let Some(path) = value("--ledger") {
                let commit = value("--commit").unwrap_or_else(|| "unknown".to_string());
                note(&path, &commit, &range, &totals).map_err(|e| format!("{path}: {e}"))?;
            }
            Ok(verdict(totals.failures.is_empty() && totals.bytes_lost_median() > 0))
        }
        Some("replay") => {
            let verbose = words.iter().any(|word| word == "--verbose");
            let only = match value("--only") {
                Some(id) => Some(law_named(&id).ok_or("--only names no law")?),
                None => None,
            };
            let mutant = mutant_named(value("--mutant"))?;
            Ok(replay(RunOptions { seed: seed()?, mask, verbose, only, all: false }, mutant))
        }
        Some("shrink") => {
            let passed = ["--only", "--mutant"].into_iter();
            let passed = passed.filter_map(|flag| Some([flag.to_string(), value(flag)?]));
            shrink(seed()?, mask, &passed.flatten().collect::<Vec<_>>())
        }
        Some("mutants") => {
            let most = value("--seeds").and_then(|text| text.parse().ok());
            matrix(mutant_named(value("--mutant"))?, most)
        }
        _ => Err("what shall be done?".into()),
    }
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds in parallel and prints progress, failures and totals.
fn run_all(from: u64, to: u64, threads: u64) -> Totals {
    let next = AtomicU64::new(from);
    let totals = Mutex::new(Totals::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let report =
                        watched(seed, || run(RunOptions { seed, ..RunOptions::default() }));
                    let mut totals = totals.lock().expect("no run panics while it holds this");
                    totals.add(&report);
                    if let Some(failure) = report.failure() {
                        println!("{failure}");
                    }
                    if totals.seeds.is_multiple_of(100) {
                        let rate = totals.seeds as f64 / begun.elapsed().as_secs_f64();
                        eprintln!(
                            "{} of {} seeds, {} failed, {rate:.1} a second",
                            totals.seeds,
                            to - from,
                            totals.failures.len()
                        );
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("no run panics while it holds this");
    let seconds = begun.elapsed().as_secs_f64();
    let rate = totals.sum.events as f64 / seconds;
    println!("{totals}\n{seconds:.0} s, {rate:.0} events a second");
    totals
}

fn mutant_named(text: Option<String>) -> Result<u16, String> {
    let Some(text) = text else { return Ok(0) };
    if !cfg!(feature = "mutants") {
        return Err("--mutant needs a build with --features mutants".into());
    }
    text.parse().map_err(|_| format!("--mutant {text} is not a number"))
}

#[cfg(feature = "mutants")]
fn plant(mutant: u16) {
    holdfast_core::mutant::activate(mutant);
}

#[cfg(not(feature = "mutants"))]
fn plant(_mutant: u16) {}

/// Prints who catches which bug after how many seeds, and who else would have at that seed.
#[cfg(feature = "mutants")]
fn matrix(wanted: u16, most: Option<u64>) -> Result<ExitCode, String> {
    use holdfast_sim::mutants::{MUTANTS, SEEDS_MAX, SEEDS_MOST};
    std::panic::set_hook(Box::new(|_| {}));
    let most = most.unwrap_or(SEEDS_MAX);
    let (mut late, mut survivors) = (0, 0);
    println!(
        "| mutant | what is wrong | checker | seeds | noticed as well by |\n|---|---|---|---|---|"
    );
    let all = MUTANTS.iter().filter(|mutant| wanted == 0 || mutant.number == wanted);
    for mutant in all.clone() {
        let (number, checker, what) = (mutant.number, mutant.checker, mutant.what);
        let (seeds, others) = match mutant.hunt(0, most) {
            Some(report) => {
                late += usize::from(report.seed >= SEEDS_MOST);
                ((report.seed + 1).to_string(), mutant.noticed_by(report.seed).join(" "))
            }
            None => {
                survivors += 1;
                (format!("more than {most}"), String::new())
            }
        };
        println!("| M{number} | {what} | {checker} | {seeds} | {others} |");
    }
    let all = all.count();
    println!("\n{all} mutants, {survivors} survived, {late} took more than {SEEDS_MOST} seeds");
    Ok(verdict(survivors == 0 && late * 10 <= all))
}

#[cfg(not(feature = "mutants"))]
fn matrix(_: u16, _: Option<u64>) -> Result<ExitCode, String> {
    Err("mutants needs a build with --features mutants".into())
}

fn replay(options: RunOptions, mutant: u16) -> ExitCode {
    let seed = options.seed;
    let report = watched(seed, || run_with(options, || plant(mutant)));
    println!("seed {seed}: {}\n{}\ntrace {:016x}", report.swarm, report.counts, report.trace);
    if let Some(violation) = &report.violation {
        println!("{VIOLATION}{}: {violation}", violation.checker);
    } else if let Some(failure) = report.failure() {
        println!("{failure}");
    }
    verdict(report.failure().is_none())
}

/// What a replay prints before the id of the law that was broken.
const VIOLATION: &str = "violation of ";

/// Which law a replay in a process of its own breaks; a panic counts as one.
fn broken(seed: u64, mask: &Mask, passed: &[String]) -> Option<String> {
    let program = std::env::current_exe().expect("the running program has a path");
    let mut child = Command::new(program);
    child.args(["replay", &seed.to_string(), "--mask", &mask.to_string()]).args(passed);
    let output = child.output().expect("the program can be started again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let named = text.lines().find_map(|line| line.strip_prefix(VIOLATION));
    match named {
        Some(rest) => rest.split(':').next().map(str::to_string),
        None if output.status.code().is_none() => Some("panic".to_string()),
        None => None,
    }
}

fn shrink(seed: u64, mask: Mask, passed: &[String]) -> Result<ExitCode, String> {
    use holdfast_sim::{nemesis, swarm::Swarm};
    let law = broken(seed, &mask, passed).ok_or("this seed breaks no law")?;
    let schedule = nemesis::schedule(&Swarm::draw(seed));
    let still = |mask: &Mask| broken(seed, mask, passed).is_some_and(|found| found == law);
    let shrunk = holdfast_sim::shrink::shrink_mask(schedule.len() as u32, mask, still);
    println!("seed {seed} still breaks {law} with these faults:");
    for fault in schedule.iter().filter(|fault| !shrunk.0.contains(&fault.ordinal)) {
        println!("  {fault}");
    }
    let passed = passed.join(" ");
    println!("cargo run -p holdfast-sim --release -- replay {seed} --mask {shrunk} {passed}");
    Ok(ExitCode::SUCCESS)
}

fn note(path: &str, commit: &str, range: &str, totals: &Totals) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "\n## {commit}, seeds {range}\n\n{totals}")
}
