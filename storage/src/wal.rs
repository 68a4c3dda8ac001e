//! The write-ahead log: raft's log, and the redo log of the store.
//!
//! A pure state machine. [`Append`]s go in, [`DiskOp`]s come out; completions go in, and come out
//! as "everything up to here is durable". FORMAT.md draws the bytes. Leaves out threads, time, and
//! what entries mean.
//!
//! **Numbers.** The core numbers its appends ([`WalSeq`]); the log numbers its batches by itself,
//! since several appends may share one batch, and a seal or a restart is a batch without an append.
//! Each header carries both. Seals and restarts take no `WalSeq`.
//!
//! **Cuts stay cut.** What recovery cuts is zeroed, headers and descriptors, with synced writes
//! before the recovered log is handed out; so nothing is appended while an old batch of the same
//! number can still be found, and a chain that does not fit is always damage. If the machine stops
//! among these writes, a next recovery finds the first cut batch still torn or gone, and cuts at
//! the same place. Recovery then issues a seal, which is durable before anything else is; its
//! watermark proves all that recovery kept, and the sync of each of the last files before it makes
//! durable what a killed process had written without a sync.
//!
//! Laws:
//!  1. `synced ≤ issued ≤ appended`, and `synced` moves in the order of the batches, whatever order
//!     completions come in.
//!  2. A failed write or sync poisons the log: it is never tried again and nothing later is
//!     believed.
//!  3. A block that holds acknowledged records is not written again while the log needs it.
//!  4. A full disk delays the next segment; what fits the present one goes on.
//!  5. The segment that holds the newest durable batch, and with it the newest hard state, stays.
//!
//! Worked example: with depth 2, appends w1, w2, w3 arrive while the disk is slow. w1 and w2 are
//! batches 2 and 3 (1 was written when the log was created), w3 gathers with w4. Batch 3 completes
//! first: nothing is reported. Batch 2 completes: w2 is synced, and w3 and w4 leave as batch 4 with
//! watermark 3.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;

use holdfast_core::entry::{Append, HardState};
use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId, Position, WalSeq};
use holdfast_core::store::Fault;

use crate::disk::{Buffer, Disk, DiskOp, Done, FileName, Token};

mod batch;
mod classify;
mod files;
mod pending;
mod pipeline;
mod read;
mod recover;
mod replay;
mod scan;
mod segment;
mod settled;
mod spans;
mod spares;
mod tail;
mod terms;
#[cfg(test)]
mod tests;

pub use recover::{RecoveredLog, RecoveryNote, fuzz_recover};

use batch::{HEADER, Header};
use pending::{Pending, bytes_of};
use segment::{Geometry, LANES};
use spans::{Span, Spans};
use spares::{Spare, Spares};
use tail::Tail;
use terms::Terms;

/// Bytes of appends that may wait, for a slow or a full disk, before the log gives up.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes of a segment file: whole blocks, at least seven.
    pub segment_bytes: u64,
    /// Batches in flight at a time, 1 to 4.
    pub depth: usize,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 64 << 20, depth: 3 }
    }
}

impl WalOptions {
    fn geometry(&self) -> Geometry {
        assert!((1..=LANES as usize).contains(&self.depth), "the log's depth is 1 to {LANES}");
        Geometry::of(self.segment_bytes).expect("a segment is whole blocks, at least seven")
    }
}

/// Whose log it is, and which run writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// The run of its process; different at each start.
    pub incarnation: Incarnation,
    /// The kernel's boot id.
    pub boot: u128,
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// The next segment cannot be made: the disk is full. Appends go on until the present one is,
    /// too.
    NoSpace {
        /// What the disk said.
        cause: String,
    },
    /// There is a next segment after all, and nothing waits.
    SpaceAgain,
    /// A file that is not needed could not be removed.
    NotRemoved {
        /// Which.
        file: FileName,
        /// What the disk said.
        cause: String,
    },
}

