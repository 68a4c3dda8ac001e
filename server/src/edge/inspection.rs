//! Hashes that members compare: the [`Inspector`]'s orders carried out, peers' questions answered, and the hash
//! of each compaction made, where that is wanted.
//!
//! Laws:
//!  1. Hashes are made one after the other, each of the snapshot that was pinned when it was asked for, by an
//!     eighth of what the edge may read in a turn, in addition to it.
//!  2. What waits is bounded: one own hash, one for each member, and as many of compactions as are remembered;
//!     of those the oldest gives way. What an operator should read likewise.
//!  3. A peer's question that is asked again while its hash is being made is not asked twice.
//!  4. A compaction's hash is of the state that published it, before anything was removed, under what was
//!     compacted before: so all members make the same, however far their physical compaction is.
//!
//! Leaves out who is named, and when ([`holdfast_core::inspector`]). Runs on the member's first edge alone, which
//! is told the node's facts; remembered hashes are shared with the others.
//!
//! Worked example: n1 asks n2 for its hash at r9. n2 is at r8 and says so; asked again at r12 it pins r12, hashes
//! what was there at r9 over some turns, and tells.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::id::MemberId;
use holdfast_core::inspector::{
    Accusation, CompactionHashes, Inspector, InspectorOrder, InspectorRules, Scene,
};
use holdfast_core::machine;
use holdfast_core::message::{HashAnswer, HashAsk, HashOutcome, Message};
use holdfast_core::mvcc::hash::{HashKv, KvHash};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Op};
use holdfast_core::response::{Alarm, AlarmKind};
use holdfast_core::status::Role;
use holdfast_core::store::View;
use holdfast_core::time::Instant;
use holdfast_storage::snapshot::Snapshot;

use super::{AlarmOp, Budget, Edge, EdgeConfig, Waiting};
use crate::host::Event;

/// Which hashes are compared with other members', and how often; by default none. A starting member's are if
/// it asks for that ([`Edge::check_initially`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashChecks {
    /// `--corrupt-check-time`: by the leader, of the newest revision.
    pub every: Option<Duration>,
    /// `--compact-hash-check-time` with the gate CompactHashCheck: by the leader, of the last compactions.
    pub compactions_every: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inspection {
    checks: HashChecks,
    /// There is one from the first turn on.
    inspector: Option<Inspector>,
    remembered: CompactionHashes,
    /// What is not carried out yet.
    orders: Vec<InspectorOrder>,
    pub(super) jobs: VecDeque<Job>,
    /// Which question of each peer is being answered.
    answering: BTreeMap<MemberId, u64>,
    warnings: Vec<String>,
    concluded: Option<Result<(), String>>,
    wants_initial: bool,
}

/// A hash that waits, or is being made.
#[derive(Debug)]
pub(super) struct Job {
    purpose: Purpose,
    snapshot: Snapshot,
    hash: HashKv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Own,
    Peer(MemberId, HashAsk),
    Compaction,
}

/// Lines for the operator that wait for somebody to take them.
const WARNINGS_MAX: usize = 16;

impl Inspection {
    pub(super) fn new(config: &EdgeConfig) -> Inspection {
        Inspection {
            checks: config.hash_checks,
            inspector: None,
            remembered: config.compaction_hashes.clone(),
            orders: Vec::new(),
            jobs: VecDeque::new(),
            answering: BTreeMap::new(),
            warnings: Vec::new(),
            concluded: None,
            wants_initial: false,
        }
    }

    /// When there is something to do without a turn of the driver.
    pub(super) fn deadline(&self) -> Instant {
        if !self.jobs.is_empty() || !self.orders.is_empty() || self.wants_initial {
            return Instant(0);
        }
        self.inspector.as_ref().map_or(Instant::NEVER, Inspector::deadline)
    }

