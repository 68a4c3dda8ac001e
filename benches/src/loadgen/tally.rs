//! What one thread counts, and the histograms it counts in.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Nanoseconds of a cell of the timeline.
const CELL: u64 = 100_000_000;

/// What a slot asks for; each has its own latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One put.
    Put,
    /// A range: one key, many, or their count.
    Range,
    /// Compare a key's revision, and put it or read it.
    Swap,
    /// The same for a key that is absent.
    Create,
    /// The same, and delete it.
    Remove,
    /// A delete of one key.
    Delete,
    /// One page of a list.
    List,
    /// A lease.
    Grant,
    /// A lease's life prolonged.
    KeepAlive,
    /// Many puts in one transaction.
    Load,
    /// History forgotten.
    Compact,
    /// Space given back.
    Defragment,
    /// The whole database as a stream.
    Snapshot,
    /// The revisions of all keys, before the clock starts.
    Learn,
    /// A stream of events.
    Watch,
}

impl Kind {
    /// How reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Range => "range",
            Kind::Swap => "cas",
            Kind::Create => "create",
            Kind::Remove => "remove",
            Kind::Delete => "delete",
            Kind::List => "list",
            Kind::Grant => "lease-grant",
            Kind::KeepAlive => "keepalive",
            Kind::Load => "load",
            Kind::Compact => "compact",
            Kind::Defragment => "defragment",
            Kind::Snapshot => "snapshot",
            Kind::Learn => "learn",
            Kind::Watch => "event",
        }
    }
}

/// How many calls ended in a tenth of a second, and the slowest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Calls.
    pub count: u64,
    /// Nanoseconds.
    pub worst: u64,
}

/// Counts that threads make each for itself and that add up.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Latencies in nanoseconds, by what was asked; events under `Watch`.
    pub latencies: BTreeMap<Kind, Histogram<u64>>,
    /// Calls that ended well inside the measured time.
    pub counted: u64,
    /// Calls that ended well at any time.
    pub acknowledged: u64,
    /// Events that came inside the measured time.
    pub events: u64,
    /// Wrong or missing answers, by their words.
    pub errors: BTreeMap<String, u64>,
    /// Reads of what was not there.
    pub misses: u64,
    /// Compare-and-swaps that found another revision.
    pub lost_swaps: u64,
    /// Bytes that snapshots streamed.
    pub streamed: u64,
    /// The highest revision seen.
    pub revision: i64,
    /// When the last counted call ended.
    pub last: u64,
    /// By tenth of a second; empty unless asked for.
    pub timeline: Vec<Cell>,
}

impl Tally {
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    pub(super) fn record(&mut self, kind: Kind, ns: u64) {
        self.latencies.entry(kind).or_insert_with(histogram).saturating_record(ns);
    }

    /// Enters a call that ended `since_begin` after the clock started and took `ns`.
    pub(super) fn enter_cell(&mut self, since_begin: u64, ns: u64) {
        let nth = (since_begin / CELL) as usize;
        if self.timeline.len() <= nth {
            self.timeline.resize(nth + 1, Cell::default());
        }
        let cell = &mut self.timeline[nth];
        cell.count += 1;
        cell.worst = cell.worst.max(ns);
    }

    pub(super) fn add(&mut self, other: Tally) {
        for (kind, latencies) in other.latencies {
            let sum = self.latencies.entry(kind).or_insert_with(histogram);
            sum.add(&latencies).expect("all histograms have the same bounds");
        }
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
        self.counted += other.counted;
        self.acknowledged += other.acknowledged;
        self.events += other.events;
        self.misses += other.misses;
        self.lost_swaps += other.lost_swaps;
        self.streamed += other.streamed;
        self.revision = self.revision.max(other.revision);
        self.last = self.last.max(other.last);
        let cells = self.timeline.len().max(other.timeline.len());
        self.timeline.resize(cells, Cell::default());
        for (sum, cell) in self.timeline.iter_mut().zip(other.timeline) {
            sum.count += cell.count;
            sum.worst = sum.worst.max(cell.worst);
        }
    }
}

/// From 100 ns to ten minutes, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for us in 1..=500 {
            one.record(Kind::Put, us * 1000);
            other.record(Kind::Put, (500 + us) * 1000);
        }
        one.fail("a");
        other.fail("a");
        one.enter_cell(10_000_000, 9);
        one.enter_cell(50_000_000, 7);
        other.enter_cell(60_000_000, 8);
        other.enter_cell(250_000_000, 3);
        one.add(other);
        let puts = &one.latencies[&Kind::Put];
        let at = |share| puts.value_at_quantile(share) as f64 / 1000.0;
        assert_eq!(puts.len(), 1000);
        assert!((at(0.5) - 500.0).abs() < 1.0 && (at(0.999) - 999.0).abs() < 1.0);
        assert_eq!(one.errors["a"], 2);
        let cells: Vec<_> = one.timeline.iter().map(|cell| (cell.count, cell.worst)).collect();
        assert_eq!(cells, [(3, 9), (0, 0), (1, 3)]);
    }

    /// Three digits: what is told differs from what was recorded by less than a thousandth.
    #[test]
    fn a_histogram_keeps_three_digits() {
        for ns in [101, 12_345, 9_876_543, 123_456_789_012] {
            let mut histogram = histogram();
            histogram.saturating_record(ns);
            let told = histogram.value_at_quantile(0.5).abs_diff(ns);
            assert!(told * 1000 <= ns.max(100_000), "{ns}: {told} off");
        }
    }
}
