//! One member's replicated state machine: facts in, orders out.
//!
//! [`Node::step`] takes one [`Input`] at a time and only remembers; [`Input::Drained`], the last of each
//! turn, does the work: propose what has gathered, take raft's readies, apply what is committed (one
//! slice of it, if it is much), then publish, answer and order the housekeeping. What arrived in one turn
//! is therefore normally one log entry, one flush, one published snapshot.
//!
//! Laws:
//!  1. A `Publish` precedes every `Reply` of its turn.
//!  2. A request of this member is answered exactly once: by its outcome, or by its deadline.
//!  3. A message that promises something durable leaves after the batch that makes it so.
//!  4. A lease is renewed only by a leader that has applied an entry of its own term and has confirmed
//!     since the request came that it still leads (thesis 6.4 applied to leases).
//!
//! Worked example, one voter: `Request(put)`, `Drained` → `Append(w7)`; `Synced(w7)`, `Drained` →
//! `Publish`, `Reply`.

use std::collections::{BTreeMap, VecDeque};

use crate::auth::TokenChange;
use crate::codec;
use crate::entry::{Entry, EntryKind};
use crate::fact::Fact;
use crate::id::{Incarnation, Index, LeaseId, MemberId, Position, RequestId, Term, WalSeq};
use crate::input::Input;
use crate::lessor::Lessor;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::membership::Started;
use crate::message::{Message, RaftKind, RaftMessage, SnapshotMeta};
use crate::mutant;
use crate::output::{Effect, Output};
use crate::raft::reads::Reads;
use crate::raft::{Boot, Raft};
use crate::rejection::Rejection;
use crate::request::LeaseNote;
use crate::response::{Body, Event, Response};
use crate::rng::Rng;
use crate::status::{Role, Status};
use crate::store::{Fault, Store};
use crate::time::Instant;

mod admit;
mod apply;
mod audit;
mod leases;
mod membership;
mod pending;
mod queue;
mod ready;
mod space;

use apply::Backlog;
use audit::Auditor;
use leases::{Forwarded, LeaseWork};
use membership::Members;
pub use membership::{reborn, removed};
use pending::Pending;
use queue::Queue;
use space::Space;

/// Who a node is, and its bounds.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member.
    pub member: MemberId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Bounds and periods, validated.
    pub limits: Limits,
    /// Seeds the node's generators.
    pub seed: u64,
    /// What it tells the cluster of itself; `None` tells nothing.
    pub started: Option<Started>,
}

/// What an entry takes in the log at least: a block for its head and one for its bytes.
const LOG_ENTRY_BYTES: u64 = 8192;

/// Who waits for a read index.
#[derive(Clone, Debug)]
enum Reader {
    /// A session of this member.
    Request(RequestId),
    /// A lease question, of this member or forwarded by another.
    Lease(LeaseWork),
}

/// A batch on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct Appended {
    seq: WalSeq,
    /// Where the log ends with it.
    last: Position,
    since: Instant,
}

/// See the module.
pub struct Node {
    config: NodeConfig,
    raft: Raft,
    machine: Machine,
    lessor: Lessor,
    /// This member's requests that are not answered yet.
    pending: Pending,
    /// Admitted commands that are not proposed yet.
    queue: Queue,
    /// Raft has dropped a proposal since the last tick: no use trying before.
    dropped: bool,
    reads: Reads<Reader>,
    forwarded: BTreeMap<u64, Forwarded>,
    /// Renewals that wait for a command under way: the lease's revocation, or the end of a note.
    expiring: BTreeMap<LeaseId, Vec<LeaseWork>>,
    /// More leases have expired than may be revoked at a time.
    overdue: bool,
    next_number: u64,
    next_seq: WalSeq,
    synced: WalSeq,
    /// Where the log ended at the start: tokens of entries up to there ended with the process before,
    /// like all others that were in its memory.
    replayed: Index,
    /// Batches that are not durable yet, and where the durable log ends.
    appended: VecDeque<Appended>,
    durable: Position,
    /// When a leader with a slow disk may next offer its place.
    next_offer: Instant,
    next_tick: Instant,
    /// The last checkpoint ordered, and whether it is still being made.
    flush_ordered: Index,
    flushing: bool,
    /// Bytes of entries applied since it was ordered.
    applied_bytes: u64,
    members: Members,
    /// What the checkpoint that is being made stands for.
    flush_meta: SnapshotMeta,
    /// A member that was added since the last checkpoint needs one, or this one is about to stop.
    checkpoint_stale: bool,
    seen: (Role, Option<MemberId>),
    leader_lost: Option<Instant>,
    space: Space,
    auditor: Auditor,
    backlog: Backlog,
    /// The last turn did a slice of a physical compaction.
    compacted_lately: bool,
    turn: Turn,
}