impl fmt::Display for WalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalEvent::NoSpace { cause } => write!(
                f,
                "the disk is full, the log cannot grow: puts are refused until there is room ({cause})"
            ),
            WalEvent::SpaceAgain => f.write_str("the log has room again"),
            WalEvent::NotRemoved { file, cause } => {
                write!(f, "a file that is not needed could not be removed: {file} ({cause})")
            }
        }
    }
}

/// A segment that the log needs.
#[derive(Clone, Copy, Debug)]
struct Segment {
    sequence: u64,
    geometry: Geometry,
    uuid: u64,
    first_number: u64,
}

/// A batch on its way.
#[derive(Debug)]
struct Flight {
    order: u64,
    header: Header,
    sequence: u64,
    done: bool,
}

/// What an order to the disk was for.
#[derive(Debug)]
enum Order {
    Batch,
    Make,
    Retire,
    Remove,
    Discard,
}

/// The log.
pub struct Wal {
    identity: WalIdentity,
    options: WalOptions,
    /// Oldest first; the last is the one that `tail` writes.
    segments: VecDeque<Segment>,
    tail: Option<Tail>,
    spares: Spares,
    /// Segments that the log does not need any more, oldest first, and whether the first is on its
    /// way.
    purged: VecDeque<Spare>,
    retiring: bool,
    /// Places of all entries appended, durable or not.
    terms: Terms,
    /// Places of durable ones on the disk.
    spans: Spans,
    queue: VecDeque<Pending>,
    queue_bytes: usize,
    /// The file that was written last: a name is made once.
    named: Option<(u64, FileName)>,
    flights: VecDeque<Flight>,
    orders: BTreeMap<u64, Order>,
    next_order: u64,
    next_number: u64,
    chain: u32,
    durable: u64,
    /// A durable restart that no entry has followed yet. The entries before it stay until it is
    /// certain that its snapshot is in use: until then they are what a recovery returns to.
    restart: Option<Index>,
    synced: WalSeq,
    next_seq: WalSeq,
    hard_state: HardState,
    /// The last batch issued holds nothing, so a seal would add no proof.
    sealed: bool,
    /// Buffers for use again: for batches, and of one block.
    bodies: Vec<Buffer>,
    blocks: Vec<Buffer>,
    /// No spare is made yet: a start should not wait for it.
    starting: bool,
    events: VecDeque<WalEvent>,
    /// `NoSpace` was reported, `SpaceAgain` not yet.
    full: bool,
    fault: Option<Fault>,
}

impl Wal {
    /// Makes a log in a folder that has none, and makes it durable.
    pub fn create(
        disk: &dyn Disk,
        identity: WalIdentity,
        options: WalOptions,
    ) -> Result<Wal, Fault> {
        let files = disk.list(segment::FOLDER);
        let files = files.map_err(|error| Fault::new("list the log's files", "wal", error))?;
        if let Some((file, _)) = files.iter().find(|(file, _)| segment::sequence_of(file).is_some())
        {
            let cause = "there is a log already: recover it, or use an empty directory";
            return Err(Fault::new("create the log", file.to_string(), cause));
        }
        let spares = Spares::new(options.geometry(), 1);
        Wal::begin(disk, identity, options, spares)
    }

    /// A log without anything in it, durable with its first, empty batch.
    fn begin(
        disk: &dyn Disk,
        identity: WalIdentity,
        options: WalOptions,
        spares: Spares,
    ) -> Result<Wal, Fault> {
        let mut wal = Wal::empty(identity, options, spares);
        wal.write_empty(disk, 0)?;
        if wal.durable == 0 {
            let cause = match wal.take_event() {
                Some(WalEvent::NoSpace { cause }) => cause,
                _ => String::from("its first batch did not complete"),
            };
            return Err(Fault::new("create the log", "wal", cause));
        }
        Ok(wal)
    }

