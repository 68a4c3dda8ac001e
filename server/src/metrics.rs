//! Prometheus metrics under etcd's names, as far as their meaning exists here yet.
//!
//! | metric | fed by |
//! |---|---|
//! | `etcd_server_has_leader`, `_is_leader`, `_is_learner`, `_leader_changes_seen_total` | [`Metrics::observe`] |
//! | `etcd_server_proposals_committed_total`, `_applied_total`, `_pending`, `_failed_total` | [`Metrics::observe`] |
//! | `etcd_debugging_server_lease_expired_total`, `etcd_debugging_lease_renewed_total` | [`Metrics::observe`] |
//! | `etcd_debugging_mvcc_current_revision`, `_compact_revision`, `_keys_total` | [`Metrics::set_store`] |
//! | `etcd_debugging_auth_revision` | [`Metrics::set_store`] |
//! | `etcd_mvcc_db_total_size_in_bytes`, `etcd_mvcc_db_total_size_in_use_in_bytes` | [`Metrics::set_store`] |
//! | `etcd_debugging_mvcc_watch_stream_total`, `_watcher_total`, `_slow_watcher_total` | [`Metrics::set_watches`] |
//! | `etcd_disk_wal_fsync_duration_seconds`, `etcd_disk_wal_write_bytes_total` | [`Metrics::wal_synced`] |
//! | `etcd_server_health_success`, `_health_failures`, `_healthcheck`, `_healthchecks_total` | [`Metrics::checked`] |
//! | `etcd_server_id`, `etcd_server_version`, `etcd_cluster_version` | [`Metrics::new`], [`Metrics::set_cluster_version`] |
//! | `process_*`, `os_fd_limit`, `os_fd_used` | `/proc`, when rendered |
//!
//! Leaves out what would be a guess: backend commits, the Go runtime,
//! and the gRPC middleware's metrics, which belong to the sessions.
//!
//! Laws:
//!  1. Every series listed above exists from the start, but for those that are labelled by a check.
//!  2. A counter never goes down; names and types are etcd's, gauges named `_total` included.
//!
//! Worked example: a fact that the leader changed to a member adds 1 to
//! `etcd_server_leader_changes_seen_total`, the first leader included; losing it adds nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::id::{MemberId, Revision};
use holdfast_core::response::Alarm;
use holdfast_core::status::{Role, Status};

use crate::config::ETCD_VERSION;
use crate::identity::Hex;

mod process;
mod series;

use series::{Counter, Gauge, Histogram, Page};

/// The state of the store, for the gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The newest revision.
    pub revision: Revision,
    /// Where history begins.
    pub compacted: Revision,
    /// Live keys.
    pub keys: u64,
    /// Bytes of data and history.
    pub size_bytes: u64,
    /// The part of it that is not garbage.
    pub size_in_use_bytes: u64,
    /// The quota in force; negative without one.
    pub quota_bytes: i64,
    /// How often users and roles have changed.
    pub auth_revision: u64,
}

