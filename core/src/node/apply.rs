//! From committed entries to changed state, events and answers, a slice in each turn.
//!
//! What raft has committed waits in the [`Backlog`]. A turn applies as much of it as the limits say
//! ([`Limits::apply_slice_keys`](crate::limits::Limits)) and ends, whether the entry at hand is done or
//! not: messages, heartbeats and disk go on in between. What an entry has done is held back until all of
//! it is: its events, its answers, and where this member says that it is.
//!
//! Laws:
//!  1. Between two turns the store may be ahead of what the node tells: everything but apply goes by
//!     [`Backlog::settled`], the state after the last whole entry, which is the published one.
//!  2. Nothing is published, compacted, checkpointed or replaced by a snapshot within an entry. So an
//!     entry that may be cut is begun only in a turn that has nothing to publish.
//!  3. Commands take effect in the order of the log; each turn with a backlog gets on with it.
//!
//! Price: who has written before a huge command in the same entry is answered together with it.
//!
//! Worked example, slices of 100 keys, of which a deletion spends four: an entry with a put and the
//! DeleteRange of 60 keys, then one with a put. Turn 1: the put, 25 keys. Turn 2: 25 more. Turn 3: the
//! rest, and since the second entry fits into what is left of the slice, both are published.

use std::collections::VecDeque;
use std::vec::IntoIter;

use crate::auth::TokenChange;
use crate::codec;
use crate::command::Command;
use crate::entry::{Entry, EntryKind};
use crate::fact::Fact;
use crate::id::{Index, LeaseId, MemberId, Position, RequestId, Revision, Term};
use crate::machine::{self, Applied, LeaseChange};
use crate::message::SnapshotMeta;
use crate::mutant;
use crate::mvcc::Budget;
use crate::output::{Effect, Output};
use crate::rejection::Rejection;
use crate::request::Op;
use crate::response::{Body, Event, Response};
use crate::status::Role;
use crate::store::{Fault, Mark, Store};
use crate::time::Instant;

use super::Node;

/// Committed entries that are not applied yet.
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    /// Of all of them.
    bytes: u64,
    /// The first of them, once it was looked at.
    first: Option<Begun>,
    /// Where the state was after the last whole entry.
    settled: Mark,
    /// A snapshot that came meanwhile, to be looked at when nothing waits any more.
    staged: Option<(MemberId, Term, SnapshotMeta)>,
}

/// An entry of commands, and what is held back until it is done.
struct Begun {
    at: Position,
    /// Something of it was applied.
    is_under_way: bool,
    /// The keys it spends of a slice at most; `None` where only the state can tell.
    keys_max: Option<usize>,
    /// Those that were not begun.
    rest: IntoIter<Command>,
    /// The one that was, and the bytes that were stored before it.
    current: Option<(Command, u64)>,
    applied: Applied,
    held: Held,
}

/// What becomes known with the end of an entry.
#[derive(Default)]
pub(super) struct Held {
    events: Vec<Event>,
    /// They were too many to be handed on: whoever watches reads them from the store.
    untold: bool,
    tokens: Vec<TokenChange>,
    leases: Vec<LeaseChange>,
    /// Leases whose revocation was decided, or noted time changed.
    lease_outcomes: Vec<LeaseId>,
    answers: Vec<(RequestId, Result<Response, Rejection>)>,
    /// What was compacted to.
    compactions: Vec<Revision>,
}

impl Backlog {
    /// Nothing waits; the state is at `settled`.
    pub(super) fn new(settled: Mark) -> Backlog {
        Backlog { entries: VecDeque::new(), bytes: 0, first: None, settled, staged: None }
    }

    /// Takes a committed entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.data.len() as u64;
        self.entries.push_back(entry);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last entry that is applied or waits.
    pub(super) fn last(&self) -> Index {
        self.entries.back().map_or(self.settled.applied.index, |entry| entry.at.index)
    }

    /// Whether everything committed is applied.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an entry is applied in part.
    pub(super) fn is_within_entry(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.is_under_way)
    }

    /// Where the published state is (law 1).
    pub(super) fn settled(&self) -> Mark {
        self.settled
    }

    /// The store is at a new state as a whole.
    pub(super) fn settle(&mut self, mark: Mark) {
        assert!(!self.is_within_entry(), "an entry is applied as a whole (law 2)");
        self.settled = mark;
    }
}

