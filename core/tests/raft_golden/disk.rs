//! One member's disk: what is durable, what is only written, and what a script holds back.

use std::collections::{BTreeMap, VecDeque};

use holdfast_core::entry::{Append, Entry, HardState};
use holdfast_core::id::{Index, MemberId, Position, Term, WalSeq};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::raft::Boot;

/// A checkpoint or a staged snapshot: a state and what it stands for.
#[derive(Clone)]
pub struct Saved {
    pub meta: SnapshotMeta,
    pub store: MemoryStore,
}

/// A transfer that has not ended.
#[derive(Clone)]
pub struct Ship {
    pub to: MemberId,
    pub term: Term,
    pub saved: Saved,
}

pub struct Disk {
    pub checkpoint: Saved,
    hard_state: HardState,
    entries: Vec<Entry>,
    last_seq: WalSeq,
    written: VecDeque<Append>,
    staged: BTreeMap<Position, Saved>,
    pub held_ships: Vec<Ship>,
    pub held_install: Option<(SnapshotMeta, HardState)>,
    pub hold_sync: bool,
    pub hold_ship: bool,
    pub hold_install: bool,
}

impl Disk {
    pub fn new(checkpoint: Saved) -> Disk {
        Disk {
            checkpoint,
            hard_state: HardState::default(),
            entries: Vec::new(),
            last_seq: WalSeq(0),
            written: VecDeque::new(),
            staged: BTreeMap::new(),
            held_ships: Vec::new(),
            held_install: None,
            hold_sync: false,
            hold_ship: false,
            hold_install: false,
        }
    }

    pub fn write(&mut self, append: Append) {
        let before = self.written.back().map_or(self.last_seq, |append| append.seq);
        assert_eq!(append.seq, before.next(), "batches are numbered without gaps");
        self.written.push_back(append);
    }

    /// Flushes everything that is written; the highest batch if there was any.
    pub fn sync(&mut self) -> Option<WalSeq> {
        let synced = self.written.back()?.seq;
        for append in std::mem::take(&mut self.written) {
            if let Some(first) = append.entries.first() {
                self.entries.retain(|entry| entry.at.index < first.at.index);
            }
            self.entries.extend(append.entries);
            self.hard_state = append.hard_state;
            self.last_seq = append.seq;
        }
        Some(synced)
    }

    /// A power cut: what was only written is gone, and so is what was held back. Returns how many
    /// batches that were.
    pub fn crash(&mut self) -> usize {
        self.staged.clear();
        self.held_ships.clear();
        self.held_install = None;
        (self.hold_sync, self.hold_ship, self.hold_install) = (false, false, false);
        std::mem::take(&mut self.written).len()
    }

    /// What a start finds: the entries after the checkpoint.
    pub fn boot(&self) -> Boot {
        let start = self.checkpoint.meta.at.index;
        let entries = self.entries.iter().filter(|entry| entry.at.index > start).cloned().collect();
        Boot {
            checkpoint: self.checkpoint.meta.clone(),
            hard_state: self.hard_state,
            entries,
            last_seq: self.last_seq,
            force_new: false,
        }
    }

    /// The disk lied: the last `count` durable entries are not there.
    pub fn lose(&mut self, count: usize) {
        self.entries.truncate(self.entries.len() - count);
    }

    pub fn purge(&mut self, upto: Index) {
        self.entries.retain(|entry| entry.at.index > upto);
    }

    pub fn fetch(&self, from: Index, below: Index) -> Vec<Entry> {
        let wanted = |entry: &&Entry| entry.at.index >= from && entry.at.index < below;
        self.entries.iter().filter(wanted).cloned().collect()
    }

    pub fn stage(&mut self, saved: Saved) {
        self.staged.insert(saved.meta.at, saved);
    }

    pub fn discard(&mut self, at: Position) {
        self.staged.remove(&at);
    }

    /// The staged snapshot becomes the checkpoint, and the log starts after it, empty.
    pub fn install(&mut self, meta: &SnapshotMeta, hard_state: HardState) -> MemoryStore {
        let saved = self.staged.remove(&meta.at).expect("a snapshot is staged before its install");
        self.last_seq = self.written.back().map_or(self.last_seq, |append| append.seq);
        self.written.clear();
        self.entries.clear();
        self.hard_state = hard_state;
        self.checkpoint = saved.clone();
        saved.store
    }
}
