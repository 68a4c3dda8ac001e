//! The seam between the state machine and the engine that keeps its state.
//!
//! [`View`] reads one consistent state; [`Store`] is the one the core writes, lent to `Node::step`.
//! Published snapshots implement [`View`] too, so one reading function serves apply, the edge, the
//! watch catch-up and the checkers.
//!
//! Laws:
//!  1. A [`Batch`] cannot be made without the [`Position`] that produced it, and the engine persists
//!     both in one root: data and applied index never part (their parting was etcd 3.5's data loss).
//!  2. Absorbing is visible to the next read of the same `Store` at once, and to others only when
//!     published.
//!  3. Reads do not fail for reasons a client could cause; a failing disk is a [`Fault`].
//!
//! Worked example: `Put("a")` at r17 over a version at r12 becomes
//! `Change::Write { key: "a", row: Row { modified: r17.0, .. }, record: Record { prev: r12.0, .. } }`.

use std::fmt;
use std::ops::{ControlFlow, Deref};

use bytes::Bytes;

use crate::id::{LeaseId, Position, RevSub, Revision};
use crate::request::KeyRange;

/// The newest version of a key, as the index holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The newest change.
    pub modified: RevSub,
    /// Revision of the put that started the key's present life; 0 for a tombstone.
    pub created: Revision,
    /// Puts since then; 0 for a tombstone.
    pub version: i64,
    /// The lease it is attached to; `NONE` for a tombstone.
    pub lease: LeaseId,
    /// Length of the value in bytes.
    pub value_len: u32,
}

impl Row {
    /// Whether the newest change deleted the key.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// One change, as the value segments hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which change.
    pub at: RevSub,
    /// The change of the same key before it, if it is known; a tombstone counts as one.
    pub prev: Option<RevSub>,
    /// Whether it deleted the key.
    pub tombstone: bool,
    /// The exact bytes etcd would store: an encoded `mvccpb.KeyValue`, for a tombstone only its key.
    pub kv: Bytes,
}

/// Small replicated tables beside the key space: same tree, same batch, same checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Lease id (8 bytes big-endian, sign bit flipped) → granted TTL in seconds (i64).
    Leases = 2,
    /// Lease id followed by a key → nothing: the keys attached to each lease.
    LeaseKeys = 3,
    /// Member id (8 bytes big-endian) → encoded member.
    Members = 4,
    /// Removed member id → nothing.
    Removed = 5,
    /// Name → value: compaction progress, configuration, cluster version.
    Meta = 6,
    /// Member id and kind → nothing.
    Alarms = 7,
    /// Name → value: whether authentication is on, and the auth revision.
    Auth = 0x50,
    /// Name → encoded user.
    Users = 0x51,
    /// Name → encoded role.
    Roles = 0x52,
}

impl Table {
    /// All tables, in order.
    pub const ALL: [Table; 9] = [
        Table::Leases,
        Table::LeaseKeys,
        Table::Members,
        Table::Removed,
        Table::Meta,
        Table::Alarms,
        Table::Auth,
        Table::Users,
        Table::Roles,
    ];
}

/// What a state is at: carried by every root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last log entry whose effects are included.
    pub applied: Position,
    /// The newest revision.
    pub revision: Revision,
    /// Revisions below this cannot be read; -1 before the first compaction (etcd's marker).
    pub compacted: Revision,
}

impl Mark {
    /// The state of an empty store.
    pub const EMPTY: Mark =
        Mark { applied: Position::new(0, 0), revision: Revision::EMPTY, compacted: Revision(-1) };
}

/// What is called for each row of a table, with its key and its value.
pub type VisitTable<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// What is called for each of some pairs.
pub type VisitPair<'v> = dyn FnMut(Pair<'_>) -> ControlFlow<()> + 'v;

/// An encoded `mvccpb.KeyValue`, where its store has it: its own bytes, or a part of more.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    bytes: &'a [u8],
    owner: &'a Bytes,
}

impl<'a> Pair<'a> {
    /// A pair that has its bytes for itself.
    pub fn whole(owner: &'a Bytes) -> Pair<'a> {
        Pair { bytes: owner, owner }
    }

    /// One that is a part of `owner`.
    pub fn within(owner: &'a Bytes, bytes: &'a [u8]) -> Pair<'a> {
        Pair { bytes, owner }
    }

    /// What is kept in memory by whoever shares it.
    pub fn owner(&self) -> &'a Bytes {
        self.owner
    }

    /// The pair without a copy; it keeps its owner.
    pub fn share(&self) -> Bytes {
        self.owner.slice_ref(self.bytes)
    }
}

