//! Real etcd beside Holdfast: the table, or pictures of how cost grows.
//!
//! ```sh
//! cargo build --release -p holdfast-server
//! cargo run --release -p holdfast-benches --bin compare -- --quick
//! ```
//!
//! Exit code 1 when an answer was wrong or a server died, 2 when nothing could be measured.

use std::process::ExitCode;

use clap::Parser;
use holdfast_benches::compare::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("compare: {cause}");
            ExitCode::from(2)
        }
    }
}
