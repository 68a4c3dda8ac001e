//! The engine's side of snapshots between members: ship, receive, install, discard.
//!
//! Worked example: `Staged { meta at 90@5 }` → `install` → one superblock with mark `90@5` and log
//! restart `90@5` → `Installed`, and the files of the state before go as their readers do.

use std::io;

use holdfast_core::id::{MemberId, Position, Term};
use holdfast_core::message::{SnapshotMeta, Transfer};
use holdfast_core::store::{Fault, View};

use super::commit::data_file;
use super::files::Kind;
use super::lane::Step;
use super::state::State;
use super::{Durable, Engine, EngineEvent};
use crate::disk::{DiskOp, Done, Token};
use crate::segment::Values;
use crate::superblock::Superblock;
use crate::transfer::{Context, Staged};

/// Chunks of stale records that are freed each period even when nothing is written.
const STALE_CHUNKS: usize = 16;

impl Engine {
    /// Offers the durable checkpoint to a peer and keeps its files until the transfer ends; false
    /// if the durable checkpoint is not the one at `meta.at`. A transfer to the same peer is
    /// replaced.
    pub fn ship(
        &mut self,
        to: MemberId,
        meta: &SnapshotMeta,
        term: Term,
        out: &mut Vec<(MemberId, Transfer)>,
    ) -> bool {
        if self.durable.superblock.meta.at != meta.at {
            return false;
        }
        let files = self.durable.files();
        self.sender.offer(to, (meta, term), files, &mut self.outbox);
        self.outgoing(out);
        true
    }

    /// A peer's piece of a transfer, in either direction.
    pub fn transfer(
        &mut self,
        from: MemberId,
        message: Transfer,
        ops: &mut Vec<(Token, DiskOp)>,
        out: &mut Vec<(MemberId, Transfer)>,
    ) -> Vec<EngineEvent> {
        match message {
            Transfer::Have { number, file, offset } => {
                let read = self.sender.have(from, number, (file, offset), &mut self.events);
                if let Some((number, op)) = read {
                    let token = self.lane.token();
                    self.sender.reading(number, token.number);
                    ops.push((token, op));
                }
            }
            Transfer::Stop { number } => {
                self.sender.stopped(from, number, &mut self.events);
                self.receiver.stopped(from, number);
            }
            Transfer::Offer { .. } | Transfer::Chunk { .. } => self.receive(from, message),
        }
        self.pump(ops);
        self.outgoing(out);
        std::mem::take(&mut self.events)
    }

    /// To be called every second or so: repeats what a receiver has not answered for a whole
    /// period, and gives up when it did so too often.
    pub fn retry_transfers(&mut self, out: &mut Vec<(MemberId, Transfer)>) -> Vec<EngineEvent> {
        self.state.free_stale(STALE_CHUNKS);
        self.sender.retry(&mut self.outbox, &mut self.events);
        self.outgoing(out);
        std::mem::take(&mut self.events)
    }

    /// Makes the staged snapshot at `meta.at` this engine's state; a checkpoint under way is
    /// abandoned. It commits by one superblock, which also says that the log restarts at `meta.at`.
    /// Nothing may be absorbed before [`EngineEvent::Installed`].
    pub fn install(&mut self, meta: &SnapshotMeta, ops: &mut Vec<(Token, DiskOp)>) {
        match self.receiver.take_staged(meta.at) {
            Some(staged) => {
                let cause = "a snapshot from the leader takes its place";
                self.abandon_checkpoint(Fault::new(super::commit::CHECKPOINT, "data", cause));
                self.installing = Some(staged);
                self.start_install();
            }
            None => {
                let cause = format!("the snapshot at {} is not complete here", meta.at);
                self.poison(Fault::new("cannot install a snapshot", "data", cause));
            }
        }
        self.pump(ops);
    }

    /// Removes the files of a snapshot that was staged but is not wanted.
    pub fn discard(&mut self, at: Position, ops: &mut Vec<(Token, DiskOp)>) {
        self.receiver.discard(at, &mut self.lane);
        self.pump(ops);
    }

    fn receive(&mut self, from: MemberId, message: Transfer) {
        let busy = self.installing.is_some() || self.fault.get().is_some();
        let (receiver, mut context) = self.receiving();
        match message {
            Transfer::Offer { number, .. } | Transfer::Chunk { number, .. } if busy => {
                context.stop(from, number);
            }
            message => receiver.message(from, message, &mut context),
        }
    }

    /// An order of the receiver has completed.
    pub(super) fn received(&mut self, serial: u64, result: io::Result<Done>) {
        let (receiver, mut context) = self.receiving();
        receiver.completed(serial, result, &mut context);
    }

    fn receiving(&mut self) -> (&mut crate::transfer::Receiver, Context<'_>) {
        let context = Context {
            disk: &*self.disk,
            cluster: self.identity.cluster,
            applied: self.state.mark().applied,
            segments: &self.durable.segments,
            lane: &mut self.lane,
            outbox: &mut self.outbox,
            events: &mut self.events,
        };
        (&mut self.receiver, context)
    }

    /// Writes the superblock of the snapshot to be installed, once no other one is being written.
    pub(super) fn start_install(&mut self) {
        let Some(staged) = self.installing.as_ref().filter(|_| self.committing.is_none()) else {
            return;
        };
        self.sequence += 1;
        let order =
            self.install_superblock(staged).write(Superblock::file(), self.durable.pair.other());
        self.lane.push(Step::Install, order);
    }

    fn install_superblock(&self, staged: &Staged) -> Superblock {
        Superblock {
            sequence: self.sequence,
            identity: self.identity,
            mark: staged.manifest.mark,
            meta: staged.meta.clone(),
            manifest: staged.manifest_ref,
            root: staged.manifest.root,
            log_restart: staged.meta.at,
            birth: self.durable.superblock.birth,
        }
    }

    /// The superblock of an installed snapshot was written, or not. A failure leaves it open which
    /// state is the durable one, so nothing can go on.
    pub(super) fn installed(&mut self, result: io::Result<Done>) {
        let Some(staged) = self.installing.take() else { return };
        if let Err(error) = result {
            let place = Superblock::file().to_string();
            return self.poison(Fault::new("cannot install a snapshot", place, error));
        }
        let superblock = self.install_superblock(&staged);
        let Staged { meta, manifest, tree, live_bytes, segments, .. } = *staged;
        let values = Values::sealed(self.state.values.source.clone(), segments);
        let durable = Durable {
            pair: self.durable.pair.other(),
            manifest: data_file(Kind::Manifest, superblock.manifest.id, superblock.manifest.len),
            pages: data_file(Kind::Pages, manifest.pages.id, manifest.pages.len),
            segments: values.sealed.clone(),
            superblock,
        };
        let old = std::mem::replace(&mut self.durable, durable);
        self.state = State::new(tree, live_bytes, values, manifest.mark);
        let _ = self.publish();
        for file in self.durable.files() {
            self.files.take(&file);
        }
        self.retire(old.files());
        self.events.push(EngineEvent::Installed { meta, mark: manifest.mark });
    }
}
