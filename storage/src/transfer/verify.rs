//! Checks a snapshot that has arrived: every file is read back from the disk and verified before
//! anybody hears of it.
//!
//! Segments are read in bounded pieces, as orders to the disk. The manifest, the footers and the
//! tree are read at once; loading the tree is what makes the snapshot ready to be used.
//!
//! Worked example: a segment of three blocks of 100 KiB takes two reads, of two blocks and of one.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::message::SnapshotMeta;
use holdfast_core::mutant;
use holdfast_core::store::{Fault, Table};

use super::Context;
use crate::checkpoint::{FileRef, Manifest};
use crate::disk::{Disk, DiskOp};
use crate::engine::files::{DataFile, PIECE_BYTES};
use crate::engine::{load_manifest, load_tree, open_segment};
use crate::segment::block::Block;
use crate::segment::sealed::Sealed;
use crate::superblock::ManifestRef;
use crate::tree::Tree;

/// A snapshot that is complete, verified and loaded.
pub(crate) struct Staged {
    pub(crate) meta: SnapshotMeta,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_ref: ManifestRef,
    pub(crate) tree: Tree,
    pub(crate) live_bytes: i64,
    pub(crate) segments: Vec<Arc<Sealed>>,
}

/// The state of the check.
pub(crate) struct Verifier {
    meta: SnapshotMeta,
    manifest: Manifest,
    manifest_ref: ManifestRef,
    segments: Vec<Arc<Sealed>>,
    /// Segments still to be read; those this member had before are not.
    fresh: Vec<Arc<Sealed>>,
    /// The first block not asked for, and how many the read under way covers.
    block: usize,
    reading: usize,
    totals: Totals,
}

/// What the blocks of a segment hold together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    records: u64,
    tombstones: u64,
    kv_bytes: u64,
    last: Option<RevSub>,
}

/// What comes next.
pub(crate) enum Verify {
    /// This read; its bytes go to [`Verifier::read`].
    Read(DiskOp),
    /// All is well.
    Done(Box<Staged>),
}

const WHAT: &str = "a snapshot from a peer is not accepted";

impl Verifier {
    /// Reads the manifest among `files` and checks that it is about just these and `meta`.
    pub(crate) fn new(
        files: &[DataFile],
        meta: &SnapshotMeta,
        context: &Context<'_>,
    ) -> Result<Verifier, Fault> {
        let (manifest_file, others) = files.split_first().ok_or_else(|| refused("no files"))?;
        let (manifest, crc) = load_manifest(context.disk, manifest_file)?;
        let matches = (manifest.mark.applied == meta.at || mutant::on(64))
            && manifest.cluster == context.cluster
            && manifest_file.id() == Some(manifest.id)
            && manifest.files().eq(others.iter().cloned());
        if !matches {
            return Err(refused("its manifest is about something else"));
        }
        let manifest_ref = ManifestRef { id: manifest.id, len: manifest_file.len, crc };
        let mut segments: Vec<Arc<Sealed>> = Vec::with_capacity(manifest.segments.len());
        let mut fresh = Vec::new();
        for (reference, file) in manifest.segments.iter().zip(others) {
            let before = segments.last().map(|segment| &**segment);
            let known = context.segment(file).filter(|known| FileRef::of(known) == *reference);
            if let Some(known) = known.filter(|known| follows(known, before)) {
                segments.push(known);
                continue;
            }
            let segment = Arc::new(open_segment(context.disk, *reference, before)?);
            fresh.push(segment.clone());
            segments.push(segment);
        }
        fresh.reverse();
        let (meta, totals) = (meta.clone(), Totals::default());
        Ok(Verifier { meta, manifest, manifest_ref, segments, fresh, block: 0, reading: 0, totals })
    }

