//! The bytes of one batch: a header that says what it is, where it lies and what came before, then
//! records, then zeros to the end of the block.
//!
//! A *descriptor* is a byte-identical copy of the header in the segment's directory. FORMAT.md
//! draws both. Leaves out where batches go ([`segment`](super::segment)) and whether to believe
//! them ([`classify`](super::classify)).
//!
//! Laws:
//!  1. Any bytes decode to a value or to nothing: never a panic, never more memory than the bytes.
//!  2. A header that decodes was written whole: its checksum covers every other byte of it.
//!  3. Records are consecutive: the first has the header's first index.
//!
//! Worked example: entries `10@4` and `11@4` make one batch with `first` 10, `count` 2, `last_term`
//! t4 and `prev_term` the term of entry 9.

use bytes::Bytes;
use holdfast_core::entry::{Entry, EntryKind, HardState};
use holdfast_core::id::{Incarnation, Index, MemberId, Position, Term, WalSeq};
use holdfast_core::mutant;

use crate::disk::Buffer;

/// Bytes of a header and of a descriptor.
pub const HEADER: usize = 128;
/// Bytes of a record before its data.
pub const RECORD: usize = 32;
/// The version of batches and segments that this code writes, and the only one that it reads.
pub const FORMAT: u16 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"HFWB");
/// Records begin at multiples of this.
const RECORD_ALIGN: usize = 8;

/// Set in a batch after which the log goes on behind a snapshot: its `first` is the next index and
/// its `prev_term` the term of the snapshot.
pub const RESTART: u16 = 1;
/// Set in a batch that follows a restart whose snapshot never came into use: the restart did not
/// happen.
pub const VOID: u16 = 2;

/// What a batch says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Checksum of the records.
    pub body_crc: u32,
    /// Checksum of the header of the batch before.
    pub chain: u32,
    /// [`RESTART`], [`VOID`].
    pub flags: u16,
    /// Number of records.
    pub count: u32,
    /// Bytes of records.
    pub body_len: u32,
    /// Where in the file the header is.
    pub offset: u64,
    /// Which life of the segment file it was written in.
    pub uuid: u64,
    /// The batch's own number: consecutive over the whole log.
    pub number: u64,
    /// The core's number of the last `Append` in it or before it.
    pub seq: WalSeq,
    /// Index of the first record; without records, the index that comes next.
    pub first: Index,
    /// Term of the entry before the first.
    pub prev_term: Term,
    /// Term of the last record; without records the same as `prev_term`.
    pub last_term: Term,
    /// As of this batch.
    pub hard_state: HardState,
    /// Every batch up to this number was durable when this one was issued.
    pub watermark: u64,
    /// The run of the process that wrote it.
    pub incarnation: Incarnation,
    /// The kernel's boot it was written in, folded to 64 bits.
    pub boot: u64,
}

impl Header {
    /// The bytes, with their checksum.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut writer = Writer { bytes: &mut bytes, at: 8 };
        writer.u32(self.body_crc);
        writer.u32(self.chain);
        writer.u32(u32::from(FORMAT) | u32::from(self.flags) << 16);
        writer.u32(self.count);
        writer.u32(self.body_len);
        writer.u32(u32::try_from(self.offset / crate::disk::BLOCK as u64).expect("fits: < 16 TiB"));
        writer.u64(self.uuid);
        writer.u64(self.boot);
        writer.u64(self.number);
        writer.u64(self.seq.0);
        writer.u64(self.first.0);
        writer.u64(self.prev_term.0);
        writer.u64(self.last_term.0);
        writer.u64(self.hard_state.term.0);
        writer.u64(self.hard_state.vote.map_or(0, |member| member.0));
        writer.u64(self.hard_state.commit.0);
        writer.u64(self.watermark);
        writer.u64(self.incarnation.0);
        debug_assert_eq!(writer.at, HEADER);
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first [`HEADER`] bytes; `None` unless they are whole and of this version.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[..4] != MAGIC.to_le_bytes() {
            return None;
        }
        if header_crc(bytes) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let mut reader = Reader { bytes, at: 8 };
        let (body_crc, chain, kind) = (reader.u32(), reader.u32(), reader.u32());
        let (count, body_len, block) = (reader.u32(), reader.u32(), reader.u32());
        let header = Header {
            body_crc,
            chain,
            flags: (kind >> 16) as u16,
            count,
            body_len,
            offset: u64::from(block) * crate::disk::BLOCK as u64,
            uuid: reader.u64(),
            boot: reader.u64(),
            number: reader.u64(),
            seq: WalSeq(reader.u64()),
            first: Index(reader.u64()),
            prev_term: Term(reader.u64()),
            last_term: Term(reader.u64()),
            hard_state: HardState {
                term: Term(reader.u64()),
                vote: Some(reader.u64()).filter(|member| *member != 0).map(MemberId),
                commit: Index(reader.u64()),
            },
            watermark: reader.u64(),
            incarnation: Incarnation(reader.u64()),
        };
        // Indexes that would overflow cannot be counted with; nobody writes them.
        let counts = header.first.0 >= 1 && header.first.0 < u64::MAX / 2;
        (kind as u16 == FORMAT && counts && header.number < u64::MAX / 2).then_some(header)
    }

    /// The place of the last entry once this batch has been replayed.
    pub fn last(&self) -> Position {
        Position::new(self.first.0 - 1 + u64::from(self.count), self.last_term.0)
    }

    /// Bytes from the header to the end of the padding.
    pub fn extent(&self) -> u64 {
        extent(HEADER + self.body_len as usize)
    }
}

