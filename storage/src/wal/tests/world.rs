//! A log, its disk, and a twin that remembers every state the log has been in.
//!
//! Orders wait in a list until the test performs them, in any order; a crash performs some sectors
//! of some parts of those that waited. Leaves out who decides: the random test or a scene.

use std::collections::BTreeMap;

use holdfast_core::entry::{Append, Entry, EntryKind, HardState};
use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId, Position, Term};
use holdfast_core::rng::Rng;
use holdfast_core::store::Fault;

use crate::disk::{Buffer, Disk, DiskOp, Image, MemoryDisk, Token};
use crate::wal::{RecoveredLog, Wal, WalIdentity, WalOptions};

/// Sectors are the unit that a disk writes whole.
const SECTOR: usize = 512;

pub fn identity(incarnation: u64) -> WalIdentity {
    WalIdentity {
        cluster: ClusterId(0xc1),
        member: MemberId(0x1),
        incarnation: Incarnation(incarnation),
        boot: 7,
    }
}

pub fn entry(index: u64, term: u64, len: usize) -> Entry {
    let name = [index.to_le_bytes(), term.to_le_bytes()].concat();
    let at = Position::new(index, term);
    Entry { at, kind: EntryKind::Normal, data: name.into_iter().cycle().take(len).collect() }
}

pub fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    let vote = Some(vote).filter(|vote| *vote != 0).map(MemberId);
    HardState { term: Term(term), vote, commit: Index(commit) }
}

/// What a log means, naively.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub base: u64,
    pub entries: BTreeMap<u64, Entry>,
    pub hard_state: HardState,
}

impl State {
    pub fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.base)
    }

    pub fn take(&mut self, append: &Append) {
        if let Some(first) = append.entries.first() {
            self.entries.split_off(&first.at.index.0);
        }
        self.entries.extend(append.entries.iter().map(|entry| (entry.at.index.0, entry.clone())));
        self.hard_state = append.hard_state;
    }

    /// What recovery must give of it.
    pub fn expected(&self, after: u64) -> (Vec<Entry>, HardState) {
        let entries = self.entries.range(after + 1..).map(|(_, entry)| entry.clone()).collect();
        let mut hard_state = self.hard_state;
        hard_state.commit = Index(hard_state.commit.0.min(self.last()).max(after));
        (entries, hard_state)
    }
}

pub struct World {
    pub disk: MemoryDisk,
    pub wal: Wal,
    pub options: WalOptions,
    pub waiting: Vec<(Token, DiskOp)>,
    /// By append number; the first is the empty log.
    pub states: Vec<State>,
    pub after: Position,
    pub incarnation: u64,
}

impl World {
    pub fn new(segment_bytes: u64, depth: usize) -> World {
        let options = WalOptions { segment_bytes, depth };
        let disk = MemoryDisk::new();
        let wal = Wal::create(&disk, identity(1), options).expect("an empty folder takes a log");
        let states = vec![State::default()];
        let (waiting, after) = (Vec::new(), Position::default());
        World { disk, wal, options, waiting, states, after, incarnation: 1 }
    }

    pub fn state(&self) -> &State {
        self.states.last().expect("there is the empty one")
    }

    pub fn append(&mut self, entries: Vec<Entry>, hard_state: HardState) {
        let append = Append { seq: self.wal.next_seq(), hard_state, entries };
        let mut state = self.state().clone();
        state.take(&append);
        self.states.push(state);
        self.wal.append(append, &mut self.waiting);
        assert_eq!(self.states.len() as u64, self.wal.next_seq().0);
    }

    /// Performs the waiting order at `at`.
    pub fn perform(&mut self, at: usize) {
        let (token, op) = self.waiting.swap_remove(at);
        let result = self.disk.perform(op);
        let before = self.wal.synced();
        let synced = self.wal.completed(token.number, result, &mut self.waiting);
        let synced = synced.expect("this disk does not fail");
        assert_eq!(synced.unwrap_or(before), self.wal.synced());
    }

    /// Performs everything.
    pub fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.perform(0);
        }
        assert!(self.wal.is_full() || self.wal.queued_bytes() == 0, "nothing waits");
    }

    /// The disk as a crash might leave it.
    pub fn torn_image(&self, rng: &mut Rng) -> Image {
        let disk = MemoryDisk::from_image(self.disk.image());
        for (_, op) in &self.waiting {
            match op {
                DiskOp::Write { file, parts, .. } => {
                    let parts = parts.iter().filter_map(|(at, bytes)| {
                        let mut old = vec![0; bytes.len()];
                        disk.read(file, *at, &mut old).ok()?;
                        Some((*at, torn(&old, bytes, rng)))
                    });
                    let (parts, file) = (parts.collect(), file.clone());
                    disk.perform(DiskOp::Write { file, parts, sync: false }).expect("it exists");
                }
                DiskOp::Create { file, len } if rng.chance(50) => {
                    let len = if rng.chance(50) { *len } else { len / 8192 * 4096 };
                    let file = file.clone();
                    disk.perform(DiskOp::Create { file, len }).expect("it is new");
                }
                DiskOp::Rename { from, to } if rng.chance(50) => {
                    let (from, to) = (from.clone(), to.clone());
                    disk.perform(DiskOp::Rename { from, to }).expect("it exists");
                }
                DiskOp::Remove { file } if rng.chance(50) => {
                    disk.perform(DiskOp::Remove { file: file.clone() }).expect("removes");
                }
                _ => {}
            }
        }
        disk.image()
    }

    /// Starts again from an image.
    pub fn restart(&mut self, image: Image) -> RecoveredLog {
        self.try_restart(image).unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub fn try_restart(&mut self, image: Image) -> Result<RecoveredLog, Fault> {
        self.incarnation += 1;
        self.disk = MemoryDisk::from_image(image);
        let identity = identity(self.incarnation);
        let (wal, log) = Wal::recover(&self.disk, identity, self.options, self.after)?;
        self.wal = wal;
        self.waiting.clear();
        Ok(log)
    }

    /// Starts again from an image and compares with the twin: what was synced is there, in the
    /// state of some append that was made.
    pub fn restart_checked(&mut self, image: Image) -> RecoveredLog {
        let synced = self.wal.synced().0;
        let log = self.restart(image);
        let seq = log.last_seq.0;
        assert!(seq >= synced, "w{synced} was synced, the log ends with w{seq}");
        assert!((seq as usize) < self.states.len(), "w{seq} was never appended");
        self.states.truncate(seq as usize + 1);
        let (entries, hard_state) = self.state().expected(self.after.index.0);
        assert_eq!(log.entries, entries, "the entries of w{seq}");
        assert_eq!(log.hard_state, hard_state, "the hard state of w{seq}");
        self.states.last_mut().expect("it is there").hard_state = hard_state;
        assert_eq!((self.wal.synced(), self.wal.next_seq()), (log.last_seq, log.last_seq.next()));
        log
    }
}

/// Some sectors old, some new.
fn torn(old: &[u8], new: &[u8], rng: &mut Rng) -> Buffer {
    let percent = [0, 10, 50, 90, 100][rng.below(5) as usize];
    let mut bytes = old.to_vec();
    let sectors = bytes.chunks_mut(SECTOR).zip(new.chunks(SECTOR));
    for (old, new) in sectors {
        if rng.chance(percent) {
            old.copy_from_slice(new);
        }
    }
    Buffer::from_slice(&bytes)
}
