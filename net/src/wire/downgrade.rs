//! Maintenance.Downgrade. Leaves out what the answer is; see the edge.
//!
//! Worked example: `{action: VALIDATE, version: "3.6"}` is `Downgrade::Validate("3.6")`, and the answer
//! of a cluster at 3.7 names `3.7`, its own version and not the target.

use bytes::Bytes;
use holdfast_core::membership::Version;
use holdfast_core::query::{Downgrade, Query};

use super::decode as read;
use crate::call::{Code, GrpcStatus};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;

pub(super) fn decode(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::DowngradeRequest = read(message)?;
    Ok(Query::Downgrade(match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => Downgrade::Validate(request.version),
        Ok(DowngradeAction::Enable) => Downgrade::Enable(request.version),
        Ok(DowngradeAction::Cancel) => Downgrade::Cancel,
        Err(_) => {
            let message = "etcdserver: unknown method".into();
            return Err(GrpcStatus { code: Code::Unknown, message });
        }
    }))
}

pub(super) fn response(header: pb::ResponseHeader, version: Version) -> pb::DowngradeResponse {
    let version = format!("{}.{}", version.major, version.minor);
    pb::DowngradeResponse { header: Some(header), version }
}
