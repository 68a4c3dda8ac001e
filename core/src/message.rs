//! What members say to each other. `net/peer` gives these their bytes; the raft crate's own protobuf
//! types never touch the network (RUSTSEC-2024-0437).

use bytes::Bytes;

use crate::entry::Entry;
use crate::id::{Incarnation, Index, LeaseId, MemberId, Position, Revision, Term};
use crate::mvcc::hash::KvHash;
use crate::rejection::Rejection;

/// Raft's message kinds that travel between members, numbered for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RaftKind {
    /// A follower hands a proposal to the leader.
    Propose = 1,
    /// AppendEntries (thesis 3.5).
    Append = 2,
    /// Its answer.
    AppendResponse = 3,
    /// RequestVote (thesis 3.4).
    RequestVote = 4,
    /// Its answer.
    RequestVoteResponse = 5,
    /// The snapshot that was shipped ahead of this message.
    Snapshot = 6,
    /// A leader's heartbeat.
    Heartbeat = 7,
    /// Its answer.
    HeartbeatResponse = 8,
    /// Start an election at once (leadership transfer, thesis 3.10).
    TimeoutNow = 9,
    /// A follower asks for a read index (thesis 6.4).
    ReadIndex = 10,
    /// Its answer.
    ReadIndexResponse = 11,
    /// PreVote (thesis 9.6).
    RequestPreVote = 12,
    /// Its answer.
    RequestPreVoteResponse = 13,
    /// A follower asks the leader to hand over.
    TransferLeader = 14,
}

impl RaftKind {
    /// The kind numbered `number`, if there is one.
    pub fn from_wire(number: u8) -> Option<RaftKind> {
        use RaftKind::*;
        [
            Propose,
            Append,
            AppendResponse,
            RequestVote,
            RequestVoteResponse,
            Snapshot,
            Heartbeat,
            HeartbeatResponse,
            TimeoutNow,
            ReadIndex,
            ReadIndexResponse,
            RequestPreVote,
            RequestPreVoteResponse,
            TransferLeader,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A raft message. Fields a kind does not use are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    /// What it is.
    pub kind: RaftKind,
    /// Sender.
    pub from: MemberId,
    /// Receiver.
    pub to: MemberId,
    /// The sender's term; 0 for local kinds that are forwarded.
    pub term: Term,
    /// Where the entries attach, or the sender's last entry.
    pub log: Position,
    /// Consecutive entries after `log`.
    pub entries: Vec<Entry>,
    /// The sender's commit index.
    pub commit: Index,
    /// The term of the entry at `commit`, where the crate fills it.
    pub commit_term: Term,
    /// A refusal.
    pub reject: bool,
    /// Where the refusing log ends.
    pub reject_hint: Index,
    /// The follower asks for a snapshot at this index.
    pub request_snapshot: Index,
    /// What a [`RaftKind::Snapshot`] is about.
    pub snapshot: Option<SnapshotMeta>,
    /// Read-index contexts and transfer reasons.
    pub context: Bytes,
    /// Election priority.
    pub priority: i64,
}

impl RaftMessage {
    /// A message of which nothing is known but this: no entries, and zero in every other field.
    pub fn new(kind: RaftKind, from: MemberId, to: MemberId, term: Term) -> RaftMessage {
        RaftMessage {
            kind,
            from,
            to,
            term,
            log: Position::default(),
            entries: Vec::new(),
            commit: Index(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: Index(0),
            request_snapshot: Index(0),
            snapshot: None,
            context: Bytes::new(),
            priority: 0,
        }
    }
}

/// What a snapshot stands for: the state after `at`, and who has votes there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry included.
    pub at: Position,
    /// Members with a vote.
    pub voters: Vec<MemberId>,
    /// Members without.
    pub learners: Vec<MemberId>,
}

/// What a member says of itself when a connection opens (DESIGN.md section 4 rule 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerHello {
    /// Which run of the peer this is.
    pub incarnation: Incarnation,
    /// The end of its durable log.
    pub last: Position,
    /// Which data directory it has: see [`Started`](crate::membership::Started); 0 where none is told.
    pub birth: u64,
}

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Consensus.
    Raft(RaftMessage),
    /// A follower asks the leader about a lease for one of its clients.
    LeaseAsk(LeaseAsk),
    /// The leader's answer.
    LeaseAnswer(LeaseAnswer),
    /// A piece of a snapshot transfer; storage made it, storage reads it.
    Transfer(Transfer),
    /// The leader will not propose a membership change that was forwarded to it.
    ChangeRefused(ChangeRefused),
    /// A member asks another for the hash of its data.
    HashAsk(HashAsk),
    /// The answer.
    HashAnswer(HashAnswer),
}

