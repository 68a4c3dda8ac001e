//! What a comparison came to, before it is drawn: its lines, and where it was measured.

use super::cluster::Side;
use super::disk::Disk;
use super::json::Json;
use super::rows::Fact;
use super::stats::{Metric, Pairs, Refusal, Run, Sample, Summary};

/// Cores used by others from which on a run is not quiet.
const NOISY_CORES: f64 = 0.2;

/// Rounds apart, the same binary against itself stays below these: no claim within them.
const MARGIN: f64 = 1.15;
const MARGIN_LATENCY: f64 = 1.3;

/// What a line of the table is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A workload.
    Row {
        /// Whether the clients follow a clock.
        paced: bool,
        /// What the generator reaches against the null server.
        null: Option<f64>,
    },
    /// One number.
    Fact(Fact),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// See [`super::rows::Row`].
    pub id: String,
    /// See [`super::rows::Row`].
    pub title: String,
    /// Members of each side.
    pub members: usize,
    /// See [`Kind`].
    pub kind: Kind,
    /// The runs.
    pub pairs: Pairs,
}

impl Line {
    /// What is shown of it.
    pub fn metrics(&self) -> &'static [Metric] {
        match self.kind {
            Kind::Row { .. } => &Metric::COLUMNS,
            Kind::Fact(_) => &[Metric::Value],
        }
    }

    /// The ratio of a metric, where it says something of the servers.
    ///
    /// # Errors
    /// Why there is none.
    pub fn ratio(&self, metric: Metric, disk: &Disk) -> Result<Summary, Refusal> {
        match self.kind {
            Kind::Row { paced: true, .. } if metric == Metric::Throughput => Err(Refusal::Nothing),
            _ => self.pairs.ratio(metric, disk),
        }
    }

    /// How many times better ours is; below 1, worse.
    pub fn times_better(&self, metric: Metric, disk: &Disk) -> Option<Summary> {
        let ratio = self.ratio(metric, disk).ok()?;
        if self.more_is_better(metric) {
            return Some(ratio);
        }
        let (low, high) = (1.0 / ratio.high, 1.0 / ratio.low);
        Some(Summary { median: 1.0 / ratio.median, low, high })
    }

    fn more_is_better(&self, metric: Metric) -> bool {
        match self.kind {
            Kind::Fact(fact) => fact.more_is_better(),
            Kind::Row { .. } => metric == Metric::Throughput,
        }
    }

    /// The metrics in which etcd is better, in every pair and by more than the noise of a ratio.
    pub fn etcd_is_better_in(&self, disk: &Disk) -> Vec<(Metric, Summary)> {
        let better = |metric: &Metric| {
            let latency = matches!(metric, Metric::P50 | Metric::P99 | Metric::P999);
            let margin = if latency { MARGIN_LATENCY } else { MARGIN };
            let times = self.times_better(*metric, disk)?;
            (times.high < 1.0 && times.median < 1.0 / margin).then_some((*metric, times))
        };
        self.metrics().iter().filter_map(better).collect()
    }

    /// What a reader must know: why there is no ratio, what bounds it, what disturbed it.
    pub fn notes(&self, disk: &Disk) -> Vec<String> {
        let mut notes = Vec::new();
        if let Err(refusal) = self.pairs.check(disk) {
            notes.push(format!("no ratio: {refusal}"));
        }
        if let Kind::Row { paced, null } = self.kind {
            if paced {
                notes.push("paced by a clock".to_owned());
            }
            for side in [Side::Etcd, Side::Holdfast] {
                if !paced && self.pairs.is_client_bound(side, null) {
                    let (side, null) = (side.name(), null.unwrap_or_default());
                    notes.push(format!("client-bound: {side}, null server {null:.0}/s"));
                }
            }
        }
        let others = self.others();
        if others >= NOISY_CORES {
            notes.push(format!("others used up to {others:.1} cores"));
        }
        notes
    }

    /// Cores that others used, in the run that they disturbed most.
    fn others(&self) -> f64 {
        self.samples().map(|sample| sample.other_cores).fold(0.0, f64::max)
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.pairs.etcd.iter().chain(&self.pairs.holdfast).flatten()
    }

    fn json(&self, disk: &Disk) -> Json {
        let runs = |side| Json::list(self.pairs.of(side).iter().map(run_json));
        let ratio = |metric: &Metric| {
            let ratio = self.ratio(*metric, disk).ok();
            Json::Object(vec![
                ("metric", Json::text(metric.title())),
                ("median", Json::number(ratio.map(|ratio| ratio.median))),
                ("low", Json::number(ratio.map(|ratio| ratio.low))),
                ("high", Json::number(ratio.map(|ratio| ratio.high))),
            ])
        };
        let null = if let Kind::Row { null, .. } = self.kind { null } else { None };
        Json::Object(vec![
            ("id", Json::text(&self.id)),
            ("title", Json::text(&self.title)),
            ("members", Json::Number(self.members as f64)),
            ("null_per_second", Json::number(null)),
            ("notes", Json::list(self.notes(disk).into_iter().map(Json::Text))),
            ("ratios", Json::list(self.metrics().iter().map(ratio))),
            ("etcd", runs(Side::Etcd)),
            ("holdfast", runs(Side::Holdfast)),
        ])
    }
}

