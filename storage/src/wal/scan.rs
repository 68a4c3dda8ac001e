//! Reads one segment file whole and lists what it finds, believing nothing it cannot verify.
//!
//! Looks at every slot of the directory and at every block of the data area, so that nothing after
//! a damaged place is missed; a *survey* looks at the directory alone. Leaves out all judgement
//! ([`classify`](super::classify)) and which files a survey is enough for ([`settled`](super::settled)).
//!
//! Laws:
//!  1. Any bytes: no panic, and memory in proportion to the file.
//!  2. In a file with a header only batches of its present life count; the rest is of earlier laps.
//!  3. A file without a header may still show batches, as evidence, never as content.
//!
//! Worked example: a recycled file of which the new header was written and the first batch torn:
//! `head` is the new one, `found` has one broken batch, or none.

use std::collections::BTreeMap;

use holdfast_core::entry::Entry;
use holdfast_core::id::{Index, Position};
use holdfast_core::store::Fault;

use super::WalIdentity;
use super::batch::{self, HEADER, Header};
use super::classify::{Body, Descriptor};
use super::segment::{Geometry, SegmentHeader, Unreadable, sequence_of};
use crate::disk::{BLOCK, Disk, FileName};

const BLOCK_BYTES: u64 = BLOCK as u64;

/// One batch that something in the file speaks of.
#[derive(Clone, Debug)]
pub struct Found {
    /// From the data area, or else from the directory.
    pub header: Header,
    /// Its state in the data area; never `Absent`.
    pub body: Body,
    /// Its state in the directory.
    pub descriptor: Descriptor,
    /// Its entries above the checkpoint, if the body is whole.
    pub entries: Vec<Entry>,
    /// The terms of all its entries: where each begins.
    pub runs: Vec<Position>,
}

impl Found {
    fn new(header: Header, body: Body, descriptor: Descriptor) -> Found {
        Found { header, body, descriptor, entries: Vec::new(), runs: Vec::new() }
    }

    fn keep(&mut self, entries: Vec<Entry>, after: Index) {
        for entry in entries {
            if self.runs.last().is_none_or(|run| run.term != entry.at.term) {
                self.runs.push(entry.at);
            }
            if entry.at.index > after {
                self.entries.push(entry);
            }
        }
    }
}

/// What one file holds.
#[derive(Debug)]
pub struct Scan {
    /// Which file.
    pub file: FileName,
    /// The number in its name.
    pub sequence: u64,
    /// Bytes that it really has.
    pub len: u64,
    /// Where things lie.
    pub geometry: Geometry,
    /// Its header, if one of the two copies is whole.
    pub head: Option<SegmentHeader>,
    /// By number.
    pub found: BTreeMap<u64, Found>,
    /// Every block that begins with a whole batch header, of any life: its offset and number.
    pub headers: Vec<(u64, u64)>,
    /// The directory as it is.
    pub directory: Vec<u8>,
}

/// Reads a file into `bytes`, whose memory serves one file after the other. Entries at or below
/// `after` are verified and not kept.
pub fn scan(
    disk: &dyn Disk,
    (file, len): (FileName, u64),
    identity: &WalIdentity,
    after: Index,
    bytes: &mut Vec<u8>,
) -> Result<Scan, Fault> {
    let geometry = Geometry::of(len - len % BLOCK_BYTES).ok_or_else(|| {
        let cause = format!(
            "it has been truncated to {len} bytes, and with its header everything in it is lost. \
             Restore this member from the others: remove its data and add it again as a new member"
        );
        Fault::new("read the log", file.to_string(), cause)
    })?;
    bytes.resize(usize::try_from(len).expect("a file read whole fits the memory"), 0);
    let read = disk.read(&file, 0, bytes);
    read.map_err(|error| Fault::new("read the log", file.to_string(), error))?;
    let mut scan = begin((file, len), geometry, identity, bytes)?;
    scan.read_batches(bytes, after);
    scan.read_directory();
    Ok(scan)
}

/// Reads header and directory of a file: what it holds according to these, nothing of it verified in the
/// data area. Nothing if that is not there to be read, or has no header.
pub fn survey(
    disk: &dyn Disk,
    (file, len): (FileName, u64),
    identity: &WalIdentity,
) -> Result<Option<Scan>, Fault> {
    let Some(geometry) = Geometry::of(len).filter(|geometry| geometry.len == len) else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(geometry.data).expect("a directory fits the memory")];
    if disk.read(&file, 0, &mut bytes).is_err() {
        return Ok(None);
    }
    let mut scan = begin((file, len), geometry, identity, &bytes)?;
    scan.read_directory();
    let is_one = scan.geometry == geometry && scan.head.is_some();
    Ok(is_one.then_some(scan))
}

/// What the header of a file says, of which `bytes` is the beginning, up to the directory's end at least.
fn begin(
    (file, len): (FileName, u64),
    geometry: Geometry,
    identity: &WalIdentity,
    bytes: &[u8],
) -> Result<Scan, Fault> {
    let sequence = sequence_of(&file).expect("only segments are read");
    let head = read_head(bytes, &file, sequence)?;
    if let Some(head) = &head {
        check_identity(head, identity, &file)?;
    }
    let geometry = head.as_ref().and_then(|head| Geometry::of(head.len)).unwrap_or(geometry);
    let end = usize::try_from(geometry.data).unwrap_or(usize::MAX).min(bytes.len());
    let directory = bytes[2 * BLOCK..end].to_vec();
    let (found, headers) = (BTreeMap::new(), Vec::new());
    Ok(Scan { file, sequence, len, geometry, head, found, headers, directory })
}