/// What one turn gathers for its end.
#[derive(Default)]
struct Turn {
    changed: bool,
    events: Vec<Event>,
    /// There were more events than these.
    untold: bool,
    tokens: Vec<TokenChange>,
    answers: Vec<(RequestId, Result<Response, Rejection>)>,
    /// Lease answers that still need a header.
    lease_answers: Vec<(RequestId, Body)>,
    /// Leases of which commands have taken effect.
    lease_outcomes: Vec<LeaseId>,
    /// Notes of what was left of leases that are to be taken back.
    notes_ended: Vec<LeaseNote>,
    /// Lease questions that have not been forwarded yet; those that were refused wait for a tick.
    forwards: bool,
}

impl Node {
    /// Starts from what recovery found; `store` is the state at `boot.checkpoint`.
    ///
    /// # Errors
    /// A log that consensus cannot start from.
    pub fn new(
        config: NodeConfig,
        boot: Boot,
        store: &impl Store,
        now: Instant,
    ) -> Result<Node, Fault> {
        let rng = Rng::new(config.seed).fork(config.member.0);
        let last_seq = boot.last_seq;
        let flushed = boot.checkpoint.at.index;
        let flush_meta = boot.checkpoint.clone();
        let (boot, forced) = boot.forced(&config);
        let raft = Raft::new(config.member, &config.limits, rng, boot)?;
        let retry_after = config.limits.election_timeout / 2;
        Ok(Node {
            reads: Reads::new(config.member, config.incarnation, retry_after),
            machine: Machine::load(&config.limits, store),
            lessor: Lessor::noting(config.limits.lease_checkpoint_interval),
            pending: Pending::default(),
            queue: Queue::default(),
            dropped: false,
            forwarded: BTreeMap::new(),
            expiring: BTreeMap::new(),
            overdue: false,
            next_number: 0,
            next_seq: last_seq.next(),
            synced: last_seq,
            appended: VecDeque::new(),
            next_offer: now,
            replayed: raft.log().last().index,
            durable: raft.log().last(),
            next_tick: now + config.limits.heartbeat,
            flush_ordered: flushed,
            flushing: false,
            applied_bytes: 0,
            members: Members::load(store, forced),
            flush_meta,
            checkpoint_stale: false,
            seen: (Role::Follower, None),
            leader_lost: None,
            space: Space::default(),
            auditor: Auditor::default(),
            backlog: Backlog::new(store.mark()),
            compacted_lately: false,
            turn: Turn::default(),
            raft,
            config,
        })
    }

    /// Takes one fact. Orders are added to `out`, most of them at [`Input::Drained`].
    pub fn step(&mut self, now: Instant, input: Input, store: &mut impl Store, out: &mut Output) {
        match input {
            Input::Wake => {}
            Input::Request(request) => self.admit(now, request),
            Input::Message { from, .. } if self.members.is_fenced(from) => {}
            Input::Message { from, message } => self.receive(now, from, message, out),
            Input::Connected { peer, hello } => {
                self.members.connect(peer, now);
                if self.raft.lower_matched(peer, hello.last) {
                    out.facts.push(Fact::MatchedLowered { peer, last: hello.last });
                }
            }
            Input::Disconnected { peer } => {
                self.members.disconnect(peer);
                self.raft.unreachable(peer);
            }
            Input::Synced { seq } => {
                self.synced = seq;
                while self.appended.front().is_some_and(|appended| appended.seq <= seq) {
                    self.durable = self.appended.pop_front().expect("there is a front").last;
                }
                let released = self.raft.synced(seq);
                self.send(released, out);
            }
            Input::Flushed { at } => self.flushed(at, out),
            // Tried again after as many entries as between two checkpoints.
            Input::FlushFailed => self.flushing = false,
            Input::Fetched { number, entries } => self.raft.fetched(number, entries),
            Input::Staged { from, term, meta } => self.staged((from, term, meta), out),
            Input::Installed { meta } => self.installed(now, meta, store, out),
            Input::Space { full } => self.space.full = full,
            Input::Shipped { to, complete } => self.raft.shipped(to, complete),
            Input::Drained => {
                if let Err(fault) = self.drain(now, store, out) {
                    out.effects.push(Effect::Halt(fault));
                }
            }
        }
    }

