//! The raft crate under our rules (ARCHITECTURE.md, "Consensus"). Everything that has to be remembered around
//! a call of the crate is remembered here, once:
//!
//!  1. After each call that may change (role, term), the election timeout is drawn from our own
//!     generator; the crate draws from a thread-local one, and runs would stop being replayable.
//!  2. While a snapshot install is pending there are no ticks and no messages: the crate panics when
//!     it campaigns then, and messages may always be lost.
//!  3. A batch is reported persisted only when every earlier one is.
//!
//! Leaves out: what entries mean, and who waits for them; that is [`crate::node`].

use std::collections::VecDeque;

use raft::eraftpb;
use raft::{Config, GetEntriesContext, RawNode, Ready, SnapshotStatus, StateRole};

use crate::entry::HardState;
use crate::id::{Index, MemberId, Position, Term, WalSeq};
use crate::limits::Limits;
use crate::message::{RaftKind, RaftMessage, SnapshotMeta};
use crate::mutant;
use crate::rng::Rng;
use crate::status::Role;
use crate::store::Fault;

mod gate;
pub mod log;
mod membership;
pub mod message;
pub mod reads;

use log::Log;

/// What recovery found, for [`Raft::new`].
#[derive(Clone, Debug)]
pub struct Boot {
    /// The state the store was loaded at.
    pub checkpoint: SnapshotMeta,
    /// From the log; the default when the log is empty.
    pub hard_state: HardState,
    /// From the log, consecutive, after the checkpoint.
    pub entries: Vec<crate::entry::Entry>,
    /// The log's last batch.
    pub last_seq: WalSeq,
    /// `--force-new-cluster`: this member is the only one from now on.
    pub force_new: bool,
}

/// A ready that waits for the disk: its number, the batch it waits for, and the messages that may
/// leave only then.
#[derive(Debug)]
struct Waiting {
    number: u64,
    seq: WalSeq,
    messages: Vec<RaftMessage>,
}

/// One member's consensus.
pub struct Raft {
    raw: RawNode<Log>,
    rng: Rng,
    election_ticks: usize,
    timeout: usize,
    seen: (StateRole, u64),
    waiting: VecDeque<Waiting>,
    synced: WalSeq,
    installing: Option<Installing>,
}

/// A snapshot on its way to being the state, and what may be said only then.
#[derive(Debug)]
struct Installing {
    number: u64,
    meta: SnapshotMeta,
    messages: Vec<RaftMessage>,
}

