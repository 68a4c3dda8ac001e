//! What a run came to, for people and for the ledger.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::checker::Violation;
use crate::nemesis::Mask;

mod races;

pub use races::{Race, Races, Trouble};

/// What happened in a run, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the heap.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Requests that were answered.
    pub operations: u64,
    /// Requests whose outcome stayed unknown, or that were refused.
    pub unknown: u64,
    /// The last revision.
    pub revisions: u64,
    /// Entries committed.
    pub entries: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Faults begun.
    pub faults: u64,
    /// Processes started.
    pub boots: u64,
    /// Processes ended by a fault.
    pub crashes: u64,
    /// Those of them that lost unsynced bytes.
    pub crashes_dirty: u64,
    /// Those that were receiving a snapshot.
    pub crashes_in_snapshot: u64,
    /// Recoveries that the power cut off.
    pub recoveries_cut: u64,
    /// Members that stopped because of a fault of their disk.
    pub halts: u64,
    /// Changes of members that an operator was told have been made.
    pub members_changed: u64,
    /// Removed members that have stopped.
    pub members_stopped: u64,
    /// Members that have lost their data.
    pub wiped: u64,
    /// Those that were told so, and have stopped.
    pub wiped_stopped: u64,
    /// Members that went on alone after all others were lost.
    pub forced: u64,
    /// Members of another cluster that were refused.
    pub strangers_refused: u64,
    /// Bytes written and lost because they were not synced.
    pub bytes_lost: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Snapshots of peers installed.
    pub snapshots: u64,
    /// Those that came in more than one chunk.
    pub snapshots_chunked: u64,
    /// Leases that a leader found expired.
    pub leases_expired: u64,
    /// Messages between members.
    pub messages: u64,
    /// Events that watchers were told of.
    pub watch_events: u64,
    /// Whether clients had connections (of a sum: in how many runs).
    pub over_http2: u64,
    /// Connections of clients.
    pub connections: u64,
    /// Those that broke.
    pub connections_broken: u64,
    /// Requests over HTTP/2 that were ended by the server, with a status.
    pub calls: u64,
    /// Events that watchers were told of over HTTP/2.
    pub watch_events_http2: u64,
    /// Hostile clients.
    pub hostile: u64,
    /// Members that were told to stop.
    pub stops: u64,
    /// Register windows searched without looking at revisions.
    pub windows: u64,
    /// Searches given up.
    pub windows_undecided: u64,
    /// What ran while something was wrong.
    pub races: Races,
    /// How often each law had something to compare.
    pub compared: BTreeMap<&'static str, u64>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many members the cluster began with.
    pub members: usize,
    /// Faults left out.
    pub mask: Mask,
    /// Faults in the schedule.
    pub faults: u32,
    /// The seed's configuration.
    pub swarm: String,
    /// The hash of every event.
    pub trace: u64,
    /// What happened.
    pub counts: Counts,
    /// The law that was broken.
    pub violation: Option<Violation>,
    /// The first violation of each law, of a run that goes on after one.
    pub broken: BTreeMap<&'static str, Violation>,
}

impl Report {
    /// Why the run does not count although no law was broken: it did not do enough.
    pub fn shortfall(&self) -> Option<String> {
        let counts = &self.counts;
        let enough = [
            ("simulated seconds", counts.simulated.as_secs(), 60),
            ("operations", counts.operations, 200),
            ("elections", counts.elections, 1),
            ("crashes with unsynced writes", counts.crashes_dirty, 1),
        ];
        let short = enough.iter().find(|(_, done, wanted)| done < wanted)?;
        Some(format!("only {} {}, {} are needed", short.1, short.0, short.2))
    }

