//! From what waits to what is durable: batches leave while there is room in the pipeline and in a
//! segment, and settle in their own order.
//!
//! Leaves out the gathering ([`pending`](super::pending)) and the files.
//!
//! Laws:
//!  1. At most `depth` batches are in flight.
//!  2. A batch settles when it and all before it are written and synced.
//!  3. A header's watermark is the newest batch that had settled when it was issued; so batch `n`
//!     is issued only once `n - depth` has settled.
//!
//! Worked example: with depth 2, batches 5 and 6 are in flight; 6 completes, nothing settles; 5
//! completes, both settle, and what gathered meanwhile leaves as 7 with watermark 6.

use std::io;

use holdfast_core::id::{Index, WalSeq};
use holdfast_core::store::Fault;

use super::batch::{self, HEADER, Header, extent, header_crc};
use super::pending::Pending;
use super::segment::{self, SegmentHeader, file_name};
use super::spares::Spare;
use super::tail::Tail;
use super::{Flight, Order, Segment, Wal, WalEvent, fold, span_of};
use crate::disk::{BLOCK, Buffer, Disk, DiskOp, Done, FileName, Owner, Token};

/// Buffers kept for reuse of each kind, and the largest that is kept.
const BUFFERS_MAX: usize = 8;
const BUFFER_BYTES_MAX: usize = 2 << 20;
/// A batch begins with room for many records, so that gathering does not move it.
const BUFFER_BYTES_MIN: usize = 64 << 10;

impl Wal {
    /// Issues what waits while there is room in the pipeline and in a segment, and keeps a spare.
    pub(super) fn pump(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
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
        if self.spares.is_empty() && !self.starting {
            self.make(0, ops);
        }
        if self.full && self.queue.is_empty() && self.spares.is_ready() {
            self.full = false;
            self.events.push_back(WalEvent::SpaceAgain);
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
        let segment = *self.segments.back().expect("there is a tail");
        let tail = self.tail.as_mut().expect("the caller made sure of room");
        let mut buffer = pending.buffer;
        self.queue_bytes -= buffer.len();
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
        let mut block = self.block(&[]);
        let tail = self.tail.as_mut().expect("as above");
        let (slot, descriptors) = tail.place(header.extent(), &bytes);
        block.extend(descriptors);
        parts.extend([(slot, block), (header.offset, buffer)]);
        self.chain = header_crc(&bytes);
        self.next_number += 1;
        self.sealed = header.count == 0 && header.flags == 0 && header.seq == self.issued_seq();
        let file = self.name_of(segment.sequence);
        let order = self.order(Order::Batch, DiskOp::Write { file, parts, sync: true }, ops);
        let sequence = segment.sequence;
        self.flights.push_back(Flight { order, header, sequence, done: false });
    }

    fn name_of(&mut self, sequence: u64) -> FileName {
        let known = self.named.take_if(|(named, _)| *named == sequence);
        let (_, file) = self.named.insert(known.unwrap_or_else(|| (sequence, file_name(sequence))));
        file.clone()
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

    pub(super) fn order(
        &mut self,
        order: Order,
        op: DiskOp,
        ops: &mut Vec<(Token, DiskOp)>,
    ) -> u64 {
        let number = self.next_order;
        self.next_order += 1;
        self.orders.insert(number, order);
        ops.push((Token { owner: Owner::Wal, number }, op));
        number
    }

    pub(super) fn batch_completed(&mut self, number: u64, result: io::Result<Done>) {
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
    pub(super) fn push_empty(&mut self, flags: u16) {
        let seq = WalSeq(self.next_seq.0 - 1);
        let (last, hard_state) = (self.terms.last(), self.hard_state);
        let buffer = self.body(HEADER);
        let mut pending = Pending::new(buffer, last, hard_state, seq);
        pending.flags = flags;
        self.queue_bytes += HEADER;
        self.queue.push_back(pending);
    }

    /// Writes a batch without entries and waits for it, unless the disk is full.
    pub(super) fn write_empty(&mut self, disk: &dyn Disk, flags: u16) -> Result<(), Fault> {
        let mut ops = Vec::new();
        self.push_empty(flags);
        self.pump(&mut ops);
        while let Some((token, op)) = ops.pop() {
            self.completed(token.number, disk.perform(op), &mut ops)?;
        }
        self.starting = false;
        Ok(())
    }

    pub(super) fn poison(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.queue.clear();
        self.queue_bytes = 0;
        self.flights.clear();
        self.orders.clear();
    }

    /// An empty buffer for a batch of `bytes`.
    pub(super) fn body(&mut self, bytes: usize) -> Buffer {
        let fits = |buffer: &Buffer| buffer.capacity() >= bytes;
        let at = self.bodies.iter().position(fits);
        let mut buffer = match at {
            Some(at) => self.bodies.swap_remove(at),
            None => Buffer::with_capacity(bytes.max(BUFFER_BYTES_MIN)),
        };
        buffer.clear();
        buffer
    }

    /// A buffer that holds one block.
    fn block(&mut self, bytes: &[u8]) -> Buffer {
        let mut buffer = self.blocks.pop().unwrap_or_else(|| Buffer::with_capacity(BLOCK));
        buffer.clear();
        buffer.extend(bytes);
        buffer
    }

    fn keep(&mut self, buffer: Buffer) {
        let small = buffer.capacity() < BUFFER_BYTES_MIN;
        let kept = if small { &mut self.blocks } else { &mut self.bodies };
        if kept.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            kept.push(buffer);
        }
    }
}
