//! `holdfast-jepsen kill`: the kill test as a program.
//!
//! ```text
//! cargo build --release -p holdfast-server
//! cargo run --release -p holdfast-jepsen -- kill --binary target/release/holdfast
//! ```
//!
//! Ends with code 0 when nothing acknowledged was lost, 1 with the evidence when something was, 2 when it
//! was called wrongly, 130 when it was interrupted. The members end with it in every case.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use holdfast_jepsen::kill::{Options, run};
use holdfast_jepsen::member::kill_all;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: holdfast-jepsen kill --binary PATH [--members 3] [--rounds 1000] \
    [--writes 200000] [--all-every 50] [--seed N] [--dir DIR] [--minutes 120] [-- FLAGS OF THE MEMBERS]

Runs a cluster of real processes, kills its members at random while clients write to all of them, and
fails if anything acknowledged is lost. DIR must not hold members of an earlier run; without it, one
below the system's folder for temporary files is used, and removed when all was well.";

fn main() -> ExitCode {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        kill_all();
        default_hook(info);
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments) {
        Ok((options, temporary)) => execute(&options, temporary),
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options, temporary: bool) -> ExitCode {
    println!(
        "{} members of {} in {}, seed {}",
        options.members,
        options.binary.display(),
        options.dir.display(),
        options.seed
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a process that has just started can have an event loop");
    let mut progress = |line: &str| println!("{line}");
    let outcome = runtime.block_on(async {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        let mut interrupt = signal(interrupt).expect("the runtime has its signal driver");
        let mut terminate = signal(terminate).expect("the runtime has its signal driver");
        tokio::select! {
            biased;
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            outcome = run(options, &mut progress) => Some(outcome),
        }
    });
    match outcome {
        Some(Ok(report)) => {
            println!("{report}");
            if temporary {
                // What is left behind harms nobody.
                let _ = std::fs::remove_dir_all(&options.dir);
            }
            ExitCode::SUCCESS
        }
        Some(Err(evidence)) => {
            println!("FAILED in {}, seed {}\n{evidence}", options.dir.display(), options.seed);
            ExitCode::FAILURE
        }
        None => ExitCode::from(130),
    }
}

/// Gives the options, and whether the directory was of our choosing.
fn parse(arguments: &[String]) -> Result<(Options, bool), String> {
    let mut words = arguments.iter();
    if words.next().map(String::as_str) != Some("kill") {
        return Err("the first word must be the name of a test: kill".to_owned());
    }
    let seed = std::process::id().into();
    let dir = std::env::temp_dir().join(format!("holdfast-kill-{seed}"));
    let mut options = Options::new(PathBuf::new(), dir.clone(), 3);
    options.seed = seed;
    while let Some(flag) = words.next() {
        if flag == "--" {
            options.flags.extend(words.cloned());
            break;
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag} {value}: not a number"));
        match flag.as_str() {
            "--binary" => options.binary = value.into(),
            "--dir" => options.dir = value.into(),
            "--members" => options.members = number()?.clamp(1, 9) as usize,
            "--rounds" => options.rounds = number()?.max(1),
            "--writes" => options.writes = number()?,
            "--all-every" => options.all_every = number()?.max(1),
            "--seed" => options.seed = number()?,
            "--minutes" => options.time = Duration::from_secs(number()?.saturating_mul(60)),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    if options.binary.as_os_str().is_empty() {
        return Err("--binary is needed: the path of the program holdfast".to_owned());
    }
    let temporary = options.dir == dir;
    Ok((options, temporary))
}
