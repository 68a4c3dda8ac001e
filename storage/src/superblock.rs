//! The superblock: the one file that is overwritten, and what decides which state is the member's.
//!
//! `data/superblock` has four copies, [`STRIDE`] apart. A checkpoint writes one pair of them (0 and
//! 1, or 2 and 3), never the pair that holds the last durable one, in one synced write. The valid
//! copy with the highest sequence counts. The file appears under its name only when complete.
//!
//! ```text
//! copy   magic "HFSUPERB" | format u32 = 2 | crc32 u32 | sequence u64 | cluster u64 | member u64
//!        | mark: index u64, term u64, revision i64, compacted i64
//!        | meta: index u64, term u64, voters u16, learners u16, ids u64 …
//!        | manifest: id u64, length u64, crc32 u32 | root: page u64, crc32 u32
//!        | log restart: index u64, term u64 | birth u64 | zeros up to 4096
//! ```
//!
//! The crc covers the whole copy with its own field taken as zero. Format 1 has no birth and is read with
//! 0 for it.
//!
//! Laws:
//!  1. A superblock is written only when every file it leads to is durable.
//!  2. What an older one leads to is removed only when the newer one is durable.
//!
//! From these: a crash at any moment leaves a whole pair, hence the old or the new state.
//!
//! Worked example: sequence 8 is durable in the high pair; 9 goes to the low pair; if that fails,
//! 10 does.

use holdfast_core::id::{ClusterId, Index, MemberId, Position, Revision, Term};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::store::{Fault, Mark};

use crate::disk::{BLOCK, Buffer, Disk, DiskOp, FileName};
use crate::engine::EngineIdentity;
use crate::engine::files::FOLDER;
use crate::engine::numbers::{Reader, put_i64, put_u16, put_u32, put_u64};
use crate::tree::PageRef;

/// Distance of two copies, in bytes.
pub(crate) const STRIDE: u64 = 16 << 10;

/// Copies in the file.
pub(crate) const COPIES: u64 = 4;

/// Voters and learners that a superblock has room for.
pub(crate) const MEMBERS_MAX: usize = 400;

const MAGIC: &[u8; 8] = b"HFSUPERB";
const FORMAT: u32 = 2;
const CRC_AT: usize = 12;

/// One of the two pairs of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    Low,
    High,
}

impl Pair {
    /// The one that is not `self`.
    pub(crate) fn other(self) -> Pair {
        match self {
            Pair::Low => Pair::High,
            Pair::High => Pair::Low,
        }
    }

    fn offsets(self) -> [u64; 2] {
        match self {
            Pair::Low => [0, STRIDE],
            Pair::High => [2 * STRIDE, 3 * STRIDE],
        }
    }
}

/// Everything a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) sequence: u64,
    pub(crate) identity: EngineIdentity,
    pub(crate) mark: Mark,
    pub(crate) meta: SnapshotMeta,
    pub(crate) manifest: ManifestRef,
    pub(crate) root: PageRef,
    /// The log holds nothing from before this entry: a snapshot took its place.
    pub(crate) log_restart: Position,
    /// Drawn when the folder was made; 0 in one from before there was such a number.
    pub(crate) birth: u64,
}

