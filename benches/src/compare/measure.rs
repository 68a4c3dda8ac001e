//! One stage on one side: a new cluster, its keys, its rows, its facts.

use std::time::Duration;

use rustix::process::Signal;

use super::cluster::Cluster;
use super::disk;
use super::rows::{Beside, Fact, Row, Scale, Stage};
use super::stats::{Metric, Run, Sample};
use crate::loadgen::null::Null;
use crate::loadgen::{self, Config, Op, Report, Usage};

/// Share of a row's seconds that the null server is driven.
const NULL_SHARE: f64 = 0.35;

/// A stage under way.
pub struct Measure<'a> {
    cluster: Cluster,
    scale: &'a Scale,
    stage: Stage,
    /// The highest revision seen: what a compaction forgets.
    revision: i64,
    facts: Vec<(Fact, f64)>,
}

impl<'a> Measure<'a> {
    /// Loads the stage's keys into a cluster that has just been started.
    ///
    /// # Errors
    /// The load did not end well.
    pub fn prepare(
        cluster: Cluster,
        stage: Stage,
        scale: &'a Scale,
    ) -> Result<Measure<'a>, String> {
        let mut measure = Measure { cluster, scale, stage, revision: 0, facts: Vec::new() };
        let Some((config, times)) = stage.load(scale) else { return Ok(measure) };
        let before = Usage::of(&measure.cluster.pids())?;
        for _ in 0..times {
            let report = measure.drive(config.clone())?;
            measure.revision = report.tally.revision;
            if let Some((what, count)) = report.tally.errors.first_key_value() {
                return Err(format!("load: {count} x {what}"));
            }
            let keys_per_second = config.keys as f64 / report.seconds;
            measure.facts.push((Fact::Load, keys_per_second));
        }
        std::thread::sleep(Duration::from_secs_f64(scale.settle));
        let after = Usage::of(&measure.cluster.pids())?;
        let grown = after.resident.saturating_sub(before.resident);
        measure.facts.push((Fact::Memory, per_key(grown, config.keys)));
        let on_disk = disk::bytes_below(measure.cluster.folder());
        measure.facts.push((Fact::Disk, per_key(on_disk, config.keys)));
        Ok(measure)
    }

    fn drive(&self, mut config: Config) -> Result<Report, String> {
        config.endpoints = self.cluster.endpoints().to_vec();
        config.pids = self.cluster.pids();
        loadgen::run(&config)
    }

    /// Runs a row.
    pub fn row(&mut self, row: &Row) -> Run {
        let config = row.config(self.scale);
        let (report, beside) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| self.beside(row.beside, &config));
            (self.drive(config.clone()), beside.join())
        });
        self.cluster.check_alive()?;
        let report = report?;
        self.revision = self.revision.max(report.tally.revision);
        let mut sample = sample_of(&report, row);
        match beside {
            Ok(Ok(())) => {}
            Ok(Err(what)) => sample.errors.push(format!("beside: {what}")),
            Err(_) => sample.errors.push("beside: a panic".to_owned()),
        }
        Ok(sample)
    }

    /// What goes on beside a row, for as long as it is measured.
    fn beside(&self, beside: Beside, row: &Config) -> Result<(), String> {
        let config = match beside {
            Beside::Nothing => return Ok(()),
            Beside::Range => Config {
                keys: self.scale.keys,
                span: self.scale.keys,
                warmup: row.warmup,
                duration: row.duration,
                ..Config::new(Op::Range, &[])
            },
            Beside::Compaction => {
                std::thread::sleep(Duration::from_secs_f64(row.warmup));
                let (revision, physical) = (self.revision, true);
                Config { revision, physical, ..Config::new(Op::Compact, &[]) }
            }
        };
        let report = self.drive(config)?;
        match report.tally.errors.first_key_value() {
            None if report.tally.misses == 0 => Ok(()),
            None => Err(format!("{} ranges were not whole", report.tally.misses)),
            Some((what, count)) => Err(format!("{count} x {what}")),
        }
    }

    /// The facts of the stage with many keys; restarts only if one of theirs is asked for. Comes before
    /// the rows: a faster server would write more in those, and then have more to read at its start.
    ///
    /// # Errors
    /// A server that does not end or does not come back.
    pub fn facts(&mut self, wanted: &[Fact]) -> Result<Vec<(Fact, f64)>, String> {
        let wants = |fact| wanted.contains(&fact);
        if wants(Fact::RestartClean) || wants(Fact::MemoryRestarted) {
            self.cluster.stop(Signal::TERM)?;
            let took = self.cluster.restart()?;
            self.facts.push((Fact::RestartClean, took.as_secs_f64()));
            std::thread::sleep(Duration::from_secs_f64(self.scale.settle));
            let usage = Usage::of(&self.cluster.pids())?;
            let keys = self.stage.load(self.scale).map_or(1, |(config, _)| config.keys);
            self.facts.push((Fact::MemoryRestarted, per_key(usage.resident, keys)));
        }
        if wants(Fact::RestartKilled) {
            self.cluster.stop(Signal::KILL)?;
            let took = self.cluster.restart()?;
            self.facts.push((Fact::RestartKilled, took.as_secs_f64()));
        }
        Ok(self.facts.clone())
    }
}

fn per_key(bytes: u64, keys: u64) -> f64 {
    bytes as f64 / keys as f64
}

/// What the generator reaches against the null server in this row.
///
/// # Errors
/// The null server answered wrongly, or not at all.
pub fn null_throughput(row: &Row, scale: &Scale) -> Result<f64, String> {
    let mut config = row.config(scale);
    config.duration = scale.seconds * NULL_SHARE;
    config.warmup = config.duration / 3.0;
    let null = Null::start(&config)?;
    config.endpoints = vec![null.address()];
    let report = loadgen::run(&config)?;
    match report.tally.errors.first_key_value() {
        None => Ok(report.per_second()),
        Some((what, count)) => Err(format!("null server: {count} x {what}")),
    }
}

fn sample_of(report: &Report, row: &Row) -> Sample {
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    let (calls, events) = (report.tally.counted.max(1) as f64, report.tally.events.max(1) as f64);
    let by_event = row.counts_events();
    let each = if by_event { events } else { calls };
    let at =
        |share| us(if by_event { report.event_quantile(share) } else { report.quantile(share) });
    let throughput = if by_event { report.events_per_second() } else { report.per_second() };
    let mut errors: Vec<_> =
        report.tally.errors.iter().map(|(what, count)| format!("{count} x {what}")).collect();
    if row.must_find() && report.tally.misses > 0 {
        errors.push(format!("{} reads did not find what is there", report.tally.misses));
    }
    if report.tally.counted == 0 {
        errors.push("no call ended inside the measured time".to_owned());
    }
    let others = report.usage.machine_cpu - report.usage.cpu - report.usage.own_cpu;
    Sample {
        values: vec![
            (Metric::Throughput, throughput),
            (Metric::P50, at(0.5)),
            (Metric::P99, at(0.99)),
            (Metric::P999, at(0.999)),
            (Metric::Cpu, report.usage.cpu * 1e6 / each),
            (Metric::Resident, report.usage.resident as f64 / f64::from(1 << 20)),
            (Metric::Written, report.usage.written as f64 / calls),
        ],
        errors,
        other_cores: (others / report.seconds).max(0.0),
    }
}