impl Deref for Pair<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// Reads one consistent state.
pub trait View {
    /// Where this state is.
    fn mark(&self) -> Mark;

    /// The newest version of `key`, tombstones included.
    fn row(&self, key: &[u8]) -> Option<Row>;

    /// Visits the newest versions of some keys, tombstones included, in the order of the keys; nothing for one
    /// that has none. Like [`View::row`], but they are looked up together.
    fn rows(&self, keys: &[&[u8]], visit: &mut dyn FnMut(Option<Row>)) {
        keys.iter().for_each(|key| visit(self.row(key)));
    }

    /// Visits the rows of `keys` in key order, tombstones included, until `visit` breaks.
    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>);

    /// The number of rows of `keys` that are not tombstones, in O(log n).
    fn count(&self, keys: &KeyRange) -> u64;

    /// One change. It must exist: its coordinate came from a row, a record or an event of this view
    /// that compaction has not passed.
    fn record(&self, at: RevSub) -> Result<Record, Fault>;

    /// From here on records are in memory: they are read in any order at the same price.
    fn resident(&self) -> RevSub {
        RevSub { main: Revision(i64::MAX), sub: u32::MAX }
    }

    /// Visits the records from `from` on in revision order until `visit` breaks. Records that
    /// compaction removed may or may not be visited.
    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault>;

    /// Visits the pairs of some changes in the given order until `visit` breaks. Like [`View::record`],
    /// but what is only looked at is not counted as a reader, and looked up together.
    fn pairs(&self, at: &[RevSub], visit: &mut VisitPair<'_>) -> Result<(), Fault> {
        for at in at {
            if visit(Pair::whole(&self.record(*at)?.kv)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One row of a table.
    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes>;

    /// Visits the rows of a table whose key is at least `from`, in order, until `visit` breaks.
    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>);
}

/// The state the core writes.
pub trait Store: View {
    /// Takes the changes out of `batch`, in order. They are visible to this store's next read.
    fn absorb(&mut self, batch: &mut Batch);

    /// Bytes that a checkpoint writes however little has changed.
    fn index_bytes(&self) -> u64;

    /// The first disk fault met, after which nothing more is promised; `None` while healthy.
    fn fault(&self) -> Option<Fault>;
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new newest version, or tombstone, of a key. Records arrive in ascending order of `at`.
    Write {
        /// The key.
        key: Bytes,
        /// Its new row.
        row: Row,
        /// Its new record; `record.at == row.modified`.
        record: Record,
    },
    /// Compaction forgets a tombstone: the row goes.
    Forget {
        /// The key.
        key: Bytes,
    },
    /// Sets a row of a table.
    Set {
        /// Which table.
        table: Table,
        /// The row's key.
        key: Bytes,
        /// The row's value.
        value: Bytes,
    },
    /// Removes a row of a table.
    Clear {
        /// Which table.
        table: Table,
        /// The row's key.
        key: Bytes,
    },
}

/// Changes together with the state they lead to (law 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    mark: Mark,
    changes: Vec<Change>,
}

impl Batch {
    /// An empty batch that leads to `mark`.
    pub fn new(mark: Mark) -> Batch {
        Batch { mark, changes: Vec::new() }
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Where the batch leads.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Corrects where the batch leads, once apply knows whether anything changed.
    pub fn set_mark(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// The changes so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes, to be taken by an engine.
    pub fn drain(&mut self) -> impl Iterator<Item = Change> + '_ {
        self.changes.drain(..)
    }

    /// Begins anew with the memory of a batch that was absorbed; much of it is given back.
    pub(crate) fn renew(&mut self, mark: Mark) {
        self.changes.clear();
        self.changes.shrink_to(CHANGES_KEPT);
        self.mark = mark;
    }
}

/// Changes for which a batch that is used again keeps memory.
const CHANGES_KEPT: usize = 256;

/// Something local is broken: the node halts, and says what, where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What could not be done.
    pub what: String,
    /// The file, and the offset where it matters.
    pub place: String,
    /// The cause, as the system or the check gave it.
    pub cause: String,
}

impl Fault {
    /// `what` at `place` failed for `cause`.
    pub fn new(
        what: impl Into<String>,
        place: impl Into<String>,
        cause: impl fmt::Display,
    ) -> Fault {
        Fault { what: what.into(), place: place.into(), cause: cause.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.place, self.cause)
    }
}

impl std::error::Error for Fault {}
