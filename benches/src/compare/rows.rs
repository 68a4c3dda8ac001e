//! What is measured: the rows, the facts, and the stages that prepare a database for them.

use crate::loadgen::{Config, Op};

/// How long and how large; the quick form is smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Seconds that a row is measured, and before that.
    pub seconds: f64,
    /// See `seconds`.
    pub warmup: f64,
    /// Seconds of the rows that measure a stall.
    pub stall_seconds: f64,
    /// Keys of most rows, and of those that need many.
    pub keys: u64,
    /// See `keys`.
    pub many_keys: u64,
    /// Seconds that servers are left alone after a load.
    pub settle: f64,
}

impl Scale {
    /// What the numbers of issues and documents are measured with.
    pub const FULL: Scale = Scale {
        seconds: 3.0,
        warmup: 1.0,
        stall_seconds: 5.0,
        keys: 100_000,
        many_keys: 1_000_000,
        settle: 2.0,
    };
    /// Everything within three minutes.
    pub const QUICK: Scale = Scale {
        seconds: 0.8,
        warmup: 0.2,
        stall_seconds: 2.0,
        keys: 50_000,
        many_keys: 200_000,
        settle: 0.5,
    };
}

/// A database that rows share: each side starts anew for each stage of each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Empty at first.
    Puts,
    /// `keys` keys.
    Reads,
    /// Ten thousand pods.
    Pods,
    /// A thousand keys.
    Watches,
    /// Empty.
    Leases,
    /// `keys` keys with two revisions each.
    Stalls,
    /// `many_keys` keys; the facts are measured here.
    Many,
}

impl Stage {
    /// All, in the order in which they run.
    pub const ALL: [Stage; 7] = [
        Stage::Puts,
        Stage::Reads,
        Stage::Pods,
        Stage::Watches,
        Stage::Leases,
        Stage::Stalls,
        Stage::Many,
    ];

    /// What loads its keys, and how often.
    pub fn load(self, scale: &Scale) -> Option<(Config, u32)> {
        let (keys, times) = match self {
            Stage::Puts | Stage::Leases => return None,
            Stage::Reads => (scale.keys, 1),
            Stage::Pods => (PODS, 1),
            Stage::Watches => (1000, 1),
            Stage::Stalls => (scale.keys, 2),
            Stage::Many => (scale.many_keys, 1),
        };
        let mut config = Config { keys, conns: 2, inflight: 4, ..Config::new(Op::Load, &[]) };
        if self == Stage::Pods {
            as_pods(&mut config);
        }
        Some((config, times))
    }
}

const PODS: u64 = 10_000;

/// What goes on beside a row's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// All history is forgotten.
    Compaction,
    /// All keys are read, again and again.
    Range,
}

/// A workload.
pub struct Row {
    /// Names it on the command line; a part up to a dash names several.
    pub id: &'static str,
    /// Names it in the table.
    pub title: &'static str,
    /// What it needs.
    pub stage: Stage,
    /// Cluster sizes that it is run with, and those of the quick form.
    pub members: &'static [usize],
    /// See `members`.
    pub members_quick: &'static [usize],
    /// See [`Beside`].
    pub beside: Beside,
    op: Op,
    clients: (u16, u16),
    adjust: fn(&mut Config, &Scale),
}

impl Row {
    /// The run, without its endpoints and processes.
    pub fn config(&self, scale: &Scale) -> Config {
        let mut config = Config {
            conns: self.clients.0,
            inflight: self.clients.1,
            duration: scale.seconds,
            warmup: scale.warmup,
            keys: scale.keys,
            ..Config::new(self.op, &[])
        };
        (self.adjust)(&mut config, scale);
        config
    }

    /// Whether the clients follow a clock, so that throughput says nothing of the server.
    pub fn is_paced(&self, scale: &Scale) -> bool {
        self.config(scale).rate > 0.0
    }

    /// Whether it counts events, not calls.
    pub fn counts_events(&self) -> bool {
        self.stage == Stage::Watches
    }

    /// Reads that must find what they look for.
    pub fn must_find(&self) -> bool {
        self.stage != Stage::Puts
    }
}

/// What is measured once on the database with many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Keys a second, a hundred in a transaction.
    Load,
    /// Bytes resident for a key after the load.
    Memory,
    /// Bytes on disk for a key after the load.
    Disk,
    /// Seconds from a start after TERM to the first linearizable read.
    RestartClean,
    /// The same after KILL.
    RestartKilled,
    /// Bytes resident for a key after a restart.
    MemoryRestarted,
}

