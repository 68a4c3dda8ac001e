//! Records and the blocks that hold them.
//!
//! ```text
//! record   crc32 u32 | main | sub | flags u8 | [prev main | prev sub] | kv length | kv bytes
//! block    crc32 u32 | length u32 | segment u64 | number u32 | count u32
//!          | first main i64 | first sub u32 | zero u32 | records …
//! ```
//!
//! Numbers of a record are varints; `flags` bit 0 is "tombstone", bit 1 "`prev` is known". A
//! record's crc covers the rest of the record. A block's crc covers the rest of the block and its
//! length is that of the whole block, so a block found elsewhere, in another file, or half written,
//! is noticed.
//!
//! Laws:
//!  1. The records of a block ascend strictly by revision and the first is the one in the header.
//!  2. A block longer than [`BLOCK_BYTES`] holds exactly one record.
//!
//! Worked example: a block from `r5.0` on, with `r5.0`, `r5.1` and `r7.0`: `find(r6.0)` is `None`.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::store::Record;

use super::active::touch;
use crate::engine::numbers::{Reader, put_i64, put_u32, put_u64, put_varint};

/// A block is closed before it would grow beyond this.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;

/// Bytes of a block before its records.
pub(crate) const BLOCK_HEADER: usize = 40;

/// Longer values are handed out as a slice of their block; shorter ones are copied, so that a few
/// hundred bytes do not keep a whole block in memory.
const SHARE_BYTES: usize = 4 << 10;

const TOMBSTONE: u8 = 1;
const HAS_PREV: u8 = 2;

/// Where a block must turn out to be: what its header is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockAddress {
    /// The segment's id.
    pub(crate) segment: u64,
    /// The block's ordinal in it.
    pub(crate) number: u32,
    /// Its first record.
    pub(crate) first: RevSub,
}

/// Collects records into one block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    first: RevSub,
    last: RevSub,
    /// Where each record starts.
    starts: Vec<u32>,
}

impl BlockBuilder {
    /// Adds a record unless the block is full; says whether it did. An empty block takes any
    /// record.
    pub(crate) fn push(&mut self, record: &Record) -> bool {
        let len = encoded_len_max(record);
        if self.starts.is_empty() {
            self.bytes = Vec::with_capacity(BLOCK_BYTES.max(BLOCK_HEADER + len));
            self.bytes.resize(BLOCK_HEADER, 0);
            self.first = record.at;
        } else if self.bytes.len() + len > BLOCK_BYTES {
            return false;
        }
        self.last = record.at;
        self.starts.push(self.bytes.len() as u32);
        encode(record, &mut self.bytes);
        true
    }

    /// The first record, if there is one.
    pub(crate) fn first(&self) -> Option<RevSub> {
        (!self.starts.is_empty()).then_some(self.first)
    }

    /// The finished block; the builder is empty again.
    pub(crate) fn finish(&mut self, segment: u64, number: u32) -> Block {
        let mut block = std::mem::take(&mut self.bytes);
        let mut header = Vec::with_capacity(BLOCK_HEADER);
        put_u32(&mut header, 0);
        put_u32(&mut header, u32::try_from(block.len()).expect("a record is far below 4 GiB"));
        put_u64(&mut header, segment);
        put_u32(&mut header, number);
        put_u32(&mut header, self.starts.len() as u32);
        put_i64(&mut header, self.first.main.0);
        put_u32(&mut header, self.first.sub);
        put_u32(&mut header, 0);
        block[..BLOCK_HEADER].copy_from_slice(&header);
        let crc = crc32fast::hash(&block[4..]);
        block[..4].copy_from_slice(&crc.to_le_bytes());
        let starts = self.starts[..].into();
        self.starts.clear();
        let (first, last) = (self.first, self.last);
        Block(Arc::new(Inner { bytes: block.into(), starts, first, last }))
    }
}

/// A block that was made here, or whose checksum and address were verified. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Block(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    /// Where each record starts: a block that is kept is searched often.
    starts: Box<[u32]>,
    first: RevSub,
    last: RevSub,
}

