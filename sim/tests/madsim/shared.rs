//! What the parts of one seed's world know of each other: the trace, the history, who is where.
//!
//! All of it lives on one thread; the locks are there because madsim wants to send a node's first
//! task.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use holdfast_core::status::{Role, Status};
use holdfast_core::time::Instant;
use holdfast_sim::clock::Moment;

use crate::history::History;
use crate::runtime::truth;

/// Members of the cluster.
pub const MEMBERS: usize = 3;

/// Lines kept for the report of a failure.
const TAIL: usize = 400;

/// What all parts of a world share.
pub struct Shared {
    trace: Mutex<Trace>,
    history: Mutex<History>,
    board: Mutex<Board>,
    /// Everything is printed as it happens.
    is_loud: bool,
}

/// A running checksum over everything that happens, and its last lines.
#[derive(Default)]
pub struct Trace {
    hasher: crc32fast::Hasher,
    tail: VecDeque<String>,
    lines: u64,
}

impl Trace {
    /// Says in one number what happened, and when.
    pub fn hash(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    /// How many things happened.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The last of what happened.
    pub fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }
}

/// What clients do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything.
    #[default]
    Work,
    /// No more writes and reads.
    NoWrites,
    /// No more renewals either.
    NoRenewals,
    /// Nothing.
    Over,
}

/// Who is where and does what, for the choice of faults.
#[derive(Default)]
pub struct Board {
    /// What each member last said of itself.
    pub statuses: [Status; MEMBERS],
    /// Whether its process runs.
    pub is_up: [bool; MEMBERS],
    /// Whether it serves clients.
    pub is_ready: [bool; MEMBERS],
    /// Where clients should be connected now.
    pub gather_at: Option<usize>,
    /// What clients do.
    pub phase: Phase,
    /// The member that the watch is open on.
    pub watch_on: Option<usize>,
    /// The member that an unanswered renewal was sent to.
    pub renewal_at: Option<usize>,
    /// The lease that is renewed.
    pub lease: Option<i64>,
    /// Unanswered puts, by member.
    pub puts_at: [usize; MEMBERS],
    /// Clients that still work.
    pub clients: usize,
    /// Numbers for the report.
    pub counts: Counts,
}

/// Numbers for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times a member became leader.
    pub elections: u64,
    /// Leaders lost under a watch, a renewal and a put.
    pub leaders_lost: u64,
    /// Processes killed, with or without their power.
    pub crashes: u64,
    /// Partitions made.
    pub partitions: u64,
    /// Bytes that crashes took.
    pub bytes_lost: u64,
    /// Snapshots that followers installed.
    pub installs: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Times the watch was opened.
    pub watches: u64,
    /// Renewals acknowledged.
    pub renewals: u64,
    /// Leases that ended while they were meant to live, for want of acknowledged renewals.
    pub leases_starved: u64,
}

impl Board {
    /// The leader of the highest term among the members that are up.
    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| self.is_up[*n] && self.statuses[*n].role == Role::Leader;
        (0..MEMBERS).filter(leads).max_by_key(|n| self.statuses[*n].term)
    }

    /// Whether losing this member now would take a watch, a renewal and a put with it.
    pub fn is_armed(&self, member: usize) -> bool {
        self.watch_on == Some(member) && self.renewal_at == Some(member) && self.puts_at[member] > 0
    }
}

impl Shared {
    /// Nothing has happened.
    pub fn new(history: History) -> Arc<Shared> {
        Arc::new(Shared {
            trace: Mutex::default(),
            history: Mutex::new(history),
            board: Mutex::default(),
            is_loud: std::env::var_os("MADSIM_TRACE").is_some(),
        })
    }

    /// Something happened to `who`, now.
    pub fn note(&self, who: &str, what: impl Display) {
        let line = format!("{} {who}: {what}", Instant(truth().0));
        if self.is_loud {
            eprintln!("{line}");
        }
        let mut trace = self.trace();
        trace.hasher.update(line.as_bytes());
        trace.lines += 1;
        if trace.tail.len() == TAIL {
            trace.tail.pop_front();
        }
        trace.tail.push_back(line);
    }

    /// The trace.
    pub fn trace(&self) -> MutexGuard<'_, Trace> {
        held(&self.trace)
    }

    /// The history.
    pub fn history(&self) -> MutexGuard<'_, History> {
        held(&self.history)
    }

    /// The board.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        held(&self.board)
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.board().counts);
    }
}

/// Locks; a lock that is held over another is a mistake that would hang for ever.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        // After a panic the report still reads the trace.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => panic!("no part of a world locks what it has locked"),
    }
}

/// Where member `n` is, without the port.
pub fn host(n: usize) -> String {
    format!("10.0.0.{}", n + 1)
}

/// Where member `n` serves clients.
pub fn client_address(n: usize) -> String {
    format!("{}:2379", host(n))
}

/// Where member `n` listens to its peers.
pub fn peer_address(n: usize) -> String {
    format!("{}:2380", host(n))
}

/// Waits, by the true clock, until `done` says so; false when `moments` have passed before.
pub async fn wait_until(patience: std::time::Duration, mut done: impl FnMut() -> bool) -> bool {
    let end: Moment = truth().after(patience);
    while !done() {
        if truth() >= end {
            return false;
        }
        madsim::time::sleep(std::time::Duration::from_micros(500)).await;
    }
    true
}
