//! Real etcd beside Holdfast: both as processes on the same disk, in alternation, driven by the same
//! generator; one table of what came of it.
//!
//! Each stage of each round starts one side alone, with a new folder, prepares it, and runs the stage's
//! rows; then the other side. The side that begins changes with the round. Leaves out TLS and users.
//!
//! Laws:
//!  1. Only one side runs at a time.
//!  2. No ratio where [`stats::Pairs::check`] refuses it.
//!  3. What failed is said in the table, and the command's exit code is not 0.
//!
//! Worked example: `compare --quick --rows put,get-64 --members 1`.

pub mod chart;
pub mod cluster;
pub mod disk;
pub mod etcd;
pub mod json;
mod machine;
pub mod measure;
pub mod outcome;
pub mod page;
pub mod plots;
pub mod rows;
pub mod stats;
pub mod svg;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, ValueEnum};

use cluster::{Cluster, Side};
use disk::Disk;
use measure::Measure;
use outcome::{Kind, Line, Outcome};
use rows::{Fact, ROWS, Row, Scale, Stage, is_named};
use stats::{Metric, Pairs, Run, Sample};

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The table.
    Table,
    /// Pictures of how cost grows.
    Plot,
}

/// A comparison.
#[derive(Clone, Debug, Parser)]
#[command(name = "compare", about = "Real etcd beside Holdfast, on this machine")]
pub struct Options {
    /// The table, or pictures of how cost grows.
    #[arg(value_enum, default_value = "table")]
    pub what: What,
    /// Smaller, one round, within three minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only these rows: names, or their parts up to a dash, as put, get-64, restart.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Only clusters of this size.
    #[arg(long, value_parser = ["1", "3"])]
    pub members: Option<String>,
    /// Rounds of each row; three, or one with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Seconds that a row is measured, instead of the usual.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Where results go.
    #[arg(long, default_value = "target/compare")]
    pub out: PathBuf,
    /// Where servers keep their data, on the disk to be measured; a folder in `out` unless told.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Our binary.
    #[arg(long, default_value = "target/release/holdfast")]
    pub holdfast: PathBuf,
    /// A binary of etcd, instead of building one.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
    /// Holdfast alone.
    #[arg(long)]
    pub no_etcd: bool,
}

impl Options {
    fn scale(&self) -> Scale {
        let scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        Scale { seconds: self.seconds.unwrap_or(scale.seconds), ..scale }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn member_counts(&self) -> Vec<usize> {
        let only = self.members.as_deref().and_then(|members| members.parse().ok());
        only.map_or_else(|| vec![1, 3], |members| vec![members])
    }

    /// The rows that a cluster of this size runs.
    fn selected(&self, members: usize) -> Vec<&'static Row> {
        let fits = |row: &&Row| {
            let sizes =
                if self.quick && self.rows.is_empty() { row.members_quick } else { row.members };
            sizes.contains(&members) && is_named(row.id, &self.rows)
        };
        ROWS.iter().filter(fits).collect()
    }

    fn facts(&self, members: usize) -> Vec<Fact> {
        let named = |fact: &Fact| members == 1 && is_named(fact.id(), &self.rows);
        Fact::ALL.into_iter().filter(named).collect()
    }

    fn check(&self) -> Result<(), String> {
        let ids: Vec<_> = match self.what {
            What::Table => ROWS.iter().map(|row| row.id).chain(Fact::ALL.map(Fact::id)).collect(),
            What::Plot => plots::ids().collect(),
        };
        for name in &self.rows {
            if !ids.iter().any(|id| is_named(id, std::slice::from_ref(name))) {
                return Err(format!("no row is called {name}; there are: {}", ids.join(" ")));
            }
        }
        if !self.holdfast.exists() {
            let holdfast = self.holdfast.display();
            return Err(format!(
                "{holdfast} is not there; build it: cargo build --release -p holdfast-server"
            ));
        }
        Ok(())
    }
}

/// What runs need: the sides there are, and where.
pub struct Setting {
    /// The binaries, the reference first.
    pub sides: Vec<(Side, PathBuf)>,
    /// Where their data goes.
    pub data: PathBuf,
    /// What that is on.
    pub disk: Disk,
    /// How large.
    pub scale: Scale,
    begun: Instant,
}

impl Setting {
    fn of(options: &Options) -> Result<Setting, String> {
        options.check()?;
        let data = options.data.clone().unwrap_or_else(|| options.out.join("data"));
        for folder in [&options.out, &data] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let disk = Disk::of(&data)?;
        let mut sides = Vec::new();
        if let Some(etcd) = find_etcd(options)? {
            sides.push((Side::Etcd, etcd));
        }
        sides.push((Side::Holdfast, options.holdfast.clone()));
        Ok(Setting { sides, data, disk, scale: options.scale(), begun: Instant::now() })
    }

