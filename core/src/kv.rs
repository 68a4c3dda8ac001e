//! The exact bytes of `mvccpb.KeyValue`, as etcd stores them and sends them.
//!
//! Leaves out: every other protobuf message; those belong to the wire. This one is here because it
//! is *stored*: records hold it, watch events and replies copy it, and hashes that real etcd members
//! compute run over it.
//!
//! ```text
//! 0a len key | 10 create_revision | 18 mod_revision | 20 version | 2a len value | 30 lease
//! ```
//!
//! Laws:
//!  1. Fields are written in ascending number, a zero or empty field not at all (proto3), integers
//!     as plain varints (a negative one takes ten bytes): etcd's marshaller does the same, so equal
//!     pairs have equal bytes.
//!  2. `decode(encode(kv)) == Some(kv)`; decoding any bytes neither panics nor allocates.
//!  3. What a tombstone's record holds is `KeyValue { key }` alone; what a delete event carries is
//!     `{ key, mod_revision }`.
//!
//! Worked example: key "a", value "b", created and modified at r2, version 1, no lease is
//! `0a 01 61 10 02 18 02 20 01 2a 01 62`.

use bytes::Bytes;

use crate::id::{LeaseId, Revision};

/// One pair as it stands at one revision, borrowed from its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Revision of the put that started this life of the key.
    pub create_revision: Revision,
    /// Revision of the newest change.
    pub mod_revision: Revision,
    /// Puts since the creation.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease it is attached to.
    pub lease: LeaseId,
}

impl<'a> KeyValue<'a> {
    /// The encoded form, in one allocation of the right size.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.write(&mut out);
        debug_assert_eq!(
            out.len(),
            self.encoded_len(),
            "the size is computed from the same fields"
        );
        out.into()
    }

    /// Appends the encoded form.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, KEY, self.key);
        put_int(out, CREATE_REVISION, self.create_revision.0);
        put_int(out, MOD_REVISION, self.mod_revision.0);
        put_int(out, VERSION, self.version);
        put_bytes(out, VALUE, self.value);
        put_int(out, LEASE, self.lease.0);
    }

    /// How long the encoded form is.
    pub fn encoded_len(&self) -> usize {
        bytes_len(self.key)
            + int_len(self.create_revision.0)
            + int_len(self.mod_revision.0)
            + int_len(self.version)
            + bytes_len(self.value)
            + int_len(self.lease.0)
    }

    /// Reads an encoded pair; `None` when the bytes are not one. Unknown fields are skipped and the
    /// last of a repeated field counts, as protobuf demands.
    pub fn decode(mut data: &'a [u8]) -> Option<KeyValue<'a>> {
        let mut kv = KeyValue::default();
        while !data.is_empty() {
            let tag = take_varint(&mut data)?;
            match tag {
                KEY => kv.key = take_bytes(&mut data)?,
                CREATE_REVISION => kv.create_revision = Revision(take_varint(&mut data)? as i64),
                MOD_REVISION => kv.mod_revision = Revision(take_varint(&mut data)? as i64),
                VERSION => kv.version = take_varint(&mut data)? as i64,
                VALUE => kv.value = take_bytes(&mut data)?,
                LEASE => kv.lease = LeaseId(take_varint(&mut data)? as i64),
                _ => skip_field(&mut data, tag)?,
            }
        }
        Some(kv)
    }

    /// The same pair without its value.
    pub fn without_value(self) -> KeyValue<'a> {
        KeyValue { value: b"", ..self }
    }
}

// A tag is the field's number times eight plus its wire type: 0 varint, 2 length-delimited.
const KEY: u64 = 1 << 3 | 2;
const CREATE_REVISION: u64 = 2 << 3;
const MOD_REVISION: u64 = 3 << 3;
const VERSION: u64 = 4 << 3;
const VALUE: u64 = 5 << 3 | 2;
const LEASE: u64 = 6 << 3;

fn put_int(out: &mut Vec<u8>, tag: u64, value: i64) {
    if value != 0 {
        out.push(tag as u8);
        put_varint(out, value as u64);
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    if !value.is_empty() {
        out.push(tag as u8);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn int_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

fn bytes_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { 1 + varint_len(value.len() as u64) + value.len() }
}

/// The key of an encoded pair, as a slice of it: `len` is the key's length.
pub(crate) fn key_slice(kv: &Bytes, len: usize) -> Bytes {
    if len == 0 {
        return Bytes::new();
    }
    let start = 1 + varint_len(len as u64);
    kv.slice(start..start + len)
}

/// Writes a base-128 varint, least significant group first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a varint takes: one for each seven significant bits, at least one.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads a varint off the front; `None` when it is cut off or longer than 64 bits.
pub(crate) fn take_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(data)?).ok()?;
    let (head, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(head)
}

fn skip_field(data: &mut &[u8], tag: u64) -> Option<()> {
    match tag & 7 {
        0 => take_varint(data).map(drop),
        1 => data.split_at_checked(8).map(|(_, rest)| *data = rest),
        2 => take_bytes(data).map(drop),
        5 => data.split_at_checked(4).map(|(_, rest)| *data = rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_protobufs() {
        let kv = KeyValue {
            key: b"a",
            create_revision: Revision(2),
            mod_revision: Revision(300),
            version: 1,
            value: b"b",
            lease: LeaseId(-1),
        };
        let mut expected = b"\x0a\x01a\x10\x02\x18\xac\x02\x20\x01\x2a\x01b\x30".to_vec();
        expected.extend([0xff; 9]);
        expected.push(1);
        assert_eq!(kv.encode(), expected);
        assert_eq!(KeyValue::decode(&expected), Some(kv));
        assert_eq!(KeyValue { key: b"a", ..KeyValue::default() }.encode(), &b"\x0a\x01a"[..]);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bad in
            [&b"\x0a\x02a"[..], b"\x10", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b"]
        {
            assert_eq!(KeyValue::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let data = b"\x0a\x01a\x3a\x03xyz\x40\x05\x4d\0\0\0\0\x51\0\0\0\0\0\0\0\0\x20\x07";
        let kv = KeyValue::decode(data).expect("a valid message");
        assert_eq!((kv.key, kv.version), (&b"a"[..], 7));
    }
}
