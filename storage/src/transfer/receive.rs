//! The receiving half: one snapshot at a time, its files written one bounded piece after the other.
//!
//! Left out: what the files hold, see `verify`.
//!
//! Laws:
//!  1. One order to the disk is under way, and one piece is wanted, at any time.
//!  2. A file is in the pool exactly if the receiver created it and it is nobody else's yet.
//!
//! Worked example: the leader fails at file 3; its successor offers the same files under another
//! number; the first `Have` is for file 3.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use holdfast_core::id::{MemberId, Position, Term};
use holdfast_core::message::{SnapshotMeta, Transfer};

use super::verify::{Staged, Verifier, Verify};
use super::{Context, FILES_MAX, PIECE_BYTES_MAX};
use crate::checkpoint::MANIFEST_BYTES_MAX;
use crate::disk::{BLOCK, Buffer, DiskOp, Done, FileName};
use crate::engine::EngineEvent;
use crate::engine::files::{DataFile, FOLDER, Kind};
use crate::engine::lane::{Lane, Step};
use crate::superblock::MEMBERS_MAX;

/// A file longer than this is not ours.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// What is being received, and what is left of earlier attempts.
#[derive(Default)]
pub(crate) struct Receiver {
    incoming: Option<Incoming>,
    /// Files that this receiver created, and how much of each is written.
    pool: BTreeMap<FileName, Partial>,
    serial: u64,
    busy: Option<(u64, Order)>,
}

/// The order under way.
enum Order {
    Create(FileName),
    Write(FileName, u64),
    Verify,
    /// Nobody waits for it any more.
    Forgotten,
}

struct Partial {
    len: u64,
    written: u64,
}

struct Incoming {
    from: MemberId,
    number: u64,
    term: Term,
    meta: SnapshotMeta,
    files: Vec<DataFile>,
    next: usize,
    phase: Phase,
}

enum Phase {
    Receiving,
    Verifying(Box<Verifier>),
    Staged(Box<Staged>),
}

impl Receiver {
    /// A peer offers a snapshot or sends a piece of one.
    pub(crate) fn message(&mut self, from: MemberId, message: Transfer, context: &mut Context<'_>) {
        match message {
            Transfer::Offer { number, meta, term, files } => {
                match check_offer(&meta, files) {
                    Some(files) => {
                        let (next, phase) = (0, Phase::Receiving);
                        self.offer(
                            Incoming { from, number, term, meta, files, next, phase },
                            context,
                        );
                    }
                    None => context.stop(from, number),
                };
            }
            Transfer::Chunk { number, file, offset, data } => {
                let known = self.incoming.as_ref();
                match known.is_some_and(|known| known.from == from && known.number == number) {
                    true => self.chunk((file, offset), &data, context),
                    false => context.stop(from, number),
                }
            }
            Transfer::Have { .. } | Transfer::Stop { .. } => {}
        }
    }

    /// The sender gives up. What arrived stays, for the next attempt.
    pub(crate) fn stopped(&mut self, from: MemberId, number: u64) {
        let receiving = |incoming: &mut Incoming| {
            incoming.from == from
                && incoming.number == number
                && matches!(incoming.phase, Phase::Receiving)
        };
        self.incoming.take_if(receiving);
    }

    /// An order has completed.
    pub(crate) fn completed(
        &mut self,
        serial: u64,
        result: io::Result<Done>,
        context: &mut Context<'_>,
    ) {
        let Some((_, order)) = self.busy.take_if(|(busy, _)| *busy == serial) else { return };
        match (order, result) {
            (Order::Create(file), Err(error)) => {
                // A file that was there before is not ours to remove.
                if error.kind() == io::ErrorKind::AlreadyExists {
                    self.pool.remove(&file);
                }
                self.fail(context);
            }
            (Order::Forgotten, _) | (Order::Create(_), Ok(_)) => {}
            (_, Err(_)) => self.fail(context),
            (Order::Write(file, len), Ok(_)) => {
                if let Some(partial) = self.pool.get_mut(&file) {
                    partial.written += len;
                }
            }
            (Order::Verify, Ok(done)) => self.verified(done.data, context),
        }
        self.advance(context);
    }

    /// The staged snapshot at `at`, to be installed. Its files are not the receiver's any more.
    pub(crate) fn take_staged(&mut self, at: Position) -> Option<Box<Staged>> {
        let wanted = |incoming: &mut Incoming| {
            incoming.meta.at == at && matches!(incoming.phase, Phase::Staged(_))
        };
        let incoming = self.incoming.take_if(wanted)?;
        let Phase::Staged(staged) = incoming.phase else { return None };
        for file in &incoming.files {
            self.pool.remove(&file.name);
        }
        Some(staged)
    }

