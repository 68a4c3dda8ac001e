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
//!
//! Worked example: `0a 01 6b 12 01 76` read by [`put_request`] is `PutRequest { key: "k", value: "v" }`.

use bytes::Bytes;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

/// Keys and values from this length on stay slices of the received message; smaller ones are copied
/// into a buffer of their own size. A slice keeps the whole receive buffer alive for as long as the
/// value lives, which may be long (log cache, memory of the active segment): from 16 KiB on that is at
/// most a small overhead, below it a 256-byte value could hold a buffer a hundred times its size, and
/// copying it costs no more than counting references.
const ZERO_COPY_MIN: usize = 16 << 10;

/// Deepest nesting of transactions. With etcd's default of 128 operations each level uses up at least
/// one, so that no valid transaction is deeper than 129; an operator who raises `--max-txn-ops` meets
/// this bound first, and our stack never overflows.
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

    /// What is left, as a value of its own.
    fn bytes(&self) -> Bytes {
        let len = self.end - self.at;
        if len >= ZERO_COPY_MIN {
            self.message.slice(self.at..self.end)
        } else {
            Bytes::copy_from_slice(&self.message[self.at..self.end])
        }
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

/// Reads into `txn`, which stands `depth` levels below the outermost transaction.
pub(super) fn txn_request(
    mut r: Reader,
    depth: usize,
    txn: &mut TxnRequest,
) -> Result<(), Unreadable> {
    if depth >= TXN_DEPTH_MAX {
        return Err(Unreadable::TooDeep);
    }
    while let Some(field) = r.next()? {
        match field {
            (1, Value::Len(r)) => txn.compare.push(compare(r)?),
            (2, Value::Len(r)) => txn.success.push(request_op(r, depth)?),
            (3, Value::Len(r)) => txn.failure.push(request_op(r, depth)?),
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

fn request_op(mut r: Reader, depth: usize) -> Result<RequestOp, Unreadable> {
    let mut request = None;
    while let Some(field) = r.next()? {
        request = match field {
            (1, Value::Len(r)) => Some(Request::RequestRange(merged_range(r, request)?)),
            (2, Value::Len(r)) => Some(Request::RequestPut(merged_put(r, request)?)),
            (3, Value::Len(r)) => Some(Request::RequestDeleteRange(merged_delete(r, request)?)),
            (4, Value::Len(r)) => Some(Request::RequestTxn(merged_txn(r, depth, request)?)),
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

fn merged_txn(r: Reader, depth: usize, before: Option<Request>) -> Result<TxnRequest, Unreadable> {
    let mut txn = match before {
        Some(Request::RequestTxn(txn)) => txn,
        _ => TxnRequest::default(),
    };
    txn_request(r, depth + 1, &mut txn)?;
    Ok(txn)
}