    /// When the node next wants a turn, at the latest. Commands that gather while a leader's batches are
    /// on their way to the disk need none: they wait for a flush or the next tick, and each of those is a
    /// turn of its own.
    pub fn deadline(&self) -> Instant {
        let queued = !self.queue.is_empty() || (self.overdue && self.may_expire());
        let compacting = self.machine.compaction_pending() && !self.raft.is_installing();
        let alarmed = self.space.is_wanted() && self.may_propose();
        let applying = !self.backlog.is_empty();
        let busy = applying || compacting || alarmed || (queued && self.may_propose());
        if busy { Instant(0) } else { self.next_tick }
    }

    /// The end of the durable log, for the handshake with peers.
    pub fn durable_last(&self) -> Position {
        self.durable
    }

    /// The term of an entry of the log; `None` where the log does not reach, or no longer does.
    pub fn log_term(&self, index: Index) -> Option<Term> {
        self.raft.log().term_at(index)
    }

    /// An entry of the log, if it is in memory.
    pub fn log_entry(&self, index: Index) -> Option<Entry> {
        self.raft.log().entry_at(index)
    }

    /// Whether a snapshot of a peer is on its way to being the state: until it is, nothing is heard and
    /// nothing said.
    pub fn is_installing(&self) -> bool {
        self.raft.is_installing()
    }

    /// The node's public state.
    pub fn status(&self) -> Status {
        Status {
            term: self.raft.term(),
            leader: self.raft.leader(),
            role: self.raft.role(),
            commit: self.raft.commit(),
            applied: self.backlog.settled().applied,
            last: self.raft.log().last(),
            pending: self.pending.len(),
            unsaved_bytes: self.applied_bytes,
            saving: self.flushing,
        }
    }

    fn drain(
        &mut self,
        now: Instant,
        store: &mut impl Store,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if now >= self.next_tick {
            // After a pause the missed ticks are not made up for: they would all expire at once.
            let regular = self.next_tick + self.config.limits.heartbeat;
            self.next_tick =
                if regular > now { regular } else { now + self.config.limits.heartbeat };
            self.tick(now, store, out);
            self.tend_members(now, store)?;
        }
        self.compact(store, out)?;
        self.raise_alarm(now);
        self.raise_corrupt(now);
        if self.overdue {
            self.expire_leases(now, out);
        }
        self.propose();
        self.propose_changes(now, store, out);
        if let Some(context) = self.reads.ask(now) {
            if mutant::on(7) && self.raft.role() == Role::Leader {
                self.reads.answered(&context, self.raft.commit());
            } else {
                self.raft.read_index(context);
            }
        }
        self.handle_readies(now, store, out)?;
        self.answer_refused();
        self.observe_role(now, out);
        if self.turn.forwards {
            self.forward_lease_asks(now, out);
        }
        self.finish_reads(now, store, out);
        if let Some(fault) = store.fault() {
            return Err(fault);
        }
        self.finish(now, store, out);
        Ok(())
    }

    /// One slice of the physical compaction. Before anything is applied: what was answered is read from
    /// the snapshot it was answered at. Not within an entry, of which nothing may be published.
    fn compact(&mut self, store: &mut impl Store, out: &mut Output) -> Result<(), Fault> {
        let idle = !self.machine.compaction_pending() || self.raft.is_installing();
        // What is applied in several turns begins in one without a slice of this: they take turns.
        let yields = std::mem::take(&mut self.compacted_lately) && !self.backlog.is_empty();
        if idle || yields || self.backlog.is_within_entry() {
            return Ok(());
        }
        self.compacted_lately = true;
        self.turn.changed = true;
        if let Some(revision) = self.machine.compact_slice(store)? {
            out.facts.push(Fact::CompactionFinished { revision });
        }
        Ok(())
    }