/// A question for a hash, from a leader that compares or from a member that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAsk {
    /// Numbers the question within the asking member's run.
    pub number: u64,
    /// Of the records up to here.
    pub revision: Revision,
    /// What the asker's own hash was compacted at: a remembered hash is wanted only if it was, too.
    pub compacted: Revision,
}

/// The answer to a [`HashAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    /// The question's number.
    pub number: u64,
    /// The newest revision of the answering member.
    pub revision: Revision,
    /// What came of it.
    pub outcome: HashOutcome,
}

/// What a member says of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOutcome {
    /// This.
    Hash(KvHash),
    /// The revision is compacted.
    Compacted,
    /// The revision is not applied yet: ask again.
    Future,
    /// The member cannot read its data.
    Unreadable,
}

/// See [`Message::ChangeRefused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRefused {
    /// Whose request it was, within the asking member's run.
    pub sequence: u64,
    /// Which run.
    pub incarnation: Incarnation,
    /// Why: one of [`ChangeRefused::REASONS`].
    pub why: Rejection,
}

impl ChangeRefused {
    /// What a leader may refuse for, in the order of their numbers on the wire, from 1.
    pub const REASONS: [Rejection; 3] =
        [Rejection::MemberNotFound, Rejection::LearnerNotReady, Rejection::NotEnoughStarted];
}

/// A forwarded lease request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Numbers the question within the asking member's run.
    pub number: u64,
    /// Which lease.
    pub id: LeaseId,
    /// Renew it, or only look.
    pub renew: bool,
}

/// The answer to a [`LeaseAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// The question's number.
    pub number: u64,
    /// What came of it.
    pub outcome: LeaseOutcome,
}

/// What a leader says of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It lives: seconds left and granted. After a renewal both are the granted ones.
    Alive {
        /// Seconds left.
        ttl: i64,
        /// Seconds granted.
        granted: i64,
        /// What the leader had applied when it said so: whoever reads the lease's keys must have too.
        applied: Index,
    },
    /// There is no such lease.
    Missing,
    /// The asked member does not lead, or cannot confirm that it still does: ask again.
    NotLeader,
}

/// A piece of a snapshot transfer between two engines. The receiver acknowledges each piece, so one
/// piece is in flight per transfer; a lost one is sent again after a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The sender has a checkpoint for the receiver.
    Offer {
        /// Numbers the transfer within the sender's run.
        number: u64,
        /// What it stands for.
        meta: SnapshotMeta,
        /// The raft message that installs it once every file is there.
        term: Term,
        /// The files: name and length, in the order they will be sent.
        files: Vec<(String, u64)>,
    },
    /// Bytes of one file.
    Chunk {
        /// Which transfer.
        number: u64,
        /// Index into the offer's files.
        file: u32,
        /// Where the bytes belong.
        offset: u64,
        /// At most the configured chunk size.
        data: Bytes,
    },
    /// The receiver has everything up to here (staged, not yet installed).
    Have {
        /// Which transfer.
        number: u64,
        /// The next piece wanted: file index …
        file: u32,
        /// … and offset in it. `file` equal to the number of files means all is there.
        offset: u64,
    },
    /// The receiver does not want it, or the sender gives up.
    Stop {
        /// Which transfer.
        number: u64,
    },
}
