//! Writes protobuf by hand: fields, and the lengths they will have.
//!
//! Proto3's rule is kept: a scalar that is zero or empty is left out. Messages are always written, as
//! their presence is information.
//!
//! Worked example: `uint(out, 3, 17)` appends `18 11`; `uint_len(3, 17)` is 2.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::payload::Assembly;

const VARINT: u32 = 0;
const LEN: u32 = 2;

/// Writes an unsigned scalar.
pub(super) fn uint(out: &mut BytesMut, field: u32, value: u64) {
    if value != 0 {
        encode_varint(u64::from(field << 3 | VARINT), out);
        encode_varint(value, out);
    }
}

/// The length of what [`uint`] writes.
pub(super) fn uint_len(field: u32, value: u64) -> usize {
    if value == 0 { 0 } else { tag_len(field) + encoded_len_varint(value) }
}

/// Writes a signed scalar; a negative one takes ten bytes.
pub(super) fn int(out: &mut BytesMut, field: u32, value: i64) {
    uint(out, field, value as u64);
}

/// The length of what [`int`] writes.
pub(super) fn int_len(field: u32, value: i64) -> usize {
    uint_len(field, value as u64)
}

/// Writes a bool.
pub(super) fn flag(out: &mut BytesMut, field: u32, value: bool) {
    uint(out, field, u64::from(value));
}

/// The length of what [`flag`] writes.
pub(super) fn flag_len(field: u32, value: bool) -> usize {
    uint_len(field, u64::from(value))
}

/// Writes a string.
pub(super) fn text(out: &mut BytesMut, field: u32, value: &str) {
    if !value.is_empty() {
        open(out, field, value.len());
        out.put_slice(value.as_bytes());
    }
}

/// The length of what [`text`] writes.
pub(super) fn text_len(field: u32, value: &str) -> usize {
    if value.is_empty() { 0 } else { framed_len(field, value.len()) }
}

/// Begins a message of `len` bytes, which the caller writes next.
pub(super) fn open(out: &mut BytesMut, field: u32, len: usize) {
    encode_varint(u64::from(field << 3 | LEN), out);
    encode_varint(len as u64, out);
}

/// The length of a message of `len` bytes with what [`open`] writes before it.
pub(super) fn framed_len(field: u32, len: usize) -> usize {
    tag_len(field) + encoded_len_varint(len as u64) + len
}

/// Writes an already encoded message, or shares it.
pub(super) fn message(out: &mut Assembly, field: u32, encoded: &Bytes) {
    open(out, field, encoded.len());
    out.share(encoded);
}

/// Writes already encoded messages.
pub(super) fn messages(out: &mut Assembly, field: u32, encoded: &[Bytes]) {
    for one in encoded {
        message(out, field, one);
    }
}

/// The length of what [`messages`] writes.
pub(super) fn messages_len(field: u32, encoded: &[Bytes]) -> usize {
    encoded.iter().map(|one| framed_len(field, one.len())).sum()
}

fn tag_len(field: u32) -> usize {
    encoded_len_varint(u64::from(field << 3))
}
