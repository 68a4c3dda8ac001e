//! The engine: the member's whole state on disk and in memory, behind the core's [`Store`].
//!
//! ```text
//!  absorb ──► tree (private root) ──publish──► Snapshot { root, sealed files, active run }
//!        └──► active segment          │
//!                                     └─ checkpoint ─► values, pages, manifest ─► superblock
//! ```
//!
//! It gives orders to the disk and is told when they are done ([`Engine::completed`]); it blocks
//! only when it is opened, when a value is read from a sealed file, and while it loads the tree of
//! a snapshot that has arrived.
//!
//! Left out: reclaim of superseded values, merging of small segments, writing only changed pages.
//!
//! Laws:
//!  1. The private state is exactly what the absorbed batches lead to; a published one never
//!     changes.
//!  2. A crash at any moment leaves the last durable checkpoint whole (see [`superblock`]).
//!  3. An abandoned checkpoint leaves no trace: its records are still in the active segment.
//!
//! Worked example: absorb up to `10@4`, publish, begin a checkpoint, absorb `11@4`; the checkpoint
//! holds `10@4`, and once it is durable the active segment holds just the records of `11@4`.
//!
//! [`superblock`]: crate::superblock

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use holdfast_core::id::{ClusterId, MemberId, Position, RevSub, Term};
use holdfast_core::message::{SnapshotMeta, Transfer};
use holdfast_core::request::KeyRange;
use holdfast_core::store::{Batch, Fault, Mark, Record, Row, Store, Table, View, VisitTable};

use crate::checkpoint::{Writing, Written};
use crate::disk::{Disk, DiskOp, Done, Token};
use crate::segment::sealed::Sealed;
use crate::snapshot::Snapshot;
use crate::superblock::{Pair, Superblock};
use crate::transfer::{Receiver, Sender, Staged};

mod commit;
pub(crate) mod files;
mod install;
pub(crate) mod lane;
pub(crate) mod numbers;
mod open;
pub(crate) mod row;
mod state;

pub(crate) use open::{load_manifest, load_tree, open_segment};

use files::{DataFile, Files};
use lane::{Lane, Step};
use state::State;

/// What can be set.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Most bytes of sealed values kept in memory.
    pub cache_bytes: usize,
    /// Most bytes in one piece of a snapshot that is sent; rounded to whole disk blocks.
    pub chunk_bytes: usize,
    /// Where the names of new files come from.
    pub seed: u64,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { cache_bytes: 256 << 20, chunk_bytes: 1 << 20, seed: 0 }
    }
}

/// Whose state a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// What the engine has to say when an order has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A checkpoint is durable.
    Flushed {
        /// The last entry it includes.
        at: Position,
    },
    /// A checkpoint was abandoned. The state before it stays the durable one; try again later.
    CheckpointFailed {
        /// Why.
        cause: Fault,
    },
    /// A snapshot from a peer is complete and verified, and kept until it is installed or discarded;
    /// or this member's state is past it already.
    Staged {
        /// Who sent it.
        from: MemberId,
        /// The term it was sent in.
        term: Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// A staged snapshot is this engine's state now, and durable.
    Installed {
        /// What it stands for.
        meta: SnapshotMeta,
        /// Where the state is.
        mark: Mark,
    },
    /// A snapshot was sent, or not.
    Shipped {
        /// To whom.
        to: MemberId,
        /// Whether the receiver has all of it.
        complete: bool,
    },
    /// Nothing more is promised: stop.
    Poisoned(Fault),
}

/// The engine.
pub struct Engine {
    disk: Arc<dyn Disk>,
    identity: EngineIdentity,
    state: State,
    published: Snapshot,
    durable: Durable,
    sequence: u64,
    writing: Option<Writing>,
    committing: Option<(Superblock, Box<Written>)>,
    installing: Option<Box<Staged>>,
    limbo: Vec<Arc<DataFile>>,
    files: Files,
    lane: Lane,
    sender: Sender,
    receiver: Receiver,
    outbox: Vec<(MemberId, Transfer)>,
    events: Vec<EngineEvent>,
    fault: OnceLock<Fault>,
}

