//! The tap on the committed log: the first member to apply an entry shows it to the oracle.

use std::collections::BTreeSet;

use holdfast_core::auth::AuthOp;
use holdfast_core::codec;
use holdfast_core::entry::{Entry, EntryKind};
use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, Position, Term};
use holdfast_core::membership::MemberChange;
use holdfast_core::request::Op;
use holdfast_core::response::Alarm;
use holdfast_core::status::Role;
use holdfast_server::driver::Driver;

use super::host::SimHost;
use super::member::Life;
use super::{World, log_place};
use crate::checker::{Committed, Seen, Terms};
use crate::disk::SimDisk;
use crate::report::Race;

/// A member's log, for the checkers.
pub(super) struct LogOf<'a> {
    pub driver: &'a Driver<SimHost>,
    pub disk: &'a SimDisk,
}

impl LogOf<'_> {
    /// An entry, from memory or else read back.
    fn entry(&self, index: Index) -> Option<Entry> {
        if let Some(entry) = self.driver.node().log_entry(index) {
            return Some(entry);
        }
        let read = self.driver.wal().entries(self.disk, index, index.next(), 1);
        read.ok()?.into_iter().next()
    }
}

impl Terms for LogOf<'_> {
    fn term_at(&self, index: Index) -> Option<Term> {
        self.driver.node().log_term(index)
    }

    fn checkpoint(&self) -> Index {
        self.driver.engine().checkpoint().0.at.index
    }

    fn entries(&self) -> Vec<(Position, u32)> {
        let last = self.driver.node().durable_last().index;
        let indexes = (self.checkpoint().0 + 1..=last.0).map(Index);
        let entries = indexes.filter_map(|index| self.entry(index));
        entries.map(|entry| (entry.at, crc32fast::hash(&entry.data))).collect()
    }
}

impl World {
    /// A member's facts, in order: the log grows by what was applied for the first time.
    pub(super) fn learn(&mut self, member: usize, life: &Life, facts: &[Fact]) {
        let disk = self.members[member].disk.clone();
        for fact in facts {
            match fact {
                Fact::Applied { at, digest, .. } if log_place(at.index) == Some(self.log.len()) => {
                    self.extend(member, life, *at, *digest);
                }
                Fact::BecameRole { role: Role::Leader, term } => {
                    self.counts.elections += 1;
                    let terms = LogOf { driver: &life.driver, disk: &disk };
                    self.see(&Seen::Elected { member, term: *term, terms: &terms });
                }
                Fact::SnapshotInstalled { .. } => {
                    self.race(Race::Snapshot);
                    self.counts.snapshots += 1;
                    self.counts.snapshots_chunked += u64::from(self.members[member].chunks > 1);
                    self.members[member].chunks = 0;
                }
                Fact::LeaseExpired { .. } => self.counts.leases_expired += 1,
                Fact::CheckpointSaved { .. } => self.counts.checkpoints += 1,
                _ => {}
            }
            if !matches!(fact, Fact::Applied { .. } | Fact::Committed { .. }) {
                self.say(|| format!("m{member}: {fact}"));
            }
            self.see(&Seen::Fact { member, fact });
        }
    }

    /// What a leader says at the end of a turn.
    pub(super) fn observe_leader(&mut self, member: usize, life: &Life) {
        let status = life.driver.host().status;
        if status.role != Role::Leader {
            return;
        }
        let disk = self.members[member].disk.clone();
        let terms = LogOf { driver: &life.driver, disk: &disk };
        let (term, commit) = (status.term, status.commit);
        let durable = life.driver.node().durable_last().index;
        self.see(&Seen::Leads { member, term, commit, durable, terms: &terms });
    }

    /// Counts what a command has just changed, if something is wrong meanwhile.
    fn note_race(&mut self, op: &Op, (users, alarms): &(u64, BTreeSet<Alarm>)) {
        let accepted = self.model.steps().last().is_some_and(|step| step.verdict.is_ok());
        let race = match op {
            Op::Auth(_) if self.model.users().revision() != *users => Race::Auth,
            Op::Alarm(_) if self.model.alarms() != alarms => Race::Alarm,
            Op::Member(MemberChange::Promote { .. }) if accepted => Race::Promotion,
            Op::Member(_) if accepted => Race::Members,
            Op::Compact { .. } if accepted => Race::Compaction,
            _ => return,
        };
        self.race(race);
    }

    fn extend(&mut self, member: usize, life: &Life, at: Position, digest: u32) {
        let disk = self.members[member].disk.clone();
        let entry = LogOf { driver: &life.driver, disk: &disk }.entry(at.index);
        let Some(entry) = entry.filter(|entry| entry.at == at) else {
            return self.broke("R2", format!("member {member} applied {at} and does not have it"));
        };
        let holds = crc32fast::hash(&entry.data);
        if holds != digest {
            let what = format!("member {member} applied {at} with {digest:08x}, holds {holds:08x}");
            return self.broke("R2", what);
        }
        let commands = match entry.kind {
            _ if entry.data.is_empty() => Ok(Vec::new()),
            EntryKind::Normal => codec::decode_entry(&entry.data),
            _ => codec::decode_change(&entry.data).map(|command| vec![command]),
        };
        let Ok(commands) = commands else {
            return self.broke("R2", format!("{at} cannot be read"));
        };
        let steps_before = self.model.steps().len();
        let steps_after = steps_before + commands.len();
        self.log.push(Committed { at, digest, steps_before, steps_after, when: self.now });
        for command in commands {
            let step = self.model.steps().len();
            let before = (self.model.users().revision(), self.model.alarms().clone());
            self.model.apply_by(&command.identity, &command.op);
            self.note_race(&command.op, &before);
            if let Op::Member(MemberChange::ForceNew { id }) = &command.op {
                self.is_alone(*id);
            }
            if let Some(op) = self.requests.ops.get(&command.id) {
                // A login may be proposed more than once; its last answer counts.
                if matches!(command.op, Op::Auth(AuthOp::Authenticate { .. })) {
                    self.requests.steps.insert(*op, step);
                } else {
                    self.requests.steps.entry(*op).or_insert(step);
                }
            }
            let (id, who, op) = (command.id, &command.identity, &command.op);
            self.see(&Seen::Committed { id, who, op, step, at });
        }
    }
}
