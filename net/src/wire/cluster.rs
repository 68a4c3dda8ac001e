//! The Cluster service. Its headers carry no revision (surface 1.1).

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::query::{Header, Query};
use holdfast_core::response::Member;

use super::decode;
use super::header::Origin;
use crate::call::GrpcStatus;
use crate::proto::etcdserverpb as pb;

pub(super) fn decode_member_list(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberListRequest = decode(message)?;
    Ok(Query::MemberList { linearizable: request.linearizable })
}

pub(super) fn member_list_response(
    origin: Origin,
    header: Header,
    members: &[Member],
) -> pb::MemberListResponse {
    let header = origin.header(Header { revision: Revision(0), ..header });
    pb::MemberListResponse { header: Some(header), members: members.iter().map(member).collect() }
}

fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
