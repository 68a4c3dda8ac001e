//! The Maintenance service: Status and alarms.

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::MemberId;
use holdfast_core::mvcc::hash::KvHash;
use holdfast_core::query::{Query, StatusAnswer};
use holdfast_core::response::{Alarm, AlarmKind};
use holdfast_core::status::Role;

use super::decode;
use crate::call::{Code, GrpcStatus};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::AlarmType;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;

/// The etcd version that we stand in for; tools parse it as a semantic version.
pub const SERVER_VERSION: &str = "3.7.1";

/// The version of etcd's storage format that goes with it.
pub const STORAGE_VERSION: &str = "3.7.0";

/// What etcd shows for a quota of 0.
const QUOTA_DEFAULT: i64 = 2 << 30;

pub(super) fn decode_status(message: &Bytes) -> Result<Query, GrpcStatus> {
    decode::<pb::StatusRequest>(message)?;
    Ok(Query::Status)
}

/// A kind that no alarm has is no mistake: etcd lists, raises and clears nothing then, and so do we; of
/// actions it knows three and stops over any other, which we refuse in the words it has for Downgrade's.
pub(super) fn decode_alarm(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::AlarmRequest = decode(message)?;
    let kind = match AlarmType::try_from(request.alarm) {
        Ok(AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(AlarmType::None) | Err(_) => None,
    };
    let member = MemberId(request.member_id);
    Ok(match (AlarmAction::try_from(request.action), kind) {
        (Ok(AlarmAction::Get), None) if request.alarm == 0 => Query::AlarmList,
        (Ok(_), None) => Query::Alarm(AlarmOp::Nothing),
        (Ok(AlarmAction::Get), Some(kind)) => Query::Alarm(AlarmOp::List(kind)),
        (Ok(AlarmAction::Activate), Some(kind)) => {
            Query::Alarm(AlarmOp::Raise { member, kind, automatic: false })
        }
        (Ok(AlarmAction::Deactivate), Some(kind)) => Query::Alarm(AlarmOp::Clear { member, kind }),
        (Err(_), _) => {
            let message = "etcdserver: unknown method".into();
            return Err(GrpcStatus { code: Code::Unknown, message });
        }
    })
}

pub(super) fn decode_defragment(message: &Bytes) -> Result<Query, GrpcStatus> {
    decode::<pb::DefragmentRequest>(message)?;
    Ok(Query::Defragment)
}

pub(super) fn decode_hash(message: &Bytes) -> Result<Query, GrpcStatus> {
    decode::<pb::HashRequest>(message)?;
    Ok(Query::Hash)
}

pub(super) fn decode_hash_kv(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::HashKvRequest = decode(message)?;
    Ok(Query::HashKv { revision: request.revision })
}

pub(super) fn decode_move_leader(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MoveLeaderRequest = decode(message)?;
    Ok(Query::MoveLeader { to: MemberId(request.target_id) })
}

pub(super) fn hash_kv_response(header: pb::ResponseHeader, hash: &KvHash) -> pb::HashKvResponse {
    pb::HashKvResponse {
        header: Some(header),
        hash: hash.hash,
        compact_revision: hash.compacted.0,
        hash_revision: hash.revision.0,
    }
}

pub(super) fn alarm_response(header: pb::ResponseHeader, alarms: &[Alarm]) -> pb::AlarmResponse {
    pb::AlarmResponse { header: Some(header), alarms: alarms.iter().map(alarm_member).collect() }
}

fn alarm_member(alarm: &Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member.0, alarm: kind.into() }
}

pub(super) fn status_response(
    header: pb::ResponseHeader,
    answer: &StatusAnswer,
) -> pb::StatusResponse {
    let status = &answer.status;
    pb::StatusResponse {
        header: Some(header),
        version: SERVER_VERSION.into(),
        db_size: answer.db_size,
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: status.commit.0,
        raft_term: status.term.0,
        raft_applied_index: status.applied.index.0,
        errors: answer.errors.clone(),
        db_size_in_use: answer.db_size_in_use,
        is_learner: status.role == Role::Learner,
        storage_version: STORAGE_VERSION.into(),
        db_size_quota: if answer.quota == 0 { QUOTA_DEFAULT } else { answer.quota },
        downgrade_info: Some(pb::DowngradeInfo::default()),
    }
}
