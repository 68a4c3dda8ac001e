//! What the core answers. Results that hold values name *where* they are ([`RevSub`] coordinates in
//! the published snapshot) instead of carrying them: the edge reads and encodes them there, so that
//! apply never waits for a value and never copies one.

use std::fmt;

use bytes::Bytes;

use crate::auth::AuthReply;
use crate::id::{Index, LeaseId, MemberId, RevSub, Revision, Term};
use crate::request::Range;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The store revision for the response header.
    pub revision: Revision,
    /// The raft term for the response header.
    pub term: Term,
    /// The rest.
    pub body: Body,
}

/// One kind for each [`Ask`](crate::request::Ask) and [`Op`](crate::request::Op).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The pair before this put, when it was asked for and there was one.
    Put(PutDone),
    /// See [`DeleteDone`].
    DeleteRange(DeleteDone),
    /// See [`TxnDone`].
    Txn(TxnDone),
    /// Compaction is decided; the header's revision is the current one.
    Compact,
    /// The lease and the TTL granted, in seconds.
    LeaseGrant {
        /// Which lease.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// The lease and the keys attached to it are gone.
    LeaseRevoke,
    /// All active alarms.
    Alarms(Vec<Alarm>),
    /// A call of the Auth service.
    Auth(AuthReply),
    /// The member's attributes are replicated.
    Publish,
    /// A member was added.
    MemberAdd {
        /// Who.
        member: Member,
        /// Everybody, by id.
        members: Vec<Member>,
    },
    /// The members were changed: everybody, by id.
    Members(Vec<Member>),
    /// The snapshot published together with this answer is recent enough.
    ReadIndex,
    /// Seconds the lease has again; 0 when there is no such lease.
    LeaseKeepAlive {
        /// Seconds.
        ttl: i64,
    },
    /// Remaining and granted seconds; -1 and 0 when there is no such lease. The attached keys are
    /// read by the edge from a snapshot that has `applied`.
    LeaseTimeToLive {
        /// Seconds left, rounded down.
        ttl: i64,
        /// Seconds granted.
        granted: i64,
        /// What the leader had applied when it said so; it may be ahead of this member.
        applied: Index,
    },
    /// The hand-over has been started, or there is nobody to hand over to.
    TransferLeadership,
}

/// A put's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutDone {
    /// Where the previous pair is, if asked for and there was one.
    pub prev: Option<RevSub>,
}

/// A removal's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteDone {
    /// Number of keys removed.
    pub deleted: u64,
    /// Where the previous pairs are, in key order, if asked for.
    pub prev: Vec<RevSub>,
}

/// A transaction's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnDone {
    /// Which branch ran.
    pub succeeded: bool,
    /// One for each operation of that branch, in order.
    pub ops: Vec<OpDone>,
}

/// The result of one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpDone {
    /// The edge evaluates `range` on what lies strictly below `below`.
    Range {
        /// For the inner header.
        revision: Revision,
        /// The read sees changes strictly below this.
        below: RevSub,
        /// The read itself.
        range: Range,
    },
    /// The put and the revision for its inner header.
    Put(Revision, PutDone),
    /// The removal and the revision for its inner header.
    DeleteRange(Revision, DeleteDone),
    /// A nested transaction; its header is empty.
    Txn(TxnDone),
}

/// Why a member's alarm is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The quota is exhausted.
    NoSpace = 1,
    /// Members disagree about the data.
    Corrupt = 2,
}

impl AlarmKind {
    /// etcd's name for it.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        }
    }
}

/// One active alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member it concerns.
    pub member: MemberId,
    /// Its kind.
    pub kind: AlarmKind,
}

impl fmt::Display for Alarm {
    /// As etcd prints its message: no member is no field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.member.0 != 0 {
            write!(f, "memberID:{} ", self.member.0)?;
        }
        write!(f, "alarm:{}", self.kind.name())
    }
}

/// A member as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Empty until it has started and published itself.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it, as published.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which change it is.
    pub at: RevSub,
    /// The previous version of the key, if there was one that had not been deleted.
    pub prev: Option<RevSub>,
    /// Whether the key was deleted.
    pub delete: bool,
    /// The key.
    pub key: Bytes,
    /// The encoded `mvccpb.KeyValue` of the event: for a delete only key and mod_revision.
    pub kv: Bytes,
}

impl Event {
    /// What it costs to keep, in bytes: its own, and a share for the places that hold it.
    pub fn size(&self) -> usize {
        self.kv.len() + self.key.len() + 128
    }
}
