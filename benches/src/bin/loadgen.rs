//! The load generator as a program: its numbers, and exit code 1 when an answer was wrong.

use std::process::ExitCode;

use clap::Parser;
use holdfast_benches::loadgen::{Config, run};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    config: Config,
    /// One object of JSON instead of text; without the timeline.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options.config) {
        Ok(report) => {
            if options.json {
                println!("{}", report.json());
            } else {
                println!("{report}");
                for (nth, cell) in report.tally.timeline.iter().enumerate() {
                    let (time, worst) = (nth as f64 / 10.0, cell.worst as f64 / 1e6);
                    println!("{time:>6.1} s  {:>8} calls  worst {worst:>9.3} ms", cell.count);
                }
            }
            if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(cause) => {
            eprintln!("loadgen: {cause}");
            ExitCode::from(2)
        }
    }
}
