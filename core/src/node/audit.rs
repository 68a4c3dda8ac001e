//! Telling others of this member's digests, and what happens when one of theirs differs.
//!
//! Law: a difference raises the CORRUPT alarm of the member that notices it, through the log, until it
//! is up; once an operator has cleared it, the next difference raises it again.
//!
//! Leaves out which of the two is wrong: nobody can say from two digests. The log names both, and
//! the entry.

use crate::alarm::AlarmOp;
use crate::audit::{Audit, Trail};
use crate::command::Command;
use crate::fact::Fact;
use crate::id::{Index, RequestId};
use crate::output::Output;
use crate::request::{Identity, Op};
use crate::response::{Alarm, AlarmKind};
use crate::time::Instant;

use super::Node;

/// What this member knows of digests.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    trail: Trail,
    /// Its data have parted from another's, and the alarm is wanted.
    parted: bool,
    /// Until when it is not proposed again.
    quiet_until: Instant,
}

impl Node {
    /// An entry was applied.
    pub(super) fn note_digest(&mut self, at: Index) {
        if let Some(digest) = self.machine.digest() {
            self.auditor.trail.push(at, digest, self.config.limits.audit_trail);
        }
    }

    /// What an entry of this member says of its digests, if there is news.
    pub(super) fn audit(&mut self) -> Option<Command> {
        let audit = self.auditor.trail.tell()?;
        let (member, incarnation) = (self.config.member, self.config.incarnation);
        let id = RequestId { member, incarnation, sequence: 0 };
        Some(Command { id, identity: Identity::SYSTEM, op: Op::Audit(audit) })
    }

    /// Compares another member's digests with this one's.
    pub(super) fn compare_digests(&mut self, id: RequestId, audit: &Audit, out: &mut Output) {
        if id.member == self.config.member {
            return;
        }
        if let Some(at) = self.auditor.trail.parted(audit) {
            if !self.auditor.parted {
                out.facts.push(Fact::Parted { from: id.member, at });
            }
            self.auditor.parted = true;
        }
    }

    /// Proposes the alarm while it is wanted and not up; for every turn.
    pub(super) fn raise_corrupt(&mut self, now: Instant) {
        if !self.auditor.parted || now < self.auditor.quiet_until {
            return;
        }
        let (member, kind) = (self.config.member, AlarmKind::Corrupt);
        if self.machine.alarms().iter().any(|(alarm, _)| *alarm == Alarm { member, kind }) {
            self.auditor.parted = false;
            return;
        }
        self.auditor.quiet_until = now + self.config.limits.election_timeout;
        self.propose_own(Op::Alarm(AlarmOp::Raise { member, kind, automatic: true }));
    }
}
