//! A sealed value segment: a file that is only read.
//!
//! Opening reads and checks the footer; each block is verified every time it is loaded from the
//! disk, because a page that the system dropped and read again was not verified by the first time.
//!
//! Worked example: blocks start at `r2.0`, `r9.1` and `r30.0`; `r10.0` is looked for in the second.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::store::{Fault, Record};

use super::block::{Block, BlockAddress};
use super::cache::{BlockCache, Key};
use super::footer::{Footer, TRAILER, Trailer};
use crate::disk::{Disk, FileName};
use crate::engine::files::DataFile;

/// What is needed to read values from files.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) cache: Arc<BlockCache>,
}

/// One sealed segment.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) file: Arc<DataFile>,
    pub(crate) footer: Footer,
    pub(crate) crc: u32,
}

impl Sealed {
    /// Reads and checks the footer of `file`.
    pub(crate) fn open(disk: &dyn Disk, file: Arc<DataFile>) -> Result<Sealed, Fault> {
        let damaged = |cause: &dyn std::fmt::Display| damaged(&file.name, cause);
        let tail =
            file.len.checked_sub(TRAILER as u64).ok_or_else(|| damaged(&"it is too short"))?;
        let mut bytes = vec![0; TRAILER];
        disk.read(&file.name, tail, &mut bytes).map_err(|error| damaged(&error))?;
        let trailer = Trailer::decode(&bytes, file.len).map_err(|cause| damaged(&cause))?;
        let mut bytes = vec![0; (file.len - trailer.index_offset) as usize];
        disk.read(&file.name, trailer.index_offset, &mut bytes).map_err(|error| damaged(&error))?;
        let (footer, crc) = Footer::decode(&bytes, trailer).map_err(|cause| damaged(&cause))?;
        match file.id() == Some(footer.segment) {
            true => Ok(Sealed { file, footer, crc }),
            false => Err(damaged(&"the segment is another one than its name says")),
        }
    }

    /// The revision of its first record.
    pub(crate) fn first(&self) -> RevSub {
        self.footer.blocks.first().map_or(self.footer.last, |block| block.first)
    }

    /// The revision of its last record.
    pub(crate) fn last(&self) -> RevSub {
        self.footer.last
    }

    /// The record at a revision, if the segment has it.
    pub(crate) fn find(&self, source: &Source, at: RevSub) -> Result<Option<Record>, Fault> {
        let Some(number) = self.block_of(at) else { return Ok(None) };
        let block = self.block(source, number, Keep::Yes)?;
        block.find(at).map_err(|cause| self.damaged_block(number, &cause))
    }

    /// The block that has a revision if one does.
    pub(crate) fn place(&self, at: RevSub) -> Option<Key> {
        Some((self.footer.segment, self.block_of(at)? as u32))
    }

    /// A block of this segment.
    pub(crate) fn load(&self, source: &Source, (_, number): Key) -> Result<Block, Fault> {
        self.block(source, number as usize, Keep::Yes)
    }

    /// Visits the records from `from` on; the answer says whether `visit` broke.
    pub(crate) fn scan(
        &self,
        source: &Source,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        for number in self.block_of(from).unwrap_or(0)..self.footer.blocks.len() {
            let block = self.block(source, number, Keep::No)?;
            let damaged = |cause| self.damaged_block(number, &cause);
            let mut records = block.records();
            while let Some(raw) = records.next().map_err(damaged)? {
                if raw.at >= from && visit(&block.record(&raw).map_err(damaged)?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The place and length of block `number` in the file.
    pub(crate) fn extent(&self, number: usize) -> Option<(u64, usize)> {
        self.footer.blocks.get(number).map(|block| (block.offset, block.len as usize))
    }

    /// Accepts `bytes` as block `number`.
    pub(crate) fn verify(&self, number: usize, bytes: Bytes) -> Result<Block, Fault> {
        let first = self.footer.blocks[number].first;
        let address = BlockAddress { segment: self.footer.segment, number: number as u32, first };
        Block::verify(bytes, address).map_err(|cause| self.damaged_block(number, &cause))
    }

    /// The fault of a block whose inside is wrong.
    pub(crate) fn damaged_block(&self, number: usize, cause: &dyn std::fmt::Display) -> Fault {
        let offset = self.footer.blocks.get(number).map_or(0, |block| block.offset);
        Fault::new(READING, format!("{} at offset {offset}", self.file.name), cause)
    }

    fn block_of(&self, at: RevSub) -> Option<usize> {
        self.footer.blocks.partition_point(|block| block.first <= at).checked_sub(1)
    }

    fn block(&self, source: &Source, number: usize, keep: Keep) -> Result<Block, Fault> {
        let key = (self.footer.segment, number as u32);
        if let Some(block) = source.cache.get(key) {
            return Ok(block);
        }
        let place = self.footer.blocks[number];
        let mut bytes = vec![0; place.len as usize];
        source
            .disk
            .read(&self.file.name, place.offset, &mut bytes)
            .map_err(|error| self.damaged_block(number, &error))?;
        let block = self.verify(number, bytes.into())?;
        if keep == Keep::Yes {
            source.cache.insert(key, block.clone());
        }
        Ok(block)
    }
}

/// Whether a block that was read stays in the cache: a long scan must not push out what is hot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

const READING: &str = "cannot read values; restore this member from a snapshot or a peer";

fn damaged(file: &FileName, cause: &dyn std::fmt::Display) -> Fault {
    Fault::new(READING, file.to_string(), cause)
}
