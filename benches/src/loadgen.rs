//! A lean load generator: connections × streams over plain HTTP/2, with frames made by hand, so that the
//! client costs a few microseconds a call and the server is what is measured.
//!
//! Every answer is checked: gRPC status, a revision that grows, the key's presence, the bytes of a value
//! that a load generator wrote, and the number of events. One thread drives all its connections with
//! epoll. Closed loop, or open (`rate`): then latency counts from when a request should have been sent.
//! [`null`] is the server to measure the generator itself against. Leaves out TLS and users.
//!
//! Laws:
//!  1. A slot carries one call at a time; its next one starts when the answer has been checked.
//!  2. Only calls that end inside the measured time are counted; CPU time is read at its two ends.
//!  3. Whatever is not a correct answer is an error, counted by its words.
//!
//! Worked example: `loadgen --op put --conns 16 --inflight 16 --pid 4711`.

mod answers;
mod conn;
mod frame;
mod hpack;
pub mod null;
mod pb;
mod process;
mod ready;
mod report;
mod requests;
mod tally;
mod values;
mod work;
mod worker;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

pub use process::Usage;
pub use ready::{leader_of, wait_ready};
pub use report::Report;
pub use tally::{Cell, Kind, Tally};

use values::Pattern;
use worker::Shared;

/// How long watches and revisions may take before the clock starts.
const PREPARATION: Duration = Duration::from_secs(60);

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Put keys.
    Put,
    /// Read a key, or `span` keys, linearizably.
    Range,
    /// The same from the member's own state.
    RangeSerializable,
    /// Compare a key's revision and put it, as Kubernetes does.
    Cas,
    /// Reads and puts, `read-percent` of them reads.
    Mixed,
    /// Swaps, reads, creations and deletions, lists, in the shares of `mix`.
    Kubernetes,
    /// Delete keys.
    Delete,
    /// Grant leases.
    LeaseGrant,
    /// Keep one lease alive on each stream.
    LeaseKeepalive,
    /// Put all keys once, `batch` in a transaction.
    Load,
    /// Forget history before `revision`.
    Compact,
    /// Give space back.
    Defragment,
    /// Stream the database.
    Snapshot,
}

/// A run.
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen", about = "conns × inflight clients of a server that speaks etcd's API")]
pub struct Config {
    /// What the clients do.
    #[arg(long, value_enum, default_value = "put")]
    pub op: Op,
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
    /// End after this many calls, without a warm-up, instead of after `duration`.
    #[arg(long)]
    pub calls: Option<u64>,
    /// Calls a second in an open loop; 0 is a closed loop.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Keys to choose from.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Bytes of a key, its prefix included.
    #[arg(long, default_value_t = 32)]
    pub key_size: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub val_size: usize,
    /// Values have from `val-size` to this many bytes, if it is more.
    #[arg(long, default_value_t = 0)]
    pub val_max: usize,
    /// What the keys begin with.
    #[arg(long, default_value = "/bench/")]
    pub prefix: String,
    /// Take the keys in their order instead of at random.
    #[arg(long)]
    pub sequential: bool,
    /// Name the keys like pods in a hundred namespaces.
    #[arg(long)]
    pub pods: bool,
    /// Keys that a range covers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub span: u64,
    /// A range only counts.
    #[arg(long)]
    pub count_only: bool,
    /// Share of reads in `mixed`.
    #[arg(long, default_value_t = 80)]
    pub read_percent: u64,
    /// Shares of swaps, reads, creations and deletions, lists in `kubernetes`.
    #[arg(long, value_delimiter = ',', default_value = "64,30,5,1")]
    pub mix: Vec<u64>,
    /// Watches beside the calls.
    #[arg(long, default_value_t = 0)]
    pub watchers: usize,
    /// Connections that carry them; 0 is one for a hundred.
    #[arg(long, default_value_t = 0)]
    pub watch_conns: usize,
    /// Watch another prefix than the keys have.
    #[arg(long)]
    pub watch_prefix: Option<String>,
    /// Watches ask for the previous pair.
    #[arg(long)]
    pub prev_kv: bool,
    /// Keys in a transaction of `load`.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: u64,
    /// Seconds of a lease.
    #[arg(long, default_value_t = 3600)]
    pub ttl: u64,
    /// What `compact` keeps.
    #[arg(long, default_value_t = 0)]
    pub revision: i64,
    /// `compact` waits until it is done.
    #[arg(long)]
    pub physical: bool,
    /// Chooses the keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The servers' processes, to measure what they use.
    #[arg(long = "pid", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Keep the count and the worst latency of each tenth of a second.
    #[arg(long)]
    pub timeline: bool,
}