    /// Removes what there is of the snapshot at `at`.
    pub(crate) fn discard(&mut self, at: Position, lane: &mut Lane) {
        if self.incoming.take_if(|incoming| incoming.meta.at == at).is_some() {
            self.clear(&BTreeSet::new(), lane);
        }
    }

    fn offer(&mut self, offered: Incoming, context: &mut Context<'_>) {
        let (from, number) = (offered.from, offered.number);
        let old = self.incoming.as_ref();
        if old.is_some_and(|old| old.is_same(&offered)) {
            return self.resume(offered, context);
        }
        let unwanted =
            old.is_some_and(|old| matches!(old.phase, Phase::Staged(_)) || offered.term < old.term);
        if unwanted {
            return context.stop(from, number);
        }
        let (at, applied) = (offered.meta.at, context.applied);
        if at.index <= applied.index {
            if at == applied || at.index < applied.index {
                // Nothing to fetch, but the sender must learn how far this member is: it would offer
                // the same for ever. Consensus answers what it is told is there.
                context.events.push(offered.staged_event());
            }
            return context.stop(from, number);
        }
        let names = offered.files.iter().map(|file| file.name.clone()).collect();
        self.clear(&names, context.lane);
        for file in &offered.files {
            if self.pool.get(&file.name).is_some_and(|partial| partial.len != file.len) {
                self.remove(&file.name, context.lane);
            }
        }
        if let Some((_, order @ Order::Verify)) = self.busy.as_mut() {
            *order = Order::Forgotten;
        }
        self.incoming = Some(offered);
        self.advance(context);
    }

    /// The same snapshot is offered again, perhaps by another leader.
    fn resume(&mut self, offered: Incoming, context: &mut Context<'_>) {
        if let Some(incoming) = self.incoming.as_mut() {
            incoming.from = offered.from;
            incoming.number = offered.number;
            incoming.term = incoming.term.max(offered.term);
            if matches!(incoming.phase, Phase::Staged(_)) {
                context.events.push(incoming.staged_event());
            }
        }
        self.hold(context);
        self.advance(context);
    }

    fn chunk(&mut self, (file, offset): (u32, u64), data: &Bytes, context: &mut Context<'_>) {
        let Some(incoming) = self.incoming.as_ref() else { return };
        if self.busy.is_some() {
            return self.hold(context);
        }
        let wanted = incoming.files.get(incoming.next).filter(|_| file as usize == incoming.next);
        let partial = wanted.and_then(|wanted| self.pool.get(&wanted.name));
        let (Some(wanted), Some(partial)) = (wanted, partial) else {
            return self.advance(context);
        };
        if offset != partial.written {
            return self.advance(context);
        }
        let len = data.len() as u64;
        let left = partial.len - partial.written;
        if data.is_empty()
            || data.len() > PIECE_BYTES_MAX
            || !data.len().is_multiple_of(BLOCK)
            || len > left
        {
            return self.fail(context);
        }
        let op = DiskOp::Write {
            file: wanted.name.clone(),
            parts: vec![(offset, Buffer::from_slice(data))],
            sync: len == left,
        };
        let order = Order::Write(wanted.name.clone(), len);
        self.order(order, op, context);
    }

    /// Tells a peer that repeats itself that everything has arrived and is being verified.
    fn hold(&self, context: &mut Context<'_>) {
        let Some(incoming) = self.incoming.as_ref() else { return };
        if let (Phase::Verifying(_), Some((last, before))) =
            (&incoming.phase, incoming.files.split_last())
        {
            let (number, file) = (incoming.number, before.len() as u32);
            let have = Transfer::Have { number, file, offset: last.len };
            context.outbox.push((incoming.from, have));
        }
    }

    /// Goes on as far as possible without waiting: skips what is there, asks for the next piece,
    /// starts the next order.
    fn advance(&mut self, context: &mut Context<'_>) {
        while self.busy.is_none() {
            let Some(incoming) = self.incoming.as_mut() else { return };
            match &mut incoming.phase {
                Phase::Receiving => match incoming.files.get(incoming.next).cloned() {
                    None => self.start_verifying(context),
                    Some(file) => {
                        if self.want(&file, context) {
                            return;
                        }
                    }
                },
                Phase::Verifying(verifier) => match verifier.next(context.disk) {
                    Ok(Verify::Read(op)) => self.order(Order::Verify, op, context),
                    Ok(Verify::Done(staged)) => {
                        incoming.phase = Phase::Staged(staged);
                        context.events.push(incoming.staged_event());
                    }
                    Err(_) => return self.fail(context),
                },
                Phase::Staged(_) => {
                    let file = incoming.files.len() as u32;
                    let have = Transfer::Have { number: incoming.number, file, offset: 0 };
                    return context.outbox.push((incoming.from, have));
                }
            }
        }
    }

