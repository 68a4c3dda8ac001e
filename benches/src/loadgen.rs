//! A lean load generator: a closed loop of connections × streams over plain HTTP/2, with frames made
//! by hand, so that the client costs a few microseconds a call and the server is what is measured.
//!
//! Every answer is checked: gRPC status, a revision that grows, the key's presence, and the bytes of
//! a value that a load generator wrote. One thread drives all its connections with epoll.
//!
//! Laws:
//!  1. A slot carries one call at a time; its next one starts when the answer has been checked.
//!  2. Only calls that begin and end inside the measured time are counted.
//!  3. Whatever is not a correct answer is an error, counted by its words.
//!
//! Worked example: `loadgen --op put --conns 16 --inflight 16 --threads 1 --pid 4711`.

mod conn;
mod hpack;
mod pb;
mod process;
mod report;
mod work;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

pub use report::Report;

/// What the slots do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Put random keys.
    Put,
    /// Read random keys, linearizably.
    Range,
    /// Read random keys from the member's own state.
    RangeSerializable,
    /// Delete random keys.
    Delete,
}

/// A run.
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen", about = "A closed loop of conns × inflight clients")]
pub struct Config {
    /// What the clients do.
    #[arg(long, value_enum, default_value = "put")]
    pub op: Kind,
    /// Servers; connections go round-robin.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub endpoints: Vec<SocketAddr>,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub conns: u16,
    /// Calls under way on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub inflight: u16,
    /// Threads of the generator; at most one a connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Keys to choose from.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Bytes of a key, its prefix included.
    #[arg(long, default_value_t = 32)]
    pub key_size: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub val_size: usize,
    /// What the keys begin with.
    #[arg(long, default_value = "/bench/")]
    pub prefix: String,
    /// Chooses the keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The server's process, to measure its CPU time.
    #[arg(long)]
    pub pid: Option<u32>,
}

/// Runs the load and measures it.
///
/// # Errors
/// A server that cannot be reached, or a system that has no epoll or /proc.
pub fn run(config: Config) -> Result<Report, String> {
    let threads = config.threads.min(config.conns);
    let begin = Instant::now() + seconds(config.warmup);
    let end = begin + seconds(config.duration);
    let config = Arc::new(config);
    let start = |thread| {
        let config = config.clone();
        std::thread::spawn(move || worker::run(&config, (thread, threads), begin..end))
    };
    let handles: Vec<_> = (0..threads).map(start).collect();
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    let before = process::Sample::take(config.pid)?;
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let after = process::Sample::take(config.pid)?;
    let mut report = Report::new(&config, after.since(&before));
    for handle in handles {
        report.add(handle.join().map_err(|_| "a thread of the generator panicked")??);
    }
    Ok(report)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