impl Config {
    /// A run with defaults.
    pub fn new(op: Op, endpoints: &[SocketAddr]) -> Config {
        Config { op, endpoints: endpoints.to_vec(), ..Config::parse_from(["loadgen"]) }
    }

    /// How many calls end the run; None if time does.
    fn total(&self) -> Option<u64> {
        match self.op {
            Op::Load => Some(self.keys.div_ceil(self.batch)),
            Op::Compact | Op::Defragment | Op::Snapshot => Some(1),
            _ => self.calls,
        }
    }

    fn mix(&self) -> [u64; 4] {
        std::array::from_fn(|nth| self.mix.get(nth).copied().unwrap_or(0))
    }

    /// How many events so many changes make.
    fn events_expected(&self, changes: u64) -> u64 {
        if self.watch_prefix.is_some() { 0 } else { changes * self.watchers as u64 }
    }

    /// What has to be ready before the clock starts: watches, and threads that know the keys.
    fn is_prepared(&self, shared: &Shared, threads: usize) -> bool {
        let learns = matches!(self.op, Op::Cas | Op::Kubernetes);
        shared.watching.load(Relaxed) >= self.watchers
            && (!learns || shared.learned.load(Relaxed) >= threads)
    }
}

/// Runs the load and measures it.
///
/// # Errors
/// A server that cannot be reached or prepared, or a system that has no epoll or /proc.
pub fn run(config: &Config) -> Result<Report, String> {
    if config.endpoints.is_empty() || config.prefix.is_empty() {
        return Err("endpoints and prefix may not be empty".to_owned());
    }
    let threads = usize::from(config.threads.min(config.conns));
    let pattern = Pattern::new(config.val_size.max(config.val_max));
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let start = |thread| {
            let (shared, pattern) = (&shared, &pattern);
            scope.spawn(move || worker::run(config, shared, pattern, (thread, threads)))
        };
        let handles: Vec<_> = (0..threads).map(start).collect();
        let before = time_run(config, &shared, threads);
        let mut tally = Tally::default();
        let mut failed = None;
        for handle in handles {
            match handle.join().map_err(|_| "a thread of the generator panicked".to_owned())? {
                Ok(part) => tally.add(part),
                Err(what) => failed = Some(what),
            }
        }
        if let Some(what) = failed {
            return Err(what);
        }
        let Timed { begin, usage, after } = before?;
        let after = after.map_or_else(|| Usage::of(&config.pids), Ok)?;
        let seconds = match config.total() {
            None => config.duration,
            Some(_) => tally.last.saturating_sub(begin).max(1) as f64 / 1e9,
        };
        let mut report = Report::new(config, tally, seconds, after.since(&usage));
        let expected = config.events_expected(shared.changes.load(Relaxed));
        report.check_events(shared.events.load(Relaxed), expected);
        Ok(report)
    })
}

/// When the clock started, and what had been used then and when it stopped.
struct Timed {
    begin: u64,
    usage: Usage,
    /// None when calls end the run, not time.
    after: Option<Usage>,
}

/// Starts the clock when all is prepared, and reads the counters at its two ends.
fn time_run(config: &Config, shared: &Shared, threads: usize) -> Result<Timed, String> {
    let timed = wait_prepared(config, shared, threads).and_then(|()| {
        let warmup = if config.total().is_some() { 0.0 } else { config.warmup };
        let begin = now_ns() + seconds(warmup).as_nanos() as u64;
        shared.begin.store(begin.max(1), Relaxed);
        std::thread::sleep(seconds(warmup));
        let usage = Usage::of(&config.pids)?;
        let after = match config.total() {
            Some(_) => None,
            None => {
                std::thread::sleep(seconds(config.duration));
                Some(Usage::of(&config.pids)?)
            }
        };
        Ok(Timed { begin, usage, after })
    });
    if timed.is_err() {
        shared.broken.store(true, Relaxed);
    }
    timed
}

fn wait_prepared(config: &Config, shared: &Shared, threads: usize) -> Result<(), String> {
    let begun = Instant::now();
    while !config.is_prepared(shared, threads) {
        if shared.broken.load(Relaxed) || begun.elapsed() > PREPARATION {
            return Err(format!(
                "not prepared: {} of {} watches, {} of {threads} threads know the keys",
                shared.watching.load(Relaxed),
                config.watchers,
                shared.learned.load(Relaxed),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The nth of `parts` shares of `whole`.
fn share(whole: usize, (nth, parts): (usize, usize)) -> usize {
    whole / parts + usize::from(nth < whole % parts)
}

/// The monotonic clock, the same in all processes.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