    /// Takes raft's readies and applies a slice of what is committed. What is applied may be a change of
    /// members, and with it more be committed.
    fn handle_readies(
        &mut self,
        now: Instant,
        store: &mut impl Store,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut budget = self.apply_slice();
        // The compaction's next slice waits for the end of an entry.
        let halts = self.machine.compaction_pending() && self.backlog.is_within_entry();
        loop {
            while let Some(ready) = self.raft.ready() {
                self.handle_ready(now, ready, out);
            }
            let applied = self.apply_next(now, &mut budget, store, out)?;
            let went_on = applied || (self.backlog.is_empty() && self.take_staged(out));
            if !went_on || halts {
                return Ok(());
            }
        }
    }

    /// Once per heartbeat: raft's clock, deadlines, expired leases, forwarded questions.
    fn tick(&mut self, now: Instant, store: &impl Store, out: &mut Output) {
        self.raft.tick();
        self.dropped = false;
        self.expire_requests(now, out);
        self.clear_alarms(now, store);
        self.expire_leases(now, out);
        self.note_leases(now);
        self.offer_leadership(now, out);
        self.forward_lease_asks(now, out);
    }

    /// A leader whose flush takes too long offers its place before the others take it away, at most
    /// once in ten election timeouts, and only to a peer that has made durable what this member's own
    /// disk is still busy with: with no faster disk in the cluster nothing would be won.
    fn offer_leadership(&mut self, now: Instant, out: &mut Output) {
        let timeout = self.config.limits.election_timeout;
        let Some(oldest) = self.appended.front() else { return };
        let slow = now.since(oldest.since) > timeout / 2;
        if self.raft.role() != Role::Leader || !slow || now < self.next_offer {
            return;
        }
        if let Some(to) = self.raft.transfer_leadership(oldest.last.index) {
            self.next_offer = now + timeout * 10;
            out.facts.push(Fact::LeadershipOffered { to, term: self.raft.term() });
        }
    }

    /// Publish, answer, and order the housekeeping.
    fn finish(&mut self, now: Instant, store: &impl Store, out: &mut Output) {
        let torn = mutant::on(90) && self.backlog.is_within_entry();
        let turn = &mut self.turn;
        if std::mem::take(&mut turn.changed) || torn {
            let (events, tokens) = (&mut turn.events, &mut turn.tokens);
            let (mut events, tokens) = (std::mem::take(events), std::mem::take(tokens));
            if std::mem::take(&mut turn.untold) {
                events.clear();
            }
            out.effects.push(Effect::Publish { events, tokens });
        }
        for (id, result) in turn.answers.drain(..) {
            out.effects.push(Effect::Reply { id, result });
        }
        turn.forwards = false;
        self.checkpoint_stale |= self.raft.log_mut().take_stale();
        let applied = self.backlog.settled().applied;
        let due =
            self.checkpoint_is_due(applied.index, store.index_bytes()) || self.checkpoint_stale;
        if due && !self.flushing && !self.raft.is_installing() {
            self.flushing = true;
            self.checkpoint_stale = false;
            self.flush_ordered = applied.index;
            self.applied_bytes = 0;
            self.flush_meta = self.meta(applied);
            out.effects.push(Effect::Flush { meta: self.flush_meta.clone() });
        }
        self.raft.log_mut().evict(applied.index, self.config.limits.log_cache_bytes);
        for (number, from, below, bytes_max) in self.raft.log_mut().take_wanted() {
            out.effects.push(Effect::Fetch { number, from, below, bytes_max });
        }
        self.finish_members(now, store, out);
        out.status = self.status();
    }

    /// A checkpoint writes the whole index, so it waits until the log has grown by about as much: what
    /// is written at most doubles.
    fn checkpoint_is_due(&self, applied: Index, index_bytes: u64) -> bool {
        let limits = &self.config.limits;
        let entries = limits.checkpoint_entries.max(index_bytes / LOG_ENTRY_BYTES);
        applied.0 >= self.flush_ordered.0 + entries
            || self.applied_bytes >= limits.checkpoint_bytes.max(index_bytes)
    }

    /// A checkpoint is durable: followers that need more than the entries kept behind it get it as a
    /// snapshot from now on.
    fn flushed(&mut self, at: Position, out: &mut Output) {
        self.flushing = false;
        self.flush_ordered = at.index;
        if at.index <= self.raft.log().checkpoint().at.index {
            return;
        }
        out.facts.push(Fact::CheckpointSaved { at });
        assert_eq!(self.flush_meta.at, at, "one checkpoint is being made at a time");
        self.raft.log_mut().set_checkpoint(self.flush_meta.clone());
        let upto = Index(at.index.0.saturating_sub(self.config.limits.catchup_entries));
        if upto >= self.raft.log().first() {
            self.raft.log_mut().purge(upto);
            out.effects.push(Effect::Purge { upto });
        }
    }

