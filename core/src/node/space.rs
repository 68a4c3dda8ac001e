//! The quota and the NOSPACE alarm: when this member raises its own, and when it clears it again.
//!
//! The quota is each member's own flag, so it decides nothing in apply: it refuses at admission, as
//! etcd does, and raises the alarm through the log, which then refuses on every member alike. A request
//! that was admitted before and crosses the line when its turn comes is applied all the same, and
//! answered as if it had not been (etcd's treatment: the client must take such an answer for an open
//! outcome). A full disk goes the same way.
//!
//! Laws:
//!  1. What crosses the line is answered "database space exceeded" once the alarm is up, or when its
//!     time is over.
//!  2. A member clears the alarm that it raised itself, when an eighth of the quota is free again and
//!     its disk is not full; never one that an operator raised, and none with
//!     `--experimental-sticky-nospace-alarm`. The leader clears those of members that are gone.
//!
//! Worked example, a quota of 1,000 bytes of which 900 are stored: a put that costs 300 raises the
//! alarm and is refused; a compaction leaves 500, and the next tick proposes to clear the alarm.

use std::collections::BTreeSet;

use crate::alarm::{AlarmOp, crosses};
use crate::command::Command;
use crate::fact::Fact;
use crate::id::{Index, MemberId, RequestId};
use crate::machine::{self, Applied};
use crate::mutant;
use crate::output::Output;
use crate::rejection::Rejection;
use crate::request::{Identity, Op};
use crate::response::{Alarm, AlarmKind};
use crate::status::Role;
use crate::store::Store;
use crate::time::Instant;

use super::Node;

/// What this member knows of its space beside the quota.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The disk has no room for the log to grow.
    pub full: bool,
    /// Until when nothing more is proposed about alarms: the last proposal may be under way.
    quiet_until: Instant,
    /// An alarm is wanted, and was not proposed yet.
    wanted: bool,
    /// Requests that are refused once the alarm is up.
    refused: BTreeSet<u64>,
}

impl Space {
    /// An alarm is to be proposed in the next turn.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }
}

impl Node {
    /// Whether an operation is refused before it is proposed, and the alarm raised instead.
    pub(super) fn over_quota(&mut self, id: RequestId, op: &Op) -> bool {
        let crosses = crosses(op, self.machine.stored_bytes(), self.config.limits.quota_bytes);
        if crosses {
            self.refuse_for_space(id);
        }
        crosses
    }

    /// Answers "no space", once the alarm is up.
    pub(super) fn refuse_for_space(&mut self, id: RequestId) {
        if self.own_alarm().is_some() {
            return self.answer(id, Err(Rejection::NoSpace));
        }
        self.space.wanted = true;
        self.space.refused.insert(id.sequence);
    }

    /// Proposes the alarm if one is wanted; for every turn, before it proposes.
    pub(super) fn raise_alarm(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.space.wanted) || !self.space.refused.is_empty();
        let wanted = waiting || self.space.full;
        if !wanted || self.own_alarm().is_some() {
            return;
        }
        if now < self.space.quiet_until {
            return;
        }
        self.propose_alarm(now, self.config.member, true);
    }

    /// Once per heartbeat: alarms that are not needed any more are cleared, one at a time.
    pub(super) fn clear_alarms(&mut self, now: Instant, store: &impl Store) {
        if self.config.limits.sticky_no_space || now < self.space.quiet_until {
            return;
        }
        let own = self.config.member;
        let leads = self.raft.role() == Role::Leader;
        let gone = |member| !machine::members(store).iter().any(|known| known.id == member);
        let due =
            self.machine.alarms().iter().filter(|(alarm, _)| alarm.kind == AlarmKind::NoSpace);
        let due =
            due.filter(|(_, automatic)| *automatic).map(|(alarm, _)| alarm.member).find(|member| {
                match *member == own {
                    true => self.has_room(),
                    false => leads && gone(*member),
                }
            });
        if let Some(member) = due {
            self.propose_alarm(now, member, false);
        }
    }

    /// Answers those that waited for the alarm, if it is up.
    pub(super) fn answer_refused(&mut self) {
        if self.space.refused.is_empty() || self.own_alarm().is_none() {
            return;
        }
        for sequence in std::mem::take(&mut self.space.refused) {
            let (member, incarnation) = (self.config.member, self.config.incarnation);
            self.answer(RequestId { member, incarnation, sequence }, Err(Rejection::NoSpace));
        }
    }

    /// A command of the log was applied when `stored` bytes were there: one of this member's that was
    /// admitted before the line was crossed, and crosses it, is refused once the alarm is up (law 1);
    /// a revocation that the CORRUPT alarm has refused is tried again.
    pub(super) fn space_applied(
        &mut self,
        now: Instant,
        (command, stored): (&Command, u64),
        applied: &Applied,
    ) {
        if let (Op::LeaseRevoke { id }, Err(Rejection::Corrupt)) = (&command.op, &applied.result) {
            self.lessor.revocation_refused(now, *id);
        }
        let quota = self.config.limits.quota_bytes;
        if applied.result.is_ok() && self.owes(command.id) && crosses(&command.op, stored, quota) {
            self.refuse_for_space(command.id);
        }
    }

    /// Whether this request is refused once the alarm is up.
    pub(super) fn waits_for_alarm(&self, id: RequestId) -> bool {
        self.owes(id) && self.space.refused.contains(&id.sequence)
    }

    /// Whether this request's time ran out while it waited for the alarm.
    pub(super) fn waited_for_alarm(&mut self, sequence: u64) -> bool {
        self.space.refused.remove(&sequence)
    }

    /// Tells what became of an alarm.
    pub(super) fn alarm_applied(&self, op: &Op, at: Index, out: &mut Output) {
        let fact = match *op {
            Op::Alarm(AlarmOp::Raise { member, kind, .. }) => {
                Fact::AlarmRaised { member, kind, at }
            }
            Op::Alarm(AlarmOp::Clear { member, kind }) => Fact::AlarmCleared { member, kind, at },
            _ => return,
        };
        out.facts.push(fact);
    }

    fn has_room(&self) -> bool {
        let stored = self.machine.stored_bytes();
        let free = |quota: u64| stored < quota - quota / 8;
        !self.space.full && self.config.limits.quota_bytes.is_none_or(free)
    }

    /// This member's own NOSPACE alarm, if it is up.
    fn own_alarm(&self) -> Option<Alarm> {
        let own = Alarm { member: self.config.member, kind: AlarmKind::NoSpace };
        self.machine.alarms().iter().map(|(alarm, _)| *alarm).find(|alarm| *alarm == own)
    }

    fn propose_alarm(&mut self, now: Instant, member: MemberId, raise: bool) {
        self.space.quiet_until = now + self.config.limits.election_timeout;
        let kind = AlarmKind::NoSpace;
        if mutant::on(68) && raise {
            return self.machine.raise_here();
        }
        self.propose_own(Op::Alarm(match raise {
            true => AlarmOp::Raise { member, kind, automatic: true },
            false => AlarmOp::Clear { member, kind },
        }));
    }

    /// Queues a command of this member's own; nobody waits for the answer.
    pub(super) fn propose_own(&mut self, op: Op) {
        let (member, incarnation) = (self.config.member, self.config.incarnation);
        let id = RequestId { member, incarnation, sequence: 0 };
        let command = Command { id, identity: Identity::SYSTEM, op };
        self.queue.push(&command);
    }
}