    /// A line of progress.
    pub fn say(&self, what: &str) {
        eprintln!("[{:>5.0} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    fn machine(&self) -> Vec<(&'static str, String)> {
        let mut machine = machine::describe();
        machine.push(("file_system", self.disk.name.clone()));
        for (side, binary) in &self.sides {
            machine.push((side.name(), etcd::version(binary)));
        }
        machine
    }

    /// The sides, in this round's order.
    fn in_order(&self, round: u32) -> Vec<(Side, &Path)> {
        let mut sides: Vec<_> =
            self.sides.iter().map(|(side, path)| (*side, path.as_path())).collect();
        if round % 2 == 1 {
            sides.reverse();
        }
        sides
    }
}

fn find_etcd(options: &Options) -> Result<Option<PathBuf>, String> {
    if options.no_etcd {
        return Ok(None);
    }
    if let Some(etcd) = &options.etcd {
        return Ok(Some(etcd.clone()));
    }
    eprintln!("building etcd from its Go module (the first time takes minutes)");
    let built = etcd::build()?;
    if built.is_none() {
        eprintln!("no Go on this machine, so no etcd: measuring Holdfast alone");
    }
    Ok(built)
}

/// Makes what the options ask for; whether every run was right.
///
/// # Errors
/// What keeps it from running at all.
pub fn run(options: &Options) -> Result<bool, String> {
    let setting = Setting::of(options)?;
    if setting.disk.is_memory {
        let name = &setting.disk.name;
        eprintln!("{name} keeps data in memory: there will be no ratios; give a disk with --data");
    }
    let good = match options.what {
        What::Table => compare(options, &setting)?,
        What::Plot => plots::draw(options, &setting)?,
    };
    // It stays if something else is in it.
    let _ = fs::remove_dir(&setting.data);
    setting.say(&format!("results are in {}", options.out.display()));
    Ok(good)
}

fn compare(options: &Options, setting: &Setting) -> Result<bool, String> {
    let mut machine = setting.machine();
    let (scale, rounds) = (&setting.scale, options.rounds());
    machine.push(("form", format!("{rounds} rounds of {} s a row", scale.seconds)));
    let mut lines = Vec::new();
    for members in options.member_counts() {
        for stage in Stage::ALL {
            let plan = Plan::of(options, members, stage);
            if !plan.is_empty() {
                lines.extend(plan.run(setting, rounds));
            }
        }
    }
    machine.push(("seconds", format!("{:.0}", setting.begun.elapsed().as_secs_f64())));
    let outcome = Outcome { machine, disk: setting.disk.clone(), lines };
    let text = table::text(&outcome);
    println!("{text}");
    let said: String =
        outcome.machine.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect();
    write(options, "table.md", &format!("{said}{text}"))?;
    write(options, "table.html", &page::html(&outcome))?;
    write(options, "table.svg", &page::picture(&outcome))?;
    write(options, "results.json", &format!("{}\n", outcome.json()))?;
    Ok(outcome.is_good())
}

fn write(options: &Options, name: &str, text: &str) -> Result<(), String> {
    let path = options.out.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What is run of a stage in a cluster of one size.
struct Plan {
    members: usize,
    stage: Stage,
    rows: Vec<&'static Row>,
    facts: Vec<Fact>,
}

impl Plan {
    fn of(options: &Options, members: usize, stage: Stage) -> Plan {
        let rows = options.selected(members).into_iter().filter(|row| row.stage == stage);
        let facts = if stage == Stage::Many { options.facts(members) } else { Vec::new() };
        Plan { members, stage, rows: rows.collect(), facts }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.facts.is_empty()
    }

    fn run(&self, setting: &Setting, rounds: u32) -> Vec<Line> {
        let mut lines = self.blank_lines(setting);
        for round in 0..rounds {
            for (side, binary) in setting.in_order(round) {
                let (stage, name) = (self.stage, side.name());
                let (members, nth) = (self.members, round + 1);
                setting.say(&format!("{stage:?}, members: {members}, round {nth}: {name}"));
                self.run_side(setting, (side, binary), &mut lines);
            }
        }
        lines
    }

    fn blank_lines(&self, setting: &Setting) -> Vec<Line> {
        let rows = self.rows.iter().map(|row| {
            let paced = row.is_paced(&setting.scale);
            let null = if paced { Ok(0.0) } else { measure::null_throughput(row, &setting.scale) };
            if let Err(what) = &null {
                setting.say(&format!("{}: {what}", row.title));
            }
            let null = null.ok().filter(|null| *null > 0.0);
            (row.id, row.title, Kind::Row { paced, null })
        });
        let facts = self.facts.iter().map(|fact| (fact.id(), fact.title(), Kind::Fact(*fact)));
        rows.chain(facts)
            .map(|(id, title, kind)| Line {
                id: id.to_owned(),
                title: title.to_owned(),
                members: self.members,
                kind,
                pairs: Pairs::default(),
            })
            .collect()
    }

    /// One side's runs of one round: every line gets exactly one, so that pairs stay pairs.
    fn run_side(&self, setting: &Setting, (side, binary): (Side, &Path), lines: &mut [Line]) {
        let cluster = Cluster::start(side, binary, &setting.data, self.members);
        let prepared =
            cluster.and_then(|cluster| Measure::prepare(cluster, self.stage, &setting.scale));
        let mut measure = match prepared {
            Ok(measure) => measure,
            Err(what) => {
                setting.say(&format!("  {what}"));
                lines.iter_mut().for_each(|line| line.pairs.push(side, Err(what.clone())));
                return;
            }
        };
        if !self.facts.is_empty() {
            let facts = measure.facts(&self.facts);
            for line in lines.iter_mut() {
                let Kind::Fact(fact) = line.kind else { continue };
                let run = facts.clone().and_then(|facts| {
                    let found = facts.iter().find(|(known, _)| *known == fact);
                    let value = found.map(|(_, value)| *value).ok_or("it was not measured")?;
                    Ok(Sample { values: vec![(Metric::Value, value)], ..Sample::default() })
                });
                setting.say(&format!("  {}: {}", line.title, in_words(&run)));
                line.pairs.push(side, run);
            }
        }
        for (row, line) in self.rows.iter().zip(lines.iter_mut()) {
            let run = measure.row(row);
            setting.say(&format!("  {}: {}", row.title, in_words(&run)));
            line.pairs.push(side, run);
        }
    }
}

/// A run in a few words.
fn in_words(run: &Run) -> String {
    match run {
        Err(what) => format!("failed: {what}"),
        Ok(sample) => {
            let get = |metric| table::number_text(sample.get(metric).unwrap_or_default());
            let errors = match sample.errors.first() {
                Some(what) => format!("  ERROR {what}"),
                None => String::new(),
            };
            if let Some(value) = sample.get(Metric::Value) {
                return format!("{}{errors}", table::number_text(value));
            }
            let (rate, p99, cpu) = (get(Metric::Throughput), get(Metric::P99), get(Metric::Cpu));
            format!("{rate}/s, p99 {p99} us, CPU {cpu} us{errors}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::parse_from([&["compare"], words].concat())
    }

    #[test]
    fn the_quick_form_has_every_row_of_one_member_and_some_of_three() {
        let (full, quick) = (options(&[]), options(&["--quick"]));
        assert_eq!(quick.selected(1).len(), full.selected(1).len());
        assert!(quick.selected(3).len() < full.selected(3).len());
        assert!(!quick.selected(3).is_empty() && quick.rounds() == 1 && full.rounds() == 3);
    }

    #[test]
    fn rows_choose_stages_and_facts() {
        let options = options(&["--rows", "put,restart", "--members", "1"]);
        assert_eq!(options.member_counts(), [1]);
        assert!(!Plan::of(&options, 1, Stage::Puts).is_empty());
        assert!(Plan::of(&options, 1, Stage::Reads).is_empty());
        let many = Plan::of(&options, 1, Stage::Many);
        assert_eq!(many.facts, [Fact::RestartClean, Fact::RestartKilled]);
        assert!(Plan::of(&options, 3, Stage::Many).is_empty());
        let unknown = Options { rows: vec!["no-such".to_owned()], ..options };
        assert!(unknown.check().expect_err("no such row").contains("no-such"));
    }

    #[test]
    fn sides_take_turns_at_being_first() {
        let setting = Setting {
            sides: vec![(Side::Etcd, "a".into()), (Side::Holdfast, "b".into())],
            data: PathBuf::new(),
            disk: Disk { name: String::new(), is_memory: false },
            scale: Scale::QUICK,
            begun: Instant::now(),
        };
        let first = |round| setting.in_order(round)[0].0;
        assert_eq!([first(0), first(1), first(2)], [Side::Etcd, Side::Holdfast, Side::Etcd]);
    }
}
