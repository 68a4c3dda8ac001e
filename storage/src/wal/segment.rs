//! One file of the log: its geometry, its name and the header that says whose it is.
//!
//! ```text
//! block 0, 1    segment header, twice
//! block 2 ..    directory: one descriptor per batch
//! then          batches, each on a block of its own
//! ```
//!
//! A file lives several lives: when nothing in it is needed its headers are zeroed and it waits as
//! a spare for the next life, which has another `uuid`. Leaves out what is in the batches.
//!
//! Laws:
//!  1. The header is written together with the segment's first batch, so a file without a readable
//!     header holds nothing that was acknowledged, or is damaged.
//!  2. The directory has a slot for each batch that the data area can hold, so it never fills
//!     first.
//!  3. The order of segments is that of their first batch numbers; file names only tell them apart.
//!
//! Worked example: a file of 64 KiB has 16 blocks: 2 of header, 4 of directory, 10 of batches.

use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId};

use super::batch::{FORMAT, HEADER, Reader, Writer};
use crate::disk::{BLOCK, FileName};

/// The folder of the log.
pub const FOLDER: &str = "wal";
/// The shortest file that can hold one batch: anything below has been truncated.
pub const LEN_MIN: u64 = (2 + LANES + 1) * BLOCK as u64;
/// Successive descriptors go to this many different blocks, so that no two batches in flight write
/// the same one. Also the limit of the pipeline's depth.
pub const LANES: u64 = 4;
/// Descriptors in one block.
pub const SLOTS: u64 = (BLOCK / HEADER) as u64;

const MAGIC: u64 = u64::from_le_bytes(*b"HFWALSEG");
const BLOCK_BYTES: u64 = BLOCK as u64;
/// Bytes of a segment header that mean something.
const USED: usize = 96;

/// The name of file number `sequence`.
pub fn file_name(sequence: u64) -> FileName {
    FileName::new(FOLDER, &format!("{sequence:016x}.seg"))
}

/// The name of a file that is still being made.
pub fn new_name(sequence: u64) -> FileName {
    FileName::new(FOLDER, &format!("{sequence:016x}.new"))
}

/// The number in a segment's name; `None` for any other name.
pub fn sequence_of(file: &FileName) -> Option<u64> {
    let sequence = u64::from_str_radix(file.name().strip_suffix(".seg")?, 16).ok()?;
    (file_name(sequence) == *file).then_some(sequence)
}

/// Where things lie in a file of a given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the file.
    pub len: u64,
    /// Where the first batch begins.
    pub data: u64,
}

impl Geometry {
    /// Of a file of `len` bytes; `None` if it is too short to be one.
    pub fn of(len: u64) -> Option<Geometry> {
        if len < LEN_MIN || !len.is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        let blocks = len / BLOCK_BYTES - 2;
        let directory = blocks.div_ceil(SLOTS + 1).next_multiple_of(LANES);
        Some(Geometry { len, data: (2 + directory) * BLOCK_BYTES })
    }

    /// The shortest file whose data area has `bytes`.
    pub fn holding(bytes: u64) -> Geometry {
        let data_blocks = bytes.div_ceil(BLOCK_BYTES);
        let directory = data_blocks.div_ceil(SLOTS).next_multiple_of(LANES);
        let len = (2 + directory + data_blocks) * BLOCK_BYTES;
        Geometry::of(len).expect("room for a batch makes it long enough")
    }

    /// Bytes for batches.
    pub fn room(&self) -> u64 {
        self.len - self.data
    }

    /// Slots of the directory.
    pub fn slots(&self) -> u64 {
        (self.data / BLOCK_BYTES - 2) * SLOTS
    }