/// A health check that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// `/health`.
    Health,
    /// One check of `/livez`.
    Livez(&'static str),
    /// One check of `/readyz`.
    Readyz(&'static str),
}

/// Every metric of a member. For one thread: plain cells.
#[derive(Debug)]
pub struct Metrics {
    member: MemberId,
    cluster_version: RefCell<Option<String>>,
    leader: Cell<Option<MemberId>>,
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    leader_changes: Counter,
    committed: Gauge,
    applied: Gauge,
    pending: Gauge,
    failed: Counter,
    lease_expired: Counter,
    lease_renewed: Counter,
    store: Cell<StoreFacts>,
    alarms: RefCell<Vec<Alarm>>,
    watch_streams: Gauge,
    watchers: Gauge,
    slow_watchers: Gauge,
    wal_fsync: Histogram,
    wal_bytes: Gauge,
    health: [Counter; 2],
    checks: RefCell<BTreeMap<Check, CheckCounts>>,
}

/// What came of one check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, Default)]
struct CheckCounts {
    last_passed: bool,
    passed: u64,
    failed: u64,
}

impl Metrics {
    /// Metrics of a member that has just started.
    pub fn new(member: MemberId) -> Metrics {
        Metrics {
            member,
            cluster_version: RefCell::default(),
            leader: Cell::default(),
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            is_learner: Gauge::default(),
            leader_changes: Counter::default(),
            committed: Gauge::default(),
            applied: Gauge::default(),
            pending: Gauge::default(),
            failed: Counter::default(),
            lease_expired: Counter::default(),
            lease_renewed: Counter::default(),
            store: Cell::default(),
            alarms: RefCell::default(),
            watch_streams: Gauge::default(),
            watchers: Gauge::default(),
            slow_watchers: Gauge::default(),
            wal_fsync: Histogram::exponential(0.001, 2.0, 14),
            wal_bytes: Gauge::default(),
            health: Default::default(),
            checks: RefCell::default(),
        }
    }

    /// The end of a turn of the driver.
    pub fn observe(&self, status: &Status, facts: &[Fact]) {
        self.has_leader.set(u64::from(status.leader.is_some()));
        self.is_leader.set(u64::from(status.role == Role::Leader));
        self.is_learner.set(u64::from(status.role == Role::Learner));
        self.committed.set(status.commit.0);
        self.applied.set(status.applied.index.0);
        self.pending.set(status.pending as u64);
        for fact in facts {
            match fact {
                Fact::LeaderChanged { leader, .. } => {
                    let before = self.leader.replace(*leader);
                    self.leader_changes.add(u64::from(leader.is_some() && before != *leader));
                }
                Fact::ProposalsFailed { commands } => self.failed.add(*commands as u64),
                Fact::LeaseExpired { .. } => self.lease_expired.add(1),
                Fact::LeaseRenewed { .. } => self.lease_renewed.add(1),
                Fact::BecameRole { .. }
                | Fact::Committed { .. }
                | Fact::Applied { .. }
                | Fact::AlarmRaised { .. }
                | Fact::AlarmCleared { .. }
                | Fact::Parted { .. }
                | Fact::HashAsked { .. }
                | Fact::HashTold { .. }
                | Fact::Compacted { .. }
                | Fact::CompactionFinished { .. }
                | Fact::CheckpointSaved { .. }
                | Fact::SnapshotInstalled { .. }
                | Fact::LeadershipOffered { .. }
                | Fact::MembersChanged { .. }
                | Fact::ChangeRefused { .. }
                | Fact::Removed
                | Fact::MatchedLowered { .. } => {}
            }
        }
    }

    /// A proposal that timed out at the edge.
    pub fn proposal_failed(&self) {
        self.failed.add(1);
    }

    /// The store as it is published now.
    pub fn set_store(&self, facts: StoreFacts) {
        self.store.set(facts);
    }

    /// The alarms that are up.
    pub fn set_alarms(&self, alarms: Vec<Alarm>) {
        *self.alarms.borrow_mut() = alarms;
    }

    /// Open watch streams, the watchers of all of them, and those that still read history.
    pub fn set_watches(&self, streams: usize, watchers: usize, slow: usize) {
        self.watch_streams.set(streams as u64);
        self.watchers.set(watchers as u64);
        self.slow_watchers.set(slow as u64);
    }

    /// A batch of the log is durable: how many bytes, and how long its write and sync took.
    pub fn wal_synced(&self, bytes: u64, took: Duration) {
        self.wal_bytes.set(self.wal_bytes.get().saturating_add(bytes));
        self.wal_fsync.observe(took.as_secs_f64());
    }

    /// The cluster version is decided: `3.7`.
    pub fn set_cluster_version(&self, version: &str) {
        *self.cluster_version.borrow_mut() = Some(version.to_owned());
    }

    /// A health check was answered.
    pub fn checked(&self, check: Check, passed: bool) {
        if check == Check::Health {
            return self.health[usize::from(!passed)].add(1);
        }
        let mut checks = self.checks.borrow_mut();
        let counts = checks.entry(check).or_default();
        counts.last_passed = passed;
        counts.passed += u64::from(passed);
        counts.failed += u64::from(!passed);
    }

    /// Appends the text exposition.
    pub fn render(&self, out: &mut String) {
        let mut page = Page::new(out);
        self.render_server(&mut page);
        self.render_store(&mut page);
        self.render_checks(&mut page);
        process::render(&mut page);
    }

    fn render_server(&self, page: &mut Page<'_>) {
        let info = |label: &str, value: &str| format!("{{{label}=\"{value}\"}}");
        let id = info("server_id", &Hex::from(self.member).to_string());
        page.gauge("etcd_server_id", "This member's id, as a label.").labelled(&id, 1);
        page.gauge("etcd_server_version", "The version served, as a label.")
            .labelled(&info("server_version", ETCD_VERSION), 1);
        if let Some(version) = &*self.cluster_version.borrow() {
            page.gauge("etcd_cluster_version", "The cluster's version, as a label.")
                .labelled(&info("cluster_version", version), 1);
        }
        page.gauge("etcd_server_has_leader", "Whether a leader is known.")
            .value(self.has_leader.get());
        page.gauge("etcd_server_is_leader", "Whether this member leads.")
            .value(self.is_leader.get());
        page.gauge("etcd_server_is_learner", "Whether this member has no vote.")
            .value(self.is_learner.get());
        page.counter("etcd_server_leader_changes_seen_total", "Leaders seen, the first included.")
            .value(self.leader_changes.get());
        page.gauge("etcd_server_proposals_committed_total", "Highest committed log index.")
            .value(self.committed.get());
        page.gauge("etcd_server_proposals_applied_total", "Highest applied log index.")
            .value(self.applied.get());
        page.gauge("etcd_server_proposals_pending", "Proposals not yet answered.")
            .value(self.pending.get());
        page.counter("etcd_server_proposals_failed_total", "Proposals that failed.")
            .value(self.failed.get());
        page.counter("etcd_debugging_server_lease_expired_total", "Leases found expired.")
            .value(self.lease_expired.get());
        page.counter("etcd_debugging_lease_renewed_total", "Leases renewed by this leader.")
            .value(self.lease_renewed.get());
    }

    fn render_store(&self, page: &mut Page<'_>) {
        let store = self.store.get();
        page.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.")
            .value(store.revision.0);
        page.gauge("etcd_debugging_mvcc_compact_revision", "Where history begins.")
            .value(store.compacted.0);
        page.gauge("etcd_debugging_mvcc_keys_total", "Live keys.").value(store.keys);
        page.gauge("etcd_debugging_auth_revision", "How often users and roles have changed.")
            .value(store.auth_revision);
        page.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of data and history.")
            .value(store.size_bytes);
        page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Of these, bytes not garbage.")
            .value(store.size_in_use_bytes);
        page.gauge("etcd_server_quota_backend_bytes", "Bytes beyond which writes are refused.")
            .value(store.quota_bytes);
        let alarms = self.alarms.borrow();
        if !alarms.is_empty() {
            let mut family = page.gauge("etcd_debugging_server_alarms", "Alarms that are up.");
            for Alarm { member, kind } in &*alarms {
                let (id, kind) = (Hex::from(*member), kind.name());
                family.labelled(&format!("{{server_id=\"{id}\",alarm_type=\"{kind}\"}}"), 1);
            }
        }
        page.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams.")
            .value(self.watch_streams.get());
        page.gauge("etcd_debugging_mvcc_watcher_total", "Watchers of all streams.")
            .value(self.watchers.get());
        page.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that read history.")
            .value(self.slow_watchers.get());
        page.histogram("etcd_disk_wal_fsync_duration_seconds", "Write and sync of a log batch.")
            .buckets(&self.wal_fsync);
        page.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.")
            .value(self.wal_bytes.get());
    }

    fn render_checks(&self, page: &mut Page<'_>) {
        page.counter("etcd_server_health_success", "Times /health was true.")
            .value(self.health[0].get());
        page.counter("etcd_server_health_failures", "Times /health was false.")
            .value(self.health[1].get());
        let checks = self.checks.borrow();
        if checks.is_empty() {
            return;
        }
        let mut family = page.gauge("etcd_server_healthcheck", "Whether the check last passed.");
        for (check, counts) in &*checks {
            family.labelled(&format!("{{{}}}", check.labels()), u64::from(counts.last_passed));
        }
        let mut family = page.counter("etcd_server_healthchecks_total", "Checks by outcome.");
        for (check, counts) in &*checks {
            for (status, count) in [("error", counts.failed), ("success", counts.passed)] {
                family.labelled(&format!("{{{},status=\"{status}\"}}", check.labels()), count);
            }
        }
    }
}

impl Check {
    fn labels(self) -> String {
        let mut labels = String::new();
        let (kind, name) = match self {
            Check::Health => ("health", "health"),
            Check::Livez(name) => ("livez", name),
            Check::Readyz(name) => ("readyz", name),
        };
        let _ = write!(labels, "type=\"{kind}\",name=\"{name}\"");
        labels
    }
}

#[cfg(test)]
mod tests;