/// Names a manifest and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestRef {
    pub(crate) id: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Superblock {
    /// The length of the file.
    pub(crate) const FILE_BYTES: u64 = COPIES * STRIDE;

    /// The file.
    pub(crate) fn file() -> FileName {
        FileName::new(FOLDER, "superblock")
    }

    /// The name that the file has while it is made for the first time.
    pub(crate) fn file_unfinished() -> FileName {
        FileName::new(FOLDER, "superblock.new")
    }

    /// The order that makes it durable in one pair of copies of `file`.
    pub(crate) fn write(&self, file: FileName, pair: Pair) -> DiskOp {
        let copy = Buffer::from_slice(&self.encode());
        let parts = pair.offsets().map(|offset| (offset, copy.clone())).into();
        DiskOp::Write { file, parts, sync: true }
    }

    /// Reads all copies and takes the valid one with the highest sequence.
    pub(crate) fn read(disk: &dyn Disk) -> Result<(Superblock, Pair), Fault> {
        let file = Superblock::file();
        let mut best: Option<(Superblock, Pair)> = None;
        let mut causes = Vec::new();
        for copy in 0..COPIES {
            match Superblock::read_copy(disk, &file, copy) {
                Ok(found) if best.as_ref().is_none_or(|(b, _)| b.sequence < found.sequence) => {
                    best = Some((found, if copy < 2 { Pair::Low } else { Pair::High }));
                }
                Ok(_) => {}
                Err(cause) => causes.push(format!("copy {copy}: {cause}")),
            }
        }
        best.ok_or_else(|| {
            let what = "cannot find the state of this member; restore it from a snapshot or remove \
                        the member and add it again";
            let cause = format!("no copy of the superblock is valid ({})", causes.join(", "));
            Fault::new(what, file.to_string(), cause)
        })
    }

    fn read_copy(disk: &dyn Disk, file: &FileName, copy: u64) -> Result<Superblock, String> {
        let mut bytes = vec![0; BLOCK];
        disk.read(file, copy * STRIDE, &mut bytes).map_err(|error| error.to_string())?;
        Superblock::decode(&bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, FORMAT);
        put_u32(&mut out, 0);
        put_u64(&mut out, self.sequence);
        put_u64(&mut out, self.identity.cluster.0);
        put_u64(&mut out, self.identity.member.0);
        put_mark(&mut out, &self.mark);
        put_position(&mut out, self.meta.at);
        put_u16(&mut out, self.meta.voters.len() as u16);
        put_u16(&mut out, self.meta.learners.len() as u16);
        for id in self.meta.voters.iter().chain(&self.meta.learners) {
            put_u64(&mut out, id.0);
        }
        put_u64(&mut out, self.manifest.id);
        put_u64(&mut out, self.manifest.len);
        put_u32(&mut out, self.manifest.crc);
        put_page(&mut out, self.root);
        put_position(&mut out, self.log_restart);
        put_u64(&mut out, self.birth);
        assert!(out.len() <= BLOCK, "at most {MEMBERS_MAX} members were let through");
        out.resize(BLOCK, 0);
        let crc = crc32fast::hash(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Superblock, String> {
        let mut reader = Reader::new(bytes);
        if reader.take(8) != Some(MAGIC) {
            return Err("it is empty or not a superblock".into());
        }
        let mut covered = bytes.to_vec();
        covered[CRC_AT..CRC_AT + 4].fill(0);
        let format = reader.u32().unwrap_or(0);
        if reader.u32() != Some(crc32fast::hash(&covered)) {
            return Err("its checksum does not match".into());
        }
        if !(1..=FORMAT).contains(&format) {
            return Err(format!("its format is {format}; this program reads up to {FORMAT}"));
        }
        Superblock::fields(&mut reader).ok_or_else(|| "its fields do not fit".into())
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Superblock> {
        let sequence = reader.u64()?;
        let cluster = ClusterId(reader.u64()?);
        let identity = EngineIdentity { cluster, member: MemberId(reader.u64()?) };
        let mark = take_mark(reader)?;
        let at = take_position(reader)?;
        let (voters, learners) = (reader.u16()?, reader.u16()?);
        let mut ids = |count: u16| -> Option<Vec<MemberId>> {
            (0..count).map(|_| reader.u64().map(MemberId)).collect()
        };
        let meta = SnapshotMeta { at, voters: ids(voters)?, learners: ids(learners)? };
        let manifest = ManifestRef { id: reader.u64()?, len: reader.u64()?, crc: reader.u32()? };
        let root = take_page(reader)?;
        let log_restart = take_position(reader)?;
        let birth = reader.u64()?; // zeros in format 1
        Some(Superblock { sequence, identity, mark, meta, manifest, root, log_restart, birth })
    }
}

/// Appends a mark.
pub(crate) fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    put_position(out, mark.applied);
    put_i64(out, mark.revision.0);
    put_i64(out, mark.compacted.0);
}

/// Reads a mark.
pub(crate) fn take_mark(reader: &mut Reader<'_>) -> Option<Mark> {
    let applied = take_position(reader)?;
    let revision = Revision(reader.i64()?);
    Some(Mark { applied, revision, compacted: Revision(reader.i64()?) })
}

/// Appends the address of a page.
pub(crate) fn put_page(out: &mut Vec<u8>, page: PageRef) {
    put_u64(out, page.page);
    put_u32(out, page.crc);
}

/// Reads the address of a page.
pub(crate) fn take_page(reader: &mut Reader<'_>) -> Option<PageRef> {
    Some(PageRef { page: reader.u64()?, crc: reader.u32()? })
}

fn put_position(out: &mut Vec<u8>, at: Position) {
    put_u64(out, at.index.0);
    put_u64(out, at.term.0);
}

fn take_position(reader: &mut Reader<'_>) -> Option<Position> {
    let index = Index(reader.u64()?);
    Some(Position { index, term: Term(reader.u64()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(sequence: u64) -> Superblock {
        Superblock {
            sequence,
            identity: EngineIdentity { cluster: ClusterId(1), member: MemberId(2) },
            mark: Mark { applied: Position::new(9, 4), revision: Revision(7), ..Mark::EMPTY },
            meta: SnapshotMeta {
                at: Position::new(9, 4),
                voters: (1..=MEMBERS_MAX as u64).map(MemberId).collect(),
                learners: Vec::new(),
            },
            manifest: ManifestRef { id: 3, len: 4096, crc: 5 },
            root: PageRef { page: 6, crc: 7 },
            log_restart: Position::new(1, 1),
            birth: 8,
        }
    }

    #[test]
    fn comes_back_and_any_flipped_bit_is_noticed() {
        let good = superblock(12);
        let bytes = good.encode();
        assert_eq!(Superblock::decode(&bytes), Ok(good));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bad).is_err(), "bit {bit}");
        }
        assert!(Superblock::decode(&bytes[..100]).is_err());
    }

    #[test]
    fn the_format_before_is_read_without_a_birth() {
        let before = Superblock { birth: 0, ..superblock(12) };
        let mut bytes = before.encode();
        bytes[8] = 1;
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Superblock::decode(&bytes), Ok(before));
    }
}
