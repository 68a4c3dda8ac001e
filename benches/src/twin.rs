//! The same requests, in the same order, to a real etcd and to Holdfast; every field, code and text of what they
//! answer is compared.
//!
//! Requests are drawn from a seed ([`generate`]) or read from a script ([`table`]). What must differ is known by name
//! ([`names`]) or by rule ([`rules`]); what is meant to differ is listed ([`known`]); anything else is a difference, is
//! reported with both answers, and makes the command's exit code 1.
//!
//! Leaves out TLS, HTTP/1, the command line, and time: nothing that depends on how fast a server is.
//!
//! Worked example: `twin --area kv --seed 7 --requests 500`; a difference at step 31 of it is looked at again with
//! `twin --script target/twin/kv-7.txt --until 31`, made smaller with `--shrink`.

pub mod generate;
pub mod known;
pub mod names;
pub mod report;
pub mod rules;
pub mod run;
pub mod schema;
pub mod shrink;
pub mod side;
pub mod step;
pub mod table;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::compare::cluster::{Cluster, Side as Who};
use crate::compare::etcd;
use generate::{Area, Generator};
use run::{Outcome, Source};
use side::Side;
use table::{Setting, Table};

/// A comparison of answers.
#[derive(Clone, Debug, Parser)]
#[command(name = "twin", about = "The same requests to a real etcd and to Holdfast")]
pub struct Options {
    /// What requests are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many requests each area gets.
    #[arg(long, default_value_t = 300)]
    pub requests: usize,
    /// How many members each of the two has.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub members: u8,
    /// Only these areas.
    #[arg(long, value_delimiter = ',')]
    pub area: Vec<Area>,
    /// The steps of this file instead of drawn ones.
    #[arg(long)]
    pub script: Option<PathBuf>,
    /// Only so many steps of the file.
    #[arg(long)]
    pub until: Option<usize>,
    /// Leave out of the file what its last difference does not need.
    #[arg(long)]
    pub shrink: bool,
    /// Write etcd's answers into the file, and ask nobody else.
    #[arg(long)]
    pub record: bool,
    /// End an area after so many differences.
    #[arg(long, default_value_t = 10)]
    pub differences: usize,
    /// Where scripts and servers' data go.
    #[arg(long, default_value = "target/twin")]
    pub out: PathBuf,
    /// Our binary.
    #[arg(long, default_value = "target/release/holdfast")]
    pub holdfast: PathBuf,
    /// A binary of etcd, instead of building one.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
}

/// Flags that every member gets, on both sides: hashing passwords costs little.
pub const FLAGS: [&str; 2] = ["--bcrypt-cost", "4"];

