//! Medians, spreads, and when two sides may be compared at all.
//!
//! Laws:
//!  1. A ratio is the median of the ratios of pairs: runs of the same round.
//!  2. There is no ratio when either side returned errors or died, or wrote to memory.
//!  3. A ratio whose pairs lie on both sides of 1 says nothing, and is marked.

use std::fmt;

use super::cluster::Side;
use super::disk::Disk;

/// Share of the null server's throughput from which on a row measures the client.
const CLIENT_BOUND: f64 = 0.8;

/// What a run measures. All but the first are better when they are lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Calls, or events, a second.
    Throughput,
    /// Microseconds.
    P50,
    /// Microseconds.
    P99,
    /// Microseconds.
    P999,
    /// Microseconds of the servers' CPU time for a call, or an event.
    Cpu,
    /// Mebibytes resident.
    Resident,
    /// Bytes written for a call.
    Written,
    /// What a fact has instead of all these.
    Value,
}

impl Metric {
    /// The columns of the table.
    pub const COLUMNS: [Metric; 7] = [
        Metric::Throughput,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::Cpu,
        Metric::Resident,
        Metric::Written,
    ];

    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Throughput => "per second",
            Metric::P50 => "p50 us",
            Metric::P99 => "p99 us",
            Metric::P999 => "p99.9 us",
            Metric::Cpu => "CPU us each",
            Metric::Resident => "RSS MiB",
            Metric::Written => "B written each",
            Metric::Value => "value",
        }
    }
}

/// One run of one row on one side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// What was measured.
    pub values: Vec<(Metric, f64)>,
    /// Wrong answers, each kind once.
    pub errors: Vec<String>,
    /// Cores that neither the servers nor the client used.
    pub other_cores: f64,
}

impl Sample {
    /// One of its values.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values.iter().find(|(known, _)| *known == metric).map(|(_, value)| *value)
    }
}

/// A run: its numbers, or why there are none (a server died, or could not be prepared).
pub type Run = Result<Sample, String>;

/// Why two sides are not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// One side was not run.
    Absent(Side),
    /// One side has no numbers: a server died.
    Died(Side, String),
    /// One side returned errors.
    Errors(Side, String),
    /// The data was on a memory file system.
    Memory(String),
    /// There is nothing to divide by, or this is not measured in this row.
    Nothing,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Absent(side) => write!(f, "{} was not run", side.name()),
            Refusal::Died(side, what) => write!(f, "{} failed: {what}", side.name()),
            Refusal::Errors(side, what) => write!(f, "{} returned errors: {what}", side.name()),
            Refusal::Memory(name) => write!(f, "the data is on {name}, a memory file system"),
            Refusal::Nothing => write!(f, "nothing to divide"),
        }
    }
}

/// A median and what it lies between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Summary {
    /// Of some values; None of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Summary { median, low, high })
    }

    /// Half of the spread as a share of the median.
    pub fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / 2.0 / self.median }
    }

    /// Whether a ratio's pairs lie on both sides of 1.
    pub fn says_nothing(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// The runs of both sides, pair by pair; no side, no runs.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// The reference's.
    pub etcd: Vec<Run>,
    /// Ours.
    pub holdfast: Vec<Run>,
}

impl Pairs {
    /// One side's runs.
    pub fn of(&self, side: Side) -> &[Run] {
        match side {
            Side::Etcd => &self.etcd,
            Side::Holdfast => &self.holdfast,
        }
    }

    /// Enters a run.
    pub fn push(&mut self, side: Side, run: Run) {
        match side {
            Side::Etcd => self.etcd.push(run),
            Side::Holdfast => self.holdfast.push(run),
        }
    }

    /// What one side measured.
    pub fn summary(&self, side: Side, metric: Metric) -> Option<Summary> {
        Summary::of(self.of(side).iter().flatten().filter_map(|sample| sample.get(metric)))
    }

