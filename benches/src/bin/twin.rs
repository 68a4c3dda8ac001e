//! The same requests to a real etcd and to Holdfast, and every difference between their answers.
//!
//! ```sh
//! cargo build --release -p holdfast-server
//! cargo run --release -p holdfast-benches --bin twin -- --seed 1 --requests 300
//! ```
//!
//! Exit code 1 when something differs that is not listed, 2 when nothing could be compared.

use std::process::ExitCode;

use clap::Parser;
use holdfast_benches::twin::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("twin: {cause}");
            ExitCode::from(2)
        }
    }
}