    /// What went wrong, with the command that shows it again.
    pub fn failure(&self) -> Option<String> {
        let what = match &self.violation {
            Some(violation) => violation.to_string(),
            None if self.mask == Mask::default() => format!("workload: {}", self.shortfall()?),
            None => return None,
        };
        let mask = match self.mask == Mask::default() {
            true => String::new(),
            false => format!(" --mask {}", self.mask),
        };
        Some(format!(
            "seed {}: {what}\n  {}\n  cargo run -p holdfast-sim --release -- replay {}{mask}",
            self.seed, self.swarm, self.seed
        ))
    }
}

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Their counts, added.
    pub sum: Counts,
    /// Runs with a snapshot of several chunks.
    pub seeds_chunked: u64,
    /// Runs by the members that their clusters began with.
    pub sizes: BTreeMap<usize, u64>,
    /// Bytes lost by each run.
    bytes_lost: Vec<u64>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.sum.add(&report.counts);
        self.seeds_chunked += u64::from(report.counts.snapshots_chunked > 0);
        *self.sizes.entry(report.members).or_default() += 1;
        self.bytes_lost.push(report.counts.bytes_lost);
        self.failures.extend(report.failure());
    }

    /// The median of the bytes lost by a run.
    pub fn bytes_lost_median(&self) -> u64 {
        let mut sorted = self.bytes_lost.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.simulated += other.simulated;
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.operations, other.operations),
            (&mut self.unknown, other.unknown),
            (&mut self.revisions, other.revisions),
            (&mut self.entries, other.entries),
            (&mut self.elections, other.elections),
            (&mut self.faults, other.faults),
            (&mut self.boots, other.boots),
            (&mut self.crashes, other.crashes),
            (&mut self.crashes_dirty, other.crashes_dirty),
            (&mut self.crashes_in_snapshot, other.crashes_in_snapshot),
            (&mut self.recoveries_cut, other.recoveries_cut),
            (&mut self.halts, other.halts),
            (&mut self.members_changed, other.members_changed),
            (&mut self.members_stopped, other.members_stopped),
            (&mut self.wiped, other.wiped),
            (&mut self.wiped_stopped, other.wiped_stopped),
            (&mut self.forced, other.forced),
            (&mut self.strangers_refused, other.strangers_refused),
            (&mut self.bytes_lost, other.bytes_lost),
            (&mut self.checkpoints, other.checkpoints),
            (&mut self.snapshots, other.snapshots),
            (&mut self.snapshots_chunked, other.snapshots_chunked),
            (&mut self.leases_expired, other.leases_expired),
            (&mut self.messages, other.messages),
            (&mut self.watch_events, other.watch_events),
            (&mut self.over_http2, other.over_http2),
            (&mut self.connections, other.connections),
            (&mut self.connections_broken, other.connections_broken),
            (&mut self.calls, other.calls),
            (&mut self.watch_events_http2, other.watch_events_http2),
            (&mut self.hostile, other.hostile),
            (&mut self.stops, other.stops),
            (&mut self.windows, other.windows),
            (&mut self.windows_undecided, other.windows_undecided),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.races.add(&other.races);
        for (law, more) in &other.compared {
            *self.compared.entry(law).or_default() += more;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared: Vec<String> =
            self.compared.iter().map(|(law, times)| format!("{law} {times}")).collect();
        write!(
            f,
            "{}s simulated, {} events, {} operations answered ({} not), {} entries, {} elections, \
             {} faults, {} crashes ({} with unsynced writes, {} during a snapshot), {} recoveries \
             cut off, {} halts on a full disk, {} unsynced bytes lost, {} checkpoints, {} snapshots \
             installed ({} of several chunks), {} leases expired, {} peer messages, {} watch \
             events, {} register windows searched ({} undecided), {} changes of members, {} removed \
             members stopped, {} members without their data ({} stopped), {} forced clusters, {} strangers refused; {} seeds over HTTP/2: {} calls, {} watch events, {} connections, {} of \
             them broken, {} hostile clients, {} stops; races with a crash, a partition, a pause: {}; comparisons {}",
            self.simulated.as_secs(),
            self.events,
            self.operations,
            self.unknown,
            self.entries,
            self.elections,
            self.faults,
            self.crashes,
            self.crashes_dirty,
            self.crashes_in_snapshot,
            self.recoveries_cut,
            self.halts,
            self.bytes_lost,
            self.checkpoints,
            self.snapshots,
            self.snapshots_chunked,
            self.leases_expired,
            self.messages,
            self.watch_events,
            self.windows,
            self.windows_undecided,
            self.members_changed,
            self.members_stopped,
            self.wiped,
            self.wiped_stopped,
            self.forced,
            self.strangers_refused,
            self.over_http2,
            self.calls,
            self.watch_events_http2,
            self.connections,
            self.connections_broken,
            self.hostile,
            self.stops,
            self.races,
            compared.join(" ")
        )
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> =
            self.sizes.iter().map(|(members, seeds)| format!("{members}: {seeds}")).collect();
        write!(
            f,
            "{} seeds, {} failed; {}; median of unsynced bytes lost {}; {} seeds with a snapshot of \
             several chunks; seeds by members {}",
            self.seeds,
            self.failures.len(),
            self.sum,
            self.bytes_lost_median(),
            self.seeds_chunked,
            sizes.join(", ")
        )
    }
}
