//! The load generator as a program: one line of numbers, and exit code 1 when an answer was wrong.

use std::process::ExitCode;

use clap::Parser;
use holdfast_benches::loadgen::{Config, run};

fn main() -> ExitCode {
    match run(Config::parse()) {
        Ok(report) => {
            println!("{report}");
            if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(cause) => {
            eprintln!("loadgen: {cause}");
            ExitCode::from(2)
        }
    }
}
