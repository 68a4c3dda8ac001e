//! The KV service without transactions: Range, Put, DeleteRange, Compact.
//!
//! The order of the checks is etcd's: a put's key, value, lease (surface 2.1); a range's key, sort
//! order, sort target (1.8 row 1).
//!
//! Worked example: a put with an empty key *and* a value beside `ignore_value` is refused for its key.

use bytes::{Bytes, BytesMut};
use holdfast_core::id::LeaseId;
use holdfast_core::query::{DeleteAnswer, Header, Query, RangeAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{DeleteRange, KeyRange, Put, Range, SortOrder, SortTarget};

use super::header::Origin;
use super::{WireLimits, decode, read, write};
use crate::call::GrpcStatus;
use crate::payload::{Assembly, Payload};
use crate::proto::etcdserverpb as pb;

pub(super) fn decode_range(message: &Bytes) -> Result<Query, GrpcStatus> {
    let mut request = pb::RangeRequest::default();
    read::range_request(read::Reader::new(message), &mut request)?;
    Ok(Query::Range(range(request)?))
}

pub(super) fn decode_put(message: &Bytes, limits: &WireLimits) -> Result<Query, GrpcStatus> {
    let mut request = pb::PutRequest::default();
    read::put_request(read::Reader::new(message), &mut request)?;
    let put = put(request)?;
    limits.check_size(message)?;
    Ok(Query::Put(put))
}

pub(super) fn decode_delete_range(
    message: &Bytes,
    limits: &WireLimits,
) -> Result<Query, GrpcStatus> {
    let mut request = pb::DeleteRangeRequest::default();
    read::delete_request(read::Reader::new(message), &mut request)?;
    let delete = delete_range(request)?;
    limits.check_size(message)?;
    Ok(Query::DeleteRange(delete))
}

pub(super) fn decode_compact(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::CompactionRequest = decode(message)?;
    Ok(Query::Compact { revision: request.revision, physical: request.physical })
}

/// Checks a read.
pub(super) fn range(request: pb::RangeRequest) -> Result<Range, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    let order = sort_order(request.sort_order)?;
    let target = sort_target(request.sort_target)?;
    Ok(Range {
        keys: KeyRange::from_wire(request.key, request.range_end),
        limit: request.limit,
        revision: request.revision,
        order,
        target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        mod_min: request.min_mod_revision,
        mod_max: request.max_mod_revision,
        create_min: request.min_create_revision,
        create_max: request.max_create_revision,
    })
}

/// Checks a write.
pub(super) fn put(request: pb::PutRequest) -> Result<Put, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Rejection::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Rejection::LeaseProvided);
    }
    Ok(Put {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

/// Checks a removal.
pub(super) fn delete_range(request: pb::DeleteRangeRequest) -> Result<DeleteRange, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    Ok(DeleteRange {
        keys: KeyRange::from_wire(request.key, request.range_end),
        prev_kv: request.prev_kv,
    })
}

fn sort_order(number: i32) -> Result<SortOrder, Rejection> {
    use pb::range_request::SortOrder as Wire;
    match Wire::try_from(number) {
        Ok(Wire::None) => Ok(SortOrder::None),
        Ok(Wire::Ascend) => Ok(SortOrder::Ascend),
        Ok(Wire::Descend) => Ok(SortOrder::Descend),
        Err(_) => Err(Rejection::InvalidSortOption),
    }
}

fn sort_target(number: i32) -> Result<SortTarget, Rejection> {
    use pb::range_request::SortTarget as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Key) => Ok(SortTarget::Key),
        Ok(Wire::Version) => Ok(SortTarget::Version),
        Ok(Wire::Create) => Ok(SortTarget::Create),
        Ok(Wire::Mod) => Ok(SortTarget::Mod),
        Ok(Wire::Value) => Ok(SortTarget::Value),
        Err(_) => Err(Rejection::InvalidSortOption),
    }
}

pub(super) fn encode_range(
    origin: Origin,
    header: Header,
    range: &RangeAnswer,
    out: &mut Assembly,
) {
    out.reserve(origin.len(header) + range_len(range) - range_shared(range, out));
    origin.write(header, out);
    write_range(range, out);
}

/// One message of a RangeStream: a range's answer as a field, with its header or without.
pub(super) fn encode_range_piece(
    origin: Origin,
    header: Option<Header>,
    range: &RangeAnswer,
) -> Payload {
    let len = header.map_or(0, |header| origin.len(header)) + range_len(range);
    let mut out = Assembly::sharing(BytesMut::new());
    out.reserve(write::framed_len(RANGE_RESPONSE, len) - range_shared(range, &out));
    write::open(&mut out, RANGE_RESPONSE, len);
    if let Some(header) = header {
        origin.write(header, &mut out);
    }
    write_range(range, &mut out);
    out.finish().0
}

const RANGE_RESPONSE: u32 = 1;

pub(super) fn encode_put(origin: Origin, header: Header, prev: Option<&Bytes>, out: &mut Assembly) {
    out.reserve(origin.len(header) + put_len(prev) - put_shared(prev, out));
    origin.write(header, out);
    write_put(prev, out);
}

pub(super) fn encode_delete_range(
    origin: Origin,
    header: Header,
    delete: &DeleteAnswer,
    out: &mut Assembly,
) {
    out.reserve(origin.len(header) + delete_len(delete) - delete_shared(delete, out));
    origin.write(header, out);
    write_delete(delete, out);
}

// The bodies below stand after a header, in a response of their own or in one of a transaction.

pub(super) fn write_range(range: &RangeAnswer, out: &mut Assembly) {
    for chunk in range.kvs.chunks() {
        out.share(chunk);
    }
    out.extend_from_slice(range.kvs.rest());
    write::flag(out, 3, range.more);
    write::int(out, 4, range.count);
}

pub(super) fn range_len(range: &RangeAnswer) -> usize {
    range.kvs.encoded_len() + write::flag_len(3, range.more) + write::int_len(4, range.count)
}

/// Bytes of it that are shared.
pub(super) fn range_shared(range: &RangeAnswer, out: &Assembly) -> usize {
    range.kvs.chunks().iter().map(|chunk| out.shared_len(chunk)).sum()
}

pub(super) fn write_put(prev: Option<&Bytes>, out: &mut Assembly) {
    if let Some(prev) = prev {
        write::message(out, 2, prev);
    }
}

pub(super) fn put_len(prev: Option<&Bytes>) -> usize {
    prev.map_or(0, |prev| write::framed_len(2, prev.len()))
}

pub(super) fn put_shared(prev: Option<&Bytes>, out: &Assembly) -> usize {
    prev.map_or(0, |prev| out.shared_len(prev))
}

pub(super) fn write_delete(delete: &DeleteAnswer, out: &mut Assembly) {
    write::int(out, 2, delete.deleted);
    write::messages(out, 3, &delete.prev_kvs);
}

pub(super) fn delete_len(delete: &DeleteAnswer) -> usize {
    write::int_len(2, delete.deleted) + write::messages_len(3, &delete.prev_kvs)
}

pub(super) fn delete_shared(delete: &DeleteAnswer, out: &Assembly) -> usize {
    delete.prev_kvs.iter().map(|prev| out.shared_len(prev)).sum()
}
