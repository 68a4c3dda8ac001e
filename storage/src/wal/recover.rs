//! Reads the log back: scans every file that may hold more than the checkpoint, finds the one chain of batches, judges each, cuts what was
//! being written when the last run ended, and hands out what is left.
//!
//! Leaves out the judgement itself ([`classify`](super::classify)) and the meaning of the batches
//! ([`replay`](super::replay)).
//!
//! Laws:
//!  1. Nothing below a durable watermark is lost without a fault.
//!  2. What is cut is gone from the disk before this returns.
//!  3. Recovering twice is recovering once, but for the seal that each recovery adds.
//!
//! Worked example: batches 1 to 7 whole, 8 torn, 9 whole with watermark 7: the log is 1 to 7, the
//! headers of 8 and 9 are zeroed, a note says which entries went, and a seal becomes the new 8.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_core::entry::{Entry, HardState};
use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId, Position, WalSeq};
use holdfast_core::store::Fault;

use super::batch::{HEADER, Header, RESTART, VOID, header_crc};
use super::classify::{Body, Descriptor, Seen, Verdict, classify};
use super::replay::Replay;
use super::scan::{Scan, scan, survey};
use super::segment::{self, sequence_of};
use super::settled::settled;
use super::spares::{Spare, Spares};
use super::tail::Tail;
use super::{Segment, Wal, WalIdentity, WalOptions};
use crate::disk::{BLOCK, Buffer, Disk, DiskOp, FileName, MemoryDisk};

/// What a recovered log holds.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLog {
    /// The newest. `commit` lies between the checkpoint and the last entry.
    pub hard_state: HardState,
    /// Consecutive, those after the checkpoint.
    pub entries: Vec<Entry>,
    /// The newest append in the log; 0 if there was none yet.
    pub last_seq: WalSeq,
    /// What an operator should read.
    pub notes: Vec<RecoveryNote>,
}

/// Something that recovery did besides reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryNote {
    /// The log ends here now. Nobody was told that what is gone was durable, unless the disk is
    /// damaged in just these last batches.
    Cut {
        /// The first batch that is gone.
        number: u64,
        /// Where it was.
        place: String,
        /// The entries that went: first and last index, where that is known.
        entries: Option<(Index, Index)>,
        /// The kernel has been started since, so it was a power cut rather than a killed process.
        rebooted: bool,
    },
    /// Descriptors of whole batches were written again.
    Redescribed {
        /// How many.
        batches: u64,
    },
    /// The installation of a snapshot did not finish: the log is as it was before.
    RestartVoid {
        /// Where the log would have gone on.
        at: Position,
    },
    /// A file was being made when the last run ended; it was removed.
    Unfinished {
        /// Which file.
        file: FileName,
    },
    /// The folder holds no batch: the first start did not finish, and this one begins anew.
    Empty,
}

impl fmt::Display for RecoveryNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryNote::Cut { number, place, entries, rebooted } => {
                let why = if *rebooted { "the machine" } else { "the process" };
                write!(f, "the log was cut before batch {number} ({place}), ")?;
                write!(f, "which was being written when {why} stopped and was never acknowledged")?;
                match entries {
                    Some((first, last)) if first <= last => {
                        write!(f, "; entries {first} to {last} are gone")
                    }
                    Some(_) => write!(f, "; it held no entries"),
                    None => write!(f, "; which entries it held is not known"),
                }
            }
            RecoveryNote::Redescribed { batches } => {
                write!(
                    f,
                    "{batches} descriptors of whole batches were missing and are written again"
                )
            }
            RecoveryNote::RestartVoid { at } => {
                write!(f, "the snapshot at {at} was not installed to the end: the log is as before")
            }
            RecoveryNote::Unfinished { file } => write!(f, "{file} was never finished: removed"),
            RecoveryNote::Empty => {
                write!(f, "the log is empty: the first start did not finish, this one begins anew")
            }
        }
    }
}

