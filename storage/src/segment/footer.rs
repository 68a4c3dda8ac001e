//! The end of a sealed segment: where each block is, and what the whole file holds.
//!
//! ```text
//! blocks …
//! index     per block: offset u64 | length u32 | first main i64 | first sub u32
//! zeros     so that the file's length is a multiple of 4096
//! trailer   magic "HFVALUES" | format u32 = 1 | blocks u32 | segment u64 | index offset u64
//!           | records u64 | tombstones u64 | kv bytes u64 | last main i64 | last sub u32
//!           | crc32 u32
//! ```
//!
//! The crc is over everything from the index on except itself. It names the content of the whole
//! segment (blocks are reached only through the index), so manifests repeat it.
//!
//! Laws, checked when a footer is read:
//!  1. Blocks lie one after the other from offset 0 to the index.
//!  2. Their first revisions ascend strictly, and the last record is not before the last of them.
//!
//! Worked example: one block of 100 bytes: the index is the 24 bytes at 100, zeros follow up to
//! 4024, and the trailer ends the file at 4096.

use holdfast_core::id::RevSub;

use super::block::BLOCK_HEADER;
use crate::disk::BLOCK;
use crate::engine::numbers::{Reader, put_i64, put_u32, put_u64};

/// Bytes of a trailer.
pub(crate) const TRAILER: usize = 72;

const MAGIC: &[u8; 8] = b"HFVALUES";
const FORMAT: u32 = 1;
const INDEX_ENTRY: usize = 24;

/// One block of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRef {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) first: RevSub,
}

/// Everything the footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) segment: u64,
    pub(crate) blocks: Vec<BlockRef>,
    pub(crate) records: u64,
    pub(crate) tombstones: u64,
    pub(crate) kv_bytes: u64,
    pub(crate) last: RevSub,
}

/// The part of the trailer that says how much there is to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trailer {
    pub(crate) index_offset: u64,
    blocks: u32,
}

impl Trailer {
    /// Reads a trailer of a file of `file_len` bytes; its checksum comes with the index.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Trailer, String> {
        let mut reader = Reader::new(bytes);
        if reader.take(8) != Some(MAGIC) {
            return Err("the file does not end like a value segment".into());
        }
        let short = "the footer is too short";
        let format = reader.u32().ok_or(short)?;
        if format != FORMAT {
            return Err(format!("its format is {format}; this program reads format {FORMAT}"));
        }
        let blocks = reader.u32().ok_or(short)?;
        reader.u64().ok_or(short)?;
        let index_offset = reader.u64().ok_or(short)?;
        let index_end = u64::from(blocks)
            .checked_mul(INDEX_ENTRY as u64)
            .and_then(|len| len.checked_add(index_offset));
        match index_end {
            Some(end) if blocks > 0 && end <= file_len.saturating_sub(TRAILER as u64) => {
                Ok(Trailer { index_offset, blocks })
            }
            _ => Err("the footer points outside of the file".into()),
        }
    }
}

impl Footer {
    /// The bytes from the index to the end of the file, and their crc.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let index_offset = self.end_of_blocks();
        let mut out = Vec::with_capacity(self.blocks.len() * INDEX_ENTRY + TRAILER + BLOCK);
        for block in &self.blocks {
            put_u64(&mut out, block.offset);
            put_u32(&mut out, block.len);
            put_i64(&mut out, block.first.main.0);
            put_u32(&mut out, block.first.sub);
        }
        let end = (index_offset as usize + out.len() + TRAILER).next_multiple_of(BLOCK);
        out.resize(end - index_offset as usize - TRAILER, 0);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, FORMAT);
        put_u32(&mut out, self.blocks.len() as u32);
        put_u64(&mut out, self.segment);
        put_u64(&mut out, index_offset);
        put_u64(&mut out, self.records);
        put_u64(&mut out, self.tombstones);
        put_u64(&mut out, self.kv_bytes);
        put_i64(&mut out, self.last.main.0);
        put_u32(&mut out, self.last.sub);
        let crc = crc32fast::hash(&out);
        put_u32(&mut out, crc);
        (out, crc)
    }

    /// Reads what [`Footer::encode`] made; `bytes` reach from the trailer's index offset to the
    /// end.
    pub(crate) fn decode(bytes: &[u8], trailer: Trailer) -> Result<(Footer, u32), &'static str> {
        let (covered, stated) = bytes.split_last_chunk::<4>().ok_or("the footer is too short")?;
        let crc = crc32fast::hash(covered);
        if crc != u32::from_le_bytes(*stated) {
            return Err("the footer's checksum does not match");
        }
        let mut index = Reader::new(covered);
        let blocks = (0..trailer.blocks)
            .map(|_| {
                let (offset, len) = (index.u64()?, index.u32()?);
                Some(BlockRef { offset, len, first: RevSub::new(index.i64()?, index.u32()?) })
            })
            .collect::<Option<Vec<BlockRef>>>()
            .ok_or("the index is too short")?;
        let tail = covered.len().checked_sub(TRAILER - 4).ok_or("the footer is too short")?;
        let mut tail = Reader::new(&covered[tail..]);
        let footer = Footer::totals(&mut tail, blocks).ok_or("the footer is too short")?;
        footer.check(trailer.index_offset)?;
        Ok((footer, crc))
    }

    fn totals(tail: &mut Reader<'_>, blocks: Vec<BlockRef>) -> Option<Footer> {
        tail.take(16)?;
        let segment = tail.u64()?;
        tail.u64()?;
        let (records, tombstones, kv_bytes) = (tail.u64()?, tail.u64()?, tail.u64()?);
        let last = RevSub::new(tail.i64()?, tail.u32()?);
        Some(Footer { segment, blocks, records, tombstones, kv_bytes, last })
    }

    fn check(&self, index_offset: u64) -> Result<(), &'static str> {
        let mut expected = 0u64;
        for block in &self.blocks {
            if block.offset != expected || (block.len as usize) < BLOCK_HEADER {
                return Err("the blocks do not lie one after the other");
            }
            expected += u64::from(block.len);
        }
        if expected != index_offset {
            return Err("the blocks do not reach up to the index");
        }
        let ascending = self.blocks.windows(2).all(|pair| pair[0].first < pair[1].first);
        match self.blocks.last() {
            Some(last) if ascending && last.first <= self.last => Ok(()),
            _ => Err("the index is not in revision order"),
        }
    }

    fn end_of_blocks(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.offset + u64::from(block.len))
    }
}
