//! What a client may ask of the core, after parsing: checked types, trusted from here on.
//!
//! `net/wire` makes them from protobuf and has refused everything etcd refuses before consensus
//! (empty keys, unknown sort options, too many operations, overlapping puts, …). What depends on the
//! state (a lease that does not exist, a compacted revision) is decided in apply and is a
//! [`Rejection`](crate::rejection::Rejection).
//!
//! Leaves out: how a request came in and who waits for it; that is the session's business.

use bytes::Bytes;

use crate::alarm::AlarmOp;
use crate::audit::Audit;
use crate::auth::AuthOp;
use crate::id::{Index, LeaseId, MemberId, RequestId, Revision};
use crate::membership::{MemberChange, Started, Version};
use crate::time::Instant;

/// A set of keys, as etcd's `key` and `range_end` pair describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key. Not empty, except in a watch, where etcd reads an empty key as `"\0"`.
    pub start: Bytes,
    /// Where the range stops.
    pub end: RangeEnd,
}

/// Where a [`KeyRange`] stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// The range is the one key `start` (an empty `range_end`).
    Single,
    /// Keys below this one; at or below `start` the range is empty, which is not an error.
    Before(Bytes),
    /// All keys from `start` on (`range_end` is `"\0"`).
    Open,
}

impl KeyRange {
    /// The range of one key.
    pub fn single(key: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: key.into(), end: RangeEnd::Single }
    }

    /// From etcd's pair of fields.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match &range_end[..] {
            b"" => RangeEnd::Single,
            b"\0" if !crate::mutant::on(53) => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Open => key >= &self.start[..],
        }
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether some key is in both ranges.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.starts_before_end_of(other)
            && other.starts_before_end_of(self)
    }

    fn starts_before_end_of(&self, other: &KeyRange) -> bool {
        match &other.end {
            RangeEnd::Single => self.start <= other.start,
            RangeEnd::Before(end) => self.start < *end,
            RangeEnd::Open => true,
        }
    }
}

/// What results are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key's bytes.
    #[default]
    Key,
    /// The number of puts since the key was created.
    Version,
    /// Create revision.
    Create,
    /// Modification revision.
    Mod,
    /// The value's bytes.
    Value,
}

/// The direction of the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Key order; with another target, ascending *after* the limit was applied (etcd's rule, surface
    /// 1.8 row 4).
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// A read. Zero in a filter switches it off; negative values do filter, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// Most results; 0 or negative is no limit.
    pub limit: i64,
    /// The state to read; 0 or negative is the newest (inside a transaction a negative one is
    /// refused as compacted).
    pub revision: i64,
    /// Order of the results.
    pub order: SortOrder,
    /// What they are ordered by.
    pub target: SortTarget,
    /// Answered from local state, without a read index.
    pub serializable: bool,
    /// Leave values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Keep keys modified at this revision or later.
    pub mod_min: i64,
    /// Keep keys modified at this revision or earlier.
    pub mod_max: i64,
    /// Keep keys created at this revision or later.
    pub create_min: i64,
    /// Keep keys created at this revision or earlier.
    pub create_max: i64,
}

impl Range {
    /// A plain linearizable read of `keys` at the newest revision.
    pub fn of(keys: KeyRange) -> Range {
        Range {
            keys,
            limit: 0,
            revision: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            mod_min: 0,
            mod_max: 0,
            create_min: 0,
            create_max: 0,
        }
    }
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Not empty.
    pub key: Bytes,
    /// Empty when `ignore_value`.
    pub value: Bytes,
    /// The lease to attach to; [`LeaseId::NONE`] detaches. `NONE` when `ignore_lease`.
    pub lease: LeaseId,
    /// Answer with the previous pair.
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    pub ignore_lease: bool,
}

/// Removes every key of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: KeyRange,
    /// Answer with the previous pairs.
    pub prev_kv: bool,
}

/// How a compare relates the stored to the given operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// stored = given
    Equal,
    /// stored > given
    Greater,
    /// stored < given
    Less,
    /// stored ≠ given
    NotEqual,
    /// An enum number etcd does not know: always true.
    Unknown,
}

/// The operand of a compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Puts since creation.
    Version(i64),
    /// Create revision; 0 of a missing key.
    Create(i64),
    /// Modification revision; 0 of a missing key.
    Mod(i64),
    /// The value; of a missing key every value compare is false.
    Value(Bytes),
    /// The lease id; 0 of a missing key.
    Lease(i64),
    /// An enum number etcd does not know: compares as equal.
    Unknown,
}

/// One condition of a transaction; over a range it must hold for every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// The relation.
    pub result: CompareResult,
    /// What is compared with what.
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// A read; sees the earlier writes of its transaction.
    Range(Range),
    /// A write.
    Put(Put),
    /// A removal.
    DeleteRange(DeleteRange),
    /// A transaction of its own at the same revision.
    Txn(Box<Txn>),
}

/// All compares hold: `success` runs; otherwise `failure`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions; none is true.
    pub compares: Vec<Compare>,
    /// The branch taken when all hold.
    pub success: Vec<TxnOp>,
    /// The branch taken otherwise.
    pub failure: Vec<TxnOp>,
}