    /// Whether the two may be compared, for any metric.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, disk: &Disk) -> Result<(), Refusal> {
        if disk.is_memory {
            return Err(Refusal::Memory(disk.name.clone()));
        }
        let sides = [Side::Etcd, Side::Holdfast];
        for side in sides {
            for run in self.of(side) {
                let sample = run.as_ref().map_err(|what| Refusal::Died(side, what.clone()))?;
                if let Some(what) = sample.errors.first() {
                    return Err(Refusal::Errors(side, what.clone()));
                }
            }
        }
        match sides.into_iter().find(|side| self.of(*side).is_empty()) {
            Some(side) => Err(Refusal::Absent(side)),
            None => Ok(()),
        }
    }

    /// Ours divided by the reference's.
    ///
    /// # Errors
    /// Why there is no ratio.
    pub fn ratio(&self, metric: Metric, disk: &Disk) -> Result<Summary, Refusal> {
        self.check(disk)?;
        let pairs = self.etcd.iter().flatten().zip(self.holdfast.iter().flatten());
        let ratios = pairs.filter_map(|(etcd, holdfast)| {
            let (etcd, holdfast) = (etcd.get(metric)?, holdfast.get(metric)?);
            (etcd > 0.0 && holdfast > 0.0).then(|| holdfast / etcd)
        });
        Summary::of(ratios).ok_or(Refusal::Nothing)
    }

    /// Whether a side's throughput is nearly the null server's, which is the client's own limit.
    pub fn is_client_bound(&self, side: Side, null: Option<f64>) -> bool {
        let reached = self.summary(side, Metric::Throughput);
        let (Some(reached), Some(null)) = (reached, null) else { return false };
        reached.median >= CLIENT_BOUND * null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(throughput: f64) -> Run {
        Ok(Sample { values: vec![(Metric::Throughput, throughput)], ..Sample::default() })
    }

    fn disk(is_memory: bool) -> Disk {
        Disk { name: "a file system".to_owned(), is_memory }
    }

    #[test]
    fn a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() {
        let pairs = Pairs {
            etcd: vec![run(1.0), run(10.0), run(100.0)],
            holdfast: vec![run(30.0), run(20.0), run(100.0)],
        };
        let ratio = pairs.ratio(Metric::Throughput, &disk(false)).expect("both are good");
        assert_eq!(ratio, Summary { median: 2.0, low: 1.0, high: 30.0 });
        assert!(ratio.says_nothing());
        assert_eq!(pairs.ratio(Metric::Cpu, &disk(false)), Err(Refusal::Nothing));
        assert_eq!(Summary::of([1.0, 4.0]).map(|summary| summary.median), Some(2.5));
    }

    #[test]
    fn errors_deaths_absence_and_memory_are_refused() {
        let good = || vec![run(1.0), run(1.0)];
        let wrong = Ok(Sample { errors: vec!["2 x a lie".to_owned()], ..run(9.0).expect("good") });
        let refusal = |etcd, holdfast, is_memory| {
            Pairs { etcd, holdfast }.ratio(Metric::Throughput, &disk(is_memory)).err()
        };
        assert_eq!(refusal(good(), good(), false), None);
        assert!(matches!(refusal(good(), good(), true), Some(Refusal::Memory(_))));
        assert_eq!(refusal(vec![], good(), false), Some(Refusal::Absent(Side::Etcd)));
        let died = vec![run(1.0), Err("killed".to_owned())];
        let what = Refusal::Died(Side::Holdfast, "killed".to_owned());
        assert_eq!(refusal(good(), died.clone(), false), Some(what.clone()));
        assert_eq!(refusal(vec![], died, false), Some(what), "a death is said before an absence");
        let what = Refusal::Errors(Side::Etcd, "2 x a lie".to_owned());
        assert_eq!(refusal(vec![run(1.0), wrong], good(), false), Some(what));
    }

    #[test]
    fn a_side_near_the_null_server_is_client_bound() {
        let pairs = Pairs { etcd: vec![run(79.0)], holdfast: vec![run(80.0)] };
        assert!(!pairs.is_client_bound(Side::Etcd, Some(100.0)));
        assert!(pairs.is_client_bound(Side::Holdfast, Some(100.0)));
        assert!(!pairs.is_client_bound(Side::Holdfast, None));
    }
}
