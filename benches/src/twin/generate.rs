//! Seeded steps: valid, invalid, and at the limits.
//!
//! A generator sees the reference's answers, so that it can ask about revisions that exist, have just been compacted,
//! or are one too far; for the same seed and the same answers it gives the same steps.
//!
//! Keys are few, so that requests meet: what is drawn collides, overlaps and lies on edges on purpose.

use std::collections::VecDeque;

use clap::ValueEnum;
use holdfast_core::rng::Rng;

use super::rules::number_behind as field;
use super::step::Step;

mod auth;
mod cluster;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod txn;
mod watch;

/// What steps are about. Each area runs on a cluster of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Area {
    /// Range, RangeStream, Put, DeleteRange, Compact.
    Kv,
    /// Transactions, nested ones too.
    Txn,
    /// Watch streams beside changes.
    Watch,
    /// Leases and what hangs on them.
    Lease,
    /// Users, roles, and all other calls under them.
    Auth,
    /// Members, mostly with bad arguments.
    Cluster,
    /// Status, alarms, hashes, leadership, downgrades.
    Maintenance,
    /// Lock and Election.
    Lock,
    /// gRPC's health service, messages that cannot be read, methods that are not there.
    Health,
    /// Keys, transactions, watches and leases together.
    Mixed,
}

impl Area {
    /// All of them.
    pub const ALL: &[Area] = &[
        Area::Kv,
        Area::Txn,
        Area::Watch,
        Area::Lease,
        Area::Auth,
        Area::Cluster,
        Area::Maintenance,
        Area::Lock,
        Area::Health,
        Area::Mixed,
    ];

    /// How files and reports call it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What the reference has said so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its newest revision.
    pub revision: i64,
    /// Where it was last compacted.
    pub compacted: i64,
    /// How many leases it has chosen the ids of.
    pub leases: usize,
}

/// See the module.
pub struct Generator {
    area: Area,
    /// How many members there are.
    pub members: usize,
    /// Draws.
    pub draw: Draw,
    /// What is to come before anything else is drawn.
    queue: VecDeque<Step>,
    users: auth::Users,
    contest: lock::Contest,
    watching: watch::Watching,
}

impl Generator {
    /// One for an area, by its seed.
    pub fn new(seed: u64, area: Area, members: usize) -> Generator {
        let rng = Rng::new(seed).fork(area as u64);
        let draw = Draw { rng, known: Known { revision: 1, ..Known::default() } };
        Generator {
            area,
            members,
            draw,
            queue: VecDeque::new(),
            users: auth::Users::default(),
            contest: lock::Contest::default(),
            watching: watch::Watching::default(),
        }
    }

    /// The next step.
    pub fn next_step(&mut self) -> Step {
        if let Some(step) = self.queue.pop_front() {
            return step;
        }
        let mut steps = self.steps(self.area);
        let first = steps.remove(0);
        self.queue.extend(steps);
        self.elsewhere(first)
    }

    /// At least one step of an area.
    fn steps(&mut self, area: Area) -> Vec<Step> {
        let Generator { draw, members, .. } = self;
        match area {
            Area::Kv => vec![kv::step(draw)],
            Area::Txn => vec![txn::step(draw)],
            Area::Watch => self.watching.steps(draw),
            Area::Lease => lease::steps(draw),
            Area::Auth => self.users.steps(draw),
            Area::Cluster => cluster::steps(draw, *members),
            Area::Maintenance => maintenance::steps(draw, *members),
            Area::Lock => self.contest.steps(draw),
            Area::Health => health::steps(draw),
            Area::Mixed => {
                let mixed = [Area::Kv, Area::Txn, Area::Lease, Area::Watch];
                let area = self.draw.pick(&mixed);
                self.steps(area)
            }
        }
    }

    /// Sometimes another member is asked, where there is one. Reads that need not be fresh stay with the first: how far
    /// another is behind is a matter of time.
    fn elsewhere(&mut self, step: Step) -> Step {
        if self.members > 1 && !step.message().contains("serializable") && self.draw.chance(40) {
            let member = self.draw.below(self.members);
            return step.at(member);
        }
        step
    }

    /// Takes the reference's answer in.
    pub fn learn(&mut self, step: &Step, lines: &[String]) {
        let known = &mut self.draw.known;
        for line in lines {
            if let Some(revision) = field(line, "header{revision:") {
                known.revision = known.revision.max(revision);
            }
        }
        if step.method() == Some("KV.Compact")
            && lines.first().is_some_and(|line| line.starts_with("ok"))
            && let Some(revision) = field(step.message(), "revision:")
        {
            known.compacted = known.compacted.max(revision);
        }
        self.users.learn(step, lines);
        self.contest.learn(step, lines);
        lease::learn(&mut self.draw, step, lines);
    }
}

/// Draws what requests are made of.
#[derive(Clone, Debug)]
pub struct Draw {
    rng: Rng,
    /// What draws know of the reference.
    pub known: Known,
}

/// Few, so that they meet; in byte order they have neighbours and prefixes. No more than twelve: Go sorts so few in a
/// stable way, and ties of more in no order.
const KEYS: [&str; 12] =
    ["a", "a/1", "a/2", "a\\000", "b", "b/1", "c", "ca", "cb", "d", "\\000", "\\377"];

/// Beginnings of ranges that match several of them, and where they end.
const RANGES: [(&str, &str); 12] = [
    ("a", "b"),
    ("a/", "a0"),
    ("a", "a\\000"),
    ("b", "d"),
    ("a", "\\000"),
    ("\\000", "\\000"),
    ("\\000", "c"),
    ("b", "a"),
    ("c", "c"),
    ("\\377", "\\000"),
    ("zz", "zzz"),
    ("a/2", "ca"),
];

impl Draw {
    /// True with this probability.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.rng.chance(percent)
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A key, now and then none.
    pub fn key(&mut self) -> &'static str {
        if self.chance(2) { "" } else { self.pick(&KEYS) }
    }

    /// The fields of a range, or of a single key.
    pub fn range(&mut self) -> String {
        if self.chance(40) {
            return format!("key:\"{}\"", self.key());
        }
        let (key, end) = self.pick(&RANGES);
        let key = if self.chance(2) { "" } else { key };
        format!("key:\"{key}\",range_end:\"{end}\"")
    }

    /// A value: short, sometimes empty, seldom long.
    pub fn value(&mut self) -> String {
        match self.below(20) {
            0 => String::new(),
            1 => format!("$fill({})", self.pick(&[66, 1000, 4096, 70_000])),
            2 => "\\000\\377\\200".to_owned(),
            _ => format!("v{}", self.below(6)),
        }
    }

    /// A revision at or around one that means something.
    pub fn revision(&mut self) -> i64 {
        let Known { revision, compacted, .. } = self.known;
        match self.below(10) {
            0 => revision + 1,
            1 => revision,
            2 => compacted,
            3 => compacted - 1,
            4 => compacted + 1,
            5 => self.pick(&[-1, i64::MIN, i64::MAX, 1, 2, 0]),
            _ => {
                let span = (revision - compacted).max(1) as usize;
                compacted + self.below(span) as i64 + 1
            }
        }
    }

    /// A field, or nothing.
    pub fn maybe(&mut self, percent: u64, field: impl FnOnce(&mut Draw) -> String) -> String {
        if self.chance(percent) { format!(",{}", field(self)) } else { String::new() }
    }
}
