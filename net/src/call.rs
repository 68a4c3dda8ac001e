//! What a transport and the services say to each other: calls in, replies out, as message bytes.
//!
//! Services know nothing of HTTP/2, and a transport knows nothing of etcd but the list of methods, so
//! that either can be replaced. One [`StreamId`] names one call for as long as it lives.

use std::time::Duration;

use bytes::Bytes;

use crate::payload::Payload;

/// One call on one connection, unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// The methods that are served. A transport answers any other path with Unimplemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// etcdserverpb.KV/Range
    Range,
    /// etcdserverpb.KV/Put
    Put,
    /// etcdserverpb.KV/DeleteRange
    DeleteRange,
    /// etcdserverpb.KV/Txn
    Txn,
    /// etcdserverpb.KV/Compact
    Compact,
    /// etcdserverpb.Watch/Watch
    Watch,
    /// etcdserverpb.Lease/LeaseGrant
    LeaseGrant,
    /// etcdserverpb.Lease/LeaseRevoke
    LeaseRevoke,
    /// etcdserverpb.Lease/LeaseKeepAlive
    LeaseKeepAlive,
    /// etcdserverpb.Lease/LeaseTimeToLive
    LeaseTimeToLive,
    /// etcdserverpb.Lease/LeaseLeases
    LeaseLeases,
    /// etcdserverpb.Cluster/MemberList
    MemberList,
    /// etcdserverpb.Cluster/MemberAdd
    MemberAdd,
    /// etcdserverpb.Cluster/MemberRemove
    MemberRemove,
    /// etcdserverpb.Cluster/MemberUpdate
    MemberUpdate,
    /// etcdserverpb.Cluster/MemberPromote
    MemberPromote,
    /// etcdserverpb.Maintenance/Downgrade
    Downgrade,
    /// etcdserverpb.Maintenance/Status
    Status,
    /// etcdserverpb.Maintenance/Alarm
    Alarm,
    /// etcdserverpb.KV/RangeStream
    RangeStream,
    /// etcdserverpb.Maintenance/Defragment
    Defragment,
    /// etcdserverpb.Maintenance/Hash
    Hash,
    /// etcdserverpb.Maintenance/HashKV
    HashKv,
    /// etcdserverpb.Maintenance/Snapshot
    Snapshot,
    /// etcdserverpb.Maintenance/MoveLeader
    MoveLeader,
    /// v3lockpb.Lock/Lock
    Lock,
    /// v3lockpb.Lock/Unlock
    Unlock,
    /// v3electionpb.Election/Campaign
    Campaign,
    /// v3electionpb.Election/Proclaim
    Proclaim,
    /// v3electionpb.Election/Leader
    Leader,
    /// v3electionpb.Election/Observe
    Observe,
    /// v3electionpb.Election/Resign
    Resign,
    /// etcdserverpb.Auth/AuthEnable
    AuthEnable,
    /// etcdserverpb.Auth/AuthDisable
    AuthDisable,
    /// etcdserverpb.Auth/AuthStatus
    AuthStatus,
    /// etcdserverpb.Auth/Authenticate
    Authenticate,
    /// etcdserverpb.Auth/UserAdd
    UserAdd,
    /// etcdserverpb.Auth/UserGet
    UserGet,
    /// etcdserverpb.Auth/UserList
    UserList,
    /// etcdserverpb.Auth/UserDelete
    UserDelete,
    /// etcdserverpb.Auth/UserChangePassword
    UserChangePassword,
    /// etcdserverpb.Auth/UserGrantRole
    UserGrantRole,
    /// etcdserverpb.Auth/UserRevokeRole
    UserRevokeRole,
    /// etcdserverpb.Auth/RoleAdd
    RoleAdd,
    /// etcdserverpb.Auth/RoleGet
    RoleGet,
    /// etcdserverpb.Auth/RoleList
    RoleList,
    /// etcdserverpb.Auth/RoleDelete
    RoleDelete,
    /// etcdserverpb.Auth/RoleGrantPermission
    RoleGrantPermission,
    /// etcdserverpb.Auth/RoleRevokePermission
    RoleRevokePermission,
    /// grpc.health.v1.Health/Check
    HealthCheck,
    /// grpc.health.v1.Health/List
    HealthList,
    /// grpc.health.v1.Health/Watch
    HealthWatch,
}

