//! How the key tree's entries look: one table byte before every key, and a row in a few varints.
//!
//! ```text
//! tree key    table u8 | key            table 1 is the key index, 2.. are `Table as u8`
//! row         format u8 = 1 | main | sub | version | [main - created | lease | value length]
//! ```
//!
//! The bracketed part is absent from tombstones (version 0). All numbers are varints; a fresh put
//! of a key without a lease takes about 9 bytes.
//!
//! Law: a row that the tree holds decodes; what comes from a disk or a peer is checked once when
//! the tree is loaded ([`is_valid`]), so reading it is infallible.

use std::ops::ControlFlow;

use holdfast_core::id::{LeaseId, RevSub, Revision};
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::store::{Row, Table};

use super::numbers::{Reader, put_varint};

/// The table byte of the key index.
pub(crate) const KEYS: u8 = 1;

const ROW_FORMAT: u8 = 1;

/// A tree key: a table byte and a key, on the stack where the key is short.
pub(crate) enum TreeKey {
    Short([u8; SHORT], usize),
    Long(Vec<u8>),
}

const SHORT: usize = 128;

impl TreeKey {
    /// `key` of the table numbered `table`.
    pub(crate) fn new(table: u8, key: &[u8]) -> TreeKey {
        let len = key.len() + 1;
        if len <= SHORT {
            let mut bytes = [0; SHORT];
            bytes[0] = table;
            bytes[1..len].copy_from_slice(key);
            return TreeKey::Short(bytes, len);
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.push(table);
        bytes.extend_from_slice(key);
        TreeKey::Long(bytes)
    }

    /// The first key of the range and the one past its end.
    pub(crate) fn bounds(keys: &KeyRange) -> (TreeKey, TreeKey) {
        let below = match &keys.end {
            RangeEnd::Single => {
                let mut next = Vec::with_capacity(keys.start.len() + 2);
                next.push(KEYS);
                next.extend_from_slice(&keys.start);
                next.push(0);
                TreeKey::Long(next)
            }
            RangeEnd::Before(end) => TreeKey::new(KEYS, end),
            RangeEnd::Open => TreeKey::end_of(KEYS),
        };
        (TreeKey::new(KEYS, &keys.start), below)
    }

    /// The key past all of `table`.
    pub(crate) fn end_of(table: u8) -> TreeKey {
        TreeKey::new(table + 1, b"")
    }
}

impl std::ops::Deref for TreeKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            TreeKey::Short(bytes, len) => &bytes[..*len],
            TreeKey::Long(bytes) => bytes,
        }
    }
}

/// Appends the bytes of `row` to `out`.
pub(crate) fn encode(row: &Row, out: &mut Vec<u8>) {
    out.push(ROW_FORMAT);
    put_varint(out, row.modified.main.0 as u64);
    put_varint(out, u64::from(row.modified.sub));
    put_varint(out, row.version as u64);
    if row.is_tombstone() {
        return;
    }
    put_varint(out, row.modified.main.0.wrapping_sub(row.created.0) as u64);
    put_varint(out, row.lease.0 as u64);
    put_varint(out, u64::from(row.value_len));
}

/// The row that `bytes` hold.
pub(crate) fn decode(bytes: &[u8]) -> Row {
    try_decode(bytes).expect("rows are checked when they are written and when a tree is loaded")
}

/// Turns a visitor of rows into one of the tree's entries.
pub(crate) fn visitor(
    visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>,
) -> impl FnMut(&[u8], &[u8]) -> ControlFlow<()> {
    move |key, value| visit(&key[1..], &decode(value))
}

/// Whether `key` with `value` is something the engine itself could have put into the tree.
pub(crate) fn is_valid(key: &[u8], value: &[u8]) -> bool {
    match key.first() {
        Some(&KEYS) => try_decode(value).is_some(),
        Some(table) => Table::ALL.iter().any(|known| *known as u8 == *table),
        None => false,
    }
}

fn try_decode(bytes: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != ROW_FORMAT {
        return None;
    }
    let main = reader.varint()? as i64;
    let sub = u32::try_from(reader.varint()?).ok()?;
    let version = reader.varint()? as i64;
    let mut row = Row {
        modified: RevSub::new(main, sub),
        created: Revision(0),
        version,
        lease: LeaseId::NONE,
        value_len: 0,
    };
    if version != 0 {
        row.created = Revision(main.wrapping_sub(reader.varint()? as i64));
        row.lease = LeaseId(reader.varint()? as i64);
        row.value_len = u32::try_from(reader.varint()?).ok()?;
    }
    reader.is_empty().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(main: i64, version: i64, lease: i64) -> Row {
        Row {
            modified: RevSub::new(main, 3),
            created: Revision(if version == 0 { 0 } else { main - 1 }),
            version,
            lease: LeaseId(lease),
            value_len: if version == 0 { 0 } else { 77 },
        }
    }

    #[test]
    fn rows_come_back_and_damaged_ones_are_refused() {
        for row in [row(5, 1, 0), row(i64::MAX, i64::MAX, -4), row(9, 0, 0)] {
            let mut bytes = Vec::new();
            encode(&row, &mut bytes);
            assert_eq!(decode(&bytes), row);
            assert!(!is_valid(&[KEYS, b'k'], &bytes[..bytes.len() - 1]));
            bytes.push(0);
            assert!(!is_valid(&[KEYS, b'k'], &bytes), "trailing bytes");
        }
        assert!(is_valid(&[Table::Alarms as u8], b""));
        assert!(!is_valid(&[8], b"") && !is_valid(b"", b""));
    }

    #[test]
    fn a_fresh_row_is_small() {
        let mut bytes = Vec::new();
        encode(&Row { created: Revision(1_000_000), ..row(1_000_000, 1, 0) }, &mut bytes);
        assert!(bytes.len() <= 9, "{} bytes", bytes.len());
    }
}
