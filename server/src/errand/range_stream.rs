//! RangeStream: a range in pieces, all of one revision, each read on its own.
//!
//! Laws (surface 1.8 rows 12 to 18):
//!  1. The pieces put together are the answer of Range, but that header, count and more stand in the
//!     last one only.
//!  2. Pieces have 10 keys at first, then twice as many while they are smaller than half of
//!     `--max-request-bytes`, half as many while they are larger than twice that, and always one.
//!  3. A compaction that overtakes the revision between two pieces ends the stream with "compacted".
//!
//! A sort target without an order is ignored: there is no order of the whole that pieces could have.

use bytes::Bytes;
use holdfast_core::kv::KeyValue;
use holdfast_core::mvcc::range::after;
use holdfast_core::query::{AnswerBody, Answered, Header, Query, RangeAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Range, RangeEnd, SortOrder, SortTarget};
use holdfast_net::call::{Code, GrpcStatus, Method};
use holdfast_net::wire::{self, Origin, WireLimits};

use super::Step;

/// See the module.
#[derive(Debug)]
pub(super) struct RangeStream {
    /// The next piece.
    range: Range,
    /// The wanted size of a piece, in bytes.
    target: usize,
    /// Keys that may still be sent, if that is bounded.
    left: Option<i64>,
    sent: i64,
    /// The header of the whole, known from the first piece on.
    header: Option<Header>,
}

impl RangeStream {
    pub(super) fn begin(
        message: &Bytes,
        limits: &WireLimits,
    ) -> Result<(RangeStream, Step), GrpcStatus> {
        let Query::Range(mut range) = wire::decode_query(Method::Range, message, limits)? else {
            return Err(wire::status_of(Rejection::Corrupt));
        };
        let natural = range.order == SortOrder::None
            || (range.order == SortOrder::Ascend && range.target == SortTarget::Key);
        if !natural {
            return Err(unimplemented("RangeStream does not support custom sort orders"));
        }
        if [range.mod_min, range.mod_max, range.create_min, range.create_max] != [0; 4] {
            return Err(unimplemented("RangeStream does not support revision filters"));
        }
        (range.order, range.target) = (SortOrder::None, SortTarget::Key);
        let left = (range.limit > 0).then_some(range.limit);
        range.limit = left.unwrap_or(FIRST).min(FIRST);
        let target = limits.request_bytes_max;
        let stream = RangeStream { range, target, left, sent: 0, header: None };
        let step = Step::Ask(Query::Range(stream.range.clone()));
        Ok((stream, step))
    }

    pub(super) fn answered(&mut self, origin: Origin, answered: Answered) -> Step {
        let answer = match answered {
            Ok(answer) => answer,
            Err(rejection) => return Step::End(wire::status_of(rejection)),
        };
        let AnswerBody::Range(mut piece) = answer.body else {
            return Step::End(wire::status_of(Rejection::Corrupt));
        };
        let header = *self.header.get_or_insert(answer.header);
        let keys = piece.kvs.len() as i64;
        self.left = self.left.map(|left| left - keys);
        let (total, enough) = (self.sent + piece.count, self.left == Some(0));
        self.sent += keys;
        let last = piece.kvs.iter().last().and_then(KeyValue::decode).map(|kv| after(kv.key));
        let single = self.range.keys.end == RangeEnd::Single;
        let next = last.filter(|_| piece.more && !enough && !single);
        let Some(next) = next else {
            piece.count = total;
            let whole = wire::encode_range_piece(origin, Some(header), &piece);
            return Step::Done(whole);
        };
        let bytes = piece.kvs.encoded_len();
        let partial = RangeAnswer { more: false, count: 0, ..piece };
        let message = wire::encode_range_piece(origin, None, &partial);
        self.range.keys.start = next;
        if self.range.revision <= 0 {
            self.range.revision = header.revision.0;
        }
        // What follows is of a revision that this member has.
        self.range.serializable = true;
        self.resize(bytes);
        Step::Send(message)
    }

    /// The next piece, once there is room for it.
    pub(super) fn next(&mut self) -> Step {
        Step::Ask(Query::Range(self.range.clone()))
    }

    fn resize(&mut self, bytes: usize) {
        let limit = match bytes {
            bytes if bytes < self.target / 2 => self.range.limit.saturating_mul(2),
            bytes if bytes > self.target.saturating_mul(2) => self.range.limit / 2,
            _ => self.range.limit,
        };
        self.range.limit = limit.max(1).min(self.left.unwrap_or(i64::MAX));
    }
}

/// Keys in the first piece.
const FIRST: i64 = 10;

fn unimplemented(text: &str) -> GrpcStatus {
    GrpcStatus { code: Code::Unimplemented, message: text.into() }
}
