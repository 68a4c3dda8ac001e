//! Raft's readies: what becomes an order to the disk, to the network, and to apply.

use raft::Ready;

use crate::codec;
use crate::command::Command;
use crate::entry::{Append, HardState};
use crate::fact::Fact;
use crate::id::{Index, Position, WalSeq};
use crate::message::{RaftKind, RaftMessage};
use crate::mutant;
use crate::output::{Effect, Output};
use crate::raft::message;
use crate::request::Op;
use crate::status::Role;
use crate::time::Instant;

use super::{Appended, Node};

impl Node {
    /// Handles one ready: disk first, so that it works while the rest is done; then the messages that
    /// may leave at once (thesis 10.2.1: a leader replicates in parallel with its own write). What is
    /// committed joins the backlog.
    pub(super) fn handle_ready(&mut self, now: Instant, mut ready: Ready, out: &mut Output) {
        for state in ready.take_read_states() {
            self.reads.answered(&state.request_ctx, Index(state.index));
        }
        let before = self.raft.commit();
        let mut at_once = self.outgoing(ready.take_messages(), out);
        let persisted = self.outgoing(ready.take_persisted_messages(), out);
        let (asks, after_sync): (Vec<_>, Vec<_>) =
            persisted.into_iter().partition(promises_nothing);
        at_once.extend(asks);
        let mut committed = ready.take_committed_entries();
        if mutant::on(5) {
            committed = not_committed(&ready, committed, self.backlog.last());
        }
        if ready.snapshot().get_metadata().index != 0 {
            let meta = message::meta_from_raft(ready.snapshot());
            out.effects.push(Effect::Install { meta, hard_state: self.raft.hard_state() });
        } else if ready.must_sync() {
            self.append(now, &ready, out);
        }
        self.send(at_once, out);
        let seq = WalSeq(self.next_seq.0 - 1);
        let released = self.raft.accept(ready, seq, after_sync);
        self.send(released, out);
        if let Some(last) = committed.last() {
            out.facts.push(Fact::Committed { index: Index(last.index.max(before.0)) });
        }
        for entry in &committed {
            self.backlog.push(message::entry_from_raft(entry));
        }
    }

    fn append(&mut self, now: Instant, ready: &Ready, out: &mut Output) {
        let hard_state = match mutant::on(2) {
            true => HardState::default(),
            false => self.raft.hard_state(),
        };
        out.effects.push(Effect::Append(Append {
            seq: self.next_seq,
            hard_state,
            entries: ready.entries().iter().map(message::entry_from_raft).collect(),
        }));
        let last = ready.entries().last().map(|entry| Position::new(entry.index, entry.term));
        if mutant::on(13) {
            self.reconfigure_early(&ready.entries()[..]);
        }
        let before = self.appended.back().map_or(self.durable, |appended| appended.last);
        let last = last.unwrap_or(before);
        self.appended.push_back(Appended { seq: self.next_seq, last, since: now });
        self.next_seq = self.next_seq.next();
    }

    /// Only a mutant lets a change take effect before it is committed.
    fn reconfigure_early(&mut self, entries: &[raft::eraftpb::Entry]) {
        for entry in entries.iter().map(message::entry_from_raft) {
            if let Ok(Command { op: Op::Member(change), .. }) = codec::decode_change(&entry.data) {
                self.raft.apply_change(&change);
            }
        }
    }

    /// Messages for the network. A snapshot does not travel as a message: its files are shipped, and
    /// the receiver installs them when all are there.
    fn outgoing(
        &mut self,
        messages: Vec<raft::eraftpb::Message>,
        out: &mut Output,
    ) -> Vec<RaftMessage> {
        let mut outgoing = Vec::with_capacity(messages.len());
        for message in messages.into_iter().map(message::from_raft) {
            match message.snapshot {
                Some(meta) if message.kind == RaftKind::Snapshot => {
                    let (to, term) = (message.to, self.raft.term());
                    out.effects.push(Effect::Ship { to, meta, term });
                }
                _ => outgoing.push(message),
            }
        }
        outgoing
    }

    /// Notes changes of role and leader.
    pub(super) fn observe_role(&mut self, now: Instant, out: &mut Output) {
        let (role, leader) = (self.raft.role(), self.raft.leader());
        let term = self.raft.term();
        if role != self.seen.0 {
            if self.seen.0 == Role::Leader {
                self.lessor.demote();
            }
            out.facts.push(Fact::BecameRole { role, term });
        }
        if leader != self.seen.1 {
            if self.seen.1.is_some() {
                self.leader_lost = Some(now);
            }
            out.facts.push(Fact::LeaderChanged { leader, term });
        }
        self.seen = (role, leader);
    }
}

/// Mutant M5: what is to be applied, and behind it what was only appended.
fn not_committed(
    ready: &Ready,
    mut entries: Vec<raft::eraftpb::Entry>,
    applied: Index,
) -> Vec<raft::eraftpb::Entry> {
    entries.retain(|entry| entry.index > applied.0);
    let mut next = entries.last().map_or(applied, |last| Index(last.index)).next();
    for entry in ready.entries().iter().filter(|entry| !entry.data.is_empty()) {
        if entry.index == next.0 {
            next = next.next();
            entries.push(entry.clone());
        }
    }
    entries
}

/// A follower's questions say nothing about its log, yet the crate holds all of a follower's messages
/// back until its log is durable; its clients would wait for its disk on top of the leader's.
fn promises_nothing(message: &RaftMessage) -> bool {
    if mutant::on(3) && message.kind == RaftKind::RequestVoteResponse {
        return true;
    }
    matches!(message.kind, RaftKind::Propose | RaftKind::ReadIndex)
}
