//! Turns a frozen root into the bytes of a page file, piece by piece.
//!
//! Law: the crc is over just the bytes that were given out.
//! Worked example: a tree of 100 pages gives a piece of 64 and one of 36.

use super::FileRef;
use crate::disk::{BLOCK, Buffer};
use crate::engine::files::PIECE_BYTES;
use crate::tree::{PageRef, PageWriter, Root};

/// The state between two pieces.
pub(super) struct PageFile {
    writer: PageWriter,
    /// The page written last; in the end the root.
    last: PageRef,
    crc: crc32fast::Hasher,
}

impl PageFile {
    /// Will write all pages that `root` reaches.
    pub(super) fn new(root: &Root) -> PageFile {
        let last = PageRef { page: 0, crc: 0 };
        PageFile { writer: root.page_writer(), last, crc: crc32fast::Hasher::new() }
    }

    /// Appends the next pages to `out`; says whether they are the last.
    pub(super) fn next(&mut self, out: &mut Buffer) -> bool {
        let mut page = [0; BLOCK];
        while out.len() < PIECE_BYTES {
            let Some(at) = self.writer.next(&mut page) else { return true };
            self.last = at;
            self.crc.update(&page);
            out.extend(&page);
        }
        false
    }

    /// Root and file of what was written.
    pub(super) fn finish(self, id: u64, len: u64) -> (PageRef, FileRef) {
        (self.last, FileRef { id, len, crc: self.crc.finalize() })
    }
}
