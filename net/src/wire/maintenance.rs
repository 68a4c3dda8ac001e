//! The Maintenance service: Status, and the list of alarms.

use bytes::Bytes;
use holdfast_core::query::{Query, StatusAnswer};
use holdfast_core::response::{Alarm, AlarmKind};
use holdfast_core::status::Role;

use super::decode;
use crate::call::{Code, GrpcStatus};
use crate::proto::etcdserverpb as pb;
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

/// Only GET is served. Which member or kind it asks for makes no difference as long as no alarm can
/// be raised.
pub(super) fn decode_alarm(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::AlarmRequest = decode(message)?;
    match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => Ok(Query::AlarmList),
        _ => Err(GrpcStatus {
            code: Code::Unimplemented,
            message: "alarms can be listed, not yet raised or disarmed".into(),
        }),
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