fn run_json(run: &Run) -> Json {
    match run {
        Err(what) => Json::Object(vec![("failed", Json::text(what))]),
        Ok(sample) => {
            let value = |(metric, value): &(Metric, f64)| {
                Json::Object(vec![
                    ("metric", Json::text(metric.title())),
                    ("value", Json::Number(*value)),
                ])
            };
            Json::Object(vec![
                ("values", Json::list(sample.values.iter().map(value))),
                ("errors", Json::list(sample.errors.iter().map(Json::text))),
                ("other_cores", Json::Number(sample.other_cores)),
            ])
        }
    }
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Where and how it was made: names and values.
    pub machine: Vec<(&'static str, String)>,
    /// Where the data was.
    pub disk: Disk,
    /// The table.
    pub lines: Vec<Line>,
}

impl Outcome {
    /// Whether each run of both sides was right.
    pub fn is_good(&self) -> bool {
        let good = |run: &Run| run.as_ref().is_ok_and(|sample| sample.errors.is_empty());
        self.lines.iter().all(|line| line.pairs.etcd.iter().chain(&line.pairs.holdfast).all(good))
    }

    /// Why where one side is better may be chance; None if it is not.
    pub fn doubt(&self) -> Option<&'static str> {
        if self.lines.iter().any(|line| line.others() >= NOISY_CORES) {
            Some("the machine was busy with other things, so this is no claim")
        } else if self.lines.iter().all(|line| line.pairs.etcd.len() < 2) {
            Some("one round, so this is no claim")
        } else {
            None
        }
    }

    /// Sentences on where etcd is better.
    pub fn where_etcd_is_better(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for line in &self.lines {
            for (metric, times) in line.etcd_is_better_in(&self.disk) {
                let (title, metric, times) = (&line.title, metric.title(), 1.0 / times.median);
                let members = line.members;
                sentences.push(format!("{title}, members: {members}: {metric}, {times:.2}x"));
            }
        }
        sentences
    }

    /// All of it.
    pub fn json(&self) -> Json {
        let machine = self.machine.iter().map(|(name, value)| (*name, Json::text(value)));
        Json::Object(vec![
            ("machine", Json::Object(machine.collect())),
            ("disk", Json::text(&self.disk.name)),
            ("lines", Json::list(self.lines.iter().map(|line| line.json(&self.disk)))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(paced: bool, metric: Metric, etcd: [f64; 2], holdfast: [f64; 2]) -> Line {
        let runs = |values: [f64; 2]| {
            let run = |value| Ok(Sample { values: vec![(metric, value)], ..Sample::default() });
            values.map(run).to_vec()
        };
        Line {
            id: "row".to_owned(),
            title: "a row".to_owned(),
            members: 1,
            kind: Kind::Row { paced, null: Some(100.0) },
            pairs: Pairs { etcd: runs(etcd), holdfast: runs(holdfast) },
        }
    }

    fn disk() -> Disk {
        Disk { name: "ext4".to_owned(), is_memory: false }
    }

    #[test]
    fn less_is_better_but_for_throughput() {
        let cpu = line(false, Metric::Cpu, [10.0, 10.0], [20.0, 40.0]);
        let times = cpu.times_better(Metric::Cpu, &disk()).expect("both are good");
        assert!((times.low - 0.25).abs() < 1e-9 && (times.high - 0.5).abs() < 1e-9);
        assert_eq!(cpu.etcd_is_better_in(&disk()).len(), 1);
        let throughput = line(false, Metric::Throughput, [10.0, 10.0], [20.0, 40.0]);
        assert!(throughput.etcd_is_better_in(&disk()).is_empty());
    }

    #[test]
    fn noise_is_no_claim() {
        let both_ways = line(false, Metric::Cpu, [10.0, 10.0], [9.0, 40.0]);
        assert!(both_ways.etcd_is_better_in(&disk()).is_empty());
        let little = line(false, Metric::P99, [10.0, 10.0], [12.0, 12.0]);
        assert!(little.etcd_is_better_in(&disk()).is_empty());
    }

    #[test]
    fn a_paced_row_has_no_ratio_of_throughput_and_no_client_bound() {
        let paced = line(true, Metric::Throughput, [99.0, 99.0], [99.0, 99.0]);
        assert_eq!(paced.ratio(Metric::Throughput, &disk()), Err(Refusal::Nothing));
        assert_eq!(paced.notes(&disk()), ["paced by a clock"]);
        let free = line(false, Metric::Throughput, [10.0, 10.0], [99.0, 99.0]);
        assert_eq!(free.notes(&disk()), ["client-bound: holdfast, null server 100/s"]);
    }
}
