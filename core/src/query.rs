//! The outermost typed surface: what one client call asks, and the complete answer to it.
//!
//! `net/wire` turns protobuf into a [`Query`] and an [`Answer`] into protobuf; `server`'s edge turns
//! one into the other with the node's help. The simulator's clients speak these types directly, or, in a
//! quarter of its seeds, protobuf over the shipped transport.

use bytes::Bytes;

use crate::alarm::AlarmOp;
use crate::auth::{AuthQuery, AuthReply};
use crate::id::{LeaseId, MemberId, Revision, Term};
use crate::membership::{MemberChange, Version};
use crate::mvcc::Pairs;
use crate::mvcc::hash::KvHash;
use crate::rejection::Rejection;
use crate::request::{DeleteRange, Put, Range, Txn};
use crate::response::{Alarm, Member};
use crate::status::Status;

/// One unary call, or one message of a keep-alive stream. Watch streams have their own types in
/// [`crate::watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// KV.Range
    Range(Range),
    /// KV.Put
    Put(Put),
    /// KV.DeleteRange
    DeleteRange(DeleteRange),
    /// KV.Txn
    Txn(Txn),
    /// KV.Compact; `physical` waits until this member has removed the old revisions.
    Compact {
        /// As given: not yet compared with the state.
        revision: i64,
        /// Wait for the removal.
        physical: bool,
    },
    /// Lease.LeaseGrant; id 0 asks the server to choose, the TTL is as given.
    LeaseGrant {
        /// The wanted id, or 0.
        id: LeaseId,
        /// Seconds, not yet raised to the minimum.
        ttl: i64,
    },
    /// Lease.LeaseRevoke
    LeaseRevoke {
        /// Which lease.
        id: LeaseId,
    },
    /// One message of a Lease.LeaseKeepAlive stream
    LeaseKeepAlive {
        /// Which lease.
        id: LeaseId,
    },
    /// Lease.LeaseTimeToLive
    LeaseTimeToLive {
        /// Which lease.
        id: LeaseId,
        /// List the attached keys.
        keys: bool,
    },
    /// Lease.LeaseLeases
    LeaseLeases,
    /// Cluster.MemberList
    MemberList {
        /// After a read index.
        linearizable: bool,
    },
    /// Cluster.MemberAdd; the id is chosen at the edge
    MemberAdd {
        /// At least one, checked.
        peer_urls: Vec<String>,
        /// Without a vote at first.
        is_learner: bool,
    },
    /// Cluster.MemberPromote, MemberUpdate and MemberRemove
    MemberChange(MemberChange),
    /// Maintenance.Downgrade
    Downgrade(Downgrade),
    /// Maintenance.Status
    Status,
    /// Maintenance.Defragment
    Defragment,
    /// Maintenance.Hash
    Hash,
    /// Maintenance.HashKV
    HashKv {
        /// Of records up to here; 0 is the newest.
        revision: i64,
    },
    /// Maintenance.MoveLeader
    MoveLeader {
        /// Who is to lead.
        to: MemberId,
    },
    /// Maintenance.Alarm with action GET and no kind
    AlarmList,
    /// Maintenance.Alarm with any other action, or with a kind
    Alarm(AlarmOp),
    /// A call of the Auth service
    Auth(AuthQuery),
}

/// What Maintenance.Downgrade asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downgrade {
    /// Whether a downgrade to this version, as given, would be possible.
    Validate(String),
    /// To begin one.
    Enable(String),
    /// To stop one.
    Cancel,
}

/// What an answer's header says, beside the cluster's and the member's ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The store revision; 0 where etcd leaves it out.
    pub revision: Revision,
    /// The raft term; 0 in the inner headers of a transaction.
    pub term: Term,
}

/// The answer to a [`Query`].
pub type Answered = Result<Answer, Rejection>;

/// A complete, successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the response header.
    pub header: Header,
    /// The rest.
    pub body: AnswerBody,
}

/// One kind for each kind of query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerBody {
    /// KV.Range
    Range(RangeAnswer),
    /// KV.Put: the previous encoded pair, if asked for and there was one
    Put(Option<Bytes>),
    /// KV.DeleteRange
    DeleteRange(DeleteAnswer),
    /// KV.Txn
    Txn(TxnAnswer),
    /// KV.Compact
    Compact,
    /// Lease.LeaseGrant
    LeaseGrant {
        /// The granted id.
        id: LeaseId,
        /// The granted seconds.
        ttl: i64,
    },
    /// Lease.LeaseRevoke
    LeaseRevoke,
    /// Lease.LeaseKeepAlive; 0 when there is no such lease
    LeaseKeepAlive {
        /// Which lease.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// Lease.LeaseTimeToLive; -1 and 0 when there is no such lease
    LeaseTimeToLive {
        /// Which lease.
        id: LeaseId,
        /// Seconds left.
        ttl: i64,
        /// Seconds granted.
        granted: i64,
        /// The attached keys, if asked for.
        keys: Vec<Bytes>,
    },
    /// Lease.LeaseLeases
    LeaseLeases(Vec<LeaseId>),
    /// Cluster.MemberList
    MemberList(Vec<Member>),
    /// Cluster.MemberAdd: who was added, and everybody by id
    MemberAdd {
        /// Who.
        member: Member,
        /// Everybody.
        members: Vec<Member>,
    },
    /// Cluster.MemberPromote, MemberUpdate and MemberRemove: everybody by id
    Members(Vec<Member>),
    /// Maintenance.Downgrade: the cluster's version
    Downgrade(Version),
    /// Maintenance.Status
    Status(StatusAnswer),
    /// Maintenance.Alarm
    Alarms(Vec<Alarm>),
    /// Maintenance.Defragment
    Defragment,
    /// Maintenance.Hash
    Hash(u32),
    /// Maintenance.HashKV
    HashKv(KvHash),
    /// Maintenance.MoveLeader
    MoveLeader,
    /// A call of the Auth service
    Auth(AuthReply),
}

/// Maintenance.Status, beside the versions that the wire adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusAnswer {
    /// The node's public state.
    pub status: Status,
    /// Logical bytes of live data and of the history that can be read.
    pub db_size: i64,
    /// The part of it that is in use: all.
    pub db_size_in_use: i64,
    /// The quota in force, in bytes; negative without one, 0 shown as 2 GiB.
    pub quota: i64,
    /// Texts such as "etcdserver: no leader".
    pub errors: Vec<String>,
}

/// A read's result. Pairs are encoded `mvccpb.KeyValue`s, ready to be put into the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// In the order asked for.
    pub kvs: Pairs,
    /// Whether the limit cut something off.
    pub more: bool,
    /// Keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// A removal's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteAnswer {
    /// Number of keys removed.
    pub deleted: i64,
    /// The previous encoded pairs, in key order, if asked for.
    pub prev_kvs: Vec<Bytes>,
}

/// A transaction's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnAnswer {
    /// Which branch ran.
    pub succeeded: bool,
    /// One for each operation of that branch.
    pub ops: Vec<OpAnswer>,
}

/// The result of one operation of a transaction; the revision is for its inner header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// A read.
    Range(Revision, RangeAnswer),
    /// A put.
    Put(Revision, Option<Bytes>),
    /// A removal.
    DeleteRange(Revision, DeleteAnswer),
    /// A nested transaction; its header is empty.
    Txn(TxnAnswer),
}
