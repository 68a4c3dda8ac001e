//! From a committed entry to changed state, events and answers.

use crate::codec;
use crate::entry::{Entry, EntryKind};
use crate::fact::Fact;
use crate::machine::{Applied, LeaseChange};
use crate::mutant;
use crate::output::Output;
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
                let other = command.id.member != self.config.member;
                if mutant::on(63) && other && matches!(command.op, Op::Auth(_)) {
                    self.machine.skip(entry.at, store);
                    continue;
                }
                let stored = self.machine.stored_bytes();
                self.machine.apply(entry.at, command, store, &mut applied)?;
                if matches!(command.op, Op::Publish { .. } | Op::Started { .. }) {
                    self.members_changed(now, entry.at, store);
                }
                if entry.at.index > self.replayed {
                    self.turn.tokens.append(&mut applied.tokens);
                }
                if let Op::Audit(audit) = &command.op {
                    self.compare_digests(command.id, audit, out);
                }
                self.alarm_applied(&command.op, entry.at.index, out);
                self.space_applied(now, (command, stored), &applied);
                self.applied_command(now, command.id, &mut applied);
            }
            self.machine.end_entry(entry.at, store);
        } else if entry.data.is_empty() {
            self.machine.skip(entry.at, store);
        } else {
            self.apply_change(now, &entry, store, out)?;
            self.machine.end_entry(entry.at, store);
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

    pub(super) fn applied_command(
        &mut self,
        now: Instant,
        id: crate::id::RequestId,
        applied: &mut Applied,
    ) {
        for change in applied.leases.drain(..) {
            match change {
                LeaseChange::Granted { id, ttl } => self.lessor.granted(now, id, ttl),
                LeaseChange::Revoked { id } => self.lessor.revoked(id),
            }
        }
        self.turn.events.append(&mut applied.events);
        let term = self.raft.term();
        let revision = applied.revision;
        let result = std::mem::replace(&mut applied.result, Ok(Body::Publish));
        if self.waits_for_alarm(id) {
            return;
        }
        self.answer(id, result.map(|body| Response { revision, term, body }));
    }
}
