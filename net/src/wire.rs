//! From a client's message bytes to checked core types, and from core answers to message bytes.
//!
//! One module a service. Every check that etcd makes before consensus is here, in etcd's order, since
//! which of two errors wins is visible. What depends on the state (a lease that does not exist, a
//! compacted revision) is not here.
//!
//! Leaves out: metadata, who asks, and the filters for learners and for a missing leader.
//!
//! Laws:
//!  1. Any bytes in: a value or a status, never a panic, a stack that is bounded, and memory in
//!     proportion to them.
//!  2. A message that prost reads, the hand-written readers read alike; a message they write, prost
//!     reads back (the properties at the end of each module hold them to that).
//!  3. Like Go's protobuf, and unlike prost, a known field of the wrong wire type is an unknown
//!     field and skipped.
//!
//! The hand-written readers and writers are those of Put, Range, DeleteRange, Txn, the keepalive
//! and the watch response: there a message costs one pass and at most one copy of each byte. All others
//! go through prost.
//!
//! Worked example: the bytes of `PutRequest { key: "", .. }` with [`Method::Put`] give
//! InvalidArgument "etcdserver: key is not provided"; with a key they give `Query::Put`, and its
//! `AnswerBody::Put(None)` at r17 of term 4 becomes a `PutResponse` with nothing but a header.

use bytes::{Bytes, BytesMut};
use holdfast_core::query::{Answer, AnswerBody, Header, Query, RangeAnswer};
use holdfast_core::rejection::Rejection;
use prost::Message;

use crate::call::{Code, GrpcStatus, Method};
use crate::payload::{Assembly, Payload};
use crate::proto::etcdserverpb as pb;

mod auth;
mod cluster;
mod downgrade;
mod fuzz;
mod header;
mod health;
mod kv;
mod lease;
mod maintenance;
mod read;
mod status;
mod txn;
mod watch;
mod write;

pub use fuzz::fuzz_wire;
pub use header::Origin;
pub use health::{
    Serving, decode_health_check, encode_health, encode_health_list, unknown_health_service,
};
pub use maintenance::{SERVER_VERSION, STORAGE_VERSION};
pub use status::status_of;
pub use watch::{decode_watch, encode_watch_response, watch_payload};

/// What the server's flags say about a request's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// `--max-txn-ops`
    pub txn_ops_max: usize,
    /// `--max-request-bytes`
    pub request_bytes_max: usize,
}

impl Default for WireLimits {
    fn default() -> WireLimits {
        WireLimits { txn_ops_max: 128, request_bytes_max: 1_572_864 }
    }
}

impl WireLimits {
    /// etcd's replicated form of a request: the message, in an envelope with a header. The header
    /// holds an id of 9 or 10 bytes; with tags and lengths that makes 17 or 18 bytes.
    const ENVELOPE_BYTES: usize = 18;

    /// Refuses a request whose replicated form would be over `--max-request-bytes` (surface 1.2).
    /// etcd looks at it after all other checks.
    fn check_size(&self, message: &Bytes) -> Result<(), Rejection> {
        if message.len() + WireLimits::ENVELOPE_BYTES > self.request_bytes_max {
            return Err(Rejection::RequestTooLarge);
        }
        Ok(())
    }
}

/// Reads and checks the message of a unary call, or one message of a keepalive stream.
///
/// Watch streams and the health service have decoders of their own; their methods are refused here.
pub fn decode_query(
    method: Method,
    message: &Bytes,
    limits: &WireLimits,
) -> Result<Query, GrpcStatus> {
    if let Some(query) = auth::decode_call(method, message) {
        return query;
    }
    match method {
        Method::Range => kv::decode_range(message),
        Method::Put => kv::decode_put(message, limits),
        Method::DeleteRange => kv::decode_delete_range(message, limits),
        Method::Txn => txn::decode(message, limits),
        Method::Compact => kv::decode_compact(message),
        Method::LeaseGrant => lease::decode_grant(message),
        Method::LeaseRevoke => lease::decode_revoke(message),
        Method::LeaseKeepAlive => lease::decode_keep_alive(message),
        Method::LeaseTimeToLive => lease::decode_time_to_live(message),
        Method::LeaseLeases => lease::decode_leases(message),
        Method::MemberList => cluster::decode_member_list(message),
        Method::MemberAdd => cluster::decode_member_add(message),
        Method::MemberRemove => cluster::decode_member_remove(message),
        Method::MemberUpdate => cluster::decode_member_update(message),
        Method::MemberPromote => cluster::decode_member_promote(message),
        Method::Downgrade => downgrade::decode(message),
        Method::Status => maintenance::decode_status(message),
        Method::Alarm => maintenance::decode_alarm(message),
        Method::Defragment => maintenance::decode_defragment(message),
        Method::Hash => maintenance::decode_hash(message),
        Method::HashKv => maintenance::decode_hash_kv(message),
        Method::MoveLeader => maintenance::decode_move_leader(message),
        // The calls of the Auth service are taken above; the rest are streams, or several requests.
        _ => Err(GrpcStatus {
            code: Code::Internal,
            message: format!("{} is not a query", method.path()),
        }),
    }
}

