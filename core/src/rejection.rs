//! Refusals that a client sees: the same on every member, a result and not a fault.
//!
//! The texts are etcd's, to the letter: clients compare them. The gRPC codes belong to the wire and
//! are in `net`.

use std::fmt;

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request was refused; `Display` is etcd's text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rejection { $($(#[$doc])* $name,)* }

        impl Rejection {
            /// All of them, for tables and tests.
            pub const ALL: &'static [Rejection] = &[$(Rejection::$name,)*];

            /// etcd's text.
            pub fn text(self) -> &'static str {
                match self { $(Rejection::$name => $text,)* }
            }
        }
    };
}

rejections! {
    /// An empty key.
    EmptyKey = "etcdserver: key is not provided",
    /// ignore_value or ignore_lease on a missing key; also an empty operation in a transaction.
    KeyNotFound = "etcdserver: key not found",
    /// A value together with ignore_value.
    ValueProvided = "etcdserver: value is provided",
    /// A lease together with ignore_lease.
    LeaseProvided = "etcdserver: lease is provided",
    /// A transaction over `--max-txn-ops`.
    TooManyOps = "etcdserver: too many operations in txn request",
    /// Two writes of one key in a transaction's branch.
    DuplicateKey = "etcdserver: duplicate key given in txn request",
    /// An unknown sort order or target.
    InvalidSortOption = "etcdserver: invalid sort option",
    /// Metadata that is not UTF-8.
    InvalidClientApiVersion = "etcdserver: invalid client api version",
    /// A revision below the compacted one.
    Compacted = "etcdserver: mvcc: required revision has been compacted",
    /// A revision above the current one.
    FutureRevision = "etcdserver: mvcc: required revision is a future revision",
    /// The quota, or the disk, is exhausted.
    NoSpace = "etcdserver: mvcc: database space exceeded",
    /// An unknown lease.
    LeaseNotFound = "etcdserver: requested lease not found",
    /// A lease id in use.
    LeaseExists = "etcdserver: lease already exists",
    /// A TTL above 9,000,000,000 s.
    LeaseTtlTooLarge = "etcdserver: too large lease TTL",
    /// The replicated form of a request is over `--max-request-bytes`.
    RequestTooLarge = "etcdserver: request is too large",
    /// Too many requests are pending.
    TooManyRequests = "etcdserver: too many requests",
    /// A user name is needed.
    UserEmpty = "etcdserver: user name is empty",
    /// Authentication is off.
    AuthNotEnabled = "etcdserver: authentication is not enabled",
    /// Not allowed.
    PermissionDenied = "etcdserver: permission denied",
    /// An unknown or expired token.
    InvalidAuthToken = "etcdserver: invalid auth token",
    /// There is no leader and the client wants to fail fast.
    NoLeader = "etcdserver: no leader",
    /// Leadership cannot go to a member that does not exist, or has no vote.
    BadLeaderTransferee = "etcdserver: bad leader transferee",
    /// This member is not the leader.
    NotLeader = "etcdserver: not leader",
    /// The leader changed while a read waited.
    LeaderChanged = "etcdserver: leader changed",
    /// The cluster version is not known yet.
    NotCapable = "etcdserver: not capable",
    /// The member is shutting down.
    Stopped = "etcdserver: server stopped",
    /// Consensus took too long.
    Timeout = "etcdserver: request timed out",
    /// Ditto, and the leader was lost meanwhile.
    TimeoutLeaderFail = "etcdserver: request timed out, possibly due to previous leader failure",
    /// Ditto, and the member has no connection to the leader.
    TimeoutConnectionLost = "etcdserver: request timed out, possibly due to connection lost",
    /// A lease call on a leader whose apply lags.
    TimeoutWaitAppliedIndex =
        "etcdserver: request timed out, waiting for the applied index took too long",
    /// The CORRUPT alarm is up.
    Corrupt = "etcdserver: corrupt cluster",
    /// Not served by a learner.
    NotSupportedForLearner = "etcdserver: rpc not supported for learner",
    /// A leader that cannot confirm that it still is one.
    NotPrimaryLessor = "not a primary lessor",
    /// The client cancelled its watch stream.
    WatchCanceled = "etcdserver: watch canceled",
    /// A member id that is not known.
    MemberNotFound = "etcdserver: member not found",
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Rejection {}
