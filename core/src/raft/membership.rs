//! Membership changes and the raft crate: one at a time, effective when applied (thesis 4.1, with the
//! crate's rule that an entry takes effect at apply and not at append).
//!
//! Leaves out: what a change does to the replicated tables, and who may ask for one.

use raft::eraftpb;
use raft::eraftpb::{ConfChange, ConfChangeType};

use super::{Boot, Raft};
use crate::codec;
use crate::command::Command;
use crate::entry::{Entry, EntryKind};
use crate::id::{Index, MemberId, Position, RequestId, Term};
use crate::membership::MemberChange;
use crate::mutant;
use crate::node::NodeConfig;
use crate::request::{Identity, Op};

impl Boot {
    /// Adds the entry that forces a new cluster, if an operator wants one; it counts as committed.
    /// What the log holds stays: a member that is given up may have acknowledged it.
    pub(crate) fn forced(mut self, config: &NodeConfig) -> (Boot, Option<Entry>) {
        if !self.force_new && !mutant::on(94) {
            return (self, None);
        }
        let (member, incarnation) = (config.member, config.incarnation);
        let id = RequestId { member, incarnation, sequence: 0 };
        let op = Op::Member(MemberChange::ForceNew { id: member });
        let command = Command { id, identity: Identity::SYSTEM, op };
        if mutant::on(95) {
            let commit = self.hard_state.commit;
            self.entries.retain(|entry| entry.at.index <= commit);
        }
        let last = self.entries.last().map_or(self.checkpoint.at, |entry| entry.at);
        let term = self.hard_state.term.max(last.term).max(Term(1));
        let at = Position { term, index: last.index.next() };
        let data = codec::encode_entry(&[command]);
        let entry = Entry { at, kind: EntryKind::ConfChange, data };
        self.entries.push(entry.clone());
        self.hard_state.term = term;
        self.hard_state.commit = at.index;
        (self, Some(entry))
    }
}

impl Raft {
    /// Proposes the entry of a membership change. `false` when it was dropped, see
    /// [`Raft::propose`]. On a leader no other change may be pending.
    pub fn propose_change(&mut self, data: bytes::Bytes) -> bool {
        let mut entry = eraftpb::Entry::default();
        entry.set_entry_type(eraftpb::EntryType::EntryConfChange);
        entry.context = data;
        let mut propose = eraftpb::Message::default();
        propose.set_msg_type(eraftpb::MessageType::MsgPropose);
        propose.from = self.raw.raft.id;
        propose.set_entries(vec![entry].into());
        self.call(|raw| raw.step(propose).is_ok())
    }

    /// Whether an earlier change may still be unapplied: the crate would drop the next one.
    pub fn change_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Whether this member is one of the voters or learners.
    pub fn is_member(&self) -> bool {
        self.raw.raft.prs().get(self.raw.raft.id).is_some()
    }

    /// Whether a leader is handing over.
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// A leader that was removed names an heir, if it can, and follows. It must not go on: the crate
    /// looks its own progress up with every acknowledgement, and it has none any more.
    pub fn resign(&mut self, removed_at: Index) {
        self.transfer_leadership(removed_at);
        self.call(|raw| raw.raft.become_follower(raw.raft.term, raft::INVALID_ID));
    }

    /// How far a leader knows a member's log to be the same; `None` on others, and for strangers.
    pub fn matched(&self, member: MemberId) -> Option<Index> {
        if self.role() != crate::status::Role::Leader {
            return None;
        }
        self.raw.raft.prs().get(member.0).map(|progress| Index(progress.matched))
    }

    /// An accepted change takes effect.
    pub fn apply_change(&mut self, change: &MemberChange) {
        let id = change.id();
        match change {
            MemberChange::Add { is_learner: true, .. } if !mutant::on(14) => {
                self.reconfigure(ConfChangeType::AddLearnerNode, id);
            }
            MemberChange::Add { .. } | MemberChange::Promote { .. } => {
                self.reconfigure(ConfChangeType::AddNode, id);
            }
            MemberChange::Update { .. } => {}
            MemberChange::Remove { .. } if mutant::on(16) => {}
            MemberChange::Remove { .. } => self.reconfigure(ConfChangeType::RemoveNode, id),
            MemberChange::ForceNew { .. } => {
                self.reconfigure(ConfChangeType::AddNode, id);
                let others = self.voters().into_iter().chain(self.learners());
                for other in others.filter(|other| *other != id).collect::<Vec<_>>() {
                    self.reconfigure(ConfChangeType::RemoveNode, other);
                }
            }
        }
    }

    fn reconfigure(&mut self, kind: ConfChangeType, id: MemberId) {
        let mut change = ConfChange::default();
        change.set_change_type(kind);
        change.node_id = id.0;
        let applied = self.call(|raw| raw.apply_conf_change(&change).map(drop));
        if mutant::on(13) {
            return; // it has not asked the state machine
        }
        applied.expect("the state machine has accepted the change: a voter is left");
    }
}