impl Node {
    /// What one turn may apply.
    pub(super) fn apply_slice(&self) -> Budget {
        let limits = &self.config.limits;
        Budget::new(limits.apply_slice_keys, limits.apply_slice_bytes)
    }

    /// Applies the next committed entry, or goes on with it; says whether it is done. False also when
    /// there is none, when nothing is left of the slice, and when it is for the next turn.
    ///
    /// # Errors
    /// An entry that this version cannot read, or a store that cannot: the member halts, for it would
    /// differ from the others otherwise.
    pub(super) fn apply_next(
        &mut self,
        now: Instant,
        budget: &mut Budget,
        store: &mut impl Store,
        out: &mut Output,
    ) -> Result<bool, Fault> {
        if budget.is_spent() {
            return Ok(false);
        }
        let Some(entry) = self.backlog.entries.front().cloned() else { return Ok(false) };
        let mut held = Held::default();
        if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
            let first = match self.backlog.first.take() {
                Some(first) => first,
                None => Begun::new(&entry)?,
            };
            match self.apply_commands(now, (first, entry.data.len()), (budget, store), out)? {
                Some(done) => held = done,
                None => return Ok(false),
            }
            self.machine.end_entry(entry.at, store);
        } else if entry.data.is_empty() {
            self.machine.skip(entry.at, store);
        } else {
            self.apply_change(now, &entry, store, (&mut held, out))?;
            self.machine.end_entry(entry.at, store);
        }
        budget.spend(1, 0);
        self.backlog.entries.pop_front();
        self.backlog.bytes -= entry.data.len() as u64;
        self.end_entry(now, &entry, held, (store, out));
        Ok(true)
    }

    /// Carries out the commands of an entry, as far as the budget goes; what they did once that is all.
    fn apply_commands(
        &mut self,
        now: Instant,
        (mut begun, bytes): (Begun, usize),
        (budget, store): (&mut Budget, &mut impl Store),
        out: &mut Output,
    ) -> Result<Option<Held>, Fault> {
        let mut whole = Budget::unbounded();
        let budget = match begun.keys_max {
            Some(keys)
                if !begun.is_under_way && keys <= budget.keys() && bytes <= budget.bytes() =>
            {
                budget.spend(keys, bytes);
                &mut whole
            }
            _ if self.turn.changed && !begun.is_under_way => {
                self.backlog.first = Some(begun);
                return Ok(None); // law 2
            }
            _ => budget,
        };
        begun.is_under_way = true;
        let at = begun.at;
        loop {
            let next = begun.current.take().or_else(|| {
                let command = begun.rest.next()?;
                Some((command, self.machine.stored_bytes()))
            });
            let Some((command, stored)) = next else { return Ok(Some(begun.held)) };
            let other = command.id.member != self.config.member;
            if mutant::on(63) && other && matches!(command.op, Op::Auth(_)) {
                self.machine.skip(at, store);
                continue;
            }
            let done = self.machine.advance((at, &command), store, &mut begun.applied, budget)?;
            begun.held.take_events(&mut begun.applied, self.config.limits.publication_events_max);
            if done {
                self.applied_command(now, (&command, stored), &mut begun, (store, out));
            } else {
                begun.current = Some((command, stored));
            }
            if !done || (budget.is_spent() && begun.rest.len() > 0) {
                self.backlog.first = Some(begun);
                return Ok(None);
            }
        }
    }

    fn applied_command(
        &mut self,
        now: Instant,
        (command, stored): (&Command, u64),
        begun: &mut Begun,
        (store, out): (&impl Store, &mut Output),
    ) {
        let (at, applied) = (begun.at, &mut begun.applied);
        if matches!(command.op, Op::Publish { .. } | Op::Started { .. }) {
            self.members_changed(now, at, store);
        }
        if at.index > self.replayed {
            begun.held.tokens.append(&mut applied.tokens);
        }
        if let Op::Audit(audit) = &command.op {
            self.compare_digests(command.id, audit, out);
        }
        self.alarm_applied(&command.op, at.index, out);
        self.space_applied(now, (command, stored), applied);
        if let Op::LeaseRevoke { id } = command.op {
            begun.held.lease_outcomes.push(id);
        }
        if let (Op::Compact { revision }, Ok(_)) = (&command.op, &applied.result) {
            begun.held.compactions.push(*revision);
        }
        self.conclude(command.id, applied, &mut begun.held);
    }

    /// What a command did is told to the lessor and to its asker with the end of the entry.
    pub(super) fn conclude(&mut self, id: RequestId, applied: &mut Applied, held: &mut Held) {
        held.leases.append(&mut applied.leases);
        let term = self.raft.term();
        let revision = applied.revision;
        let result = std::mem::replace(&mut applied.result, Ok(Body::Publish));
        if self.waits_for_alarm(id) || !self.take_pending(id) {
            return;
        }
        held.answers.push((id, result.map(|body| Response { revision, term, body })));
    }

    /// An entry is applied as a whole.
    fn end_entry(
        &mut self,
        now: Instant,
        entry: &Entry,
        mut held: Held,
        (store, out): (&impl Store, &mut Output),
    ) {
        self.tell_lessor(now, &mut held);
        self.turn.tell(&mut held);
        let mut before = self.backlog.settled.compacted;
        for revision in held.compactions {
            out.facts.push(Fact::Compacted { revision, before });
            before = revision;
        }
        self.backlog.settle(store.mark());
        self.raft.applied(entry.at.index.min(self.raft.commit()));
        self.note_digest(entry.at.index);
        self.applied_bytes += entry.data.len() as u64;
        let own_term = entry.at.term == self.raft.term() && self.raft.role() == Role::Leader;
        if own_term && !self.lessor.is_primary() {
            let mut leases = Vec::new();
            machine::lease_rows(store, &mut |row| leases.push(row));
            self.lessor.promote(now, self.config.limits.election_timeout, leases);
        }
        out.facts.push(Fact::Applied {
            at: entry.at,
            digest: crc32fast::hash(&entry.data),
            revision: store.mark().revision,
        });
    }

    fn tell_lessor(&mut self, now: Instant, held: &mut Held) {
        for change in held.leases.drain(..) {
            match change {
                LeaseChange::Granted { id, ttl, granted } => {
                    self.lessor.granted(now, id, (ttl, granted));
                }
                LeaseChange::Noted { id, left } => {
                    self.lessor.noted(id, left);
                    held.lease_outcomes.push(id);
                }
                LeaseChange::Revoked { id } => self.lessor.revoked(id),
            }
        }
    }

    /// A snapshot is complete on this member's disk: it waits for what is being applied.
    pub(super) fn staged(&mut self, staged: (MemberId, Term, SnapshotMeta), out: &mut Output) {
        if let Some((_, _, other)) = self.backlog.staged.take()
            && other.at != staged.2.at
        {
            out.effects.push(Effect::Discard { at: other.at });
        }
        self.backlog.staged = Some(staged);
        if self.backlog.is_empty() {
            self.take_staged(out);
        }
    }

    /// Shows raft the snapshot that waits, if there is one; says whether there was.
    pub(super) fn take_staged(&mut self, out: &mut Output) -> bool {
        let Some((from, term, meta)) = self.backlog.staged.take() else { return false };
        // A repeated announcement of what is being installed must not take it away.
        let repeated = self.raft.installing().is_some_and(|at| at == meta.at);
        if !repeated && !self.raft.staged(from, term, &meta) {
            out.effects.push(Effect::Discard { at: meta.at });
        }
        true
    }
}

