//! The write-ahead log: raft's log, and the redo log of the store.
//!
//! A pure state machine. [`Append`]s go in, [`DiskOp`]s come out; completions go in, and come out as
//! "everything up to here is durable". FORMAT.md draws the bytes. Leaves out threads, time, and what
//! entries mean.
//!
//! **Numbers.** The core numbers its appends ([`WalSeq`]); the log numbers its batches by itself, since
//! several appends may share one batch, and a seal or a restart is a batch without an append. Each
//! header carries both. Seals and restarts take no `WalSeq`.
//!
//! **Cuts stay cut.** What recovery cuts is zeroed, headers and descriptors, with synced writes before
//! the recovered log is handed out; so nothing is appended while an old batch of the same number can
//! still be found, and a chain that does not fit is always damage. If the machine stops among these
//! writes, a next recovery finds the first cut batch still torn or gone, and cuts at the same place.
//! Recovery then issues a seal, which is durable before anything else is; its watermark
//! proves all that recovery kept, and the sync of each of the last files before it makes durable
//! what a killed process had written without a sync.
//!
//! Laws:
//!  1. `synced ≤ issued ≤ appended`, and `synced` moves in the order of the batches, whatever order
//!     completions come in.
//!  2. A failed write or sync poisons the log: it is never tried again and nothing later is believed.
//!  3. A block that holds acknowledged records is not written again while the log needs it.
//!  4. A full disk delays the next segment; what fits the present one goes on.
//!  5. The segment that holds the newest durable batch, and with it the newest hard state, stays.
//!
//! Worked example: with depth 2, appends w1, w2, w3 arrive while the disk is slow. w1 and w2 are batches
//! 2 and 3 (1 was written when the log was created), w3 gathers with w4. Batch 3 completes first:
//! nothing is reported. Batch 2 completes: w2 is synced, and w3 and w4 leave as batch 4 with
//! watermark 3.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use holdfast_core::entry::{Append, Entry, HardState};
use holdfast_core::id::{ClusterId, Incarnation, Index, MemberId, Position, WalSeq};
use holdfast_core::store::Fault;

use crate::disk::{BLOCK, Buffer, Disk, DiskOp, Done, FileName, Owner, Token};

mod batch;
mod classify;
mod pending;
mod recover;
mod replay;
mod scan;
mod segment;
mod spans;
mod spares;
mod tail;
mod terms;
#[cfg(test)]
mod tests;

pub use recover::{RecoveredLog, RecoveryNote, fuzz_recover};

use batch::{HEADER, Header, extent, header_crc};
use pending::{Pending, bytes_of};
use segment::{Geometry, LANES, SegmentHeader, file_name};
use spans::{Span, Spans};
use spares::{Spare, Spares};
use tail::Tail;
use terms::Terms;

/// Bytes of appends that may wait, for a slow or a full disk, before the log gives up.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Buffers kept for reuse, and the largest that is kept.
const BUFFERS_MAX: usize = 8;
const BUFFER_BYTES_MAX: usize = 2 << 20;

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
        WalOptions { segment_bytes: 64 << 20, depth: 2 }
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
    /// The next segment cannot be made: the disk is full. Appends go on until the present one is.
    NoSpace {
        /// What the disk said.
        cause: String,
    },
    /// The next segment could be made after all.
    SpaceAgain,
    /// A file that is not needed could not be removed.
    NotRemoved {
        /// Which.
        file: FileName,
        /// What the disk said.
        cause: String,
    },
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
    Retire(Spare),
    Remove(FileName),
}

