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
use super::block::BlockBuilder;
use super::cache::BlockCache;
use super::footer::{BlockRef, Footer};
use super::sealed::Sealed;
use crate::disk::{BLOCK, Buffer};
use crate::engine::files::{DataFile, PIECE_BYTES};

/// The state between two pieces.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    run: Run,
    next: u64,
    builder: BlockBuilder,
    footer: Footer,
    /// What did not fill a block of the disk, for the next piece.
    rest: Vec<u8>,
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
            rest: Vec::new(),
            written: 0,
            crc: None,
        }
    }

    /// Appends the next bytes to `out`, which is empty; says whether they are the last.
    pub(crate) fn next(&mut self, cache: &BlockCache, out: &mut Buffer) -> bool {
        out.extend(&self.rest);
        while out.len() < PIECE_BYTES && self.crc.is_none() {
            self.step(cache, out);
        }
        let whole = out.len() / BLOCK * BLOCK;
        self.rest.clear();
        self.rest.extend_from_slice(&out[whole..]);
        out.truncate(whole);
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

    fn step(&mut self, cache: &BlockCache, out: &mut Buffer) {
        let Some(record) = self.run.get(self.next) else { return self.close(out) };
        if !self.builder.push(record) {
            self.end_block(cache, out);
            return;
        }
        self.next += 1;
        self.footer.records += 1;
        self.footer.tombstones += u64::from(record.tombstone);
        self.footer.kv_bytes += record.kv.len() as u64;
        if self.next == self.run.end() {
            self.end_block(cache, out);
        }
    }

    fn end_block(&mut self, cache: &BlockCache, out: &mut Buffer) {
        let first = self.builder.first().expect("a block is ended when it holds a record");
        let number = self.footer.blocks.len() as u32;
        let segment = self.footer.segment;
        let block = self.builder.finish(segment, number);
        let (offset, len) = (self.written + out.len() as u64, block.bytes().len() as u32);
        self.footer.blocks.push(BlockRef { offset, len, first });
        out.extend(block.bytes());
        cache.insert_made((segment, number), block);
    }

    fn close(&mut self, out: &mut Buffer) {
        let (bytes, crc) = self.footer.encode();
        out.extend(&bytes);
        self.crc = Some(crc);
    }
}
