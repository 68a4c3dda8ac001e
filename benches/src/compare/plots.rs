//! How cost grows: one sweep a question, one chart a quantity, a new cluster for each point.
//!
//! Theory says where lines are flat: a put against the number of keys, a put against watchers of other
//! keys, a count against the number of keys.

use std::path::Path;

use super::chart::{Chart, Series};
use super::cluster::{Cluster, Side};
use super::json::Json;
use super::rows::is_named;
use super::svg;
use super::{Options, Setting, write};
use crate::loadgen::{self, Config, Op, Report, Usage};

/// What is drawn of a sweep: its name in files, and what its axis says.
type Quantity = (&'static str, &'static str);

/// A side's points: where, and a value for each quantity.
type Measured = (Side, Vec<(u64, Vec<f64>)>);

/// A question.
struct Sweep {
    id: &'static str,
    title: &'static str,
    x_label: &'static str,
    points: &'static [u64],
    points_quick: &'static [u64],
    quantities: &'static [Quantity],
    /// Measures a point: one value a quantity.
    measure: fn(&Point<'_>) -> Result<Vec<f64>, String>,
}

/// A point of a sweep on one side.
struct Point<'a> {
    setting: &'a Setting,
    side: Side,
    binary: &'a Path,
    x: u64,
}

const PUTS: Quantity = ("throughput", "puts a second");
const P50: Quantity = ("p50", "put p50, us");
const P99: Quantity = ("p99", "put p99, us");
const CPU: Quantity = ("cpu", "server CPU a put, us");

const SWEEPS: [Sweep; 6] = [
    Sweep {
        id: "clients",
        title: "Puts of 256 B against clients",
        x_label: "clients",
        points: &[1, 4, 16, 64, 256, 1000, 5000],
        points_quick: &[1, 64, 1000],
        quantities: &[PUTS, P50, P99, CPU],
        measure: clients,
    },
    Sweep {
        id: "value-size",
        title: "Puts of 64 clients against the size of a value",
        x_label: "bytes of a value",
        points: &[16, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20],
        points_quick: &[16, 4 << 10, 1 << 20],
        quantities: &[PUTS, P50, P99, CPU],
        measure: value_size,
    },
    Sweep {
        id: "keys",
        title: "64 clients against the number of keys",
        x_label: "keys",
        points: &[10_000, 100_000, 1_000_000, 5_000_000],
        points_quick: &[10_000, 100_000],
        quantities: &[
            P50,
            ("get-p50", "linearizable read p50, us"),
            ("count-p50", "count of all keys p50, one client, us"),
            ("memory", "resident bytes a key"),
        ],
        measure: keys,
    },
    Sweep {
        id: "watchers",
        title: "Events against watchers of every key",
        x_label: "watchers",
        points: &[1, 10, 100, 1000, 10_000],
        points_quick: &[1, 100, 1000],
        quantities: &[("cpu", "server CPU an event, us"), ("p50", "put to event p50, us")],
        measure: watchers,
    },
    Sweep {
        id: "bystanders",
        title: "Puts of 64 clients against watchers of other keys",
        x_label: "watchers",
        points: &[1, 10, 100, 1000, 10_000],
        points_quick: &[1, 1000],
        quantities: &[PUTS, P50, CPU],
        measure: bystanders,
    },
    Sweep {
        id: "members",
        title: "Puts of 256 clients against members, all on one machine",
        x_label: "members",
        points: &[1, 3, 5],
        points_quick: &[1, 3, 5],
        quantities: &[PUTS, P50, CPU],
        measure: members,
    },
];

/// The sweeps' names.
pub fn ids() -> impl Iterator<Item = &'static str> {
    SWEEPS.iter().map(|sweep| sweep.id)
}