    /// Deals with the next file; says whether it is the peer's turn now.
    fn want(&mut self, file: &DataFile, context: &mut Context<'_>) -> bool {
        let Some(incoming) = self.incoming.as_mut() else { return true };
        if context.segment(file).is_some() {
            incoming.next += 1;
            return false;
        }
        match self.pool.get(&file.name) {
            Some(partial) if partial.written == file.len => incoming.next += 1,
            Some(partial) => {
                let (number, offset) = (incoming.number, partial.written);
                let have = Transfer::Have { number, file: incoming.next as u32, offset };
                context.outbox.push((incoming.from, have));
                return true;
            }
            None => {
                let op = DiskOp::Create { file: file.name.clone(), len: 0 };
                let order = Order::Create(file.name.clone());
                self.pool.insert(file.name.clone(), Partial { len: file.len, written: 0 });
                self.order(order, op, context);
            }
        }
        false
    }

    fn start_verifying(&mut self, context: &mut Context<'_>) {
        let Some(incoming) = self.incoming.as_mut() else { return };
        match Verifier::new(&incoming.files, &incoming.meta, context) {
            Ok(verifier) => incoming.phase = Phase::Verifying(Box::new(verifier)),
            Err(_) => self.fail(context),
        }
    }

    /// A part of a file was read back.
    fn verified(&mut self, data: Vec<u8>, context: &mut Context<'_>) {
        let Some(incoming) = self.incoming.as_mut() else { return };
        if let Phase::Verifying(verifier) = &mut incoming.phase
            && verifier.read(data.into()).is_err()
        {
            self.fail(context);
        }
    }

    /// Gives the snapshot up and removes all there is of it.
    fn fail(&mut self, context: &mut Context<'_>) {
        if let Some(incoming) = self.incoming.take() {
            context.stop(incoming.from, incoming.number);
        }
        self.clear(&BTreeSet::new(), context.lane);
    }

    /// Removes all files but some.
    fn clear(&mut self, keep: &BTreeSet<FileName>, lane: &mut Lane) {
        let files: Vec<FileName> = self.pool.keys().cloned().collect();
        files.iter().filter(|file| !keep.contains(file)).for_each(|file| self.remove(file, lane));
    }

    fn remove(&mut self, file: &FileName, lane: &mut Lane) {
        self.pool.remove(file);
        lane.push(Step::Remove, DiskOp::Remove { file: file.clone() });
        if let Some((_, order)) = self.busy.as_mut()
            && order.is_for(file)
        {
            *order = Order::Forgotten;
        }
    }

    fn order(&mut self, order: Order, op: DiskOp, context: &mut Context<'_>) {
        self.serial += 1;
        self.busy = Some((self.serial, order));
        context.lane.push(Step::Receive(self.serial), op);
    }
}

impl Order {
    fn is_for(&self, file: &FileName) -> bool {
        match self {
            Order::Create(name) | Order::Write(name, _) => name == file,
            Order::Verify | Order::Forgotten => false,
        }
    }
}

impl Incoming {
    fn is_same(&self, other: &Incoming) -> bool {
        self.meta == other.meta && self.files == other.files
    }

    fn staged_event(&self) -> EngineEvent {
        EngineEvent::Staged { from: self.from, term: self.term, meta: self.meta.clone() }
    }
}

/// The files of an offer, if it is one that another engine can have made.
fn check_offer(meta: &SnapshotMeta, files: Vec<(String, u64)>) -> Option<Vec<DataFile>> {
    if files.len() > FILES_MAX || meta.voters.len() + meta.learners.len() > MEMBERS_MAX {
        return None;
    }
    let last = files.len().checked_sub(1)?;
    let mut names = BTreeSet::new();
    let check = |(index, (name, len)): (usize, (String, u64))| {
        let expected = match index {
            0 => Kind::Manifest,
            index if index == last => Kind::Pages,
            _ => Kind::Values,
        };
        let (kind, _) = Kind::parse(&name)?;
        let limit = if index == 0 { MANIFEST_BYTES_MAX } else { FILE_BYTES_MAX };
        let fits = len <= limit && len % BLOCK as u64 == 0;
        let file = DataFile { name: FileName::new(FOLDER, &name), len };
        (kind == expected && fits && names.insert(name)).then_some(file)
    };
    files.into_iter().enumerate().map(check).collect()
}