    /// The next part to read, or the snapshot.
    pub(crate) fn next(&mut self, disk: &dyn Disk) -> Result<Verify, Fault> {
        while let Some(segment) = self.fresh.last().cloned() {
            if let Some(op) = self.next_read(&segment) {
                return Ok(Verify::Read(op));
            }
            let footer = &segment.footer;
            let stated = Totals {
                records: footer.records,
                tombstones: footer.tombstones,
                kv_bytes: footer.kv_bytes,
                last: Some(footer.last),
            };
            if std::mem::take(&mut self.totals) != stated {
                return Err(refused("a segment does not hold what its footer says"));
            }
            self.fresh.pop();
            self.block = 0;
        }
        let (mut tree, live_bytes) = load_tree(disk, &self.manifest)?;
        for (number, table) in [(70, Table::LeaseKeys), (61, Table::Leases)] {
            if mutant::on(number) {
                lose(table, &mut tree);
            }
        }
        Ok(Verify::Done(Box::new(Staged {
            meta: self.meta.clone(),
            manifest: self.manifest.clone(),
            manifest_ref: self.manifest_ref,
            tree,
            live_bytes,
            segments: std::mem::take(&mut self.segments),
        })))
    }

    /// The bytes of the last read.
    pub(crate) fn read(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let Some(segment) = self.fresh.last().cloned() else { return Ok(()) };
        let mut rest = bytes;
        for number in self.block..self.block + self.reading {
            let len = segment.extent(number).map_or(0, |(_, len)| len);
            if rest.len() < len {
                return Err(refused("a file is shorter than it was"));
            }
            let block = segment.verify(number, rest.split_to(len))?;
            let first = segment.footer.blocks[number].first;
            self.totals
                .add(&block, first)
                .map_err(|cause| segment.damaged_block(number, &cause))?;
        }
        self.block += self.reading;
        Ok(())
    }

    fn next_read(&mut self, segment: &Sealed) -> Option<DiskOp> {
        let (offset, mut len) = segment.extent(self.block)?;
        self.reading = 1;
        while let Some((_, more)) = segment.extent(self.block + self.reading)
            && len + more <= PIECE_BYTES
        {
            len += more;
            self.reading += 1;
        }
        Some(DiskOp::Read { file: segment.file.name.clone(), offset, len })
    }
}

impl Totals {
    fn add(&mut self, block: &Block, first: RevSub) -> Result<(), &'static str> {
        let mut records = block.records();
        let mut count = 0;
        while let Some(record) = records.next()? {
            record.verify()?;
            if self.last.is_some_and(|last| last >= record.at) || (count == 0 && record.at != first)
            {
                return Err("its records are not in revision order");
            }
            count += 1;
            self.records += 1;
            self.tombstones += u64::from(record.tombstone);
            self.kv_bytes += record.kv.len() as u64;
            self.last = Some(record.at);
        }
        match count == block.count() && count > 0 {
            true => Ok(()),
            false => Err("it does not hold as many records as it says"),
        }
    }
}

fn follows(segment: &Sealed, before: Option<&Sealed>) -> bool {
    before.is_none_or(|before| before.last() < segment.first())
}

fn refused(cause: &str) -> Fault {
    Fault::new(WHAT, "data", cause)
}

/// Mutant M70: a table does not arrive.
fn lose(table: Table, tree: &mut Tree) {
    let table = table as u8;
    let mut keys = Vec::new();
    tree.scan(&[table], Some(&[table + 1]), &mut |key, _| {
        keys.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    });
    for key in keys {
        tree.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_core::store::Record;

    use super::*;
    use crate::segment::block::BlockBuilder;

    fn block(mains: &[i64]) -> Block {
        let mut builder = BlockBuilder::default();
        for main in mains {
            let (at, kv) = (RevSub::new(*main, 0), Bytes::from_static(b"kv"));
            assert!(builder.push(&Record { at, prev: None, tombstone: main % 2 == 0, kv }));
        }
        builder.finish(1, 0)
    }

    #[test]
    fn blocks_add_up_and_must_be_in_order() {
        let mut totals = Totals::default();
        let first = |main| RevSub::new(main, 0);
        assert_eq!(totals.add(&block(&[3, 4]), first(3)), Ok(()));
        assert_eq!(totals.add(&block(&[7]), first(7)), Ok(()));
        let last = Some(first(7));
        assert_eq!(totals, Totals { records: 3, tombstones: 1, kv_bytes: 6, last });
        for (mains, at) in [(&[7][..], 7), (&[9, 8], 9), (&[9], 8)] {
            assert!(totals.add(&block(mains), first(at)).is_err(), "{mains:?}");
        }
    }
}