impl Raft {
    /// Starts from what recovery found.
    ///
    /// # Errors
    /// A configuration or log that the crate refuses.
    pub fn new(member: MemberId, limits: &Limits, rng: Rng, boot: Boot) -> Result<Raft, Fault> {
        let at = boot.checkpoint.at;
        let last = boot.entries.last().map_or(at, |entry| entry.at);
        let config = Config {
            id: member.0,
            election_tick: limits.election_ticks(),
            heartbeat_tick: 1,
            applied: at.index.0,
            max_size_per_msg: limits.entry_bytes_max as u64,
            max_inflight_msgs: limits.append_messages_in_flight_max,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: limits.uncommitted_bytes_max,
            max_committed_size_per_ready: limits.turn_bytes_max as u64,
            ..Config::default()
        };
        let hard_state = eraftpb::HardState {
            term: boot.hard_state.term.0.max(last.term.0),
            vote: boot.hard_state.vote.map_or(0, |member| member.0),
            commit: boot.hard_state.commit.0.clamp(at.index.0, last.index.0),
            ..Default::default()
        };
        let entries = boot.entries.into_iter().map(message::entry_to_raft).collect();
        let log = Log::new(boot.checkpoint, hard_state, entries);
        let quiet = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &quiet)
            .map_err(|error| Fault::new("starting consensus", "the log", error))?;
        let mut raft = Raft {
            raw,
            rng,
            election_ticks: limits.election_ticks(),
            timeout: 0,
            seen: (StateRole::Follower, 0),
            waiting: VecDeque::new(),
            synced: boot.last_seq,
            installing: None,
        };
        raft.draw_timeout();
        if raft.raw.raft.prs().is_singleton() && raft.raw.raft.promotable() {
            // Nobody else could win or object: waiting for the timeout would only delay the start.
            let campaigned = raft.call(|raw| raw.campaign());
            campaigned.map_err(|error| Fault::new("starting an election", "the log", error))?;
        }
        Ok(raft)
    }

    /// One heartbeat period has passed.
    pub fn tick(&mut self) {
        if !self.is_installing() || mutant::on(11) {
            self.call(|raw| raw.tick());
        }
    }

    /// A peer's message. Losing one is always allowed, so errors are only that.
    pub fn receive(&mut self, received: RaftMessage) {
        if !gate::is_sound(&received, self.log().last().index) {
            return;
        }
        let lost = mutant::on(12) && received.kind == RaftKind::TimeoutNow;
        let busy = self.is_installing() && !mutant::on(11);
        if busy || lost || received.kind == RaftKind::Snapshot {
            return; // snapshots come as `staged`, after their files
        }
        let received = message::to_raft(received);
        self.call(|raw| drop(raw.step(received)));
    }

    /// A snapshot from `from` is complete on disk. Says whether raft wants it installed.
    ///
    /// One whose sender was deposed meanwhile is taken as if its successor had sent it: it holds only
    /// what is committed, and that every later leader has too (thesis 3.6.3, leader completeness).
    pub fn staged(&mut self, from: MemberId, term: Term, meta: &SnapshotMeta) -> bool {
        if self.is_installing() || self.role() == Role::Leader {
            return false;
        }
        let (from, term) = match self.leader() {
            _ if term >= self.term() => (from, term),
            Some(leader) => (leader, self.term()),
            None => return false,
        };
        let to = MemberId(self.raw.raft.id);
        self.call(|raw| drop(raw.step(message::install(from, to, term, meta))));
        self.raw.snap().is_some_and(|snap| snap.get_metadata().index == meta.at.index.0)
    }

    /// The snapshot handed out by [`Raft::ready`] is the state now. Returns what waited for that;
    /// what waited for earlier batches is forgotten with them.
    pub fn installed(&mut self, meta: &SnapshotMeta) -> Vec<RaftMessage> {
        let Some(pending) = self.installing.take() else { return Vec::new() };
        assert_eq!(pending.meta.at, meta.at, "one install is under way at a time");
        self.raw.mut_store().restart(meta);
        self.waiting.clear();
        self.call(|raw| raw.on_persist_ready(pending.number));
        self.raw.advance_apply_to(meta.at.index.0);
        pending.messages
    }

    /// Proposes an entry. `false` when it was dropped: there is no leader, or one that hands over, or
    /// too much is uncommitted.
    pub fn propose(&mut self, data: bytes::Bytes) -> bool {
        let mut propose = eraftpb::Message::default();
        propose.set_msg_type(eraftpb::MessageType::MsgPropose);
        propose.from = self.raw.raft.id;
        propose.set_entries(vec![eraftpb::Entry { data, ..Default::default() }].into());
        self.call(|raw| raw.step(propose).is_ok())
    }

    /// Asks for a read index under a context that must never repeat.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.call(|raw| raw.read_index(context));
    }

    /// Every batch up to `seq` is durable. Returns the messages that waited for it.
    pub fn synced(&mut self, seq: WalSeq) -> Vec<RaftMessage> {
        self.synced = seq;
        let mut released = Vec::new();
        let mut number = None;
        while self.waiting.front().is_some_and(|waiting| waiting.seq <= seq) {
            let waiting = self.waiting.pop_front().expect("there is a front");
            released.extend(waiting.messages);
            number = Some(waiting.number);
        }
        if let Some(number) = number {
            self.call(|raw| raw.on_persist_ready(number));
        }
        released
    }

    /// The next bundle of work, if there is any. While an install is pending there is none.
    pub fn ready(&mut self) -> Option<Ready> {
        (self.installing.is_none() && self.raw.has_ready()).then(|| self.raw.ready())
    }

    /// Takes a handled ready back: its entries are readable from here on, and `messages` may leave
    /// once batch `seq` is durable. Returns those that may leave at once.
    pub fn accept(
        &mut self,
        ready: Ready,
        seq: WalSeq,
        messages: Vec<RaftMessage>,
    ) -> Vec<RaftMessage> {
        let number = ready.number();
        let snapshot = ready.snapshot().clone();
        self.raw.mut_store().append(ready.entries());
        self.raw.advance_append_async(ready);
        if snapshot.get_metadata().index != 0 {
            let meta = message::meta_from_raft(&snapshot);
            self.installing = Some(Installing { number, meta, messages });
            return Vec::new();
        }
        if self.trusts_memory() {
            self.call(|raw| raw.on_persist_ready(number));
        }
        if mutant::on(1) {
            self.waiting.push_back(Waiting { number, seq, messages: Vec::new() });
            self.synced(self.synced);
            return messages;
        }
        self.waiting.push_back(Waiting { number, seq, messages });
        self.synced(self.synced)
    }

    /// Only a mutant counts its own entries before they are durable: M4 in a cluster, M37 alone.
    fn trusts_memory(&self) -> bool {
        let alone = self.raw.raft.prs().is_singleton();
        self.role() == Role::Leader && if alone { mutant::on(37) } else { mutant::on(4) }
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: Index) {
        self.raw.advance_apply_to(index.0);
    }

    /// Ends a snapshot transfer, so that the peer is not stuck in the snapshot state for ever.
    pub fn shipped(&mut self, to: MemberId, complete: bool) {
        if mutant::on(10) {
            return;
        }
        let status = if complete { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// A peer cannot be reached: probe it instead of streaming to it.
    pub fn unreachable(&mut self, peer: MemberId) {
        self.raw.report_unreachable(peer.0);
    }

    /// Entries ordered by a fetch are there.
    pub fn fetched(&mut self, number: u64, entries: Vec<crate::entry::Entry>) {
        let entries = entries.into_iter().map(message::entry_to_raft).collect();
        let context: Option<GetEntriesContext> = self.raw.mut_store().fetched(number, entries);
        if let Some(context) = context {
            self.raw.on_entries_fetched(context);
        }
    }

    /// A peer's durable log ends at `last`: a leader that believes more lowers its belief. The
    /// commit index never moves back, so this is safe; without it the peer would never be sent what
    /// it lost. Says whether anything was lowered.
    pub fn lower_matched(&mut self, peer: MemberId, last: Position) -> bool {
        if self.role() != Role::Leader {
            return false;
        }
        match self.raw.raft.mut_prs().get_mut(peer.0) {
            Some(progress) if progress.matched > last.index.0 => {
                progress.matched = last.index.0;
                progress.become_probe();
                progress.next_idx = last.index.0 + 1;
                true
            }
            _ => false,
        }
    }

    /// Hands leadership to the voter with the longest durable log among those heard from lately,
    /// provided that it reaches `least`.
    pub fn transfer_leadership(&mut self, least: Index) -> Option<MemberId> {
        if self.role() != Role::Leader {
            return None;
        }
        let own = self.raw.raft.id;
        let voters: Vec<u64> = self.raw.raft.prs().conf().voters().ids().iter().collect();
        let heir = self.raw.raft.prs().iter();
        let heir = heir
            .filter(|(id, progress)| **id != own && voters.contains(id) && progress.recent_active)
            .filter(|(_, progress)| progress.matched >= least.0);
        let heir = heir.max_by_key(|(id, progress)| (progress.matched, **id)).map(|(id, _)| *id)?;
        self.call(|raw| raw.transfer_leader(heir));
        Some(MemberId(heir))
    }

    /// Hands leadership to this member, if it has a vote; raft waits for its log to catch up, and gives
    /// up after an election timeout.
    pub fn move_leader(&mut self, to: MemberId) {
        let voter = self.raw.raft.prs().conf().voters().contains(to.0);
        if self.role() == Role::Leader && voter && to.0 != self.raw.raft.id {
            self.call(|raw| raw.transfer_leader(to.0));
        }
    }

    /// Current term.
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// Current role.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower if !self.raw.raft.promotable() => Role::Learner,
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<MemberId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0).map(MemberId)
    }

    /// Highest committed index.
    pub fn commit(&self) -> Index {
        Index(self.raw.raft.raft_log.committed)
    }

    /// Whether a snapshot install is pending, from the moment raft has accepted the snapshot.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some() || self.raw.snap().is_some()
    }

    /// Where the snapshot that is being installed ends.
    pub fn installing(&self) -> Option<Position> {
        let accepted = self.raw.snap().map(|snapshot| message::meta_from_raft(snapshot).at);
        accepted.or(self.installing.as_ref().map(|installing| installing.meta.at))
    }

    /// Members with a vote, in order.
    pub fn voters(&self) -> Vec<MemberId> {
        let mut ids: Vec<_> = self.raw.raft.prs().conf().voters().ids().iter().collect();
        ids.sort_unstable();
        ids.into_iter().map(MemberId).collect()
    }

    /// Members without a vote, in order.
    pub fn learners(&self) -> Vec<MemberId> {
        let mut ids: Vec<_> = self.raw.raft.prs().conf().learners().iter().copied().collect();
        ids.sort_unstable();
        ids.into_iter().map(MemberId).collect()
    }

    /// The log raft reads.
    pub fn log(&self) -> &Log {
        self.raw.store()
    }

    /// The same, for purging and fetching.
    pub fn log_mut(&mut self) -> &mut Log {
        self.raw.mut_store()
    }

    /// What has to be durable before anything this term promises.
    pub fn hard_state(&self) -> HardState {
        let hard_state = self.raw.raft.hard_state();
        HardState {
            term: Term(hard_state.term),
            vote: Some(hard_state.vote).filter(|id| *id != 0).map(MemberId),
            commit: Index(hard_state.commit),
        }
    }

    /// Calls the crate and restores rule 1 afterwards.
    fn call<R>(&mut self, call: impl FnOnce(&mut RawNode<Log>) -> R) -> R {
        let result = call(&mut self.raw);
        let now = (self.raw.raft.state, self.raw.raft.term);
        if now != self.seen || self.raw.raft.randomized_election_timeout() != self.timeout {
            self.draw_timeout();
        }
        result
    }

    fn draw_timeout(&mut self) {
        let low = self.election_ticks as u64;
        self.timeout = self.rng.between(low, 2 * low - 1) as usize;
        self.raw.raft.set_randomized_election_timeout(self.timeout);
        self.seen = (self.raw.raft.state, self.raw.raft.term);
    }
}