/// The log.
pub struct Wal {
    identity: WalIdentity,
    options: WalOptions,
    /// Oldest first; the last is the one that `tail` writes.
    segments: VecDeque<Segment>,
    tail: Option<Tail>,
    spares: Spares,
    /// Places of all entries appended, durable or not.
    terms: Terms,
    /// Places of durable ones on the disk.
    spans: Spans,
    queue: VecDeque<Pending>,
    queue_bytes: usize,
    flights: VecDeque<Flight>,
    orders: BTreeMap<u64, Order>,
    next_order: u64,
    next_number: u64,
    chain: u32,
    durable: u64,
    /// A durable restart that no entry has followed yet. The entries before it stay until it is certain
    /// that its snapshot is in use: until then they are what a recovery returns to.
    restart: Option<Index>,
    synced: WalSeq,
    next_seq: WalSeq,
    hard_state: HardState,
    /// The last batch issued holds nothing, so a seal would add no proof.
    sealed: bool,
    buffers: Vec<Buffer>,
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
            terms: Terms::new(Position::default()),
            spans: Spans::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
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
            buffers: Vec::new(),
            events: VecDeque::new(),
            full: false,
            fault: None,
        }
    }

    /// Reads the log back after a restart. `after` is the place of the checkpoint: entries at or below
    /// it are not returned. A log that ends before it, begins after it or has a hole is a fault,
    /// and so is damage to anything that was durable. What the last crash left half written is cut,
    /// with a note.
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
        self.queue_bytes += bytes_of(&append) + HEADER;
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
        if !self.queue.back().is_some_and(|pending| pending.takes(append)) {
            let buffer = self.buffer(HEADER + bytes_of(append));
            self.queue.push_back(Pending::new(buffer, prev, append.hard_state, append.seq));
        }
        self.queue.back_mut().expect("there is one now").add(append);
    }

    /// Takes the end of one of this log's orders. Returns the highest append that is newly durable. An
    /// error means the log is poisoned (law 2).
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
            Some(Order::Retire(spare)) => self.retired(spare, result, ops),
            Some(Order::Remove(file)) => self.removed(file, result),
            None => {}
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
            self.retire(Spare { sequence: old.sequence, geometry: old.geometry }, ops);
        }
        if let Some(first) = self.spans.first() {
            let lowest = Index(first.0 - 1).max(self.terms.base().index);
            self.terms.forget(lowest.min(upto));
        }
        self.retry(ops);
    }

    /// From now on the log goes on behind `at`, the place of an installed snapshot: the next entry is
    /// `at.index + 1`, and what came before is not part of it. Returns the number of the batch that
    /// says so; it is durable once [`Wal::durable`] has reached it.
    ///
    /// Make it durable *before* the superblock that puts the snapshot to use, and append nothing in
    /// between: a restart whose snapshot did not come into use is undone by the next recovery, whereas
    /// a checkpoint that the log does not reach is a fault.
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

    /// If nothing is under way and the last batch holds something, writes an empty one: its watermark
    /// proves that all before it was durable. For a log that has been idle for a few milliseconds.
    /// Returns whether it did.
    pub fn seal(&mut self, ops: &mut Vec<(Token, DiskOp)>) -> bool {
        let idle = self.queue.is_empty() && self.flights.is_empty() && self.fault.is_none();
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

    /// Reads durable entries back, from `from` up to but without `below`, at least one and then
    /// until they exceed `bytes_max`. Empty if the log does not have `from`.
    pub fn entries(
        &self,
        disk: &dyn Disk,
        from: Index,
        below: Index,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        if self.restart.is_some_and(|restart| from <= restart) {
            return Ok(entries);
        }
        let (mut next, mut bytes) = (from, 0);
        for span in self.spans.from(from) {
            if span.first > next || next >= below {
                break;
            }
            for entry in self.read_span(disk, span)? {
                let wanted = entry.at.index == next && next < below && next <= span.last;
                if wanted && (entries.is_empty() || bytes + entry.data.len() as u64 <= bytes_max) {
                    bytes += entry.data.len() as u64;
                    next = next.next();
                    entries.push(entry);
                }
            }
            if next <= span.last {
                break;
            }
        }
        Ok(entries)
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

/// The pipeline.
impl Wal {
    /// Issues what waits while there is room in the pipeline and in a segment, and keeps a spare.
    fn pump(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
        if self.fault.is_some() {
            return;
        }
        while self.flights.len() < self.options.depth {
            let Some(pending) = self.queue.front() else { break };
            let bytes = extent(pending.buffer.len());
            if !self.tail.as_ref().is_some_and(|tail| tail.has_room(bytes)) {
                let Some(spare) = self.spares.take(bytes) else {
                    self.make(bytes, ops);
                    break;
                };
                self.enter(spare);
            }
            let pending = self.queue.pop_front().expect("it was there");
            self.issue(pending, ops);
        }
        if self.spares.is_empty() {
            self.make(0, ops);
        }
    }

    /// Goes on in another segment.
    fn enter(&mut self, spare: Spare) {
        self.tail = Some(Tail::new(spare.geometry));
        self.segments.push_back(Segment {
            sequence: spare.sequence,
            geometry: spare.geometry,
            uuid: segment::life(self.identity.incarnation, self.next_number),
            first_number: self.next_number,
        });
    }

    /// Sends a batch on its way: header, records and descriptor in one operation.
    fn issue(&mut self, pending: Pending, ops: &mut Vec<(Token, DiskOp)>) {
        let mut block = self.buffer(BLOCK);
        let segment = *self.segments.back().expect("there is a tail");
        let tail = self.tail.as_mut().expect("the caller made sure of room");
        let mut buffer = pending.buffer;
        self.queue_bytes = self.queue_bytes.saturating_sub(buffer.len());
        let header = Header {
            body_crc: crc32fast::hash(&buffer[HEADER..]),
            chain: self.chain,
            flags: pending.flags,
            count: pending.count,
            body_len: u32::try_from(buffer.len() - HEADER).expect("appends are far below 4 GiB"),
            offset: tail.at(),
            uuid: segment.uuid,
            number: self.next_number,
            seq: pending.seq,
            first: pending.first,
            prev_term: pending.prev_term,
            last_term: pending.last_term,
            hard_state: pending.hard_state,
            watermark: self.durable,
            incarnation: self.identity.incarnation,
            boot: fold(self.identity.boot),
        };
        let bytes = header.encode();
        buffer[..HEADER].copy_from_slice(&bytes);
        buffer.pad_to(BLOCK);
        let mut parts = Vec::with_capacity(4);
        if tail.is_new() {
            let first = self.segment_header(&segment, &header);
            let copy = first.clone();
            parts.extend([(0, first), (BLOCK as u64, copy)]);
        }
        let tail = self.tail.as_mut().expect("as above");
        let (slot, descriptors) = tail.place(header.extent(), &bytes);
        block.extend(descriptors);
        parts.extend([(slot, block), (header.offset, buffer)]);
        self.chain = header_crc(&bytes);
        self.next_number += 1;
        self.sealed = header.count == 0 && header.flags == 0 && header.seq == self.issued_seq();
        let file = file_name(segment.sequence);
        let order = self.order(Order::Batch, DiskOp::Write { file, parts, sync: true }, ops);
        let sequence = segment.sequence;
        self.flights.push_back(Flight { order, header, sequence, done: false });
    }

    /// The append of the batch issued last.
    fn issued_seq(&self) -> WalSeq {
        self.flights.back().map_or(self.synced, |flight| flight.header.seq)
    }

    fn segment_header(&self, segment: &Segment, header: &Header) -> Buffer {
        let head = SegmentHeader {
            cluster: self.identity.cluster,
            member: self.identity.member,
            incarnation: self.identity.incarnation,
            uuid: segment.uuid,
            sequence: segment.sequence,
            len: segment.geometry.len,
            first_number: header.number,
            first: header.first,
            chain: header.chain,
        };
        Buffer::from_slice(&head.encode())
    }

    fn order(&mut self, order: Order, op: DiskOp, ops: &mut Vec<(Token, DiskOp)>) -> u64 {
        let number = self.next_order;
        self.next_order += 1;
        self.orders.insert(number, order);
        ops.push((Token { owner: Owner::Wal, number }, op));
        number
    }

    fn batch_completed(&mut self, number: u64, result: io::Result<Done>) {
        let at = self.flights.iter().position(|flight| flight.order == number);
        let at = at.expect("a batch in flight has its order");
        match result {
            Ok(done) => done.buffers.into_iter().for_each(|buffer| self.keep(buffer)),
            Err(error) => {
                let place = file_name(self.flights[at].sequence).to_string();
                let what = format!("write batch {} of the log", self.flights[at].header.number);
                self.poison(Fault::new(what, place, error));
                return;
            }
        }
        self.flights[at].done = true;
        while self.flights.front().is_some_and(|flight| flight.done) {
            let flight = self.flights.pop_front().expect("there is one");
            self.settle(&flight);
        }
    }

    /// A batch is durable, and so is everything before it (law 1).
    fn settle(&mut self, flight: &Flight) {
        let header = &flight.header;
        self.durable = header.number;
        self.synced = header.seq;
        if header.flags & batch::RESTART != 0 {
            self.restart = Some(Index(header.first.0 - 1));
        }
        if header.count > 0 {
            if self.restart.take().is_some() {
                self.spans.clear();
            }
            self.spans.push(span_of(header, flight.sequence));
        }
    }

    /// Queues a batch without entries.
    fn push_empty(&mut self, flags: u16) {
        let seq = WalSeq(self.next_seq.0 - 1);
        let (last, hard_state) = (self.terms.last(), self.hard_state);
        let buffer = self.buffer(HEADER);
        let mut pending = Pending::new(buffer, last, hard_state, seq);
        pending.flags = flags;
        self.queue_bytes += HEADER;
        self.queue.push_back(pending);
    }

    /// Writes a batch without entries and waits for it, unless the disk is full.
    fn write_empty(&mut self, disk: &dyn Disk, flags: u16) -> Result<(), Fault> {
        let mut ops = Vec::new();
        self.push_empty(flags);
        self.pump(&mut ops);
        while !ops.is_empty() && (!self.queue.is_empty() || !self.flights.is_empty()) {
            let (token, op) = ops.remove(0);
            self.completed(token.number, disk.perform(op), &mut ops)?;
        }
        // What is left makes the next spare.
        while let Some((token, op)) = ops.pop() {
            self.completed(token.number, disk.perform(op), &mut ops)?;
        }
        Ok(())
    }

    fn poison(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.queue.clear();
        self.flights.clear();
        self.orders.clear();
    }

    fn buffer(&mut self, bytes: usize) -> Buffer {
        let fits = |buffer: &Buffer| {
            buffer.capacity() >= bytes && (bytes <= BLOCK) == (buffer.capacity() <= BLOCK)
        };
        match self.buffers.iter().position(fits) {
            Some(at) => {
                let mut buffer = self.buffers.swap_remove(at);
                buffer.clear();
                buffer
            }
            None => Buffer::with_capacity(bytes),
        }
    }

    fn keep(&mut self, buffer: Buffer) {
        if self.buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            self.buffers.push(buffer);
        }
    }
}

/// Files.
impl Wal {
    fn make(&mut self, bytes: u64, ops: &mut Vec<(Token, DiskOp)>) {
        if let Some(op) = self.spares.make(bytes) {
            self.order(Order::Make, op, ops);
        }
    }

    fn make_completed(&mut self, result: io::Result<Done>, ops: &mut Vec<(Token, DiskOp)>) {
        match result {
            Ok(_) => match self.spares.made() {
                Some(op) => {
                    self.order(Order::Make, op, ops);
                }
                None => self.space_again(),
            },
            Err(error) if is_full(&error) => {
                let op = self.spares.fail_full();
                if !std::mem::replace(&mut self.full, true) {
                    self.events.push_back(WalEvent::NoSpace { cause: error.to_string() });
                }
                let DiskOp::Remove { file } = &op else { return };
                let order = Order::Remove(file.clone());
                self.order(order, op, ops);
            }
            Err(error) => self.poison(Fault::new("make the log's next segment", "wal", error)),
        }
    }

    fn space_again(&mut self) {
        self.spares.retry();
        if std::mem::replace(&mut self.full, false) {
            self.events.push_back(WalEvent::SpaceAgain);
        }
    }

    /// A segment is not needed: it becomes a spare, or goes.
    fn retire(&mut self, spare: Spare, ops: &mut Vec<(Token, DiskOp)>) {
        let file = file_name(spare.sequence);
        if self.spares.wants(spare.geometry) {
            let zeros = || Buffer::from_slice(&[0; BLOCK]);
            let parts = vec![(0, zeros()), (BLOCK as u64, zeros())];
            self.order(Order::Retire(spare), DiskOp::Write { file, parts, sync: true }, ops);
        } else {
            self.order(Order::Remove(file.clone()), DiskOp::Remove { file }, ops);
        }
    }

    fn retired(&mut self, spare: Spare, result: io::Result<Done>, ops: &mut Vec<(Token, DiskOp)>) {
        let file = file_name(spare.sequence);
        match result {
            Ok(_) if self.spares.wants(spare.geometry) => {
                self.spares.add(spare);
                self.space_again();
            }
            Ok(_) => {
                self.order(Order::Remove(file.clone()), DiskOp::Remove { file }, ops);
            }
            Err(error) => {
                self.poison(Fault::new("retire a segment of the log", file.to_string(), error));
            }
        }
    }

    fn removed(&mut self, file: FileName, result: io::Result<Done>) {
        if let Err(error) = result {
            self.events.push_back(WalEvent::NotRemoved { file, cause: error.to_string() });
        }
    }

    fn read_span(&self, disk: &dyn Disk, span: &Span) -> Result<Vec<Entry>, Fault> {
        let segment = self.segments.iter().find(|segment| segment.sequence == span.sequence);
        let segment = segment.expect("spans lie in segments that the log has");
        let file = file_name(span.sequence);
        let place = || format!("{file} at {}", span.offset);
        let mut bytes = vec![0; HEADER + span.body_len as usize];
        let read = disk.read(&file, span.offset, &mut bytes);
        read.map_err(|error| Fault::new("read the log", place(), error))?;
        let own = |header: &Header| header.uuid == segment.uuid && header.offset == span.offset;
        let header = Header::decode(&bytes).filter(own).filter(|header| {
            header.body_len == span.body_len && batch::body_is_whole(header, &bytes[HEADER..])
        });
        let entries = header.and_then(|header| batch::decode_records(&header, &bytes[HEADER..]));
        entries.ok_or_else(|| {
            let cause = format!("entries {} to {} are damaged on disk", span.first, span.last);
            Fault::new("read the log", place(), cause)
        })
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

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