/// See [`Wal::recover`].
pub fn recover(
    disk: &dyn Disk,
    identity: WalIdentity,
    options: WalOptions,
    after: Position,
) -> Result<(Wal, RecoveredLog), Fault> {
    let mut recovery = Recovery::read(disk, identity, options, after)?;
    let judgement = recovery.judge()?;
    recovery.note_cut(&judgement);
    if judgement.end == judgement.start && judgement.start <= 1 && after.index.0 == 0 {
        recovery.clean(&judgement)?;
        return recovery.begin_anew();
    }
    // Nothing is changed on the disk before it is known that the log is good.
    let history = recovery.replay(&judgement)?;
    recovery.check(&history.replay)?;
    recovery.clean(&judgement)?;
    recovery.hand_out(history)
}

/// A recovery under way.
struct Recovery<'a> {
    disk: &'a dyn Disk,
    identity: WalIdentity,
    options: WalOptions,
    after: Position,
    /// Files with a header, by their first batch.
    live: Vec<Scan>,
    /// Files without: spares, or damaged.
    bare: Vec<Scan>,
    notes: Vec<RecoveryNote>,
    next_sequence: u64,
}

/// Which batches are the log.
struct Judgement {
    /// The first.
    start: u64,
    /// One past the last.
    end: u64,
    /// Why it ends there: `Torn` or `End`.
    last: Verdict,
    /// Kept batches whose descriptor is to be written again.
    redescribed: u64,
}

/// What the log's batches mean.
struct History {
    replay: Replay,
    newest: Header,
    /// The commit index of the newest batch that happened.
    commit: Index,
    /// The newest batch is a restart that did not happen.
    voided: bool,
}