    /// What HashKV at a compacted revision answers, if it is remembered.
    pub(super) fn remembered(&self, revision: i64) -> Option<KvHash> {
        self.remembered.find(holdfast_core::id::Revision(revision), None)
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    /// Queues a hash (law 2).
    fn make(&mut self, job: Job) {
        let waiting = |jobs: &VecDeque<Job>| {
            jobs.iter().filter(|job| job.purpose == Purpose::Compaction).count()
        };
        if job.purpose == Purpose::Compaction
            && waiting(&self.jobs) >= CompactionHashes::MAX
            && let Some(oldest) =
                self.jobs.iter().position(|job| job.purpose == Purpose::Compaction)
        {
            self.jobs.remove(oldest);
        }
        self.jobs.push_back(job);
    }
}

impl Edge {
    /// Compares this member's hash with its peers' once, before it serves; what comes of it is
    /// [`Edge::take_conclusion`]'s.
    pub fn check_initially(&mut self) {
        self.inspection.wants_initial = true;
    }

    /// What came of the initial check, once it is over; an error is a reason not to serve.
    pub fn take_conclusion(&mut self) -> Option<Result<(), String>> {
        self.inspection.concluded.take()
    }

    /// What an operator should read.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.inspection.warnings)
    }

    /// Begins what is due, and carries out what was ordered.
    pub(super) fn inspect(&mut self, now: Instant, inbox: &mut Vec<Event>) {
        let (checks, limits) = (self.inspection.checks, &self.config.limits);
        let rules = InspectorRules {
            member: self.config.member,
            every: checks.every,
            compactions_every: checks.compactions_every,
            patience: limits.request_timeout,
            repeat: limits.election_timeout,
        };
        let inspection = &mut self.inspection;
        let inspector = inspection.inspector.get_or_insert_with(|| Inspector::new(rules, now));
        if std::mem::take(&mut inspection.wants_initial) {
            inspector.begin_initial();
        }
        if now >= inspector.deadline() {
            let members = machine::members(&self.source.snapshot);
            let scene = Scene {
                leads: self.status.role == Role::Leader,
                members: members.iter().map(|member| member.id).collect(),
                compactions: inspection.remembered.all(),
            };
            inspector.turn(now, &scene, &mut inspection.orders);
        }
        for order in std::mem::take(&mut self.inspection.orders) {
            self.obey(now, order, inbox);
        }
    }

    fn obey(&mut self, now: Instant, order: InspectorOrder, inbox: &mut Vec<Event>) {
        match order {
            InspectorOrder::Hash => self.hash_newest(now),
            InspectorOrder::Ask { to, ask } => {
                inbox.push(Event::Tell { to, message: Message::HashAsk(ask) });
            }
            InspectorOrder::Confirm => {
                let ask = (Identity::default(), Ask::ReadIndex);
                self.send(now, Waiting::Inspection, ask, inbox);
            }
            InspectorOrder::Accuse(accusation) => self.accuse(now, accusation, inbox),
            InspectorOrder::Warn(text) => self.inspection.warn(text),
            InspectorOrder::Concluded(result) => self.inspection.concluded = Some(result),
        }
    }

    fn hash_newest(&mut self, now: Instant) {
        let snapshot = self.source.snapshot.clone();
        match HashKv::new(&snapshot, 0) {
            Ok(hash) => self.inspection.make(Job { purpose: Purpose::Own, snapshot, hash }),
            Err(_) => self.hashed(now, Purpose::Own, None),
        }
    }

    /// Raises the alarm of a member, unless it is up.
    fn accuse(&mut self, now: Instant, accusation: Accusation, inbox: &mut Vec<Event>) {
        let Accusation { member, why } = accusation;
        let whose = match member {
            MemberId(0) => "a member".to_string(),
            member => format!("member {member}"),
        };
        self.inspection.warn(format!("the data of {whose} are corrupt: {why}"));
        let kind = AlarmKind::Corrupt;
        if !machine::alarms(&self.source.snapshot).contains(&Alarm { member, kind }) {
            let raise = AlarmOp::Raise { member, kind, automatic: true };
            let ask = (Identity::SYSTEM, Ask::Propose(Op::Alarm(raise)));
            // Nobody waits; if it is lost, the next check finds the same.
            self.send(now, Waiting::Reads(Vec::new()), ask, inbox);
        }
    }

    /// A read index for the inspector is confirmed, or is not.
    pub(super) fn confirmed(&mut self, success: bool) {
        let Inspection { inspector, orders, .. } = &mut self.inspection;
        if let Some(inspector) = inspector {
            inspector.confirmed(self.now, success, orders);
        }
    }

