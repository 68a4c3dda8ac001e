//! A connection's header blocks to fields, in order (RFC 7541, 3.2 and 6).
//!
//! Leaves out what a field means. Laws: (1) any bytes give fields or one error, never a panic; (2)
//! memory is the table and one string, both no longer than what has arrived; (3) a table size comes
//! only at the beginning of a block and is at most what was offered; (4) work is bounded by the bytes
//! of a block and the size of the list it makes, and that size by the caller, since one byte can stand
//! for an entry of kilobytes.
//!
//! Worked example: `41 01 78` sets `:authority: x` by the static name 1 and adds it to the table.

use super::HpackError;
use super::huffman;
use super::table::{OVERHEAD, STATIC, Table, Verdict};
use crate::http2::field::{Tag, is_name};

/// What SETTINGS_HEADER_TABLE_SIZE is unless told otherwise; ours is never told otherwise.
const TABLE_BYTES_MAX: usize = 4096;

/// One header field.
#[derive(Clone, Copy, Debug)]
pub(in crate::http2) struct Field<'a> {
    pub(in crate::http2) name: &'a [u8],
    pub(in crate::http2) value: &'a [u8],
    pub(in crate::http2) tag: Tag,
}

/// Reads the header blocks of one connection.
pub(in crate::http2) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(in crate::http2) fn new() -> Decoder {
        Decoder { table: Table::new(TABLE_BYTES_MAX), name: Vec::new(), value: Vec::new() }
    }

    /// The table's size, as the blocks so far have set it.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.table.limit()
    }

    /// Gives every field of a block to `take`; a list larger than `size_max` is an error.
    pub(in crate::http2) fn decode(
        &mut self,
        block: &[u8],
        size_max: usize,
        mut take: impl FnMut(Field<'_>),
    ) -> Result<(), HpackError> {
        let mut rest = block;
        let mut left = size_max;
        let mut take = |field: Field<'_>| {
            let size = field.name.len() + field.value.len() + OVERHEAD;
            left = left.checked_sub(size).ok_or(HpackError::TooLarge)?;
            take(field);
            Ok(())
        };
        let mut begun = false;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                take(self.indexed(index)?)?;
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut rest, 5)?;
                if begun || limit > TABLE_BYTES_MAX {
                    return Err(HpackError::TableSize);
                }
                self.table.set_limit(limit);
                continue;
            } else {
                take(self.literal(&mut rest, first & 0x40 != 0)?)?;
            }
            begun = true;
        }
        Ok(())
    }

    #[inline]
    fn indexed(&self, index: usize) -> Result<Field<'_>, HpackError> {
        let at = index.checked_sub(1).ok_or(HpackError::Index)?;
        if let Some((name, value)) = STATIC.get(at) {
            let tag = Tag::of_static(index);
            return Ok(Field { name: name.as_bytes(), value: value.as_bytes(), tag });
        }
        let (name, value, verdict) = self.table.get(at - STATIC.len()).ok_or(HpackError::Index)?;
        Ok(Field { name, value, tag: verdict.tag })
    }

    /// An entry's name, and whether it is good, which was found out when it came.
    fn indexed_name(&self, index: usize) -> Result<(&[u8], bool), HpackError> {
        let at = index.checked_sub(1).ok_or(HpackError::Index)?;
        if let Some((name, _)) = STATIC.get(at) {
            return Ok((name.as_bytes(), !name.starts_with(':')));
        }
        let (name, _, verdict) = self.table.get(at - STATIC.len()).ok_or(HpackError::Index)?;
        Ok((name, verdict.name_good))
    }

    fn literal(&mut self, rest: &mut &[u8], keep: bool) -> Result<Field<'_>, HpackError> {
        let index = integer(rest, if keep { 6 } else { 4 })?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        let name_good = if index == 0 {
            string(rest, &mut name).map(|()| is_name(&name))
        } else {
            self.indexed_name(index).map(|(indexed, good)| {
                name.extend_from_slice(indexed);
                good
            })
        };
        self.name = name;
        let name_good = name_good?;
        self.value.clear();
        string(rest, &mut self.value)?;
        let tag = Tag::of_named(&self.name, name_good, &self.value);
        if keep {
            self.table.insert(&self.name, &self.value, Verdict { tag, name_good });
        }
        Ok(Field { name: &self.name, value: &self.value, tag })
    }
}

fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let coded = rest.first().ok_or(HpackError::Short)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (string, after) = rest.split_at_checked(length).ok_or(HpackError::Short)?;
    *rest = after;
    if coded {
        return huffman::decode(string, out);
    }
    out.extend_from_slice(string);
    Ok(())
}

/// An integer behind a prefix of `bits` (5.1).
#[inline]
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, HpackError> {
    let mask = (1_usize << bits) - 1;
    let (first, after) = rest.split_first().ok_or(HpackError::Short)?;
    *rest = after;
    let mut value = usize::from(*first) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(HpackError::Short)?;
        *rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut out = Vec::new();
        decoder.decode(block, usize::MAX, |field| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            out.push(format!("{}={}", text(field.name), text(field.value)));
        })?;
        Ok(out)
    }

    /// Three requests on one connection, plain (C.3) and Huffman coded (C.4).
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new();
            let host = ":authority=www.example.com";
            let first = [":method=GET", ":scheme=http", ":path=/", host];
            assert_eq!(
                fields(&mut decoder, &hex(blocks[0])).as_deref(),
                Ok(&first.map(String::from)[..])
            );
            let second = fields(&mut decoder, &hex(blocks[1])).expect("a good block");
            assert_eq!(second[3..], [host, "cache-control=no-cache"]);
            let third = fields(&mut decoder, &hex(blocks[2])).expect("a good block");
            let custom = "custom-key=custom-value";
            assert_eq!(third[1..], [":scheme=https", ":path=/index.html", host, custom]);
        }
    }

    #[test]
    fn bad_blocks_are_refused() {
        for (block, error) in [
            ("80", HpackError::Index),
            ("be", HpackError::Index),
            ("7e 00", HpackError::Index),
            ("40 01", HpackError::Short),
            ("40 01 61", HpackError::Short),
            ("ff", HpackError::Short),
            ("ff ff ff ff ff ff 01", HpackError::Integer),
            ("82 20", HpackError::TableSize),
            ("3f e2 1f", HpackError::TableSize),
            ("40 81 00 00", HpackError::Huffman),
        ] {
            assert_eq!(fields(&mut Decoder::new(), &hex(block)), Err(error), "{block}");
        }
        // 0, then 4096: a smaller size on the way is told before the last.
        assert_eq!(fields(&mut Decoder::new(), &hex("20 3f e1 1f 82")).map(|f| f.len()), Ok(1));
    }

    #[test]
    fn a_smaller_table_forgets() {
        let mut decoder = Decoder::new();
        fields(&mut decoder, &hex("40 01 61 01 62 be")).expect("a good block");
        assert_eq!(fields(&mut decoder, &hex("20 be")), Err(HpackError::Index));
    }

    #[test]
    fn a_list_ends_where_it_becomes_too_large() {
        let mut decoder = Decoder::new();
        fields(&mut decoder, &hex("40 01 61 03 626262")).expect("a good block");
        let mut count = |block: &[u8], size_max| {
            let mut count = 0;
            (decoder.decode(block, size_max, |_| count += 1), count)
        };
        assert_eq!(count(&[0xbe; 3], 3 * 36), (Ok(()), 3));
        assert_eq!(count(&[0xbe; 1000], 3 * 36 + 35), (Err(HpackError::TooLarge), 3));
    }

    #[test]
    fn an_indexed_name_keeps_its_own_verdict() {
        let tags = |block: &str| {
            let mut tags = Vec::new();
            let decoded = Decoder::new().decode(&hex(block), 1000, |field| tags.push(field.tag));
            assert_eq!(decoded, Ok(()));
            tags
        };
        // A good name that had a bad value, a bad name, `te` with its one good value, `:status`.
        let (good, bad) = (Tag::Ordinary, Tag::Malformed);
        assert_eq!(tags("40 01 61 01 20  7e 01 78  7e 01 20"), [bad, good, bad]);
        assert_eq!(tags("40 01 41 01 78  7e 01 78"), [bad, bad]);
        assert_eq!(tags("40 02 7465 08 747261696c657273  7e 01 78"), [good, bad]);
        assert_eq!(tags("48 03 323030  50 01 78"), [bad, good]);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(
            blocks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        ) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = decoder.decode(&block, usize::MAX, |field| {
                    assert_eq!(field.tag, Tag::of(field.name, field.value));
                });
            }
        }
    }
}