impl Fact {
    /// All, in the order of the table.
    pub const ALL: [Fact; 6] = [
        Fact::Load,
        Fact::Memory,
        Fact::MemoryRestarted,
        Fact::Disk,
        Fact::RestartClean,
        Fact::RestartKilled,
    ];

    /// Names it on the command line.
    pub fn id(self) -> &'static str {
        match self {
            Fact::Load => "load",
            Fact::Memory => "memory",
            Fact::MemoryRestarted => "memory-restarted",
            Fact::Disk => "disk",
            Fact::RestartClean => "restart-clean",
            Fact::RestartKilled => "restart-killed",
        }
    }

    /// Names it in the table, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Fact::Load => "load, transactions of 100 puts: keys/s",
            Fact::Memory => "resident memory per key after the load: B",
            Fact::MemoryRestarted => "resident memory per key after a restart: B",
            Fact::Disk => "disk per key after the load: B",
            Fact::RestartClean => "restart after TERM, to the first linearizable read: s",
            Fact::RestartKilled => "restart after KILL, to the first linearizable read: s",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        self == Fact::Load
    }
}

/// Whether one of the names on the command line names this.
pub fn is_named(id: &str, names: &[String]) -> bool {
    let matches = |name: &String| id.strip_prefix(name.as_str()).is_some_and(is_end_of_word);
    names.is_empty() || names.iter().any(matches)
}

fn is_end_of_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('-')
}

fn as_is(_: &mut Config, _: &Scale) {}

fn in_sequence(config: &mut Config, _: &Scale) {
    config.sequential = true;
}

fn as_pods(config: &mut Config) {
    config.pods = true;
    config.keys = PODS;
    config.prefix = "/registry/pods/".to_owned();
    (config.val_size, config.val_max) = (1024, 4096);
}

fn kubernetes(config: &mut Config, _: &Scale) {
    as_pods(config);
    (config.watchers, config.prev_kv) = (4, true);
}

/// Watchers of everything, and as many puts a second as make about 20,000 events; 1000 watchers: 50,000.
fn fan_out(config: &mut Config, watchers: usize) {
    (config.keys, config.watchers, config.prev_kv) = (1000, watchers, true);
    config.rate = match watchers {
        1 => 1000.0,
        100 => 200.0,
        _ => 50.0,
    };
}

fn paced(config: &mut Config, scale: &Scale) {
    config.rate = 2000.0;
    config.duration = scale.stall_seconds;
}

const ONE: &[usize] = &[1];
const BOTH: &[usize] = &[1, 3];

const fn row(
    id: &'static str,
    title: &'static str,
    (stage, op): (Stage, Op),
    clients: (u16, u16),
    adjust: fn(&mut Config, &Scale),
) -> Row {
    let (members, members_quick, beside) = (ONE, ONE, Beside::Nothing);
    Row { id, title, stage, members, members_quick, beside, op, clients, adjust }
}

impl Row {
    const fn with_three_members(self) -> Row {
        Row { members: BOTH, ..self }
    }

    const fn even_when_quick(self) -> Row {
        Row { members_quick: self.members, ..self }
    }

    const fn beside(self, beside: Beside) -> Row {
        Row { beside, ..self }
    }
}

use Op::{Cas, Kubernetes, LeaseGrant, LeaseKeepalive, Mixed, Put, Range, RangeSerializable};
use Stage::{Leases, Many, Pods, Puts, Reads, Stalls, Watches};