impl Txn {
    /// Only plain ranges in both branches: answered from a snapshot, never logged (surface 1.9
    /// row 11).
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, TxnOp::Range(_)))
    }

    /// A put in either branch, at any depth.
    pub fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            TxnOp::Put(_) => true,
            TxnOp::Txn(inner) => inner.has_put(),
            TxnOp::Range(_) | TxnOp::DeleteRange(_) => false,
        })
    }

    /// All ranges serializable, or no operation at all: answered from local state (row 12).
    pub fn is_serializable(&self) -> bool {
        let mut ops = self.success.iter().chain(&self.failure);
        ops.all(|op| matches!(op, TxnOp::Range(range) if range.serializable))
    }
}

/// A request that changes replicated state, or is answered in its order: it goes through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// KV.Put
    Put(Put),
    /// KV.DeleteRange
    DeleteRange(DeleteRange),
    /// KV.Txn with at least one write or nested transaction in either branch
    Txn(Txn),
    /// KV.Compact
    Compact {
        /// Everything below that is not the newest of its key goes.
        revision: Revision,
    },
    /// Lease.LeaseGrant; id and TTL (seconds, raised to the minimum) were fixed at the edge.
    LeaseGrant {
        /// Not 0.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// Lease.LeaseRevoke, and what a leader proposes when a lease expires
    LeaseRevoke {
        /// Which lease.
        id: LeaseId,
    },
    /// The leader notes how long leases have left, for whoever leads next.
    LeaseCheckpoint(Vec<LeaseNote>),
    /// Maintenance.Alarm with action GET: replicated in etcd too, so it needs a quorum.
    AlarmList,
    /// Maintenance.Alarm with any other action, or with a kind
    Alarm(AlarmOp),
    /// What the proposing member's state was like after earlier entries; changes nothing.
    Audit(Audit),
    /// A member publishes its name and client URLs after its start.
    Publish {
        /// Which member.
        member: MemberId,
        /// `--name`
        name: String,
        /// `--advertise-client-urls`
        client_urls: Vec<String>,
    },
    /// A call of the Auth service.
    Auth(AuthOp),
    /// A change of the set of members: alone in its entry.
    Member(MemberChange),
    /// A started member tells of its data directory and its version.
    Started {
        /// Which member.
        member: MemberId,
        /// What it tells.
        started: Started,
    },
    /// The leader has decided the cluster's version.
    ClusterVersion(Version),
}

/// How long a lease has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseNote {
    /// Which lease.
    pub id: LeaseId,
    /// The entry that granted it: under the same id there may be another one meanwhile.
    pub granted: Index,
    /// Seconds, rounded up; 0 takes back what was noted before: it has its whole TTL.
    pub left: i64,
}

impl Op {
    /// Whether it adds data: what a full disk or quota refuses. Deletes, compaction and revocations
    /// make room and always pass (surface 8.3).
    pub fn needs_space(&self) -> bool {
        match self {
            Op::Put(_) | Op::LeaseGrant { .. } => true,
            Op::Txn(txn) => txn.has_put(),
            Op::DeleteRange(_)
            | Op::Compact { .. }
            | Op::LeaseRevoke { .. }
            | Op::LeaseCheckpoint(_)
            | Op::AlarmList
            | Op::Alarm(_)
            | Op::Audit(_)
            | Op::Publish { .. }
            | Op::Auth(_)
            | Op::Member(_)
            | Op::Started { .. }
            | Op::ClusterVersion(_) => false,
        }
    }
}

/// What a session hands to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Replicate and apply.
    Propose(Op),
    /// Tell when a snapshot of this member is recent enough for a linearizable read.
    ReadIndex,
    /// Renew a lease; a follower forwards it to the leader.
    LeaseKeepAlive {
        /// Which lease.
        id: LeaseId,
    },
    /// How long a lease has left; a follower forwards it to the leader.
    LeaseTimeToLive {
        /// Which lease.
        id: LeaseId,
    },
    /// Hand leadership to this voter.
    MoveLeader {
        /// Which.
        to: MemberId,
    },
    /// Hand leadership to another voter, and make a checkpoint if a start had much to replay: the process is
    /// about to end ([`Status::is_saved`](crate::status::Status::is_saved)).
    TransferLeadership,
}

/// Who asks, as established at the edge and carried in the entry (DESIGN.md section 4 rule 13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user, empty without authentication.
    pub user: Bytes,
    /// The revision of the auth state under which the request was admitted; 0 while auth is off.
    pub auth_revision: u64,
}

impl Identity {
    /// The cluster itself: expired leases, a member's attributes, its own health checks. No client's
    /// identity equals it: none has this revision ([`Identity::is_system`]).
    pub const SYSTEM: Identity = Identity { user: Bytes::new(), auth_revision: u64::MAX };

    /// Whether it is [`Identity::SYSTEM`].
    pub fn is_system(&self) -> bool {
        self.auth_revision == u64::MAX && self.user.is_empty()
    }
}

/// A request on its way into the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it until it is answered.
    pub id: RequestId,
    /// Who asks.
    pub identity: Identity,
    /// What for.
    pub ask: Ask,
    /// When the node gives up and answers "request timed out". A member's requests have deadlines that
    /// do not fall as their numbers rise: the oldest is the first to be given up.
    pub deadline: Instant,
}