    /// Where the descriptor of the segment's `nth` batch (from 0) is: the offset of its block and
    /// the place within it.
    pub fn slot(&self, nth: u64) -> (u64, usize) {
        let group = nth / (LANES * SLOTS);
        let within = nth % (LANES * SLOTS);
        let block = 2 + group * LANES + within % LANES;
        (block * BLOCK_BYTES, (within / LANES) as usize * HEADER)
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub cluster: ClusterId,
    /// Which member's.
    pub member: MemberId,
    /// The run of the process that began it.
    pub incarnation: Incarnation,
    /// This life of the file.
    pub uuid: u64,
    /// The number in the file's name.
    pub sequence: u64,
    /// Bytes of the file.
    pub len: u64,
    /// Number of its first batch.
    pub first_number: u64,
    /// First index of that batch.
    pub first: Index,
    /// Checksum of the header of the batch before it.
    pub chain: u32,
}

/// Why the bytes of a header block are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Zeros, damage, or never written.
    Nothing,
    /// Whole, but of another version.
    Version(u32),
}

impl SegmentHeader {
    /// One block.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.u64(MAGIC);
        writer.u32(0);
        writer.u32(u32::from(FORMAT));
        writer.u64(self.cluster.0);
        writer.u64(self.member.0);
        writer.u64(self.incarnation.0);
        writer.u64(self.uuid);
        writer.u64(self.sequence);
        writer.u64(self.len);
        writer.u64(self.first_number);
        writer.u64(self.first.0);
        writer.u32(self.chain);
        let crc = crc32fast::hash(&bytes[12..USED]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a block.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Unreadable> {
        let bytes = bytes.get(..USED).ok_or(Unreadable::Nothing)?;
        let mut reader = Reader { bytes, at: 0 };
        let (magic, crc, format) = (reader.u64(), reader.u32(), reader.u32());
        if magic != MAGIC || crc != crc32fast::hash(&bytes[12..]) {
            return Err(Unreadable::Nothing);
        }
        if format != u32::from(FORMAT) {
            return Err(Unreadable::Version(format));
        }
        Ok(SegmentHeader {
            cluster: ClusterId(reader.u64()),
            member: MemberId(reader.u64()),
            incarnation: Incarnation(reader.u64()),
            uuid: reader.u64(),
            sequence: reader.u64(),
            len: reader.u64(),
            first_number: reader.u64(),
            first: Index(reader.u64()),
            chain: reader.u32(),
        })
    }
}

/// A number for one life of a file, unlike that of any other life: a run never begins two segments
/// with the same batch, and runs differ in their incarnation.
pub fn life(incarnation: Incarnation, first_number: u64) -> u64 {
    mix(incarnation.0 ^ mix(first_number))
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_never_fills_first() {
        for blocks in LEN_MIN / BLOCK_BYTES..3_000 {
            let geometry = Geometry::of(blocks * BLOCK_BYTES).expect("long enough");
            assert!(geometry.slots() >= geometry.room() / BLOCK_BYTES, "{geometry:?}");
            assert!(geometry.room() > 0, "{geometry:?}");
            let last = geometry.slots() - 1;
            assert!(geometry.slot(last).0 < geometry.data, "{geometry:?}");
        }
    }

    #[test]
    fn slots_are_distinct_and_neighbours_lie_in_different_blocks() {
        let geometry = Geometry::of(4 << 20).expect("long enough");
        let slots: Vec<_> = (0..geometry.slots()).map(|nth| geometry.slot(nth)).collect();
        let distinct: std::collections::BTreeSet<_> = slots.iter().collect();
        assert_eq!(distinct.len(), slots.len());
        for window in slots.windows(LANES as usize) {
            let blocks: std::collections::BTreeSet<_> = window.iter().map(|slot| slot.0).collect();
            assert_eq!(blocks.len(), window.len(), "{window:?}");
        }
    }

    #[test]
    fn a_file_can_be_made_for_any_batch() {
        for bytes in [1, 4096, 4097, 100_000, 10 << 20, 200 << 20] {
            let geometry = Geometry::holding(bytes);
            assert!(geometry.room() >= bytes, "{geometry:?} for {bytes}");
            assert!(geometry.len < bytes * 21 / 20 + 8 * BLOCK_BYTES, "{geometry:?} for {bytes}");
        }
    }

    #[test]
    fn names_are_read_strictly() {
        assert_eq!(sequence_of(&file_name(0x1f)), Some(0x1f));
        for name in
            ["1f.seg", "000000000000001F.seg", "000000000000001f.new", "+00000000000001f.seg"]
        {
            assert_eq!(sequence_of(&FileName::new(FOLDER, name)), None, "{name}");
        }
    }
}