    fn empty(identity: WalIdentity, options: WalOptions, spares: Spares) -> Wal {
        Wal {
            identity,
            options,
            segments: VecDeque::new(),
            tail: None,
            spares,
            purged: VecDeque::new(),
            retiring: false,
            terms: Terms::new(Position::default()),
            spans: Spans::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            named: None,
            flights: VecDeque::new(),
            orders: BTreeMap::new(),
            next_order: 1,
            next_number: 1,
            chain: 0,
            durable: 0,
            restart: None,
            synced: WalSeq(0),
            next_seq: WalSeq(1),
            hard_state: HardState::default(),
            sealed: false,
            bodies: Vec::new(),
            blocks: Vec::new(),
            starting: true,
            events: VecDeque::new(),
            full: false,
            fault: None,
        }
    }

    /// Reads the log back after a restart. `after` is the place of the checkpoint: entries at or
    /// below it are not returned. A log that ends before it, begins after it or has a hole is a
    /// fault, and so is damage to anything that was durable. What the last crash left half written
    /// is cut, with a note.
    pub fn recover(
        disk: &dyn Disk,
        identity: WalIdentity,
        options: WalOptions,
        after: Position,
    ) -> Result<(Wal, RecoveredLog), Fault> {
        recover::recover(disk, identity, options, after)
    }

    /// Queues an append, and starts what may start. Its number is [`Wal::next_seq`]. Ignored by a
    /// poisoned log.
    pub fn append(&mut self, append: Append, ops: &mut Vec<(Token, DiskOp)>) {
        if self.fault.is_some() {
            return;
        }
        assert_eq!(append.seq, self.next_seq, "appends are numbered without gaps");
        self.next_seq = append.seq.next();
        self.follow(&append);
        self.queue_bytes += bytes_of(&append);
        if self.queue_bytes > QUEUE_BYTES_MAX {
            let cause = format!("{} bytes wait already", self.queue_bytes);
            self.poison(Fault::new("append to the log", "wal", cause));
            return;
        }
        self.spares.retry();
        self.pump(ops);
    }

    /// Takes the append into `terms` and into the batch that is being gathered.
    fn follow(&mut self, append: &Append) {
        self.hard_state = append.hard_state;
        let first = append.entries.first().map(|entry| entry.at.index);
        if let Some(first) = first.filter(|first| *first != self.terms.last().index.next()) {
            let last = self.terms.last().index;
            assert!(first <= last, "entry {first} would leave a hole behind {last}");
            let before = Index(first.0.checked_sub(1).expect("indexes begin at 1"));
            let term = self.terms.at(before).expect("nothing below the base is replaced");
            self.terms.truncate(first, term);
        }
        let prev = self.terms.last();
        for entry in &append.entries {
            self.terms.push(entry.at);
        }
        let group = self.spares.room().saturating_sub(HEADER as u64);
        let group = pending::GROUP_BYTES_MAX.min(usize::try_from(group).unwrap_or(usize::MAX));
        if !self.queue.back().is_some_and(|pending| pending.takes(append, group)) {
            self.queue_bytes += HEADER;
            let buffer = self.body(HEADER + bytes_of(append));
            self.queue.push_back(Pending::new(buffer, prev, append.hard_state, append.seq));
        }
        self.queue.back_mut().expect("there is one now").add(append);
    }

