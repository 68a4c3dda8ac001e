//! What a run came to.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Config;
use super::process::Usage;
use super::tally::{Kind, Tally, histogram};

/// A run's numbers.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the threads counted.
    pub tally: Tally,
    /// Seconds measured.
    pub seconds: f64,
    /// What the servers and the generator used meanwhile.
    pub usage: Usage,
    /// Events that came, inside the measured time or not, and how many should have.
    pub events: u64,
    /// See `events`.
    pub events_expected: u64,
    clients: u64,
    calls: Histogram<u64>,
}

impl Report {
    pub(super) fn new(config: &Config, tally: Tally, seconds: f64, usage: Usage) -> Report {
        let mut calls = histogram();
        for latencies in tally.latencies.iter().filter(|(kind, _)| **kind != Kind::Watch) {
            calls.add(latencies.1).expect("all histograms have the same bounds");
        }
        let clients = u64::from(config.conns) * u64::from(config.inflight);
        Report { tally, seconds, usage, events: 0, events_expected: 0, clients, calls }
    }

    pub(super) fn check_events(&mut self, events: u64, expected: u64) {
        (self.events, self.events_expected) = (events, expected);
        if events != expected {
            let what = format!("{events} events came of {expected}");
            self.tally.errors.insert(what, events.abs_diff(expected));
        }
    }

    /// Wrong or missing answers.
    pub fn errors(&self) -> u64 {
        self.tally.errors.values().sum()
    }

    /// Calls a second.
    pub fn per_second(&self) -> f64 {
        self.tally.counted as f64 / self.seconds
    }

    /// Events a second.
    pub fn events_per_second(&self) -> f64 {
        self.tally.events as f64 / self.seconds
    }

    /// The time within which this share of the calls was answered.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.calls.value_at_quantile(share))
    }

    /// The time within which this share of the events came, since the put that made them was sent.
    pub fn event_quantile(&self, share: f64) -> Duration {
        let events = self.tally.latencies.get(&Kind::Watch);
        Duration::from_nanos(events.map_or(0, |events| events.value_at_quantile(share)))
    }

    /// The numbers as one object of JSON.
    pub fn json(&self) -> String {
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        let kinds: Vec<_> = self.tally.latencies.iter().map(|(kind, latencies)| {
            let at = |share| latencies.value_at_quantile(share) as f64 / 1e3;
            let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
            let (name, count) = (kind.name(), latencies.len());
            format!(
                "\"{name}\":{{\"count\":{count},\"p50\":{p50},\"p99\":{p99},\"p999\":{p999},\"max\":{max}}}"
            )
        }).collect();
        format!(
            "{{\"clients\":{},\"seconds\":{},\"counted\":{},\"per_second\":{},\"errors\":{},\"misses\":{},\
             \"p50\":{},\"p99\":{},\"p999\":{},\"events\":{},\"server_cpu_seconds\":{},\
             \"server_resident\":{},\"server_written\":{},\"own_cpu_seconds\":{},\"kinds\":{{{}}}}}",
            self.clients,
            self.seconds,
            self.tally.counted,
            self.per_second(),
            self.errors(),
            self.tally.misses,
            us(self.quantile(0.5)),
            us(self.quantile(0.99)),
            us(self.quantile(0.999)),
            self.events,
            self.usage.cpu,
            self.usage.resident,
            self.usage.written,
            self.usage.own_cpu,
            kinds.join(","),
        )
    }

    fn lines_of_kinds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, latencies) in &self.tally.latencies {
            let at = |share| latencies.value_at_quantile(share) as f64 / 1e3;
            let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
            let (name, count) = (kind.name(), latencies.len());
            write!(
                f,
                "\n  {name:<12} {count:>9}  p50 {p50:>7.0} us  p99 {p99:>7.0} us  max {max:>8.0} us"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        let per_call = |seconds: f64| seconds * 1e6 / self.tally.counted.max(1) as f64;
        write!(
            f,
            "{:>4} clients  {:>8.0}/s  p50 {:>7.0} us  p99 {:>7.0} us  max {:>8.0} us  \
             server {:>5.2} us CPU/call  client {:>5.2}  revision {}",
            self.clients,
            self.per_second(),
            us(self.quantile(0.5)),
            us(self.quantile(0.99)),
            us(self.quantile(1.0)),
            per_call(self.usage.cpu),
            per_call(self.usage.own_cpu),
            self.tally.revision
        )?;
        if self.tally.latencies.len() > 1 {
            self.lines_of_kinds(f)?;
        }
        if self.events_expected > 0 {
            write!(f, "\n  {} events of {}", self.events, self.events_expected)?;
        }
        if self.tally.streamed > 0 {
            write!(f, "\n  {} bytes streamed", self.tally.streamed)?;
        }
        for (what, count) in [("misses", self.tally.misses), ("lost swaps", self.tally.lost_swaps)]
        {
            if count > 0 {
                write!(f, "\n  {count} {what}")?;
            }
        }
        for (what, count) in &self.tally.errors {
            write!(f, "\n  ERROR {count} x {what}")?;
        }
        Ok(())
    }
}