/// Measures and draws the sweeps asked for; whether every point was right.
///
/// # Errors
/// A picture that cannot be written. A point that fails is said, and left out.
pub fn draw(options: &Options, setting: &Setting) -> Result<bool, String> {
    let mut good = true;
    let mut results = Vec::new();
    for sweep in SWEEPS.iter().filter(|sweep| is_named(sweep.id, &options.rows)) {
        let points = if options.quick { sweep.points_quick } else { sweep.points };
        let lines = setting.sides.iter().map(|(side, _)| (*side, Vec::new()));
        let mut lines: Vec<Measured> = lines.collect();
        for (round, x) in points.iter().copied().enumerate() {
            for (side, binary) in setting.in_order(round as u32) {
                let measured = (sweep.measure)(&Point { setting, side, binary, x });
                let (id, name) = (sweep.id, side.name());
                setting.say(&format!("{id} {x}, {name}: {measured:.1?}"));
                good &= measured.is_ok();
                let line = lines.iter_mut().find(|(known, _)| *known == side);
                if let (Ok(values), Some((_, line))) = (measured, line) {
                    line.push((x, values));
                }
            }
        }
        write_charts(options, sweep, &lines)?;
        results.push(json(sweep, &lines));
    }
    let machine = setting.machine().into_iter().map(|(name, value)| (name, Json::Text(value)));
    let all = Json::Object(vec![
        ("machine", Json::Object(machine.collect())),
        ("disk", Json::text(&setting.disk.name)),
        ("sweeps", Json::List(results)),
    ]);
    write(options, "plots.json", &format!("{all}\n"))?;
    Ok(good)
}

fn write_charts(options: &Options, sweep: &Sweep, lines: &[Measured]) -> Result<(), String> {
    for (nth, (name, y_label)) in sweep.quantities.iter().enumerate() {
        let series = lines.iter().map(|(side, points)| Series {
            name: side.name(),
            colour: if *side == Side::Etcd { svg::ETCD } else { svg::HOLDFAST },
            points: points.iter().map(|(x, values)| (*x as f64, values[nth])).collect(),
        });
        let (title, x_label) = (sweep.title, sweep.x_label);
        let chart = Chart { title, x_label, y_label, series: series.collect() };
        write(options, &format!("plot-{}-{name}.svg", sweep.id), &chart.svg())?;
    }
    Ok(())
}

fn json(sweep: &Sweep, lines: &[Measured]) -> Json {
    let point = |(x, values): &(u64, Vec<f64>)| {
        let mut fields = vec![("x", Json::Number(*x as f64))];
        let named = sweep.quantities.iter().zip(values);
        fields.extend(named.map(|((name, _), value)| (*name, Json::Number(*value))));
        Json::Object(fields)
    };
    let sides = lines.iter().map(|(side, points)| {
        let points = Json::list(points.iter().map(point));
        Json::Object(vec![("side", Json::text(side.name())), ("points", points)])
    });
    Json::Object(vec![
        ("id", Json::text(sweep.id)),
        ("title", Json::text(sweep.title)),
        ("sides", Json::list(sides)),
    ])
}

impl Point<'_> {
    fn cluster(&self, members: usize) -> Result<Cluster, String> {
        Cluster::start(self.side, self.binary, &self.setting.data, members)
    }

    /// A run of 64 clients, to be adjusted.
    fn config(&self, op: Op) -> Config {
        let scale = &self.setting.scale;
        Config {
            conns: 8,
            inflight: 8,
            warmup: scale.warmup,
            duration: scale.seconds,
            keys: scale.keys,
            ..Config::new(op, &[])
        }
    }

    /// A run whose every answer was right.
    fn drive(&self, cluster: &mut Cluster, mut config: Config) -> Result<Report, String> {
        config.endpoints = cluster.endpoints().to_vec();
        config.pids = cluster.pids();
        let report = loadgen::run(&config)?;
        cluster.check_alive()?;
        match report.tally.errors.first_key_value() {
            None => Ok(report),
            Some((what, count)) => Err(format!("{count} x {what}")),
        }
    }

    fn puts(&self, config: Config, members: usize) -> Result<Report, String> {
        let mut cluster = self.cluster(members)?;
        self.drive(&mut cluster, config)
    }
}