impl Begun {
    fn new(entry: &Entry) -> Result<Begun, Fault> {
        let commands = codec::decode_entry(&entry.data)
            .map_err(|error| Fault::new("reading a log entry", entry.at.to_string(), error))?;
        let (applied, mut held) = (Applied::default(), Held::default());
        held.events.reserve(commands.len());
        held.answers.reserve(commands.len());
        Ok(Begun {
            at: entry.at,
            is_under_way: false,
            keys_max: commands.iter().map(|command| machine::keys_max(&command.op)).sum(),
            rest: commands.into_iter(),
            current: None,
            applied,
            held,
        })
    }
}

impl Held {
    /// Takes the events of a slice, unless they become too many.
    fn take_events(&mut self, applied: &mut Applied, max: usize) {
        self.untold |= self.events.len() + applied.events.len() > max;
        match self.untold {
            true => {
                self.events.clear();
                applied.events.clear();
            }
            false => self.events.append(&mut applied.events),
        }
    }
}

impl super::Turn {
    /// What an entry has done becomes known in this turn.
    fn tell(&mut self, held: &mut Held) {
        self.changed = true;
        // A gap tells the hubs that there is more than they are given.
        self.untold |= held.untold;
        self.events.append(&mut held.events);
        self.tokens.append(&mut held.tokens);
        self.lease_outcomes.append(&mut held.lease_outcomes);
        self.answers.append(&mut held.answers);
    }
}