impl Block {
    /// Accepts `bytes` if they are the block at `address`, else says what is wrong.
    pub(crate) fn verify(bytes: Bytes, address: BlockAddress) -> Result<Block, &'static str> {
        let mut header = Reader::new(&bytes);
        let crc = header.u32().ok_or("the block is shorter than its header")?;
        if crc != crc32fast::hash(header.rest()) {
            return Err("the block's checksum does not match");
        }
        let mut read = || {
            let len = header.u32()? as usize;
            let segment = header.u64()?;
            let number = header.u32()?;
            let _count = header.u32()?;
            let first = RevSub::new(header.i64()?, header.u32()?);
            header.u32()?;
            Some((len, BlockAddress { segment, number, first }))
        };
        match read() {
            Some((len, found)) if len == bytes.len() && found == address => {
                let (starts, last) =
                    starts(&bytes).ok_or("a record of the block cannot be decoded")?;
                let first = address.first;
                Ok(Block(Arc::new(Inner { bytes, starts, first, last: last.unwrap_or(first) })))
            }
            Some(_) => Err("the block belongs to another place"),
            None => Err("the block is shorter than its header"),
        }
    }

    /// As it stands in its file.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Bytes it takes in memory.
    pub(crate) fn len(&self) -> usize {
        self.0.bytes.len() + 4 * self.0.starts.len()
    }

    /// The record `at`, if it is here; `Err` if the block's inside is broken.
    pub(crate) fn find(&self, at: RevSub) -> Result<Option<Record>, &'static str> {
        self.look(at).map(|raw| self.record(&raw)).transpose()
    }

    /// Likewise, the pair of that record.
    pub(crate) fn pair(&self, at: RevSub) -> Result<Option<&[u8]>, &'static str> {
        let Some(raw) = self.look(at) else { return Ok(None) };
        raw.verify()?;
        Ok(Some(raw.kv))
    }

    /// Whether a revision lies between its first record and its last.
    pub(crate) fn may_have(&self, at: RevSub) -> bool {
        (self.0.first..=self.0.last).contains(&at)
    }

    /// Loads the record that [`Block::pair`] will look at first into the cache.
    pub(crate) fn touch(&self, at: RevSub) {
        let Inner { bytes, starts, .. } = &*self.0;
        let Some(nth) = self.guess(at).filter(|nth| *nth < starts.len()) else { return };
        let end = starts.get(nth + 1).map_or(bytes.len(), |end| *end as usize);
        touch(&bytes[starts[nth] as usize..end]);
    }

    /// Which record that of a revision is, if all its revisions have made as many records.
    fn guess(&self, at: RevSub) -> Option<usize> {
        let Inner { starts, first, last, .. } = &*self.0;
        let (count, subs) =
            (starts.len() as i64, |more: u32, less: u32| i64::from(more) - i64::from(less));
        if !self.may_have(at) {
            return None;
        }
        let nth = if at.main == first.main {
            subs(at.sub, first.sub)
        } else if at.main == last.main {
            count - 1 - subs(last.sub, at.sub)
        } else {
            let (mains, all) = (at.main.0 - first.main.0, last.main.0 - first.main.0);
            mains.checked_mul(count - 1)? / all + i64::from(at.sub)
        };
        usize::try_from(nth).ok()
    }

    fn look(&self, at: RevSub) -> Option<RawRecord<'_>> {
        let starts = &self.0.starts;
        let guess = self.guess(at).and_then(|nth| self.raw(*starts.get(nth)?));
        if let Some(found) = guess.filter(|raw| raw.at == at) {
            return Some(found);
        }
        let is_before = |start: &u32| self.raw(*start).is_some_and(|raw| raw.at < at);
        let index = starts.partition_point(is_before);
        let start = starts.get(index)?;
        self.raw(*start).filter(|raw| raw.at == at)
    }

    fn raw(&self, start: u32) -> Option<RawRecord<'_>> {
        decode(&mut Reader::new(&self.0.bytes[start as usize..]))
    }

    /// Its records from the first on.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { reader: Reader::new(&self.0.bytes[BLOCK_HEADER..]) }
    }

    /// A record of its own, its checksum verified.
    pub(crate) fn record(&self, raw: &RawRecord<'_>) -> Result<Record, &'static str> {
        raw.verify()?;
        let kv = match raw.kv.len() >= SHARE_BYTES {
            true => self.0.bytes.slice_ref(raw.kv),
            false => Bytes::copy_from_slice(raw.kv),
        };
        Ok(Record { at: raw.at, prev: raw.prev, tombstone: raw.tombstone, kv })
    }

    /// The count its header states.
    pub(crate) fn count(&self) -> u32 {
        let bytes = &self.0.bytes[20..24];
        u32::from_le_bytes(bytes.try_into().expect("the slice has four bytes"))
    }
}

/// Walks over the records of a block.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    reader: Reader<'a>,
}

impl<'a> Records<'a> {
    /// The next record, its checksum not looked at.
    pub(crate) fn next(&mut self) -> Result<Option<RawRecord<'a>>, &'static str> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        decode(&mut self.reader).map(Some).ok_or("a record of the block cannot be decoded")
    }
}

/// A record still in its block.
#[derive(Debug)]
pub(crate) struct RawRecord<'a> {
    pub(crate) at: RevSub,
    pub(crate) prev: Option<RevSub>,
    pub(crate) tombstone: bool,
    pub(crate) kv: &'a [u8],
    crc: u32,
    covered: &'a [u8],
}