fn us(report: &Report, share: f64) -> f64 {
    report.quantile(share).as_secs_f64() * 1e6
}

fn cpu(report: &Report) -> f64 {
    report.usage.cpu * 1e6 / report.tally.counted.max(1) as f64
}

fn clients(point: &Point<'_>) -> Result<Vec<f64>, String> {
    let (conns, inflight) = match point.x {
        1 => (1, 1),
        4 => (2, 2),
        16 => (4, 4),
        64 => (8, 8),
        256 => (16, 16),
        1000 => (40, 25),
        more => (40, u16::try_from(more / 40).map_err(|_| "too many clients")?),
    };
    let report = point.puts(Config { conns, inflight, ..point.config(Op::Put) }, 1)?;
    Ok(vec![report.per_second(), us(&report, 0.5), us(&report, 0.99), cpu(&report)])
}

fn value_size(point: &Point<'_>) -> Result<Vec<f64>, String> {
    // A thousand keys: what grows here is the value, not the database.
    let (val_size, keys) = (point.x as usize, 1000);
    let report = point.puts(Config { val_size, keys, ..point.config(Op::Put) }, 1)?;
    Ok(vec![report.per_second(), us(&report, 0.5), us(&report, 0.99), cpu(&report)])
}

fn keys(point: &Point<'_>) -> Result<Vec<f64>, String> {
    let mut cluster = point.cluster(1)?;
    let before = Usage::of(&cluster.pids())?;
    let keys = point.x;
    let load = Config { keys, conns: 2, inflight: 4, ..Config::new(Op::Load, &[]) };
    point.drive(&mut cluster, load)?;
    let after = Usage::of(&cluster.pids())?;
    let memory = after.resident.saturating_sub(before.resident) as f64 / keys as f64;
    let put = point.drive(&mut cluster, Config { keys, ..point.config(Op::Put) })?;
    let get = point.drive(&mut cluster, Config { keys, ..point.config(Op::Range) })?;
    let count = Config {
        keys,
        span: keys,
        count_only: true,
        conns: 1,
        inflight: 1,
        ..point.config(Op::Range)
    };
    let count = point.drive(&mut cluster, count)?;
    if get.tally.misses + count.tally.misses > 0 {
        return Err("reads did not find what is there".to_owned());
    }
    Ok(vec![us(&put, 0.5), us(&get, 0.5), us(&count, 0.5), memory])
}

/// As many puts a second as make about twenty thousand events, but at least two.
fn watchers(point: &Point<'_>) -> Result<Vec<f64>, String> {
    let config = Config {
        watchers: point.x as usize,
        prev_kv: true,
        rate: (20_000.0 / point.x as f64).clamp(2.0, 1000.0),
        ..point.config(Op::Put)
    };
    let report = point.puts(config, 1)?;
    let events = report.tally.events.max(1) as f64;
    let p50 = report.event_quantile(0.5).as_secs_f64() * 1e6;
    Ok(vec![report.usage.cpu * 1e6 / events, p50])
}

fn bystanders(point: &Point<'_>) -> Result<Vec<f64>, String> {
    let config = Config {
        watchers: point.x as usize,
        watch_prefix: Some("/elsewhere/".to_owned()),
        ..point.config(Op::Put)
    };
    let report = point.puts(config, 1)?;
    Ok(vec![report.per_second(), us(&report, 0.5), cpu(&report)])
}

fn members(point: &Point<'_>) -> Result<Vec<f64>, String> {
    let config = Config { conns: 16, inflight: 16, ..point.config(Op::Put) };
    let report = point.puts(config, point.x as usize)?;
    Ok(vec![report.per_second(), us(&report, 0.5), cpu(&report)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_points_are_some_of_all() {
        for sweep in SWEEPS {
            assert!(sweep.points_quick.iter().all(|x| sweep.points.contains(x)), "{}", sweep.id);
            assert!(sweep.points.is_sorted(), "{}", sweep.id);
        }
    }
}