/// Makes what the options ask for; whether nothing differs that is not listed.
///
/// # Errors
/// What keeps it from running at all.
pub fn run(options: &Options) -> Result<bool, String> {
    fs::create_dir_all(&options.out).map_err(|cause| in_file(&options.out, &cause))?;
    let Some(etcd) = find_etcd(options)? else {
        eprintln!("no Go on this machine, so no etcd to compare with: nothing was done");
        return Ok(true);
    };
    if !options.record && !options.holdfast.exists() {
        let holdfast = options.holdfast.display();
        return Err(format!(
            "{holdfast} is not there; build it: cargo build --release -p holdfast-server"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("the event loop: {cause}"))?;
    let twins = Twins { options, etcd };
    runtime.block_on(async {
        match &options.script {
            Some(path) => twins.script(path).await,
            None => twins.areas().await,
        }
    })
}

fn find_etcd(options: &Options) -> Result<Option<PathBuf>, String> {
    match &options.etcd {
        Some(etcd) => Ok(Some(etcd.clone())),
        None => {
            eprintln!("building etcd from its Go module (the first time takes minutes)");
            etcd::build()
        }
    }
}

/// The two binaries, and what is to be done with them.
pub struct Twins<'a> {
    options: &'a Options,
    etcd: PathBuf,
}

impl Twins<'_> {
    async fn areas(&self) -> Result<bool, String> {
        let areas = if self.options.area.is_empty() { Area::ALL } else { &self.options.area };
        let mut good = true;
        for &area in areas {
            good &= self.area(area).await?;
        }
        Ok(good)
    }

    async fn area(&self, area: Area) -> Result<bool, String> {
        let Options { seed, requests, members, .. } = *self.options;
        let setting = Setting { members: members.into(), ..Setting::default() };
        let mut generator = Generator::new(seed, area, setting.members);
        let source = Source::Drawn(&mut generator, requests);
        let outcome = self.compare(&setting, source, self.options.differences).await?;
        let name = format!("{}-{seed}.txt", area.name());
        let path = self.options.out.join(name);
        let head = vec![format!("{} --area {} --seed {seed}", "twin", area.name())];
        let table = Table { head, setting, entries: outcome.entries.clone() };
        fs::write(&path, table.text()).map_err(|cause| in_file(&path, &cause))?;
        say(&format!("{} of seed {seed}", area.name()), &outcome, &path);
        Ok(outcome.is_good())
    }

    async fn script(&self, path: &Path) -> Result<bool, String> {
        let mut table = Table::load(path)?;
        if self.options.record {
            let (_cluster, mut side) = self.start(Who::Etcd, &table.setting).await?;
            let recorded = run::record(&mut side, &table).await?;
            fs::write(path, recorded.text()).map_err(|cause| in_file(path, &cause))?;
            println!("recorded {} steps in {}", recorded.entries.len(), path.display());
            return Ok(true);
        }
        table.entries.truncate(self.options.until.unwrap_or(usize::MAX));
        if self.options.shrink {
            return self.shrink(table, path).await;
        }
        let source = Source::Script(&table.entries);
        let outcome = self.compare(&table.setting, source, self.options.differences).await?;
        say(&path.display().to_string(), &outcome, path);
        Ok(outcome.is_good())
    }

    async fn shrink(&self, table: Table, path: &Path) -> Result<bool, String> {
        let Some(small) = shrink::shrink(self, table).await? else {
            println!("{}: nothing differs", path.display());
            return Ok(true);
        };
        let to = path.with_extension("small.txt");
        fs::write(&to, small.text()).map_err(|cause| in_file(&to, &cause))?;
        println!("{}\nwritten to {}", small.text(), to.display());
        Ok(false)
    }

    /// Runs steps on two new clusters.
    async fn compare(
        &self,
        setting: &Setting,
        source: Source<'_>,
        most: usize,
    ) -> Result<Outcome, String> {
        let (mut theirs, mut reference) = self.start(Who::Etcd, setting).await?;
        let (mut own, mut ours) = self.start(Who::Holdfast, setting).await?;
        let mut outcome = run::compare((&mut reference, &mut ours), source, most).await?;
        let alive = theirs.check_alive().and_then(|()| own.check_alive());
        outcome.died = alive.err();
        Ok(outcome)
    }

    async fn start(&self, who: Who, setting: &Setting) -> Result<(Cluster, Side), String> {
        let binary = match who {
            Who::Etcd => &self.etcd,
            Who::Holdfast => &self.options.holdfast,
        };
        let data = self.options.out.join(format!("data-{}", std::process::id()));
        let flags = FLAGS.iter().map(|flag| (*flag).to_owned()).chain(setting.flags.clone());
        let cluster = Cluster::start_with(who, binary, (&data, setting.members), flags.collect())?;
        let side = Side::connect(who.name(), cluster.endpoints()).await?;
        Ok((cluster, side))
    }
}

fn say(what: &str, outcome: &Outcome, path: &Path) {
    let (steps, differences) = (outcome.entries.len(), outcome.differences.len());
    println!("{what}: {steps} steps, {differences} differences");
    if let Some(what) = &outcome.died {
        println!("  {what}");
    }
    for (name, count) in &outcome.listed {
        println!("  listed: {name} ({count})");
    }
    for difference in &outcome.differences {
        let (path, at) = (path.display(), difference.at);
        println!("{}  again: twin --script {path} --until {at}", difference.text());
    }
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.differences.is_empty() && self.died.is_none()
    }
}

fn in_file(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