fn read_head(bytes: &[u8], file: &FileName, sequence: u64) -> Result<Option<SegmentHeader>, Fault> {
    let mut best: Option<SegmentHeader> = None;
    for copy in [0, BLOCK] {
        match SegmentHeader::decode(&bytes[copy..]) {
            Ok(head) if head.sequence != sequence || Geometry::of(head.len).is_none() => {}
            // Two different copies are the old and the new life of a recycled file: the new counts.
            Ok(head) => {
                if best.as_ref().is_none_or(|best| best.first_number < head.first_number) {
                    best = Some(head);
                }
            }
            Err(Unreadable::Nothing) => {}
            Err(Unreadable::Version(version)) => {
                let cause = format!(
                    "it is of format {version}, this program reads format {}: use the version that \
                     wrote it",
                    batch::FORMAT
                );
                return Err(Fault::new("read the log", file.to_string(), cause));
            }
        }
    }
    Ok(best)
}

fn check_identity(
    head: &SegmentHeader,
    identity: &WalIdentity,
    file: &FileName,
) -> Result<(), Fault> {
    if (head.cluster, head.member) == (identity.cluster, identity.member) {
        return Ok(());
    }
    let cause = format!(
        "it belongs to member {} of cluster {}, and this is member {} of cluster {}: the \
         directory is another member's, or the member's name or URLs have changed",
        head.member, head.cluster, identity.member, identity.cluster
    );
    Err(Fault::new("read the log", file.to_string(), cause))
}

impl Scan {
    /// Whether a header found in this file is of its present life and possible at all.
    fn is_own(&self, header: &Header) -> bool {
        let inside = (self.geometry.data..self.geometry.len).contains(&header.offset);
        let life = self.head.as_ref().is_none_or(|head| {
            let nth = header.number.checked_sub(head.first_number);
            head.uuid == header.uuid && nth.is_some_and(|nth| nth < self.geometry.slots())
        });
        inside && life
    }

    fn read_batches(&mut self, bytes: &[u8], after: Index) {
        let mut at = self.geometry.data;
        while let Some(rest) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) {
            if rest.len() < HEADER {
                break;
            }
            let mut step = BLOCK_BYTES;
            if let Some(header) = Header::decode(rest).filter(|header| header.offset == at) {
                self.headers.push((at, header.number));
                if self.is_own(&header) && !self.found.contains_key(&header.number) {
                    let entries = self.read_body(&header, rest);
                    // What lies inside a whole body is a client's bytes, not a header.
                    step = if entries.is_some() { header.extent() } else { step };
                    let body = if entries.is_some() { Body::Whole } else { Body::Broken };
                    let mut found = Found::new(header, body, Descriptor::Absent);
                    found.keep(entries.unwrap_or_default(), after);
                    self.found.insert(found.header.number, found);
                }
            }
            at += step;
        }
    }

    fn read_body(&self, header: &Header, rest: &[u8]) -> Option<Vec<Entry>> {
        let fits = header.extent() <= self.geometry.len - header.offset;
        let body = rest.get(HEADER..)?.get(..header.body_len as usize).filter(|_| fits)?;
        let whole = self.head.is_some() && batch::body_is_whole(header, body);
        whole.then(|| batch::decode_records(header, body)).flatten()
    }

    fn read_directory(&mut self) {
        for slot in self.descriptors() {
            let header = slot.header;
            let placed = self.head.as_ref().is_none_or(|head| {
                let nth = header.number.wrapping_sub(head.first_number);
                nth < self.geometry.slots() && self.slot(nth) == slot.at
            });
            if !placed || !self.is_own(&header) {
                continue;
            }
            match self.found.get_mut(&header.number) {
                Some(found) if found.header == header => found.descriptor = Descriptor::Same,
                Some(found) => found.descriptor = Descriptor::Other,
                None => {
                    let number = header.number;
                    let found = Found::new(header, Body::Broken, Descriptor::Same);
                    self.found.insert(number, found);
                }
            }
        }
    }

    /// How many batches of its present life the file has, and where they end.
    pub fn extent(&self) -> (u64, u64) {
        let first = self.head.as_ref().map_or(0, |head| head.first_number);
        let last = self.found.values().next_back().map(|found| &found.header);
        last.map_or((0, self.geometry.data), |last| {
            (last.number + 1 - first, last.offset + last.extent())
        })
    }

    /// Every whole descriptor of the directory, of any life.
    pub fn descriptors(&self) -> Vec<Slot> {
        let slots = self.directory.chunks_exact(HEADER).enumerate();
        slots
            .filter_map(|(nth, bytes)| {
                Header::decode(bytes).map(|header| Slot { at: nth * HEADER, header })
            })
            .collect()
    }

    /// Where in `directory` the descriptor of the `nth` batch is.
    pub fn slot(&self, nth: u64) -> usize {
        let (block, within) = self.geometry.slot(nth);
        usize::try_from(block).expect("the directory fits the memory") - 2 * BLOCK + within
    }
}

/// One descriptor.
pub struct Slot {
    /// Where in the directory.
    pub at: usize,
    /// What it says.
    pub header: Header,
}
