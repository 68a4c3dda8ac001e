//! gRPC codes of refusals, and the statuses of messages that cannot be read.
//!
//! The codes are etcd's as they reach the wire, the wrong ones included (surface 2.1, 2.2): too many
//! requests travels as Unknown, a missing key of `ignore_value` as InvalidArgument.

use holdfast_core::rejection::Rejection;

use super::read::{Malformed, Unreadable};
use crate::call::{Code, GrpcStatus};

/// The status that a refused call ends with.
pub fn status_of(rejection: Rejection) -> GrpcStatus {
    GrpcStatus { code: code_of(rejection), message: rejection.text().into() }
}

fn code_of(rejection: Rejection) -> Code {
    match rejection {
        Rejection::EmptyKey
        | Rejection::KeyNotFound
        | Rejection::ValueProvided
        | Rejection::LeaseProvided
        | Rejection::TooManyOps
        | Rejection::DuplicateKey
        | Rejection::InvalidSortOption
        | Rejection::InvalidClientApiVersion
        | Rejection::RequestTooLarge
        | Rejection::UserEmpty
        | Rejection::RoleEmpty
        | Rejection::AuthFailed
        | Rejection::PermissionNotGiven
        | Rejection::InvalidAuthMgmt
        | Rejection::MemberBadUrls
        | Rejection::WrongDowngradeVersionFormat
        | Rejection::InvalidDowngradeTargetVersion
        | Rejection::AuthOldRevision => Code::InvalidArgument,
        Rejection::Compacted | Rejection::FutureRevision | Rejection::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Rejection::NoSpace | Rejection::NoAnswerMemory => Code::ResourceExhausted,
        Rejection::LeaseNotFound | Rejection::MemberNotFound => Code::NotFound,
        Rejection::LeaseExists
        | Rejection::AuthNotEnabled
        | Rejection::RootUserNotExist
        | Rejection::RootRoleNotExist
        | Rejection::UserAlreadyExists
        | Rejection::UserNotFound
        | Rejection::RoleAlreadyExists
        | Rejection::RoleNotFound
        | Rejection::RoleNotGranted
        | Rejection::PermissionNotGranted
        | Rejection::NotLeader
        | Rejection::BadLeaderTransferee
        | Rejection::NotCapable
        | Rejection::MemberExists
        | Rejection::PeerUrlExists
        | Rejection::MemberNotLearner
        | Rejection::LearnerNotReady
        | Rejection::TooManyLearners
        | Rejection::ClusterVersionUnavailable
        | Rejection::DowngradeUnsupported
        | Rejection::NotSupportedForLearner => Code::FailedPrecondition,
        Rejection::PermissionDenied => Code::PermissionDenied,
        Rejection::InvalidAuthToken => Code::Unauthenticated,
        Rejection::NoLeader
        | Rejection::LeaderChanged
        | Rejection::Stopped
        | Rejection::Timeout
        | Rejection::Unhealthy
        | Rejection::TimeoutLeaderFail
        | Rejection::TimeoutConnectionLost
        | Rejection::TimeoutWaitAppliedIndex => Code::Unavailable,
        Rejection::Corrupt => Code::DataLoss,
        Rejection::WatchCanceled => Code::Canceled,
        Rejection::TooManyRequests
        | Rejection::TimeoutLeaderTransfer
        | Rejection::NotPrimaryLessor
        | Rejection::NotEnoughStarted
        | Rejection::NoPasswordUser
        | Rejection::VerifyOnly
        | Rejection::PasswordTooLong => Code::Unknown,
    }
}

/// How a stream ends whose client sent a message that cannot be read (grpc-go's text).
pub(super) fn malformed_stream() -> GrpcStatus {
    malformed("grpc: failed to unmarshal the received message")
}

fn malformed(what: &str) -> GrpcStatus {
    let message = format!("{what}: proto: cannot parse invalid wire-format data");
    GrpcStatus { code: Code::Internal, message }
}

impl From<Rejection> for GrpcStatus {
    fn from(rejection: Rejection) -> GrpcStatus {
        status_of(rejection)
    }
}

/// Of a unary call, with grpc-go's text.
impl From<Malformed> for GrpcStatus {
    fn from(_: Malformed) -> GrpcStatus {
        malformed("grpc: error unmarshalling request")
    }
}

impl From<Unreadable> for GrpcStatus {
    fn from(unreadable: Unreadable) -> GrpcStatus {
        match unreadable {
            Unreadable::Malformed => Malformed.into(),
            // Each level uses up at least one operation of its parent's budget.
            Unreadable::TooDeep => Rejection::TooManyOps.into(),
        }
    }
}
