//! What happened inside a node, as one enum that logs, metrics, golden scripts and checkers read.

use std::fmt;

use crate::id::{Index, LeaseId, MemberId, Position, Revision, Term};
use crate::membership::MemberChange;
use crate::message::{HashAnswer, HashAsk};
use crate::response::AlarmKind;
use crate::status::Role;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The role changed.
    BecameRole {
        /// To what.
        role: Role,
        /// In which term.
        term: Term,
    },
    /// The known leader changed.
    LeaderChanged {
        /// To whom; `None` when lost.
        leader: Option<MemberId>,
        /// In which term.
        term: Term,
    },
    /// Entries up to here are committed.
    Committed {
        /// The highest.
        index: Index,
    },
    /// An entry was applied.
    Applied {
        /// Which.
        at: Position,
        /// CRC-32 of its kind and data, for the checker of committed entries.
        digest: u32,
        /// Store revision after it.
        revision: Revision,
    },
    /// The leader found a lease expired and proposes its revocation.
    LeaseExpired {
        /// Which.
        id: LeaseId,
    },
    /// The leader renewed a lease.
    LeaseRenewed {
        /// Which.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// An alarm was raised, through the log.
    AlarmRaised {
        /// Whom it concerns.
        member: MemberId,
        /// Its kind.
        kind: AlarmKind,
        /// The entry.
        at: Index,
    },
    /// An alarm was cleared, through the log.
    AlarmCleared {
        /// Whom it concerned.
        member: MemberId,
        /// Its kind.
        kind: AlarmKind,
        /// The entry.
        at: Index,
    },
    /// This member's state differs from another's, which has applied the same.
    Parted {
        /// From whose.
        from: MemberId,
        /// The first entry after which it does.
        at: Index,
    },
    /// A peer wants to know this member's hash.
    HashAsked {
        /// Who.
        by: MemberId,
        /// Which hash.
        ask: HashAsk,
    },
    /// A peer has told its hash.
    HashTold {
        /// Who.
        by: MemberId,
        /// What.
        answer: HashAnswer,
    },
    /// A compaction was decided, and is published in this turn.
    Compacted {
        /// Up to where.
        revision: Revision,
        /// Up to where it was before.
        before: Revision,
    },
    /// A compaction has removed everything it could.
    CompactionFinished {
        /// Up to where.
        revision: Revision,
    },
    /// A checkpoint is durable.
    CheckpointSaved {
        /// Its last entry.
        at: Position,
    },
    /// A snapshot from a peer became this member's state.
    SnapshotInstalled {
        /// Its last entry.
        at: Position,
    },
    /// Proposals of this member's sessions whose time was over before they were applied; they were
    /// answered with a timeout, and whether they take effect stays open.
    ProposalsFailed {
        /// How many commands.
        commands: usize,
    },
    /// The leader's disk is slow, and a peer's is not: leadership was offered to that peer.
    LeadershipOffered {
        /// To whom.
        to: MemberId,
        /// In which term.
        term: Term,
    },
    /// A change of the set of members was applied.
    MembersChanged {
        /// Which entry.
        at: Position,
        /// What was changed.
        change: MemberChange,
    },
    /// A change of the set of members was refused before it was proposed.
    ChangeRefused {
        /// Which.
        change: MemberChange,
        /// The reason in numbers, for the operator; clients get etcd's text.
        reason: String,
    },
    /// This member was removed; it stops.
    Removed,
    /// A peer said its durable log is shorter than the leader believed.
    MatchedLowered {
        /// Which peer.
        peer: MemberId,
        /// Where its log ends.
        last: Position,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::BecameRole { role, term } => write!(f, "became {role:?} at {term}"),
            Fact::LeaderChanged { leader: Some(leader), term } => {
                write!(f, "leader is {leader} at {term}")
            }
            Fact::LeaderChanged { leader: None, term } => write!(f, "no leader at {term}"),
            Fact::Committed { index } => write!(f, "committed {index}"),
            Fact::Applied { at, revision, .. } => write!(f, "applied {at} → {revision}"),
            Fact::LeaseExpired { id } => write!(f, "lease {id} expired"),
            Fact::LeaseRenewed { id, ttl } => write!(f, "lease {id} renewed for {ttl}s"),
            Fact::AlarmRaised { member, kind, at } => {
                write!(f, "alarm {} of {member} raised at {at}", kind.name())
            }
            Fact::AlarmCleared { member, kind, at } => {
                write!(f, "alarm {} of {member} cleared at {at}", kind.name())
            }
            Fact::Parted { from, at } => {
                write!(f, "the data differ from {from}'s since entry {at}")
            }
            Fact::HashAsked { by, ask } => write!(f, "{by} asks for the hash at {}", ask.revision),
            Fact::HashTold { by, answer } => write!(f, "{by} tells its hash: {:?}", answer.outcome),
            Fact::Compacted { revision, before } => {
                write!(f, "decided to compact from {before} to {revision}")
            }
            Fact::CompactionFinished { revision } => write!(f, "compacted to {revision}"),
            Fact::CheckpointSaved { at } => write!(f, "checkpoint at {at}"),
            Fact::SnapshotInstalled { at } => write!(f, "snapshot installed at {at}"),
            Fact::ProposalsFailed { commands } => write!(f, "proposals that timed out: {commands}"),
            Fact::LeadershipOffered { to, term } => {
                write!(f, "slow disk: offered leadership of {term} to {to}")
            }
            Fact::MembersChanged { at, change } => write!(f, "members changed at {at}: {change}"),
            Fact::ChangeRefused { change, reason } => write!(f, "refused to {change}: {reason}"),
            Fact::Removed => write!(f, "removed from the cluster"),
            Fact::MatchedLowered { peer, last } => write!(f, "{peer} really ends at {last}"),
        }
    }
}
