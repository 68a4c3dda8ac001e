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
    /// Other answers hold the member's memory for answers, and did for as long as a request may take.
    NoAnswerMemory = "etcdserver: too little memory for the answer, ask for less or again later",
    /// A user name is needed.
    UserEmpty = "etcdserver: user name is empty",
    /// Authentication is off.
    AuthNotEnabled = "etcdserver: authentication is not enabled",
    /// Authentication cannot be switched on without the user root …
    RootUserNotExist = "etcdserver: root user does not exist",
    /// … and without its role root.
    RootRoleNotExist = "etcdserver: root user does not have root role",
    /// A user name in use.
    UserAlreadyExists = "etcdserver: user name already exists",
    /// An unknown user.
    UserNotFound = "etcdserver: user name not found",
    /// A role name in use.
    RoleAlreadyExists = "etcdserver: role name already exists",
    /// An unknown role.
    RoleNotFound = "etcdserver: role name not found",
    /// A role name is needed.
    RoleEmpty = "etcdserver: role name is empty",
    /// An unknown user or a wrong password.
    AuthFailed = "etcdserver: authentication failed, invalid user ID or password",
    /// A grant without a permission.
    PermissionNotGiven = "etcdserver: permission not given",
    /// The user does not hold the role.
    RoleNotGranted = "etcdserver: role is not granted to the user",
    /// The role does not have the permission.
    PermissionNotGranted = "etcdserver: permission is not granted to the role",
    /// Root cannot be taken away; a permission without a key in its range.
    InvalidAuthMgmt = "etcdserver: invalid auth management",
    /// Users or roles have changed since the request was admitted.
    AuthOldRevision = "etcdserver: revision of auth store is old",
    /// A password for a user without one; a hash that cannot be decoded.
    NoPasswordUser = "auth: authentication failed, password was given for no password user",
    /// Tokens can be verified here, not issued.
    VerifyOnly = "auth: token signing attempted with verify-only key",
    /// A password of more than 72 bytes.
    PasswordTooLong = "bcrypt: password length exceeds 72 bytes",
    /// Not allowed.
    PermissionDenied = "etcdserver: permission denied",
    /// An unknown or expired token.
    InvalidAuthToken = "etcdserver: invalid auth token",
    /// There is no leader and the client wants to fail fast.
    NoLeader = "etcdserver: no leader",
    /// Leadership cannot go to a member that does not exist, or has no vote.
    BadLeaderTransferee = "etcdserver: bad leader transferee",
    /// The member that leadership was handed to did not take it in time.
    TimeoutLeaderTransfer = "etcdserver: request timed out, leader transfer took too long",
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
    /// A member id that is not known, or was removed.
    MemberNotFound = "etcdserver: member not found",
    /// An id that a member has.
    MemberExists = "etcdserver: member ID already exist",
    /// A peer URL that another member has.
    PeerUrlExists = "etcdserver: Peer URLs already exists",
    /// Too few started members would be left for a quorum.
    NotEnoughStarted =
        "etcdserver: re-configuration failed due to not enough started members",
    /// Peer URLs that are none.
    MemberBadUrls = "etcdserver: given member URLs are invalid",
    /// A voter cannot be promoted.
    MemberNotLearner = "etcdserver: can only promote a learner member",
    /// The learner is too far behind.
    LearnerNotReady =
        "etcdserver: can only promote a learner member which is in sync with leader",
    /// Over `--max-learners`.
    TooManyLearners = "etcdserver: too many learner members in cluster",
    /// This member is not connected to a quorum for long enough.
    Unhealthy = "etcdserver: unhealthy cluster",
    /// A downgrade's target that is no version.
    WrongDowngradeVersionFormat = "etcdserver: wrong downgrade target version format",
    /// A downgrade's target that is not one minor version lower.
    InvalidDowngradeTargetVersion = "etcdserver: invalid downgrade target version",
    /// The cluster's version is not decided.
    ClusterVersionUnavailable = "etcdserver: cluster version not found during downgrade",
    /// Our own: the data's format is not etcd's, so that no older etcd could take over.
    DowngradeUnsupported =
        "etcdserver: downgrade is not supported: the data is in a format of Holdfast that no version of etcd reads",
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Rejection {}
