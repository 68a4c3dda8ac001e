//! Reads protobuf by hand: a cursor over one message, and the requests of the hot paths.
//!
//! The requests are read into prost's own structs, so that a check sees the same type whether it came
//! by this way, through prost or, later, from JSON; only the reading is ours.
//!
//! Laws:
//!  1. As in Go's protobuf, an unknown field, and a known one of another wire type, are skipped; a
//!     repeated singular field is merged, the last scalar wins.
//!  2. Recursion is bounded: transactions by [`TXN_DEPTH_MAX`], unknown groups by
//!     [`GROUP_DEPTH_MAX`].
//!  3. Keys and values are slices of their message and hold it, with what shares its memory. The
//!     requests read here last no longer than one request may take; the log's entry is a copy.
//!
//! Worked example: `0a 01 6b 12 01 76` read by [`put_request`] is `PutRequest { key: "k", value: "v" }`.

use bytes::Bytes;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

/// Deepest nesting of transactions. With etcd's default of 128 operations each level uses up at least
/// one, so that no valid transaction is deeper than 129; an operator who raises `--max-txn-ops` meets
/// this bound first. That many levels fit into 1 MiB of stack, even unoptimised.
pub(super) const TXN_DEPTH_MAX: usize = 160;

/// Deepest nesting of unknown groups (prost's bound).
const GROUP_DEPTH_MAX: usize = 100;

/// The bytes are not a message of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Why a transaction could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// See [`Malformed`].
    Malformed,
    /// Deeper than [`TXN_DEPTH_MAX`].
    TooDeep,
}

impl From<Malformed> for Unreadable {
    fn from(_: Malformed) -> Unreadable {
        Unreadable::Malformed
    }
}

/// A field's content.
enum Value<'a> {
    Varint(u64),
    Len(Reader<'a>),
    /// A kind that no field of these messages has, already skipped.
    Other,
}

/// A cursor over a message, or over a field that holds one.
pub(super) struct Reader<'a> {
    message: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Over the whole of `message`.
    pub(super) fn new(message: &'a Bytes) -> Reader<'a> {
        Reader { message, at: 0, end: message.len() }
    }

    /// What is left, as a slice of the message, which lives as long (law 3).
    fn bytes(&self) -> Bytes {
        self.message.slice(self.at..self.end)
    }

    /// The next field; `None` at the end.
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.at == self.end {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Len(self.nested()?),
            other => {
                self.skip(number, other)?;
                Value::Other
            }
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok((number, (tag & 7) as u8)),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        let rest = &self.message[self.at..self.end];
        let mut value = 0;
        for (i, &byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                // The tenth byte has room for one bit.
                return if i == 9 && byte > 1 { Err(Malformed) } else { Ok(value) };
            }
        }
        Err(Malformed)
    }

    fn nested(&mut self) -> Result<Reader<'a>, Malformed> {
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if len > self.end - self.at {
            return Err(Malformed);
        }
        let nested = Reader { message: self.message, at: self.at, end: self.at + len };
        self.at += len;
        Ok(nested)
    }

    /// Skips the content of a field; of a group, its fields and its end, without recursion.
    fn skip(&mut self, number: u32, wire_type: u8) -> Result<(), Malformed> {
        let mut open = Vec::new();
        let (mut number, mut wire_type) = (number, wire_type);
        loop {
            match wire_type {
                0 => self.varint().map(drop)?,
                1 => self.advance(8)?,
                2 => self.nested().map(drop)?,
                3 if open.len() < GROUP_DEPTH_MAX => open.push(number),
                4 if open.pop() == Some(number) => {}
                5 => self.advance(4)?,
                _ => return Err(Malformed),
            }
            if open.is_empty() {
                return Ok(());
            }
            (number, wire_type) = self.tag()?;
        }
    }

    fn advance(&mut self, len: usize) -> Result<(), Malformed> {
        if len > self.end - self.at {
            return Err(Malformed);
        }
        self.at += len;
        Ok(())
    }
}

/// Reads into `range`.
pub(super) fn range_request(mut r: Reader, range: &mut RangeRequest) -> Result<(), Malformed> {
    while let Some(field) = r.next()? {
        match field {
            (1, Value::Len(r)) => range.key = r.bytes(),
            (2, Value::Len(r)) => range.range_end = r.bytes(),
            (3, Value::Varint(v)) => range.limit = v as i64,
            (4, Value::Varint(v)) => range.revision = v as i64,
            (5, Value::Varint(v)) => range.sort_order = v as i32,
            (6, Value::Varint(v)) => range.sort_target = v as i32,
            (7, Value::Varint(v)) => range.serializable = v != 0,
            (8, Value::Varint(v)) => range.keys_only = v != 0,
            (9, Value::Varint(v)) => range.count_only = v != 0,
            (10, Value::Varint(v)) => range.min_mod_revision = v as i64,
            (11, Value::Varint(v)) => range.max_mod_revision = v as i64,
            (12, Value::Varint(v)) => range.min_create_revision = v as i64,
            (13, Value::Varint(v)) => range.max_create_revision = v as i64,
            _ => {}
        }
    }
    Ok(())
}