impl<'a> Recovery<'a> {
    fn read(
        disk: &'a dyn Disk,
        identity: WalIdentity,
        options: WalOptions,
        after: Position,
    ) -> Result<Recovery<'a>, Fault> {
        let files = disk.list(segment::FOLDER);
        let files = files.map_err(|error| Fault::new("list the log's files", "wal", error))?;
        let (mut live, mut bare, mut notes, mut next_sequence) = (vec![], vec![], vec![], 1);
        let mut surveys = Vec::new();
        for file in files.iter().filter(|(file, _)| sequence_of(file).is_some()) {
            surveys.extend(survey(disk, file.clone(), &identity)?);
        }
        let mut settled = settled(surveys, after.index);
        let mut bytes = Vec::new();
        for (file, len) in files {
            if let Some(sequence) = sequence_of(&file) {
                next_sequence = next_sequence.max(sequence.saturating_add(1));
                let scan = match settled.remove(&sequence) {
                    Some(settled) => settled,
                    None => scan(disk, (file, len), &identity, after.index, &mut bytes)?,
                };
                if scan.head.is_some() { live.push(scan) } else { bare.push(scan) }
            } else if file.name().ends_with(".new") {
                notes.push(RecoveryNote::Unfinished { file: file.clone() });
                perform(disk, DiskOp::Remove { file })?;
            }
        }
        live.sort_by_key(first_number);
        Ok(Recovery { disk, identity, options, after, live, bare, notes, next_sequence })
    }

    /// Every batch that a file with a header speaks of: the place of that file in `live`.
    fn batches(&self) -> Result<BTreeMap<u64, usize>, Fault> {
        let mut batches = BTreeMap::new();
        for (at, scan) in self.live.iter().enumerate() {
            for number in scan.found.keys() {
                if let Some(other) = batches.insert(*number, at) {
                    let other = &self.live[other].file;
                    let cause = format!("batch {number} is in {other}, too: one of them is a copy");
                    return Err(Fault::new("read the log", scan.file.to_string(), cause));
                }
            }
        }
        Ok(batches)
    }

    fn judge(&mut self) -> Result<Judgement, Fault> {
        let batches = self.batches()?;
        let newest = batches.keys().next_back().copied().unwrap_or(0);
        let stray = |scan: &Scan| -> Vec<(u64, u64)> {
            let later = scan.found.range(newest + 1..);
            later.map(|(number, found)| (*number, found.header.watermark)).collect()
        };
        let strays: Vec<(u64, u64)> = self.bare.iter().flat_map(stray).collect();
        let newest = strays.iter().map(|(number, _)| *number).fold(newest, u64::max);
        let own = self.live.iter().flat_map(|scan| scan.found.values());
        let own = own.map(|found| found.header.watermark);
        let proven = own.chain(strays.iter().map(|(_, mark)| *mark)).fold(0, u64::max);
        let start = self.live.first().map_or(1, first_number);
        let mut chain =
            self.live.first().and_then(|scan| scan.head.as_ref()).map_or(0, |head| head.chain);
        let (mut number, mut redescribed) = (start, 0);
        loop {
            let at = batches.get(&number).copied();
            let found = at.map(|at| &self.live[at].found[&number]);
            let seen = Seen {
                body: found.map_or(Body::Absent, |found| found.body),
                descriptor: found.map_or(Descriptor::Absent, |found| found.descriptor),
                chained: found.is_none_or(|found| found.header.chain == chain),
                proven: number <= proven,
                later: newest > number,
            };
            match classify(seen) {
                Verdict::Good => {}
                Verdict::Redescribe => redescribed += 1,
                Verdict::Rot => return Err(self.rot(number, &batches, seen)),
                last => return Ok(Judgement { start, end: number, last, redescribed }),
            }
            chain = header_crc(&found.expect("only a found batch is kept").header.encode());
            number += 1;
        }
    }

    fn rot(&self, number: u64, batches: &BTreeMap<u64, usize>, seen: Seen) -> Fault {
        let own = batches.get(&number).map(|at| &self.live[*at]);
        let before = batches.range(..number).next_back();
        let last = before.map(|(number, at)| self.live[*at].found[number].header.last().index.0);
        let after = batches.range(number + 1..).next();
        let next = after.map(|(number, at)| self.live[*at].found[number].header.first.0);
        let (first, last, place) = match own {
            Some(scan) => {
                let header = &scan.found[&number].header;
                let place = format!("{} at {}", scan.file, header.offset);
                (Some(header.first.0), Some(header.last().index.0), place)
            }
            None => {
                (last.map(|last| last + 1), next.map(|next| next - 1), self.place_behind(number))
            }
        };
        let lost = match (first, last) {
            (Some(first), Some(last)) if first <= last => {
                format!("entries {first} to {last} are lost")
            }
            (Some(_), Some(_)) => String::from("it held no entries, only votes and terms"),
            (Some(first), None) => format!("entries from {first} on are lost"),
            _ => String::from("which entries are lost is not known"),
        };
        let what = match seen.body {
            Body::Whole => "does not follow the batch before it: a write was lost or went astray",
            Body::Broken => "was durable and is damaged now",
            Body::Absent => "was durable and is missing now",
        };
        let cause = format!(
            "batch {number} {what}; {lost}. Replace the disk if it reports errors, then restore \
             this member from the others: remove its data and add it again as a new member; a \
             member that is alone is restored from a backup"
        );
        Fault::new("recover the log", place, cause)
    }

    /// Where batch `number`, of which there is no trace, should begin.
    fn place_behind(&self, number: u64) -> String {
        let scan = self.live.iter().rev().find(|scan| first_number(scan) <= number);
        let Some(scan) = scan else { return String::from(segment::FOLDER) };
        let before = scan.found.range(..number).next_back();
        let end = before.map_or(scan.geometry.data, |(_, found)| end_of(&found.header));
        format!("{} at {end}", scan.file)
    }

    fn note_cut(&mut self, judgement: &Judgement) {
        if judgement.last != Verdict::Torn {
            return;
        }
        let number = judgement.end;
        let gone = |scan: &Scan| -> Vec<Header> {
            scan.found.range(number..).map(|(_, found)| found.header.clone()).collect()
        };
        let gone: Vec<Header> = self.live.iter().chain(&self.bare).flat_map(gone).collect();
        let complete = gone.iter().any(|header| header.number == number);
        let first = gone.iter().filter(|header| header.count > 0).map(|header| header.first).min();
        let last = gone.iter().map(|header| header.last().index).max();
        let entries = match (first, last) {
            (Some(first), Some(last)) => Some((first, last)),
            (None, last) => last.map(|last| (last.next(), last)),
            _ => None,
        };
        let boot = super::fold(self.identity.boot);
        let rebooted = gone.iter().any(|header| header.boot != boot);
        let place = self.place_behind(number);
        let entries = entries.filter(|_| complete);
        self.notes.push(RecoveryNote::Cut { number, place, entries, rebooted });
    }

    /// Zeroes every trace of a batch at or above the end, and restores descriptors; all of it
    /// durable (law 2).
    fn clean(&mut self, judgement: &Judgement) -> Result<(), Fault> {
        let Judgement { start, end, redescribed, .. } = *judgement;
        for scan in self.live.iter_mut().chain(&mut self.bare) {
            let whole_lap = scan.head.as_ref().is_some_and(|head| head.first_number >= end);
            let parts = parts_to_clean(scan, start, end, whole_lap);
            if whole_lap {
                scan.head = None;
            }
            write_synced(self.disk, &scan.file, parts)?;
        }
        if redescribed > 0 {
            self.notes.push(RecoveryNote::Redescribed { batches: redescribed });
        }
        let live = std::mem::take(&mut self.live);
        let (live, emptied): (Vec<Scan>, Vec<Scan>) =
            live.into_iter().partition(|scan| scan.head.is_some());
        self.live = live;
        self.bare.extend(emptied);
        // A killed process may have written these without a sync.
        for scan in self.live.iter().rev().take(2) {
            let (file, parts) = (scan.file.clone(), Vec::new());
            perform(self.disk, DiskOp::Write { file, parts, sync: true })?;
        }
        Ok(())
    }

    /// Whole files without content wait for use; others go.
    fn spares(&mut self) -> Result<Spares, Fault> {
        let mut spares = Spares::new(self.options.geometry(), self.next_sequence);
        for scan in self.bare.drain(..) {
            let spare = Spare { sequence: scan.sequence, geometry: scan.geometry };
            if scan.len == scan.geometry.len && spares.wants(scan.geometry) {
                spares.add(spare);
            } else {
                perform(self.disk, DiskOp::Remove { file: scan.file })?;
            }
        }
        Ok(spares)
    }

    fn begin_anew(mut self) -> Result<(Wal, RecoveredLog), Fault> {
        self.notes.push(RecoveryNote::Empty);
        let spares = self.spares()?;
        let wal = Wal::begin(self.disk, self.identity, self.options, spares)?;
        let (hard_state, last_seq) = (HardState::default(), WalSeq(0));
        let (entries, notes) = (Vec::new(), self.notes);
        Ok((wal, RecoveredLog { hard_state, entries, last_seq, notes }))
    }

    fn hand_out(mut self, history: History) -> Result<(Wal, RecoveredLog), Fault> {
        let History { replay, newest, commit, voided } = history;
        let mut hard_state = newest.hard_state;
        hard_state.commit = commit.min(replay.terms.last().index).max(self.after.index);
        let entries = replay.entries.into_values().collect();
        let (segments, tail, spares) = (self.segments(), self.tail(), self.spares()?);
        let mut wal = Wal {
            segments,
            tail,
            terms: replay.terms,
            spans: replay.spans,
            next_number: newest.number + 1,
            chain: header_crc(&newest.encode()),
            durable: newest.number,
            synced: newest.seq,
            next_seq: newest.seq.next(),
            hard_state,
            ..Wal::empty(self.identity, self.options, spares)
        };
        wal.write_empty(self.disk, if voided { VOID } else { 0 })?;
        let log = RecoveredLog { hard_state, entries, last_seq: newest.seq, notes: self.notes };
        Ok((wal, log))
    }

    fn replay(&mut self, judgement: &Judgement) -> Result<History, Fault> {
        let range = judgement.start..judgement.end;
        let found = self.live.iter().flat_map(|scan| scan.found.range(range.clone()));
        let headers: Vec<Header> = found.map(|(_, found)| found.header.clone()).collect();
        let (Some(first), Some(newest)) = (headers.first(), headers.last().cloned()) else {
            let cause = "the log is missing or holds no batch, and there is a checkpoint: restore \
                         the files, or remove this member's data and add it again as a new member";
            return Err(Fault::new("recover the log", segment::FOLDER, cause));
        };
        let undone: Vec<bool> =
            (0..headers.len()).map(|nth| self.is_undone(&headers[nth..])).collect();
        // An undone restart says nothing of where the log begins, the batch behind it does.
        let begin = headers.iter().zip(&undone).find(|(_, undone)| !**undone);
        let begin = begin.map_or(first, |(header, _)| header);
        let mut replay = Replay::new(begin);
        let mut commit = Index(0);
        let voided = undone.last() == Some(&true);
        let mut undone = undone.into_iter();
        for scan in &mut self.live {
            let inside = scan.found.range_mut(range.clone());
            for (_, found) in inside {
                if undone.next().expect("there is one for each batch") {
                    continue;
                }
                commit = found.header.hard_state.commit;
                if found.header.flags & RESTART == 0 {
                    replay.batch(found, scan.sequence)?;
                } else {
                    replay.restart(restart_place(&found.header));
                }
            }
        }
        if voided {
            self.notes.push(RecoveryNote::RestartVoid { at: restart_place(&newest) });
        }
        Ok(History { replay, newest, commit, voided })
    }

    /// Whether the first of these batches is a restart whose snapshot did not come into use: the
    /// next batch says so, or there is none and the checkpoint is an older one.
    fn is_undone(&self, batches: &[Header]) -> bool {
        let restart = batches[0].flags & RESTART != 0;
        let above = restart_place(&batches[0]).index > self.after.index;
        restart && batches.get(1).map_or(above, |next| next.flags & VOID != 0)
    }

    /// The log must meet the checkpoint.
    fn check(&self, replay: &Replay) -> Result<(), Fault> {
        let (base, last, after) = (replay.terms.base(), replay.terms.last(), self.after);
        let cause = if base.index > after.index {
            format!(
                "it begins behind entry {}, so entries {} to {} are lost",
                base.index,
                after.index.next(),
                base.index
            )
        } else if last.index < after.index {
            format!("it ends with entry {}, so what came behind the checkpoint is lost", last.index)
        } else if replay.terms.at(after.index).is_some_and(|term| term != after.term) {
            let term = replay.terms.at(after.index).unwrap_or_default();
            format!("it has term {term} at that index: log and checkpoint are of different members")
        } else {
            return Ok(());
        };
        let cause = format!(
            "the checkpoint is at {after}; the log does not meet it: {cause}. Restore this member \
             from the others: remove its data and add it again as a new member"
        );
        Err(Fault::new("recover the log", segment::FOLDER, cause))
    }

    fn segments(&self) -> std::collections::VecDeque<Segment> {
        let heads = self.live.iter().filter_map(|scan| Some((scan, scan.head.as_ref()?)));
        heads
            .map(|(scan, head)| Segment {
                sequence: scan.sequence,
                geometry: scan.geometry,
                uuid: head.uuid,
                first_number: head.first_number,
            })
            .collect()
    }

    fn tail(&self) -> Option<Tail> {
        let scan = self.live.last()?;
        let (nth, end) = scan.extent();
        // A file that has lost its end takes no more.
        let at = if scan.len < scan.geometry.len { scan.geometry.len } else { end };
        Some(Tail::resume(scan.geometry, at, nth, &scan.directory))
    }
}

