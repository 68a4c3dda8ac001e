//! Header blocks (RFC 7541) as the simulator's clients write and read them.
//!
//! The writer uses every form that there is, by dice: indexed, with and without indexing, never
//! indexed. The reader knows the forms that answers of gRPC are made of.
//!
//! Leaves out Huffman coding of what is written. Law: a reader's table is what the writer on the other
//! side believes it to be, else the connection is over: an index that names nothing is a breach.
//!
//! Worked example: `88` is `:status: 200`; `40 04 te.. ` enters the table, and is `be` from then on.

use std::collections::VecDeque;

use holdfast_core::rng::Rng;

use super::Breach;
use super::huffman;

/// A name and a value.
pub type Field = (String, String);

/// What one entry of the table counts beside its bytes.
const OVERHEAD: usize = 32;

/// The table's size before anybody says otherwise.
const TABLE_BYTES: usize = 4096;

/// The place of the newest dynamic entry.
const DYNAMIC: usize = 62;

/// The static entries that requests and answers of gRPC use.
const STATIC: [(usize, &str, &str); 8] = [
    (1, ":authority", ""),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (6, ":scheme", "http"),
    (8, ":status", "200"),
    (31, "content-type", ""),
    (57, "transfer-encoding", ""),
    (58, "user-agent", ""),
];

/// Entries that both sides know, the newest first.
#[derive(Clone, Debug, Default)]
struct Table {
    entries: VecDeque<Field>,
    bytes: usize,
    bytes_max: usize,
}

impl Table {
    fn add(&mut self, field: Field) {
        self.bytes += field.0.len() + field.1.len() + OVERHEAD;
        self.entries.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.bytes -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// Writes the header blocks of a client.
#[derive(Clone, Debug)]
pub struct Encoder(Table);

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder(Table { bytes_max: TABLE_BYTES, ..Table::default() })
    }
}

impl Encoder {
    /// A block of these fields.
    pub fn block(&mut self, rng: &mut Rng, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            self.field(rng, name, value, &mut out);
        }
        out
    }

    fn field(&mut self, rng: &mut Rng, name: &str, value: &str, out: &mut Vec<u8>) {
        let whole = STATIC.iter().find(|(_, n, v)| *n == name && *v == value && !v.is_empty());
        let entries = &self.0.entries;
        let known = entries.iter().position(|(n, v)| n == name && v == value);
        let known = whole.map(|(index, ..)| *index).or(known.map(|place| DYNAMIC + place));
        if let Some(index) = known.filter(|_| rng.chance(90)) {
            return integer(index, 7, 0x80, out);
        }
        let name_index = STATIC.iter().find(|(_, n, _)| *n == name).map_or(0, |(index, ..)| *index);
        let added = rng.chance(50);
        match added {
            true => integer(name_index, 6, 0x40, out),
            false => integer(name_index, 4, if rng.chance(50) { 0x10 } else { 0 }, out),
        }
        if name_index == 0 {
            string(name, out);
        }
        string(value, out);
        if added {
            self.0.add((name.to_string(), value.to_string()));
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text.as_bytes());
}

/// An integer behind a prefix of `bits`, under the pattern in the bits before it (5.1).
fn integer(value: usize, bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let mask = (1 << bits) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads the header blocks of a server.
#[derive(Clone, Debug)]
pub struct Decoder(Table);

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder(Table { bytes_max: TABLE_BYTES, ..Table::default() })
    }
}

impl Decoder {
    /// The fields of a block.
    ///
    /// # Errors
    /// The block is not well formed, or names what is not in the table.
    pub fn block(&mut self, mut block: &[u8]) -> Result<Vec<Field>, Breach> {
        let mut fields = Vec::new();
        while let Some(first) = block.first().copied() {
            if first & 0xe0 == 0x20 {
                let size = take_integer(&mut block, 5)?;
                if size > TABLE_BYTES || !fields.is_empty() {
                    return Err(format!("a table size of {size} after {} fields", fields.len()));
                }
                self.0.bytes_max = size;
                self.0.evict();
                continue;
            }
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7)?;
                fields.push(self.entry(index)?);
                continue;
            }
            let added = first & 0x40 != 0;
            let index = take_integer(&mut block, if added { 6 } else { 4 })?;
            let name = match index {
                0 => take_string(&mut block)?,
                _ => self.entry(index)?.0,
            };
            let field = (name, take_string(&mut block)?);
            fields.push(field.clone());
            if added {
                self.0.add(field);
            }
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<Field, Breach> {
        let of_table = index.checked_sub(DYNAMIC).and_then(|place| self.0.entries.get(place));
        if let Some(field) = of_table {
            return Ok(field.clone());
        }
        let known = STATIC.iter().find(|(known, ..)| *known == index);
        let (_, name, value) = known.ok_or(format!("the table has nothing at {index}"))?;
        Ok((name.to_string(), value.to_string()))
    }
}

fn take_integer(block: &mut &[u8], bits: u32) -> Result<usize, Breach> {
    const CUT: &str = "a header block is cut short";
    let (first, mut rest) = block.split_first().ok_or(CUT)?;
    let mask = (1 << bits) - 1;
    let mut value = usize::from(first & mask);
    if value == usize::from(mask) {
        for shift in (0..28).step_by(7) {
            let (byte, after) = rest.split_first().ok_or(CUT)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn take_string(block: &mut &[u8]) -> Result<String, Breach> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or("a string is cut short")?;
    *block = rest;
    let bytes = if coded { huffman::decode(bytes)? } else { bytes.to_vec() };
    String::from_utf8(bytes).map_err(|_| "a field that is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut rng = Rng::new(1);
        for round in 0..200 {
            let number = (round % 7).to_string();
            let long = "x".repeat(round);
            let fields = [(":status", "200"), ("grpc-status", &number), ("grpc-message", &long)];
            let block = encoder.block(&mut rng, &fields);
            let read = decoder.block(&block).expect("it is well formed");
            let wanted = fields.map(|(name, value)| (name.to_string(), value.to_string()));
            assert_eq!(read, wanted, "round {round}");
        }
        assert!(encoder.0.entries.len() > 5, "the table is used");
        assert!(decoder.block(&[0xff, 0x7f]).is_err(), "an index beyond the table");
    }
}
