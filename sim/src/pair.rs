//! Reads an encoded `mvccpb.KeyValue`, as a client would; the oracle's encoder is its counterpart.

use bytes::Bytes;

/// A key-value pair as a client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// Revision of its creation.
    pub created: i64,
    /// Revision of its last change.
    pub modified: i64,
    /// Puts since its creation.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease.
    pub lease: i64,
}

impl Pair {
    /// Reads one; `None` when it is not well formed.
    pub fn decode(mut from: &[u8]) -> Option<Pair> {
        let mut pair = Pair::default();
        while !from.is_empty() {
            let tag = take_varint(&mut from)?;
            if tag & 7 == 2 {
                let len = usize::try_from(take_varint(&mut from)?).ok()?;
                let (bytes, rest) = from.split_at_checked(len)?;
                from = rest;
                match tag >> 3 {
                    1 => pair.key = Bytes::copy_from_slice(bytes),
                    5 => pair.value = Bytes::copy_from_slice(bytes),
                    _ => return None,
                }
                continue;
            }
            let number = take_varint(&mut from)? as i64;
            match tag {
                0x10 => pair.created = number,
                0x18 => pair.modified = number,
                0x20 => pair.version = number,
                0x30 => pair.lease = number,
                _ => return None,
            }
        }
        Some(pair)
    }
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use holdfast_core::id::RevSub;

    use super::*;
    use crate::model::{Version, encode};

    #[test]
    fn reads_what_the_oracle_writes_and_refuses_what_is_cut_short() {
        let value = Some(Bytes::from_static(b"value"));
        let version = Version { at: RevSub::new(300, 1), created: 7, version: 2, lease: -9, value };
        let encoded = encode(b"key", &version);
        let pair = Pair::decode(&encoded).expect("it is well formed");
        assert_eq!((pair.modified, pair.created, pair.version, pair.lease), (300, 7, 2, -9));
        assert_eq!((&pair.key[..], &pair.value[..]), (&b"key"[..], &b"value"[..]));
        assert_eq!(Pair::decode(&encoded[..encoded.len() - 1]), None);
    }
}