/// What must be written to this file so that it has nothing at or above `end`, and the right
/// descriptors below. Brings `scan.directory` to that state.
fn parts_to_clean(scan: &mut Scan, start: u64, end: u64, whole_lap: bool) -> Vec<(u64, Buffer)> {
    let zeros = || Buffer::from_slice(&[0; BLOCK]);
    let mut parts = Vec::new();
    if whole_lap {
        parts.extend([(0, zeros()), (BLOCK as u64, zeros())]);
    }
    let cut = scan.headers.iter().filter(|(_, number)| *number >= end);
    parts.extend(cut.map(|(offset, _)| (*offset, zeros())));
    scan.headers.retain(|(_, number)| *number < end);
    let mut directory = scan.directory.clone();
    for slot in scan.descriptors() {
        if slot.header.number >= end {
            directory[slot.at..slot.at + HEADER].fill(0);
        }
    }
    scan.found.split_off(&end);
    if let (Some(head), false) = (&scan.head, whole_lap) {
        for (number, found) in scan.found.range(start..) {
            let at = scan.slot(number - head.first_number);
            if let Some(slot) = directory.get_mut(at..at + HEADER) {
                slot.copy_from_slice(&found.header.encode());
            }
        }
    }
    let blocks = directory.chunks(BLOCK).zip(scan.directory.chunks(BLOCK)).enumerate();
    for (nth, (new, _)) in blocks.filter(|(_, (new, old))| new != old) {
        let mut block = Buffer::from_slice(new);
        block.pad_to(BLOCK);
        parts.push((((2 + nth) * BLOCK) as u64, block));
    }
    scan.directory = directory;
    parts
}

