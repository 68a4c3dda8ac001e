//! Turns a frozen run of records into the bytes of a sealed segment, piece by piece.
//!
//! Each call does a bounded amount of work (about [`PIECE_BYTES`], or one record if that is larger)
//! and gives bytes whose length is a multiple of the disk's block, so that they can be written
//! without the caller keeping any of them. The blocks go into the cache as they are made: what was
//! just written is what is read next.
//!
//! Worked example: records of 10, 10 and 60 KiB give a block of one (the second would exceed 16
//! KiB), another of one, a third of 60 KiB, then index and trailer.

use std::sync::Arc;

use super::active::Run;
use super::block::{Block, BlockAddress, BlockBuilder};
use super::cache::BlockCache;
use super::footer::{BlockRef, Footer};
use super::sealed::Sealed;
use crate::disk::BLOCK;
use crate::engine::files::{DataFile, PIECE_BYTES};

/// The state between two pieces.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    run: Run,
    next: u64,
    builder: BlockBuilder,
    footer: Footer,
    pending: Vec<u8>,
    written: u64,
    crc: Option<u32>,
}

impl SegmentWriter {
    /// Will write the records of `run`, which is not empty, as segment `id`.
    pub(crate) fn new(id: u64, run: Run) -> SegmentWriter {
        let last = run.last().expect("a segment is written only for records");
        let footer = Footer {
            segment: id,
            blocks: Vec::new(),
            records: 0,
            tombstones: 0,
            kv_bytes: 0,
            last,
        };
        let next = run.start();
        SegmentWriter {
            run,
            next,
            builder: BlockBuilder::default(),
            footer,
            pending: Vec::new(),
            written: 0,
            crc: None,
        }
    }

    /// Appends the next bytes to `out`; says whether they are the last.
    pub(crate) fn next(&mut self, cache: &BlockCache, out: &mut crate::disk::Buffer) -> bool {
        while self.pending.len() < PIECE_BYTES && self.crc.is_none() {
            self.step(cache);
        }
        let whole = self.pending.len() / BLOCK * BLOCK;
        out.extend(&self.pending[..whole]);
        self.pending.drain(..whole);
        self.written += whole as u64;
        self.crc.is_some()
    }

    /// The segment that was written.
    pub(crate) fn finish(self, name: crate::disk::FileName) -> Sealed {
        let crc = self.crc.expect("finish follows the last piece");
        let file = Arc::new(DataFile { name, len: self.written });
        Sealed { file, footer: self.footer, crc }
    }

    /// The ordinal after the last record that the segment holds.
    pub(crate) fn end(&self) -> u64 {
        self.run.end()
    }

    fn step(&mut self, cache: &BlockCache) {
        let Some(record) = self.run.get(self.next) else { return self.close() };
        if !self.builder.push(record) {
            self.end_block(cache);
            return;
        }
        self.next += 1;
        self.footer.records += 1;
        self.footer.tombstones += u64::from(record.tombstone);
        self.footer.kv_bytes += record.kv.len() as u64;
        if self.next == self.run.end() {
            self.end_block(cache);
        }
    }

    fn end_block(&mut self, cache: &BlockCache) {
        let first = self.builder.first().expect("a block is ended when it holds a record");
        let number = self.footer.blocks.len() as u32;
        let segment = self.footer.segment;
        let bytes = self.builder.finish(segment, number);
        let offset = self.written + self.pending.len() as u64;
        self.footer.blocks.push(BlockRef { offset, len: bytes.len() as u32, first });
        self.pending.extend_from_slice(&bytes);
        let address = BlockAddress { segment, number, first };
        let block = Block::verify(bytes.into(), address).expect("the block was made this moment");
        cache.insert((segment, number), block);
    }

    fn close(&mut self) {
        let (bytes, crc) = self.footer.encode();
        self.pending.extend_from_slice(&bytes);
        self.crc = Some(crc);
    }
}