/// The response message; a small one is cut from `chunk`, which is empty and kept for the next.
pub fn answer_payload(origin: Origin, answer: &Answer, chunk: &mut BytesMut) -> Payload {
    let mut out = Assembly::sharing(std::mem::take(chunk));
    assemble_answer(origin, answer, &mut out);
    let (payload, left) = out.finish();
    *chunk = left;
    payload
}

/// Appends the response message to `out`.
pub fn encode_answer(origin: Origin, answer: &Answer, out: &mut BytesMut) {
    let mut whole = Assembly::copying(std::mem::take(out));
    assemble_answer(origin, answer, &mut whole);
    *out = whole.into_copied();
}

fn assemble_answer(origin: Origin, answer: &Answer, out: &mut Assembly) {
    let header = answer.header;
    match &answer.body {
        AnswerBody::Range(range) => kv::encode_range(origin, header, range, out),
        AnswerBody::Put(prev) => kv::encode_put(origin, header, prev.as_ref(), out),
        AnswerBody::DeleteRange(delete) => kv::encode_delete_range(origin, header, delete, out),
        AnswerBody::Txn(txn) => txn::encode(origin, header, txn, out),
        AnswerBody::LeaseKeepAlive { id, ttl } => {
            lease::encode_keep_alive(origin, header, (*id, *ttl), out);
        }
        AnswerBody::Compact => {
            append(&pb::CompactionResponse { header: Some(origin.header(header)) }, out);
        }
        AnswerBody::LeaseGrant { id, ttl } => {
            append(&lease::grant_response(origin.header(header), *id, *ttl), out);
        }
        AnswerBody::LeaseRevoke => {
            append(&pb::LeaseRevokeResponse { header: Some(origin.header(header)) }, out);
        }
        AnswerBody::LeaseTimeToLive { id, ttl, granted, keys } => append(
            &pb::LeaseTimeToLiveResponse {
                header: Some(origin.header(header)),
                id: id.0,
                ttl: *ttl,
                granted_ttl: *granted,
                keys: keys.clone(),
            },
            out,
        ),
        AnswerBody::LeaseLeases(ids) => {
            append(&lease::leases_response(origin.header(header), ids), out);
        }
        AnswerBody::MemberList(members) => {
            append(&cluster::member_list_response(origin, header, members), out);
        }
        AnswerBody::MemberAdd { member, members } => {
            append(&cluster::member_add_response(origin, header, (member, members)), out);
        }
        // Removal, update and promotion answer alike, field by field.
        AnswerBody::Members(members) => {
            append(&cluster::member_list_response(origin, header, members), out);
        }
        AnswerBody::Downgrade(version) => {
            append(&downgrade::response(origin.header(header), *version), out);
        }
        AnswerBody::Status(status) => {
            append(&maintenance::status_response(origin.header(header), status), out);
        }
        // Neither has a header in etcd (surface 1.2).
        AnswerBody::Defragment => append(&pb::DefragmentResponse::default(), out),
        AnswerBody::MoveLeader => append(&pb::MoveLeaderResponse::default(), out),
        AnswerBody::Hash(hash) => {
            append(&pb::HashResponse { header: Some(origin.header(header)), hash: *hash }, out);
        }
        AnswerBody::HashKv(hash) => {
            append(&maintenance::hash_kv_response(origin.header(header), hash), out);
        }
        AnswerBody::Auth(reply) => auth::encode(origin.header(header), reply, out),
        AnswerBody::Alarms(alarms) => {
            append(&maintenance::alarm_response(origin.header(header), alarms), out);
        }
    }
}

/// Reads the message of a unary call that is no query.
///
/// # Errors
/// Bytes that are no such message.
pub fn decode_message<M: Message + Default>(message: &Bytes) -> Result<M, GrpcStatus> {
    Ok(decode(message)?)
}

/// One message of a RangeStream; without a header it is not the last.
pub fn encode_range_piece(origin: Origin, header: Option<Header>, range: &RangeAnswer) -> Payload {
    kv::encode_range_piece(origin, header, range)
}

/// Reads a message for which speed does not matter.
fn decode<M: Message + Default>(message: &Bytes) -> Result<M, read::Malformed> {
    M::decode(message.clone()).map_err(|_| read::Malformed)
}

fn append(message: &impl Message, out: &mut BytesMut) {
    message.encode(out).expect("a BytesMut grows");
}