impl RawRecord<'_> {
    /// Compares the record with its own checksum.
    pub(crate) fn verify(&self) -> Result<(), &'static str> {
        match self.crc == crc32fast::hash(self.covered) {
            true => Ok(()),
            false => Err("a record's checksum does not match"),
        }
    }
}

/// Where each record of a block starts, and the revision of the last.
fn starts(block: &[u8]) -> Option<(Box<[u32]>, Option<RevSub>)> {
    let mut reader = Reader::new(&block[BLOCK_HEADER..]);
    let (mut starts, mut last) = (Vec::new(), None);
    while !reader.is_empty() {
        starts.push((block.len() - reader.rest().len()) as u32);
        last = Some(decode(&mut reader)?.at);
    }
    Some((starts.into(), last))
}

fn encoded_len_max(record: &Record) -> usize {
    4 + 10 + 5 + 1 + 15 + 10 + record.kv.len()
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    put_u32(out, 0);
    put_varint(out, record.at.main.0 as u64);
    put_varint(out, u64::from(record.at.sub));
    let tombstone = if record.tombstone { TOMBSTONE } else { 0 };
    match record.prev {
        None => out.push(tombstone),
        Some(prev) => {
            out.push(tombstone | HAS_PREV);
            put_varint(out, prev.main.0 as u64);
            put_varint(out, u64::from(prev.sub));
        }
    }
    put_varint(out, record.kv.len() as u64);
    out.extend_from_slice(&record.kv);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn decode<'a>(reader: &mut Reader<'a>) -> Option<RawRecord<'a>> {
    let crc = reader.u32()?;
    let before = reader.rest();
    let at = rev_sub(reader)?;
    let flags = reader.u8()?;
    if flags & !(TOMBSTONE | HAS_PREV) != 0 {
        return None;
    }
    let prev = if flags & HAS_PREV != 0 { Some(rev_sub(reader)?) } else { None };
    let len = usize::try_from(reader.varint()?).ok()?;
    let kv = reader.take(len)?;
    let covered = &before[..before.len() - reader.rest().len()];
    Some(RawRecord { at, prev, tombstone: flags & TOMBSTONE != 0, kv, crc, covered })
}

fn rev_sub(reader: &mut Reader<'_>) -> Option<RevSub> {
    let main = reader.varint()? as i64;
    Some(RevSub::new(main, u32::try_from(reader.varint()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(main: i64, kv: usize) -> Record {
        let prev = (main % 2 == 0).then(|| RevSub::new(main - 1, 7));
        let kv = Bytes::from(vec![main as u8; kv]);
        Record { at: RevSub::new(main, 1), prev, tombstone: main % 3 == 0, kv }
    }

    fn address(first: RevSub) -> BlockAddress {
        BlockAddress { segment: 9, number: 2, first }
    }

    #[test]
    fn records_come_back_from_a_block_and_no_others() {
        let mut builder = BlockBuilder::default();
        let records: Vec<Record> = (5..30).map(|main| record(main * 2, 100)).collect();
        assert!(records.iter().all(|record| builder.push(record)));
        let built = builder.finish(9, 2);
        let block = Block::verify(built.bytes().clone(), address(records[0].at)).unwrap();
        assert_eq!(block.count(), 25);
        assert_eq!(
            (&block.0.starts, block.0.last),
            (&built.0.starts, built.0.last),
            "a block says the same when it is made and when it is read"
        );
        for wanted in &records {
            assert_eq!(block.find(wanted.at).unwrap().as_ref(), Some(wanted));
        }
        for absent in
            [RevSub::new(9, 0), RevSub::new(11, 1), RevSub::new(10, 0), RevSub::new(99, 0)]
        {
            assert_eq!(block.find(absent), Ok(None));
        }
    }

    #[test]
    fn a_large_record_is_alone_in_its_block() {
        let mut builder = BlockBuilder::default();
        let large = record(4, 1 << 20);
        assert!(builder.push(&large));
        assert!(!builder.push(&record(6, 1)));
        let block = Block::verify(builder.finish(9, 2).bytes().clone(), address(large.at)).unwrap();
        assert_eq!(block.find(large.at), Ok(Some(large)));
    }

    #[test]
    fn any_flipped_bit_or_wrong_address_is_noticed() {
        let mut builder = BlockBuilder::default();
        assert!(builder.push(&record(4, 50)) && builder.push(&record(5, 50)));
        let good = builder.finish(9, 2).bytes().to_vec();
        let at = address(RevSub::new(4, 1));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::verify(bad.into(), at).is_err(), "bit {bit}");
        }
        for wrong in [
            BlockAddress { segment: 8, ..at },
            BlockAddress { number: 3, ..at },
            BlockAddress { first: RevSub::new(4, 2), ..at },
        ] {
            assert!(Block::verify(good.clone().into(), wrong).is_err());
        }
    }
}
