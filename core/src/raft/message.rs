//! Our message and entry types to and from the raft crate's, field by field. Nothing here is ever
//! decoded from bytes: the crate's protobuf stays inside the process.
//!
//! An entry of a membership change has its bytes in the crate's `context` and an empty `data`. The
//! crate decodes `data` as protobuf when such an entry is proposed, and an empty message is a valid one
//! that it does nothing else with: what a change means to it is told when it is applied.

use raft::eraftpb;
use raft::eraftpb::MessageType;

use crate::entry::{Entry, EntryKind};
use crate::id::{Index, MemberId, Position, Term};
use crate::message::{RaftKind, RaftMessage, SnapshotMeta};

const KINDS: [(RaftKind, MessageType); 14] = [
    (RaftKind::Propose, MessageType::MsgPropose),
    (RaftKind::Append, MessageType::MsgAppend),
    (RaftKind::AppendResponse, MessageType::MsgAppendResponse),
    (RaftKind::RequestVote, MessageType::MsgRequestVote),
    (RaftKind::RequestVoteResponse, MessageType::MsgRequestVoteResponse),
    (RaftKind::Snapshot, MessageType::MsgSnapshot),
    (RaftKind::Heartbeat, MessageType::MsgHeartbeat),
    (RaftKind::HeartbeatResponse, MessageType::MsgHeartbeatResponse),
    (RaftKind::TimeoutNow, MessageType::MsgTimeoutNow),
    (RaftKind::ReadIndex, MessageType::MsgReadIndex),
    (RaftKind::ReadIndexResponse, MessageType::MsgReadIndexResp),
    (RaftKind::RequestPreVote, MessageType::MsgRequestPreVote),
    (RaftKind::RequestPreVoteResponse, MessageType::MsgRequestPreVoteResponse),
    (RaftKind::TransferLeader, MessageType::MsgTransferLeader),
];

/// A message for the network.
pub fn from_raft(message: eraftpb::Message) -> RaftMessage {
    let kind = KINDS.iter().find(|(_, theirs)| *theirs == message.get_msg_type());
    let snapshot = message.snapshot.as_ref().map(meta_from_raft);
    RaftMessage {
        kind: kind.expect("only local kinds have no counterpart, and raft never sends those").0,
        from: MemberId(message.from),
        to: MemberId(message.to),
        term: Term(message.term),
        log: Position::new(message.index, message.log_term),
        entries: message.entries.iter().map(entry_from_raft).collect(),
        commit: Index(message.commit),
        commit_term: Term(message.commit_term),
        reject: message.reject,
        reject_hint: Index(message.reject_hint),
        request_snapshot: Index(message.request_snapshot),
        snapshot,
        context: message.context,
        priority: message.priority,
    }
}

/// A message from the network.
pub fn to_raft(message: RaftMessage) -> eraftpb::Message {
    let kind = KINDS.iter().find(|(ours, _)| *ours == message.kind);
    let mut to = eraftpb::Message::default();
    to.set_msg_type(kind.expect("every kind is in the table").1);
    to.from = message.from.0;
    to.to = message.to.0;
    to.term = message.term.0;
    to.index = message.log.index.0;
    to.log_term = message.log.term.0;
    to.entries = message.entries.into_iter().map(entry_to_raft).collect::<Vec<_>>().into();
    to.commit = message.commit.0;
    to.commit_term = message.commit_term.0;
    to.reject = message.reject;
    to.reject_hint = message.reject_hint.0;
    to.request_snapshot = message.request_snapshot.0;
    to.context = message.context;
    to.priority = message.priority;
    if let Some(meta) = &message.snapshot {
        to.set_snapshot(meta_to_raft(meta));
    }
    to
}

/// An entry for the log or the network.
pub fn entry_from_raft(entry: &eraftpb::Entry) -> Entry {
    let kind = match entry.get_entry_type() {
        eraftpb::EntryType::EntryNormal => EntryKind::Normal,
        eraftpb::EntryType::EntryConfChange => EntryKind::ConfChange,
        eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    let data = if kind == EntryKind::Normal { &entry.data } else { &entry.context };
    Entry { at: Position::new(entry.index, entry.term), kind, data: data.clone() }
}

/// An entry for raft.
pub fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let mut to = eraftpb::Entry::default();
    to.set_entry_type(match entry.kind {
        EntryKind::Normal => eraftpb::EntryType::EntryNormal,
        EntryKind::ConfChange => eraftpb::EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
    });
    to.index = entry.at.index.0;
    to.term = entry.at.term.0;
    match entry.kind {
        EntryKind::Normal => to.data = entry.data,
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => to.context = entry.data,
    }
    to
}

/// What a snapshot stands for.
pub fn meta_from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    let members = |ids: &[u64]| ids.iter().map(|id| MemberId(*id)).collect();
    SnapshotMeta {
        at: Position::new(metadata.index, metadata.term),
        voters: members(&metadata.get_conf_state().voters),
        learners: members(&metadata.get_conf_state().learners),
    }
}

/// A snapshot without data: that was shipped by other means.
pub fn meta_to_raft(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = meta.at.index.0;
    metadata.term = meta.at.term.0;
    metadata.set_conf_state(conf_state(meta));
    snapshot
}

/// The voters and learners of a snapshot, as raft wants them.
pub fn conf_state(meta: &SnapshotMeta) -> eraftpb::ConfState {
    let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect::<Vec<_>>();
    eraftpb::ConfState::from((ids(&meta.voters), ids(&meta.learners)))
}

/// The message that installs a snapshot which is complete on this member's disk.
pub fn install(from: MemberId, to: MemberId, term: Term, meta: &SnapshotMeta) -> eraftpb::Message {
    let snapshot = Some(meta.clone());
    to_raft(RaftMessage { snapshot, ..RaftMessage::new(RaftKind::Snapshot, from, to, term) })
}