    /// Takes the end of one of this log's orders. Returns the highest append that is newly durable.
    /// An error means the log is poisoned (law 2).
    pub fn completed(
        &mut self,
        number: u64,
        result: io::Result<Done>,
        ops: &mut Vec<(Token, DiskOp)>,
    ) -> Result<Option<WalSeq>, Fault> {
        let before = self.synced;
        match self.orders.remove(&number) {
            Some(Order::Batch) => self.batch_completed(number, result),
            Some(Order::Make) => self.make_completed(result, ops),
            Some(Order::Retire) => self.retired(result, ops),
            Some(Order::Remove) => self.removed(result, ops),
            // What failed while a file was made is removed if it can be; recovery does it
            // otherwise.
            Some(Order::Discard) | None => {}
        }
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => {
                self.pump(ops);
                Ok((self.synced > before).then_some(self.synced))
            }
        }
    }

    /// Gives up whole segments without an entry above `upto`, oldest first (law 5).
    pub fn purge(&mut self, upto: Index, ops: &mut Vec<(Token, DiskOp)>) {
        if self.fault.is_some() {
            return;
        }
        if self.restart.is_some_and(|restart| restart <= upto) {
            self.restart = None;
            self.spans.clear();
        }
        while self.segments.get(1).is_some_and(|second| second.first_number <= self.durable) {
            if !self.spans.purge(self.segments[0].sequence, upto) {
                break;
            }
            let old = self.segments.pop_front().expect("there are two");
            self.purged.push_back(Spare { sequence: old.sequence, geometry: old.geometry });
        }
        self.retire(ops);
        if let Some(first) = self.spans.first() {
            let lowest = Index(first.0 - 1).max(self.terms.base().index);
            self.terms.forget(lowest.min(upto));
        }
        self.retry(ops);
    }

    /// From now on the log goes on behind `at`, the place of an installed snapshot: the next entry
    /// is `at.index + 1`, and what came before is not part of it. Returns the number of the batch
    /// that says so; it is durable once [`Wal::durable`] has reached it.
    ///
    /// Make it durable *before* the superblock that puts the snapshot to use, and append nothing in
    /// between: a restart whose snapshot did not come into use is undone by the next recovery,
    /// whereas a checkpoint that the log does not reach is a fault.
    pub fn restart_at(
        &mut self,
        at: Position,
        hard_state: HardState,
        ops: &mut Vec<(Token, DiskOp)>,
    ) -> u64 {
        self.terms = Terms::new(at);
        self.hard_state = hard_state;
        self.push_empty(batch::RESTART);
        let number = self.next_number + self.queue.len() as u64 - 1;
        self.pump(ops);
        number
    }

    /// If nothing is under way and the last batch holds something, writes an empty one: its
    /// watermark proves that all before it was durable. For a log that has been idle for a few
    /// milliseconds. Returns whether it did.
    pub fn seal(&mut self, ops: &mut Vec<(Token, DiskOp)>) -> bool {
        let idle = self.queue.is_empty() && self.flights.is_empty() && self.fault.is_none();
        // Recovery takes a batch behind a restart mark as proof that its snapshot is in use.
        let idle = idle && self.restart.is_none();
        if !idle || self.sealed {
            return false;
        }
        self.push_empty(0);
        self.pump(ops);
        true
    }

    /// Tries again what a full disk prevented. Appending and purging do so, too.
    pub fn retry(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
        if self.fault.is_none() {
            self.spares.retry();
            self.pump(ops);
        }
    }

    /// The number of the next append.
    pub fn next_seq(&self) -> WalSeq {
        self.next_seq
    }

    /// The highest append that is durable.
    pub fn synced(&self) -> WalSeq {
        self.synced
    }

    /// The highest batch that is durable; see [`Wal::restart_at`].
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Place of the last entry, durable or not.
    pub fn last(&self) -> Position {
        self.terms.last()
    }

    /// The lowest index that [`Wal::entries`] can read.
    pub fn first_index(&self) -> Option<Index> {
        self.spans.first().filter(|_| self.restart.is_none())
    }

    /// Bytes of appends that wait for room in the pipeline or on the disk. Whoever can should stop
    /// proposing well before 256 MiB, where the log gives up.
    pub fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Whether the next segment waits for space on the disk.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes of the files that the log needs, spares aside.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.geometry.len).sum()
    }

    /// Why the log is poisoned, if it is.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The next thing that an operator should hear of.
    pub fn take_event(&mut self) -> Option<WalEvent> {
        self.events.pop_front()
    }
}

fn span_of(header: &Header, sequence: u64) -> Span {
    Span {
        first: header.first,
        last: header.last().index,
        sequence,
        offset: header.offset,
        body_len: header.body_len,
    }
}

fn fold(boot: u128) -> u64 {
    (boot >> 64) as u64 ^ boot as u64
}