    /// What happened in a turn, as far as hashes are concerned.
    pub(super) fn inspect_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::HashAsked { by, ask } => self.asked_for_hash(*by, *ask),
            Fact::HashTold { by, answer } => {
                let leads = self.status.role == Role::Leader;
                let Inspection { inspector, orders, .. } = &mut self.inspection;
                if let Some(inspector) = inspector {
                    inspector.answered(self.now, leads, (*by, *answer), orders);
                }
            }
            Fact::Compacted { revision, before }
                if self.inspection.checks.compactions_every.is_some() =>
            {
                let snapshot = self.source.snapshot.clone();
                let hash = HashKv::of_compaction(*revision, *before);
                self.inspection.make(Job { purpose: Purpose::Compaction, snapshot, hash });
            }
            _ => {}
        }
    }

    fn asked_for_hash(&mut self, by: MemberId, ask: HashAsk) {
        if self.inspection.answering.get(&by) == Some(&ask.number) {
            return;
        }
        let earlier = |job: &Job| matches!(job.purpose, Purpose::Peer(asker, _) if asker == by);
        self.inspection.jobs.retain(|job| !earlier(job));
        self.inspection.answering.remove(&by);
        if let Some(hash) = self.inspection.remembered.find(ask.revision, Some(ask.compacted)) {
            return self.tell_hash(by, ask, HashOutcome::Hash(hash));
        }
        let snapshot = self.source.snapshot.clone();
        // A peer's number: 0 would stand for the newest.
        match HashKv::new(&snapshot, ask.revision.0.max(1)) {
            Ok(hash) => {
                self.inspection.answering.insert(by, ask.number);
                self.inspection.make(Job { purpose: Purpose::Peer(by, ask), snapshot, hash });
            }
            Err(Rejection::Compacted) => self.tell_hash(by, ask, HashOutcome::Compacted),
            Err(Rejection::FutureRevision) => self.tell_hash(by, ask, HashOutcome::Future),
            Err(_) => self.tell_hash(by, ask, HashOutcome::Unreadable),
        }
    }

    fn tell_hash(&mut self, to: MemberId, ask: HashAsk, outcome: HashOutcome) {
        let revision = self.source.snapshot.mark().revision;
        let answer = HashAnswer { number: ask.number, revision, outcome };
        self.outgoing.push(Event::Tell { to, message: Message::HashAnswer(answer) });
    }

    /// Goes on with the hash that is being made (law 1).
    pub(super) fn make_hashes(&mut self, now: Instant) {
        let mut budget = Budget::new(
            (self.config.limits.edge_slice_keys / 8).max(1),
            (self.config.limits.edge_slice_bytes / 8).max(1),
        );
        while !budget.is_spent()
            && let Some(mut job) = self.inspection.jobs.pop_front()
        {
            let whole = budget;
            let done = job.hash.step(&job.snapshot, &mut budget);
            // Whatever it was, it was not free: the loop ends.
            budget.spend((budget == whole).into(), 0);
            match done {
                Ok(false) => self.inspection.jobs.push_front(job),
                Ok(true) => self.hashed(now, job.purpose, Some(job.hash.finish())),
                Err(_) => self.hashed(now, job.purpose, None),
            }
        }
    }

    fn hashed(&mut self, now: Instant, purpose: Purpose, hash: Option<KvHash>) {
        match purpose {
            Purpose::Own => {
                let leads = self.status.role == Role::Leader;
                let Inspection { inspector, orders, .. } = &mut self.inspection;
                if let Some(inspector) = inspector {
                    inspector.hashed(now, (leads, hash), orders);
                }
            }
            Purpose::Peer(by, ask) => {
                self.inspection.answering.remove(&by);
                let outcome = hash.map_or(HashOutcome::Unreadable, HashOutcome::Hash);
                self.tell_hash(by, ask, outcome);
            }
            Purpose::Compaction => match hash {
                Some(hash) => self.inspection.remembered.remember(hash),
                None => self.inspection.warn("a compaction's hash cannot be made".into()),
            },
        }
    }
}