fn write_synced(disk: &dyn Disk, file: &FileName, parts: Vec<(u64, Buffer)>) -> Result<(), Fault> {
    if parts.is_empty() {
        return Ok(());
    }
    perform(disk, DiskOp::Write { file: file.clone(), parts, sync: true })
}

fn perform(disk: &dyn Disk, op: DiskOp) -> Result<(), Fault> {
    let place = op.file().map(FileName::to_string).unwrap_or_default();
    let done = disk.perform(op);
    done.map(|_| ()).map_err(|error| Fault::new("clean up the log", place, error))
}

/// Where the log goes on behind a restart.
fn restart_place(header: &Header) -> Position {
    Position { index: Index(header.first.0 - 1), term: header.prev_term }
}

fn first_number(scan: &Scan) -> u64 {
    scan.head.as_ref().map_or(u64::MAX, |head| head.first_number)
}

fn end_of(header: &Header) -> u64 {
    header.offset + header.extent()
}

/// For fuzzing: recovers a log from the bytes of its files, whatever they are. What is accepted
/// must be accepted again, and be the same.
///
/// # Panics
/// When it is not.
pub fn fuzz_recover(segments: &[Vec<u8>]) {
    let name = |nth: usize| segment::file_name(nth as u64 + 1);
    let image = segments.iter().enumerate().map(|(nth, bytes)| (name(nth), bytes.clone()));
    let disk = MemoryDisk::from_image(image.collect());
    let identity = |incarnation| WalIdentity {
        cluster: ClusterId(1),
        member: MemberId(1),
        incarnation: Incarnation(incarnation),
        boot: 1,
    };
    let options = WalOptions { segment_bytes: 64 << 10, depth: 2 };
    let Ok((_, log)) = recover(&disk, identity(100), options, Position::default()) else { return };
    let (_, again) = recover(&disk, identity(101), options, Position::default())
        .expect("a log that was recovered can be recovered again");
    assert_eq!((log.entries, log.hard_state), (again.entries, again.hard_state));
}