/// Every row, by stage.
#[rustfmt::skip]
pub const ROWS: [Row; 32] = [
    row("put-1", "put 256 B random, 1 client", (Puts, Put), (1, 1), as_is).with_three_members(),
    row("put-16", "put 256 B random, 16 clients", (Puts, Put), (4, 4), as_is),
    row("put-64", "put 256 B random, 64 clients = 8x8", (Puts, Put), (8, 8), as_is)
        .with_three_members().even_when_quick(),
    row("put-256", "put 256 B random, 256 clients = 16x16", (Puts, Put), (16, 16), as_is)
        .with_three_members().even_when_quick(),
    row("put-256x1", "put 256 B random, 256 clients = 256x1", (Puts, Put), (256, 1), as_is),
    row("put-1000", "put 256 B random, 1000 clients = 40x25", (Puts, Put), (40, 25), as_is)
        .with_three_members(),
    row("put-sequential-64", "put 256 B sequential, 64 clients", (Puts, Put), (8, 8), in_sequence),
    row("put-sequential-256", "put 256 B sequential, 256 clients", (Puts, Put), (16, 16),
        in_sequence),
    row("put-sequential-1000", "put 256 B sequential, 1000 clients", (Puts, Put), (40, 25),
        in_sequence),
    row("get-1", "read linearizable, 1 client", (Reads, Range), (1, 1), as_is),
    row("get-64", "read linearizable, 64 clients", (Reads, Range), (8, 8), as_is)
        .with_three_members().even_when_quick(),
    row("get-256", "read linearizable, 256 clients", (Reads, Range), (16, 16), as_is)
        .with_three_members(),
    row("get-1000", "read linearizable, 1000 clients", (Reads, Range), (40, 25), as_is),
    row("get-serializable-64", "read serializable, 64 clients", (Reads, RangeSerializable), (8, 8),
        as_is).with_three_members(),
    row("get-serializable-256", "read serializable, 256 clients", (Reads, RangeSerializable),
        (16, 16), as_is),
    row("mixed-64", "80 % reads, 20 % puts, 64 clients", (Reads, Mixed), (8, 8), as_is)
        .with_three_members(),
    row("cas-64", "compare-and-swap 256 B, 64 clients", (Reads, Cas), (8, 8), as_is)
        .with_three_members().even_when_quick(),
    row("cas-256", "compare-and-swap 256 B, 256 clients", (Reads, Cas), (16, 16), as_is),
    row("range-10k", "range of 10,000 keys, 2 clients", (Reads, Range), (2, 1),
        |config, _| config.span = 10_000),
    row("kubernetes-64", "Kubernetes mix, 4 watchers, 64 clients", (Pods, Kubernetes), (8, 8),
        kubernetes).with_three_members(),
    row("watch-1", "1 watcher, 1000 puts/s (events)", (Watches, Put), (1, 8),
        |config, _| fan_out(config, 1)),
    row("watch-100", "100 watchers, 200 puts/s (events)", (Watches, Put), (1, 8),
        |config, _| fan_out(config, 100)),
    row("watch-1000", "1000 watchers, 50 puts/s (events)", (Watches, Put), (1, 8),
        |config, _| fan_out(config, 1000)),
    row("lease-grant-64", "lease grant, 64 clients", (Leases, LeaseGrant), (8, 8), as_is),
    row("lease-keepalive-64", "lease keepalive, 64 streams", (Leases, LeaseKeepalive), (8, 8),
        as_is),
    row("stall-quiet", "2000 puts/s, nothing beside", (Stalls, Put), (8, 8), paced),
    row("stall-range", "2000 puts/s beside ranges of all keys", (Stalls, Put), (8, 8), paced)
        .beside(Beside::Range),
    row("stall-compaction", "2000 puts/s beside a compaction", (Stalls, Put), (8, 8), paced)
        .beside(Beside::Compaction),
    row("count-4", "count of all of many keys, 4 clients", (Many, Range), (4, 1),
        |config, scale| {
            (config.keys, config.span) = (scale.many_keys, scale.many_keys);
            config.count_only = true;
        }),
    row("count-1", "count of all of many keys, 1 client", (Many, Range), (1, 1),
        |config, scale| {
            (config.keys, config.span) = (scale.many_keys, scale.many_keys);
            config.count_only = true;
        }),
    row("many-get-64", "read linearizable of many keys, 64 clients", (Many, Range), (8, 8),
        |config, scale| config.keys = scale.many_keys),
    row("many-put-64", "put 256 B random of many keys, 64 clients", (Many, Put), (8, 8),
        |config, scale| config.keys = scale.many_keys),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words_and_unique() {
        let named = |id, names: &[&str]| {
            is_named(id, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert!(named("put-256x1", &["put"]) && named("put-256", &["get", "put-256"]));
        assert!(!named("put-256x1", &["put-256"]) && named("anything", &[]));
        let mut ids: Vec<_> = ROWS.iter().map(|row| row.id).collect();
        ids.extend(Fact::ALL.map(Fact::id));
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn rows_have_the_clients_that_they_say() {
        let config = |id| {
            let row = ROWS.iter().find(|row| row.id == id).expect("a row of that name");
            row.config(&Scale::FULL)
        };
        let puts = config("put-1000");
        assert_eq!(u32::from(puts.conns) * u32::from(puts.inflight), 1000);
        assert_eq!(config("range-10k").span, 10_000);
        assert_eq!((config("watch-1000").watchers, config("watch-1000").prev_kv), (1000, true));
        let count = config("count-4");
        assert_eq!((count.keys, count.span, count.count_only), (1_000_000, 1_000_000, true));
    }
}