    fn installed(
        &mut self,
        now: Instant,
        meta: SnapshotMeta,
        store: &mut impl Store,
        out: &mut Output,
    ) {
        let released = self.raft.installed(&meta);
        self.send(released, out);
        self.machine = Machine::load(&self.config.limits, store);
        assert!(self.backlog.is_empty(), "a snapshot waits for what is being applied");
        self.backlog.settle(store.mark());
        self.lessor.demote();
        self.flush_ordered = meta.at.index;
        self.flushing = false;
        self.durable = meta.at;
        self.appended.clear();
        out.facts.push(Fact::SnapshotInstalled { at: meta.at });
        if !self.machine.compaction_pending() {
            let revision = store.mark().compacted;
            out.facts.push(Fact::CompactionFinished { revision });
        }
        self.members_installed(now, meta.at, store);
        self.turn.changed = true;
    }

    fn meta(&self, at: Position) -> SnapshotMeta {
        let (voters, learners) = (self.raft.voters(), self.raft.learners());
        SnapshotMeta { at, voters, learners }
    }

    fn receive(&mut self, now: Instant, from: MemberId, message: Message, out: &mut Output) {
        match message {
            Message::Raft(received) => self.receive_raft(now, from, received),
            Message::LeaseAsk(ask) => self.lease_asked(now, from, ask, out),
            Message::LeaseAnswer(answer) => self.lease_answered(answer),
            Message::ChangeRefused(refused) => self.change_refused(refused),
            // Whoever serves clients has the state to hash, and time for it.
            Message::HashAsk(ask) => out.facts.push(Fact::HashAsked { by: from, ask }),
            Message::HashAnswer(answer) => out.facts.push(Fact::HashTold { by: from, answer }),
            Message::Transfer(_) => {} // the driver gives those to the engine
        }
    }

    /// A peer may only speak for itself, and may only hand over proposals that apply can read: one
    /// that it cannot would stop every member.
    fn receive_raft(&mut self, now: Instant, from: MemberId, received: RaftMessage) {
        let readable = |entry: &Entry| {
            entry.kind == EntryKind::Normal && codec::decode_entry(&entry.data).is_ok()
        };
        let entries = &received.entries;
        if let (RaftKind::Propose, [entry]) = (received.kind, &entries[..])
            && entry.kind == EntryKind::ConfChange
        {
            if received.from == from && self.raft.role() == Role::Leader {
                self.forwarded_change(now, entry);
            }
            return;
        }
        let welcome = match received.kind {
            // Only a leader has use for these; passed on, they would come in another's name.
            RaftKind::Propose => self.raft.role() == Role::Leader && entries.iter().all(readable),
            RaftKind::ReadIndex | RaftKind::TransferLeader => self.raft.role() == Role::Leader,
            _ => true,
        };
        if received.from != from || !welcome {
            return;
        }
        self.raft.receive(received);
    }

    fn send(&self, messages: Vec<RaftMessage>, out: &mut Output) {
        let send =
            |message: RaftMessage| Effect::Send { to: message.to, message: Message::Raft(message) };
        out.effects.extend(messages.into_iter().map(send));
    }

    /// Answers a request of this member, if it still waits.
    fn answer(&mut self, id: RequestId, result: Result<Response, Rejection>) {
        if self.take_pending(id) {
            self.turn.answers.push((id, result));
        }
    }

    /// Whether this run of this member owes an answer to a request, which from now on it does not.
    fn take_pending(&mut self, id: RequestId) -> bool {
        let own = id.member == self.config.member
            && (id.incarnation == self.config.incarnation || mutant::on(17));
        own && self.pending.remove(id.sequence).is_some()
    }

    fn answer_body(&mut self, id: RequestId, body: Body) {
        let revision = self.backlog.settled().revision;
        let response = Response { revision, term: self.raft.term(), body };
        self.answer(id, Ok(response));
    }

    /// Whether this run of this member took the request and has not answered it.
    fn owes(&self, id: RequestId) -> bool {
        let own = id.member == self.config.member && id.incarnation == self.config.incarnation;
        own && self.is_pending(id)
    }

    fn is_pending(&self, id: RequestId) -> bool {
        self.pending.contains(id.sequence)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