impl Method {
    const PATHS: [(Method, &'static str); 52] = [
        (Method::Range, "/etcdserverpb.KV/Range"),
        (Method::Put, "/etcdserverpb.KV/Put"),
        (Method::DeleteRange, "/etcdserverpb.KV/DeleteRange"),
        (Method::Txn, "/etcdserverpb.KV/Txn"),
        (Method::Compact, "/etcdserverpb.KV/Compact"),
        (Method::Watch, "/etcdserverpb.Watch/Watch"),
        (Method::LeaseGrant, "/etcdserverpb.Lease/LeaseGrant"),
        (Method::LeaseRevoke, "/etcdserverpb.Lease/LeaseRevoke"),
        (Method::LeaseKeepAlive, "/etcdserverpb.Lease/LeaseKeepAlive"),
        (Method::LeaseTimeToLive, "/etcdserverpb.Lease/LeaseTimeToLive"),
        (Method::LeaseLeases, "/etcdserverpb.Lease/LeaseLeases"),
        (Method::MemberList, "/etcdserverpb.Cluster/MemberList"),
        (Method::MemberAdd, "/etcdserverpb.Cluster/MemberAdd"),
        (Method::MemberRemove, "/etcdserverpb.Cluster/MemberRemove"),
        (Method::MemberUpdate, "/etcdserverpb.Cluster/MemberUpdate"),
        (Method::MemberPromote, "/etcdserverpb.Cluster/MemberPromote"),
        (Method::Downgrade, "/etcdserverpb.Maintenance/Downgrade"),
        (Method::Status, "/etcdserverpb.Maintenance/Status"),
        (Method::Alarm, "/etcdserverpb.Maintenance/Alarm"),
        (Method::RangeStream, "/etcdserverpb.KV/RangeStream"),
        (Method::Defragment, "/etcdserverpb.Maintenance/Defragment"),
        (Method::Hash, "/etcdserverpb.Maintenance/Hash"),
        (Method::HashKv, "/etcdserverpb.Maintenance/HashKV"),
        (Method::Snapshot, "/etcdserverpb.Maintenance/Snapshot"),
        (Method::MoveLeader, "/etcdserverpb.Maintenance/MoveLeader"),
        (Method::Lock, "/v3lockpb.Lock/Lock"),
        (Method::Unlock, "/v3lockpb.Lock/Unlock"),
        (Method::Campaign, "/v3electionpb.Election/Campaign"),
        (Method::Proclaim, "/v3electionpb.Election/Proclaim"),
        (Method::Leader, "/v3electionpb.Election/Leader"),
        (Method::Observe, "/v3electionpb.Election/Observe"),
        (Method::Resign, "/v3electionpb.Election/Resign"),
        (Method::AuthEnable, "/etcdserverpb.Auth/AuthEnable"),
        (Method::AuthDisable, "/etcdserverpb.Auth/AuthDisable"),
        (Method::AuthStatus, "/etcdserverpb.Auth/AuthStatus"),
        (Method::Authenticate, "/etcdserverpb.Auth/Authenticate"),
        (Method::UserAdd, "/etcdserverpb.Auth/UserAdd"),
        (Method::UserGet, "/etcdserverpb.Auth/UserGet"),
        (Method::UserList, "/etcdserverpb.Auth/UserList"),
        (Method::UserDelete, "/etcdserverpb.Auth/UserDelete"),
        (Method::UserChangePassword, "/etcdserverpb.Auth/UserChangePassword"),
        (Method::UserGrantRole, "/etcdserverpb.Auth/UserGrantRole"),
        (Method::UserRevokeRole, "/etcdserverpb.Auth/UserRevokeRole"),
        (Method::RoleAdd, "/etcdserverpb.Auth/RoleAdd"),
        (Method::RoleGet, "/etcdserverpb.Auth/RoleGet"),
        (Method::RoleList, "/etcdserverpb.Auth/RoleList"),
        (Method::RoleDelete, "/etcdserverpb.Auth/RoleDelete"),
        (Method::RoleGrantPermission, "/etcdserverpb.Auth/RoleGrantPermission"),
        (Method::RoleRevokePermission, "/etcdserverpb.Auth/RoleRevokePermission"),
        (Method::HealthCheck, "/grpc.health.v1.Health/Check"),
        (Method::HealthList, "/grpc.health.v1.Health/List"),
        (Method::HealthWatch, "/grpc.health.v1.Health/Watch"),
    ];

    /// The method served at an HTTP/2 path.
    pub fn from_path(path: &str) -> Option<Method> {
        Method::PATHS.iter().find(|(_, known)| *known == path).map(|(method, _)| *method)
    }

    /// Whether some method of this service (`etcdserverpb.KV`) is served.
    pub fn is_service(service: &str) -> bool {
        let of = |path: &str| path[1..].rsplit_once('/').is_some_and(|(of, _)| of == service);
        Method::PATHS.iter().any(|(_, path)| of(path))
    }

    /// Its HTTP/2 path.
    pub fn path(self) -> &'static str {
        let row = Method::PATHS.iter().find(|(method, _)| *method == self);
        row.expect("every method is in the table").1
    }

