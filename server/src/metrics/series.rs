//! Counters, gauges and histograms of one thread, and the text that Prometheus reads.
//!
//! Worked example: a histogram with bounds 1 and 2 that saw 0.5 and 3 is
//! `x_bucket{le="1"} 1`, `x_bucket{le="2"} 1`, `x_bucket{le="+Inf"} 2`, `x_sum 3.5`, `x_count 2`.

use std::cell::Cell;
use std::fmt::{Display, Write};

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.set(self.0.get().saturating_add(by));
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Is what it was last set to.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counts by size.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending, each with the number of observations up to it and above the one before.
    buckets: Vec<(f64, Cell<u64>)>,
    above: Cell<u64>,
    sum: Cell<f64>,
}

impl Histogram {
    /// `count` bounds from `start`, each `factor` times the one before.
    pub fn exponential(start: f64, factor: f64, count: i32) -> Histogram {
        let bounds = (0..count).map(|power| (start * factor.powi(power), Cell::new(0)));
        Histogram { buckets: bounds.collect(), above: Cell::new(0), sum: Cell::new(0.0) }
    }

    /// Counts one.
    pub fn observe(&self, value: f64) {
        let bucket = self.buckets.iter().find(|(bound, _)| value <= *bound);
        let count = bucket.map_or(&self.above, |(_, count)| count);
        count.set(count.get() + 1);
        self.sum.set(self.sum.get() + value);
    }
}

/// A page of the text exposition format.
pub struct Page<'a> {
    out: &'a mut String,
}

impl<'a> Page<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut String) -> Page<'a> {
        Page { out }
    }

    /// Begins a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    /// Begins a counter.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    /// Begins a histogram.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "histogram")
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> Family<'_> {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: self.out, name }
    }
}

/// The series of one name.
pub struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// The only series.
    pub fn value(&mut self, value: impl Display) {
        self.labelled("", value);
    }

    /// One of several; `labels` come with their braces.
    pub fn labelled(&mut self, labels: &str, value: impl Display) {
        let _ = writeln!(self.out, "{}{labels} {value}", self.name);
    }

    /// The series of a histogram.
    pub fn buckets(&mut self, histogram: &Histogram) {
        let name = self.name;
        let mut count = 0;
        for (bound, own) in &histogram.buckets {
            count += own.get();
            let _ = writeln!(self.out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        count += histogram.above.get();
        let _ = writeln!(self.out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(self.out, "{name}_sum {}\n{name}_count {count}", histogram.sum.get());
    }
}