/// The state that a crash now would leave, and its files.
struct Durable {
    superblock: Superblock,
    pair: Pair,
    manifest: Arc<DataFile>,
    pages: Arc<DataFile>,
    segments: Arc<Vec<Arc<Sealed>>>,
}

impl Durable {
    fn files(&self) -> Vec<Arc<DataFile>> {
        let segments = self.segments.iter().map(|segment| segment.file.clone());
        std::iter::once(self.manifest.clone()).chain(segments).chain([self.pages.clone()]).collect()
    }
}

impl Engine {
    /// Makes the private state public. Costs the same whatever the number of keys.
    pub fn publish(&mut self) -> Snapshot {
        self.published = self.state.publish();
        self.published.clone()
    }

    /// The last published state.
    pub fn snapshot(&self) -> Snapshot {
        self.published.clone()
    }

    /// The last durable checkpoint.
    pub fn checkpoint(&self) -> (SnapshotMeta, Mark) {
        (self.durable.superblock.meta.clone(), self.durable.superblock.mark)
    }

    /// Where an installed snapshot cut off the log: entries up to here are not part of this
    /// member's log, whatever its files hold, and the log continues after it. `0@0` if there never
    /// was one.
    pub fn log_restart(&self) -> Position {
        self.durable.superblock.log_restart
    }

    /// The number that was drawn when this folder was made: another folder of the same member has
    /// another. 0 where it was made before there was such a number.
    pub fn birth(&self) -> u64 {
        self.durable.superblock.birth
    }

    /// Bytes of all records kept (live data and history), and of the keys and values now live.
    pub fn bytes(&self) -> (i64, i64) {
        self.state.bytes()
    }

    /// Takes the messages to peers that completed orders have produced since the last call; `ship`,
    /// `transfer` and `retry_transfers` do so too. Call it after [`Engine::completed`].
    pub fn outgoing(&mut self, out: &mut Vec<(MemberId, Transfer)>) {
        out.append(&mut self.outbox);
    }

    /// An order has completed.
    pub fn completed(
        &mut self,
        number: u64,
        result: io::Result<Done>,
        ops: &mut Vec<(Token, DiskOp)>,
    ) -> Vec<EngineEvent> {
        match self.lane.completed(number) {
            Some(Step::Checkpoint(id)) => self.checkpoint_step(id, result),
            Some(Step::Commit) => self.committed(result),
            Some(Step::Install) => self.installed(result),
            Some(Step::Receive(serial)) => self.received(serial, result),
            Some(Step::Remove) => {}
            None => self.sender.read(number, result, &mut self.outbox, &mut self.events),
        }
        self.pump(ops);
        std::mem::take(&mut self.events)
    }

    /// Removes what nobody needs and starts the next order.
    fn pump(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
        for remove in self.files.sweep() {
            self.lane.push(Step::Remove, remove);
        }
        self.lane.start(ops);
    }

    fn poison(&mut self, fault: Fault) {
        self.events.push(EngineEvent::Poisoned(fault.clone()));
        self.fault.get_or_init(|| fault);
    }

    /// Remembers the first fault that a read of the private state met.
    fn noted<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.inspect_err(|fault| {
            self.fault.get_or_init(|| fault.clone());
        })
    }
}

impl View for Engine {
    fn mark(&self) -> Mark {
        self.state.mark()
    }

    fn row(&self, key: &[u8]) -> Option<Row> {
        self.state.row(key)
    }

    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {
        self.state.scan(keys, visit);
    }

    fn count(&self, keys: &KeyRange) -> u64 {
        self.state.count(keys)
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        self.noted(self.state.record(at))
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.noted(self.state.records(from, visit))
    }

    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.state.table(table, key)
    }

    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>) {
        self.state.table_scan(table, from, visit);
    }
}

impl Store for Engine {
    fn absorb(&mut self, batch: &mut Batch) {
        self.state.absorb(batch);
    }

    fn index_bytes(&self) -> u64 {
        self.state.index_bytes()
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.get().cloned()
    }
}
