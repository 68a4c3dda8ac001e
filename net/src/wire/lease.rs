//! The Lease service.

use bytes::{Bytes, BytesMut};
use holdfast_core::id::LeaseId;
use holdfast_core::query::{Header, Query};

use super::header::Origin;
use super::status::malformed_stream;
use super::{decode, read, write};
use crate::call::GrpcStatus;
use crate::proto::etcdserverpb as pb;

pub(super) fn decode_grant(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::LeaseGrantRequest = decode(message)?;
    Ok(Query::LeaseGrant { id: LeaseId(request.id), ttl: request.ttl })
}

pub(super) fn decode_revoke(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::LeaseRevokeRequest = decode(message)?;
    Ok(Query::LeaseRevoke { id: LeaseId(request.id) })
}

pub(super) fn decode_keep_alive(message: &Bytes) -> Result<Query, GrpcStatus> {
    let mut request = pb::LeaseKeepAliveRequest::default();
    read::keep_alive_request(read::Reader::new(message), &mut request)
        .map_err(|read::Malformed| malformed_stream())?;
    Ok(Query::LeaseKeepAlive { id: LeaseId(request.id) })
}

pub(super) fn decode_time_to_live(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::LeaseTimeToLiveRequest = decode(message)?;
    Ok(Query::LeaseTimeToLive { id: LeaseId(request.id), keys: request.keys })
}

pub(super) fn decode_leases(message: &Bytes) -> Result<Query, GrpcStatus> {
    decode::<pb::LeaseLeasesRequest>(message)?;
    Ok(Query::LeaseLeases)
}

pub(super) fn encode_keep_alive(
    origin: Origin,
    header: Header,
    (id, ttl): (LeaseId, i64),
    out: &mut BytesMut,
) {
    out.reserve(origin.len(header) + write::int_len(2, id.0) + write::int_len(3, ttl));
    origin.write(header, out);
    write::int(out, 2, id.0);
    write::int(out, 3, ttl);
}

pub(super) fn grant_response(
    header: pb::ResponseHeader,
    id: LeaseId,
    ttl: i64,
) -> pb::LeaseGrantResponse {
    pb::LeaseGrantResponse { header: Some(header), id: id.0, ttl, error: String::new() }
}

pub(super) fn leases_response(
    header: pb::ResponseHeader,
    ids: &[LeaseId],
) -> pb::LeaseLeasesResponse {
    let leases = ids.iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
    pb::LeaseLeasesResponse { header: Some(header), leases }
}