    /// Whether the client may send more than one message.
    pub fn is_client_stream(self) -> bool {
        matches!(self, Method::Watch | Method::LeaseKeepAlive)
    }

    /// Whether nothing of its request is kept for longer than one request may take: such messages
    /// may share memory.
    pub fn is_brief(self) -> bool {
        matches!(self, Method::Range | Method::Put | Method::DeleteRange | Method::Txn)
    }
}

/// What etcd reads from a call's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `hasleader: true`: refuse, and later end, when the member knows no leader.
    pub require_leader: bool,
    /// `token`, else `authorization` without a `Bearer ` prefix.
    pub token: Option<String>,
    /// `client-api-version`; `Err` when it is not UTF-8.
    pub client_api_version: Option<Result<String, ()>>,
}

/// A new call. A unary call comes with its only message; a client stream comes with none.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names it.
    pub stream: StreamId,
    /// What is called.
    pub method: Method,
    /// See [`Metadata`].
    pub metadata: Metadata,
    /// `grpc-timeout`, counted from the arrival.
    pub timeout: Option<Duration>,
    /// The request message; empty for a client stream.
    pub message: Bytes,
}

/// From the transport to the services.
#[derive(Clone, Debug)]
pub enum FromClient {
    /// A call begins.
    Call(Call),
    /// The next message of a client stream.
    Message {
        /// Which call.
        stream: StreamId,
        /// Its bytes.
        message: Bytes,
    },
    /// The client will send no more; etcd leaves such a stream open.
    HalfClosed {
        /// Which call.
        stream: StreamId,
    },
    /// The client, its connection, or its deadline is gone: nobody waits for an answer.
    Cancelled {
        /// Which call.
        stream: StreamId,
    },
    /// The transport can take more of this stream's messages after having been full.
    Writable {
        /// Which call.
        stream: StreamId,
    },
}

/// From the services to the transport.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A message; with `last` also an OK status, so that a unary answer is one of these.
    Message {
        /// Which call.
        stream: StreamId,
        /// Its bytes.
        message: Payload,
        /// The call ends with it.
        last: bool,
    },
    /// The call ends with this status.
    End {
        /// Which call.
        stream: StreamId,
        /// Why.
        status: GrpcStatus,
    },
}

/// gRPC status codes, with gRPC's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Canceled = 1,
    /// Anything unnamed; etcd uses it more often than it should.
    Unknown = 2,
    /// The request can never work.
    InvalidArgument = 3,
    /// The caller's time is over.
    DeadlineExceeded = 4,
    /// No such thing.
    NotFound = 5,
    /// Not allowed.
    PermissionDenied = 7,
    /// A quota or budget is used up.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// Outside what exists.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A broken server or message.
    Internal = 13,
    /// Try again, perhaps elsewhere.
    Unavailable = 14,
    /// Data is damaged.
    DataLoss = 15,
    /// No valid credentials.
    Unauthenticated = 16,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// The code.
    pub code: Code,
    /// The text, which etcd's clients compare.
    pub message: String,
}
