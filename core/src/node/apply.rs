//! From a committed entry to changed state, events and answers.

use crate::alarm::crosses;
use crate::codec;
use crate::command::Command;
use crate::entry::{Entry, EntryKind};
use crate::fact::Fact;
use crate::machine::{Applied, LeaseChange};
use crate::output::Output;
use crate::rejection::Rejection;
use crate::request::Op;
use crate::response::{Body, Response};
use crate::status::Role;
use crate::store::{Fault, Store};
use crate::time::Instant;

use super::Node;

impl Node {
    /// Applies one committed entry.
    ///
    /// # Errors
    /// An entry that this version cannot read, or a store that cannot: the member halts, for it would
    /// differ from the others otherwise.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        entry: Entry,
        store: &mut impl Store,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
            let commands = codec::decode_entry(&entry.data)
                .map_err(|error| Fault::new("reading a log entry", entry.at.to_string(), error))?;
            self.turn.events.reserve(commands.len());
            self.turn.answers.reserve(commands.len());
            let mut applied = Applied::default();
            for command in &commands {
                let stored = self.machine.stored_bytes();
                self.machine.apply(entry.at, command, store, &mut applied)?;
                self.alarm_applied(&command.op, entry.at.index, out);
                if let Op::Audit(audit) = &command.op {
                    self.compare_digests(command.id, audit, out);
                }
                self.applied_command(now, (command, stored), &mut applied);
            }
            self.machine.end_entry(entry.at, store);
        } else {
            self.machine.skip(entry.at, store);
        }
        self.note_digest(entry.at.index);
        self.turn.changed = true;
        self.applied_bytes += entry.data.len() as u64;
        let own_term = entry.at.term == self.raft.term() && self.raft.role() == Role::Leader;
        if own_term && !self.lessor.is_primary() {
            let leases = crate::machine::leases(store);
            self.lessor.promote(now, self.config.limits.election_timeout, leases);
        }
        out.facts.push(Fact::Applied {
            at: entry.at,
            digest: crc32fast::hash(&entry.data),
            revision: store.mark().revision,
        });
        Ok(())
    }

    /// `stored` is what was there before.
    fn applied_command(
        &mut self,
        now: Instant,
        (command, stored): (&Command, u64),
        applied: &mut Applied,
    ) {
        let id = command.id;
        for change in applied.leases.drain(..) {
            match change {
                LeaseChange::Granted { id, ttl } => self.lessor.granted(now, id, ttl),
                LeaseChange::Revoked { id } => self.lessor.revoked(id),
            }
        }
        self.turn.events.append(&mut applied.events);
        if let (Op::LeaseRevoke { id }, Err(Rejection::Corrupt)) = (&command.op, &applied.result) {
            self.lessor.revocation_refused(now, *id);
        }
        // Admitted before the line was crossed (law 1 of `space`).
        let quota = self.config.limits.quota_bytes;
        if applied.result.is_ok() && self.owes(id) && crosses(&command.op, stored, quota) {
            return self.refuse_for_space(id);
        }
        let term = self.raft.term();
        let revision = applied.revision;
        let result = std::mem::replace(&mut applied.result, Ok(Body::Publish));
        self.answer(id, result.map(|body| Response { revision, term, body }));
    }
}