/// `len` bytes in whole blocks.
pub fn extent(len: usize) -> u64 {
    (len as u64).next_multiple_of(crate::disk::BLOCK as u64)
}

/// The checksum of an encoded header, as the next batch's chain holds it.
pub fn header_crc(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"))
}

/// Bytes that an entry takes in a body.
pub fn record_len(entry: &Entry) -> usize {
    (RECORD + entry.data.len()).next_multiple_of(RECORD_ALIGN)
}

/// Adds one entry to a body.
pub fn push_record(into: &mut Buffer, entry: &Entry) {
    let mut head = [0; RECORD];
    let mut writer = Writer { bytes: &mut head, at: 4 };
    writer.u32(u32::try_from(entry.data.len()).expect("the core bounds an entry far below 4 GiB"));
    writer.u64(entry.at.index.0);
    writer.u64(entry.at.term.0);
    writer.u64(entry.kind as u64);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[4..]);
    crc.update(&entry.data);
    head[..4].copy_from_slice(&crc.finalize().to_le_bytes());
    into.extend(&head);
    into.extend(&entry.data);
    into.pad_to(RECORD_ALIGN);
}

/// Whether `body` is what the header's checksum was made of.
pub fn body_is_whole(header: &Header, body: &[u8]) -> bool {
    mutant::on(21) || crc32fast::hash(body) == header.body_crc
}

/// Reads the records of a body, all of which must be there and consecutive (law 3).
pub fn decode_records(header: &Header, body: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::with_capacity((header.count as usize).min(body.len() / RECORD));
    let mut rest = body;
    let mut index = header.first;
    for _ in 0..header.count {
        let (entry, len) = decode_record(rest, index)?;
        rest = &rest[len..];
        index = index.next();
        entries.push(entry);
    }
    let ends = entries.last().is_none_or(|entry| entry.at.term == header.last_term);
    (rest.is_empty() && ends).then_some(entries)
}

/// The first record of `bytes` and the bytes it takes.
fn decode_record(bytes: &[u8], index: Index) -> Option<(Entry, usize)> {
    let mut reader = Reader { bytes: bytes.get(..RECORD)?, at: 0 };
    let (crc, len) = (reader.u32(), reader.u32() as usize);
    let at = Position { index: Index(reader.u64()), term: Term(reader.u64()) };
    let kind = match reader.u64() {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        _ => return None,
    };
    let data = bytes.get(RECORD..)?.get(..len)?;
    let total = (RECORD + len).next_multiple_of(RECORD_ALIGN);
    let whole = mutant::on(21) || crc32fast::hash(&bytes[4..RECORD + len]) == crc;
    let fits = whole && at.index == index && total <= bytes.len();
    fits.then(|| (Entry { at, kind, data: Bytes::copy_from_slice(data) }, total))
}

/// Writes little-endian numbers one after the other.
pub struct Writer<'a> {
    /// Into these bytes.
    pub bytes: &'a mut [u8],
    /// From here on.
    pub at: usize,
}

impl Writer<'_> {
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes[self.at..self.at + 4].copy_from_slice(&value.to_le_bytes());
        self.at += 4;
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes[self.at..self.at + 8].copy_from_slice(&value.to_le_bytes());
        self.at += 8;
    }
}

/// Reads little-endian numbers one after the other. The caller has checked the length.
pub struct Reader<'a> {
    /// From these bytes.
    pub bytes: &'a [u8],
    /// From here on.
    pub at: usize,
}

impl Reader<'_> {
    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        let bytes = &self.bytes[self.at..self.at + 4];
        self.at += 4;
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        let bytes = &self.bytes[self.at..self.at + 8];
        self.at += 8;
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }
}
