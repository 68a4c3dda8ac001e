//! The Watch service: its requests, and the responses that carry events.
//!
//! A negative start revision and an empty range are kept: refusing them is a message of the stream, not
//! a status, and the watch hub's business (surface 1.10 rows 4 and 5).
//!
//! Worked example: a create request without a key watches `"\0"`.

use bytes::{Bytes, BytesMut};
use holdfast_core::id::Term;
use holdfast_core::query::Header;
use holdfast_core::request::KeyRange;
use holdfast_core::watch::{WatchCreate, WatchEvent, WatchRequest, WatchResponse};

use super::header::Origin;
use super::status::malformed_stream;
use super::{decode, read, write};
use crate::call::GrpcStatus;
use crate::payload::{Assembly, Payload};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::mvccpb::event::EventType;

const EVENTS: u32 = 11;

/// Reads one message of a Watch stream; `None` is a kind that etcd would ignore (surface 1.10 row 26).
pub fn decode_watch(message: &Bytes) -> Result<Option<WatchRequest>, GrpcStatus> {
    let request: pb::WatchRequest =
        decode(message).map_err(|read::Malformed| malformed_stream())?;
    Ok(request.request_union.map(|union| match union {
        RequestUnion::CreateRequest(create) => WatchRequest::Create(watch_create(create)),
        RequestUnion::CancelRequest(cancel) => WatchRequest::Cancel { id: cancel.watch_id },
        RequestUnion::ProgressRequest(_) => WatchRequest::Progress,
    }))
}

fn watch_create(request: pb::WatchCreateRequest) -> WatchCreate {
    let filters = |filter: FilterType| request.filters.contains(&filter.into());
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { own(&request.key) };
    WatchCreate {
        id: request.watch_id,
        start: request.start_revision,
        progress_notify: request.progress_notify,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        keys: KeyRange::from_wire(key, own(&request.range_end)),
    }
}

/// A watcher lives long: its keys must not hold on to a receive buffer.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// One message of a Watch stream.
pub fn watch_payload(
    origin: Origin,
    term: Term,
    response: &WatchResponse,
    chunk: &mut BytesMut,
) -> Payload {
    let mut out = Assembly::sharing(std::mem::take(chunk));
    assemble(origin, term, response, &mut out);
    let (payload, left) = out.finish();
    *chunk = left;
    payload
}

/// Appends one message of a Watch stream to `out`.
pub fn encode_watch_response(
    origin: Origin,
    term: Term,
    response: &WatchResponse,
    out: &mut BytesMut,
) {
    let mut whole = Assembly::copying(std::mem::take(out));
    assemble(origin, term, response, &mut whole);
    *out = whole.into_copied();
}

fn assemble(origin: Origin, term: Term, response: &WatchResponse, out: &mut Assembly) {
    let header = Header { revision: response.revision, term };
    let copied = |event: &WatchEvent| {
        let previous = event.prev_kv.as_ref().map_or(0, |previous| out.shared_len(previous));
        write::framed_len(EVENTS, event_len(event)) - out.shared_len(&event.kv) - previous
    };
    let events: usize = response.events.iter().map(copied).sum();
    out.reserve(origin.len(header) + fields_len(response) + events);
    origin.write(header, out);
    write::int(out, 2, response.id);
    write::flag(out, 3, response.created);
    write::flag(out, 4, response.canceled);
    write::int(out, 5, response.compact_revision.0);
    write::text(out, 6, &response.cancel_reason);
    write::flag(out, 7, response.fragment);
    for event in &response.events {
        write_event(event, out);
    }
}

fn fields_len(response: &WatchResponse) -> usize {
    write::int_len(2, response.id)
        + write::flag_len(3, response.created)
        + write::flag_len(4, response.canceled)
        + write::int_len(5, response.compact_revision.0)
        + write::text_len(6, &response.cancel_reason)
        + write::flag_len(7, response.fragment)
}

fn write_event(event: &WatchEvent, out: &mut Assembly) {
    write::open(out, EVENTS, event_len(event));
    write::uint(out, 1, event_type(event));
    write::message(out, 2, &event.kv);
    if let Some(prev) = &event.prev_kv {
        write::message(out, 3, prev);
    }
}

fn event_len(event: &WatchEvent) -> usize {
    let prev = event.prev_kv.as_ref().map_or(0, |prev| write::framed_len(3, prev.len()));
    write::uint_len(1, event_type(event)) + write::framed_len(2, event.kv.len()) + prev
}

fn event_type(event: &WatchEvent) -> u64 {
    let kind = if event.delete { EventType::Delete } else { EventType::Put };
    kind as u64
}
