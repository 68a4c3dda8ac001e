//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Config;
use super::process::Sample;

/// A run's numbers.
#[derive(Clone, Debug)]
pub struct Report {
    /// Calls answered correctly inside the measured time.
    pub counted: u64,
    /// Wrong or missing answers, by their words.
    pub errors: BTreeMap<String, u64>,
    /// Keys that were not there.
    pub misses: u64,
    /// The highest revision seen.
    pub revision: i64,
    clients: u64,
    seconds: f64,
    latencies: Histogram<u64>,
    cpu: Sample,
}

impl Report {
    pub(super) fn new(config: &Config, cpu: Sample) -> Report {
        Report {
            counted: 0,
            errors: BTreeMap::new(),
            misses: 0,
            revision: 0,
            clients: u64::from(config.conns) * u64::from(config.inflight),
            seconds: config.duration,
            latencies: histogram(),
            cpu,
        }
    }

    pub(super) fn add(&mut self, part: Part) {
        self.counted += part.latencies.len();
        self.misses += part.misses;
        self.revision = self.revision.max(part.revision);
        self.latencies.add(&part.latencies).expect("all histograms have the same bounds");
        for (what, count) in part.errors {
            *self.errors.entry(what).or_default() += count;
        }
    }

    /// Calls a second.
    pub fn per_second(&self) -> f64 {
        self.counted as f64 / self.seconds
    }

    /// The time within which this share of the calls was answered.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(share))
    }

    /// The server's CPU time for each call; zero without its process id.
    pub fn server_cpu_per_call(&self) -> Duration {
        Duration::from_secs_f64((self.cpu.server / self.counted.max(1) as f64).max(0.0))
    }

    /// The generator's own CPU time for each call.
    pub fn own_cpu_per_call(&self) -> Duration {
        Duration::from_secs_f64((self.cpu.own / self.counted.max(1) as f64).max(0.0))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        write!(
            f,
            "{:>4} clients  {:>8.0}/s  p50 {:>7.0} us  p99 {:>7.0} us  max {:>8.0} us  \
             server {:>5.2} us CPU/call  client {:>5.2}  revision {}",
            self.clients,
            self.per_second(),
            us(self.quantile(0.5)),
            us(self.quantile(0.99)),
            us(self.quantile(1.0)),
            us(self.server_cpu_per_call()),
            us(self.own_cpu_per_call()),
            self.revision
        )?;
        if self.misses > 0 {
            write!(f, "  {} misses", self.misses)?;
        }
        for (what, count) in &self.errors {
            write!(f, "\n  ERROR {count} x {what}")?;
        }
        Ok(())
    }
}

/// One thread's share of a report.
pub(super) struct Part {
    pub latencies: Histogram<u64>,
    pub errors: BTreeMap<String, u64>,
    pub misses: u64,
    pub revision: i64,
}

impl Default for Part {
    fn default() -> Part {
        Part { latencies: histogram(), errors: BTreeMap::new(), misses: 0, revision: 0 }
    }
}

/// From 100 ns to ten minutes, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("the bounds are in order")
}