/// Reads into `put`.
pub(super) fn put_request(mut r: Reader, put: &mut PutRequest) -> Result<(), Malformed> {
    while let Some(field) = r.next()? {
        match field {
            (1, Value::Len(r)) => put.key = r.bytes(),
            (2, Value::Len(r)) => put.value = r.bytes(),
            (3, Value::Varint(v)) => put.lease = v as i64,
            (4, Value::Varint(v)) => put.prev_kv = v != 0,
            (5, Value::Varint(v)) => put.ignore_value = v != 0,
            (6, Value::Varint(v)) => put.ignore_lease = v != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Reads into `delete`.
pub(super) fn delete_request(
    mut r: Reader,
    delete: &mut DeleteRangeRequest,
) -> Result<(), Malformed> {
    while let Some(field) = r.next()? {
        match field {
            (1, Value::Len(r)) => delete.key = r.bytes(),
            (2, Value::Len(r)) => delete.range_end = r.bytes(),
            (3, Value::Varint(v)) => delete.prev_kv = v != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Reads into `renewal`.
pub(super) fn keep_alive_request(
    mut r: Reader,
    renewal: &mut LeaseKeepAliveRequest,
) -> Result<(), Malformed> {
    while let Some(field) = r.next()? {
        if let (1, Value::Varint(v)) = field {
            renewal.id = v as i64;
        }
    }
    Ok(())
}

/// Where a transaction stands, and what it may hold.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    /// Levels below the outermost transaction.
    depth: usize,
    /// No list is kept longer than one operation over this: enough to see that it is too long, and an
    /// operation of two bytes on the wire takes a hundred times that in memory.
    ops_max: usize,
}

impl Scope {
    /// Of the outermost transaction.
    pub(super) fn outermost(ops_max: usize) -> Scope {
        Scope { depth: 0, ops_max }
    }

    fn keep<T>(self, list: &mut Vec<T>, one: T) {
        if list.len() <= self.ops_max {
            list.push(one);
        }
    }
}

/// Reads into `txn`.
pub(super) fn txn_request(
    mut r: Reader,
    scope: Scope,
    txn: &mut TxnRequest,
) -> Result<(), Unreadable> {
    if scope.depth >= TXN_DEPTH_MAX {
        return Err(Unreadable::TooDeep);
    }
    while let Some(field) = r.next()? {
        match field {
            (1, Value::Len(r)) => scope.keep(&mut txn.compare, compare(r)?),
            (2, Value::Len(r)) => scope.keep(&mut txn.success, request_op(r, scope)?),
            (3, Value::Len(r)) => scope.keep(&mut txn.failure, request_op(r, scope)?),
            _ => {}
        }
    }
    Ok(())
}

fn compare(mut r: Reader) -> Result<Compare, Malformed> {
    let mut compare = Compare::default();
    while let Some(field) = r.next()? {
        let union = &mut compare.target_union;
        match field {
            (1, Value::Varint(v)) => compare.result = v as i32,
            (2, Value::Varint(v)) => compare.target = v as i32,
            (3, Value::Len(r)) => compare.key = r.bytes(),
            (4, Value::Varint(v)) => *union = Some(TargetUnion::Version(v as i64)),
            (5, Value::Varint(v)) => *union = Some(TargetUnion::CreateRevision(v as i64)),
            (6, Value::Varint(v)) => *union = Some(TargetUnion::ModRevision(v as i64)),
            (7, Value::Len(r)) => *union = Some(TargetUnion::Value(r.bytes())),
            (8, Value::Varint(v)) => *union = Some(TargetUnion::Lease(v as i64)),
            (64, Value::Len(r)) => compare.range_end = r.bytes(),
            _ => {}
        }
    }
    Ok(compare)
}

fn request_op(mut r: Reader, scope: Scope) -> Result<RequestOp, Unreadable> {
    let mut request = None;
    while let Some(field) = r.next()? {
        request = match field {
            (1, Value::Len(r)) => Some(Request::RequestRange(merged_range(r, request)?)),
            (2, Value::Len(r)) => Some(Request::RequestPut(merged_put(r, request)?)),
            (3, Value::Len(r)) => Some(Request::RequestDeleteRange(merged_delete(r, request)?)),
            (4, Value::Len(r)) => Some(Request::RequestTxn(merged_txn(r, scope, request)?)),
            _ => request,
        };
    }
    Ok(RequestOp { request })
}

// A member of a oneof that comes twice in a row is merged, another one replaces it (law 1).

fn merged_range(r: Reader, before: Option<Request>) -> Result<RangeRequest, Malformed> {
    let mut range = match before {
        Some(Request::RequestRange(range)) => range,
        _ => RangeRequest::default(),
    };
    range_request(r, &mut range)?;
    Ok(range)
}

fn merged_put(r: Reader, before: Option<Request>) -> Result<PutRequest, Malformed> {
    let mut put = match before {
        Some(Request::RequestPut(put)) => put,
        _ => PutRequest::default(),
    };
    put_request(r, &mut put)?;
    Ok(put)
}

fn merged_delete(r: Reader, before: Option<Request>) -> Result<DeleteRangeRequest, Malformed> {
    let mut delete = match before {
        Some(Request::RequestDeleteRange(delete)) => delete,
        _ => DeleteRangeRequest::default(),
    };
    delete_request(r, &mut delete)?;
    Ok(delete)
}

fn merged_txn(r: Reader, scope: Scope, before: Option<Request>) -> Result<TxnRequest, Unreadable> {
    let mut txn = match before {
        Some(Request::RequestTxn(txn)) => txn,
        _ => TxnRequest::default(),
    };
    txn_request(r, Scope { depth: scope.depth + 1, ..scope }, &mut txn)?;
    Ok(txn)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn txn(message: &Bytes) -> Result<TxnRequest, Unreadable> {
        let mut txn = TxnRequest::default();
        txn_request(Reader::new(message), Scope::outermost(128), &mut txn)?;
        Ok(txn)
    }

    fn put(message: &[u8]) -> Result<PutRequest, Malformed> {
        let mut put = PutRequest::default();
        put_request(Reader::new(&Bytes::copy_from_slice(message)), &mut put)?;
        Ok(put)
    }

    fn nested(levels: usize) -> TxnRequest {
        (1..levels).fold(TxnRequest::default(), |txn, _| TxnRequest {
            success: vec![RequestOp { request: Some(Request::RequestTxn(txn)) }],
            ..TxnRequest::default()
        })
    }

    fn content() -> impl Strategy<Value = Bytes> {
        let any_len = prop_oneof![9 => 0..40usize, 1 => 16382..16386usize];
        (any::<u8>(), any_len).prop_map(|(byte, len)| Bytes::from(vec![byte; len]))
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), -3..200i64, any::<i64>()]
    }

    fn range() -> impl Strategy<Value = RangeRequest> {
        let keys = (content(), content(), number(), number(), any::<i32>(), -1..6i32);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        let filters = (number(), number(), number(), number());
        (keys, flags, filters).prop_map(|(keys, flags, filters)| RangeRequest {
            key: keys.0,
            range_end: keys.1,
            limit: keys.2,
            revision: keys.3,
            sort_order: keys.4,
            sort_target: keys.5,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: filters.0,
            max_mod_revision: filters.1,
            min_create_revision: filters.2,
            max_create_revision: filters.3,
        })
    }

    fn any_put() -> impl Strategy<Value = PutRequest> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        (content(), content(), number(), flags).prop_map(|(key, value, lease, flags)| PutRequest {
            key,
            value,
            lease,
            prev_kv: flags.0,
            ignore_value: flags.1,
            ignore_lease: flags.2,
        })
    }

    fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
        (content(), content(), any::<bool>())
            .prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest { key, range_end, prev_kv })
    }

    fn any_compare() -> impl Strategy<Value = Compare> {
        let union = prop_oneof![
            Just(None),
            number().prop_map(|v| Some(TargetUnion::Version(v))),
            number().prop_map(|v| Some(TargetUnion::CreateRevision(v))),
            number().prop_map(|v| Some(TargetUnion::ModRevision(v))),
            content().prop_map(|v| Some(TargetUnion::Value(v))),
            number().prop_map(|v| Some(TargetUnion::Lease(v))),
        ];
        (-1..6i32, any::<i32>(), content(), union, content()).prop_map(
            |(result, target, key, target_union, range_end)| Compare {
                result,
                target,
                key,
                range_end,
                target_union,
            },
        )
    }

    fn any_txn() -> impl Strategy<Value = TxnRequest> {
        let leaf = prop_oneof![
            Just(None),
            range().prop_map(|range| Some(Request::RequestRange(range))),
            any_put().prop_map(|put| Some(Request::RequestPut(put))),
            delete().prop_map(|delete| Some(Request::RequestDeleteRange(delete))),
        ];
        let op = leaf.prop_recursive(4, 24, 4, |inner| {
            let ops = || vec(inner.clone().prop_map(|request| RequestOp { request }), 0..4);
            (vec(any_compare(), 0..3), ops(), ops()).prop_map(|(compare, success, failure)| {
                Some(Request::RequestTxn(TxnRequest { compare, success, failure }))
            })
        });
        (vec(any_compare(), 0..3), vec(op, 0..4)).prop_map(|(compare, ops)| TxnRequest {
            compare,
            success: ops.iter().cloned().map(|request| RequestOp { request }).collect(),
            failure: ops.into_iter().rev().map(|request| RequestOp { request }).collect(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn transactions_read_as_prost_reads_them(expected in any_txn()) {
            let message = Bytes::from(expected.encode_to_vec());
            prop_assert_eq!(txn(&message), Ok(expected));
        }

        #[test]
        fn renewals_read_as_prost_reads_them(id in any::<i64>()) {
            let message = Bytes::from(LeaseKeepAliveRequest { id }.encode_to_vec());
            let mut renewal = LeaseKeepAliveRequest::default();
            prop_assert_eq!(keep_alive_request(Reader::new(&message), &mut renewal), Ok(()));
            prop_assert_eq!(renewal.id, id);
        }
    }

    #[test]
    fn what_is_unknown_is_skipped_and_what_is_broken_refused() {
        let k = |key: &'static [u8]| Ok(PutRequest { key: key.into(), ..PutRequest::default() });
        let rows: &[(&[u8], Result<PutRequest, Malformed>)] = &[
            (b"", k(b"")),
            (b"\x0a\x01k", k(b"k")),
            (b"\x0a\x01a\x0a\x01b", k(b"b")),  // the last one wins
            (b"\x08\x05\x0a\x01k", k(b"k")),   // the key as a varint
            (b"\x7a\x02xx\x0a\x01k", k(b"k")), // unknown field 15
            (b"\x79\0\0\0\0\0\0\0\0\x0a\x01k", k(b"k")), // ditto, 8 bytes
            (b"\x7d\0\0\0\0\x0a\x01k", k(b"k")), // ditto, 4 bytes
            (b"\x7b\x0a\x01x\x7b\x7c\x7c\x0a\x01k", k(b"k")), // a group with a group in it
            (b"\x7b\x0a\x01x\x74", Err(Malformed)), // the end of another group
            (b"\x7b\x0a\x01x", Err(Malformed)), // a group without an end
            (b"\x7c", Err(Malformed)),         // an end without a group
            (b"\x0a\x02k", Err(Malformed)),    // too short
            (b"\x02\x01k", Err(Malformed)),    // field 0
            (b"\x0e", Err(Malformed)),         // wire type 6
            (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Err(Malformed)), // 65 bits
            (b"\x18\x80", Err(Malformed)),     // a number without an end
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k", Err(Malformed)), // a length of 2^64 - 1
        ];
        for (bytes, expected) in rows {
            assert_eq!(&put(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn a_oneof_member_that_comes_twice_is_merged() {
        let op = |bytes: &'static [u8]| {
            request_op(Reader::new(&Bytes::from_static(bytes)), Scope::outermost(128))
        };
        let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let both = RequestOp { request: Some(Request::RequestPut(put)) };
        assert_eq!(op(b"\x12\x03\x0a\x01k\x12\x03\x12\x01v"), Ok(both));
        let delete = DeleteRangeRequest { key: "d".into(), ..DeleteRangeRequest::default() };
        let last = RequestOp { request: Some(Request::RequestDeleteRange(delete)) };
        assert_eq!(op(b"\x12\x03\x0a\x01k\x1a\x03\x0a\x01d"), Ok(last));
    }

    #[test]
    fn a_list_is_kept_just_long_enough_to_see_that_it_is_too_long() {
        let ops = vec![RequestOp::default(); 1000];
        let sent = TxnRequest { success: ops, ..TxnRequest::default() };
        let read = txn(&Bytes::from(sent.encode_to_vec())).expect("prost wrote it");
        assert_eq!(read.success.len(), 129);
    }

    #[test]
    fn nesting_is_bounded() {
        let message = |levels| Bytes::from(nested(levels).encode_to_vec());
        assert!(txn(&message(TXN_DEPTH_MAX)).is_ok());
        assert_eq!(txn(&message(TXN_DEPTH_MAX + 1)), Err(Unreadable::TooDeep));
        assert_eq!(put(&[0x7b; 1 << 20]), Err(Malformed), "a million open groups");
    }
}
