//! Log entries and the hard state: what raft must find again after a crash.

use bytes::Bytes;

use crate::id::{Index, MemberId, Position, Term, WalSeq};

/// What an entry means to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A batch of commands in the entry codec, or nothing (a new leader's first entry).
    Normal = 0,
    /// A membership change.
    ConfChange = 1,
    /// A membership change in its joint form.
    ConfChangeV2 = 2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index and term.
    pub at: Position,
    /// How to read `data`.
    pub kind: EntryKind,
    /// The payload, shared by log, peers and apply.
    pub data: Bytes,
}

/// Raft's persistent state (thesis figure 3.1) and the commit index, which is a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this member has seen.
    pub term: Term,
    /// Who got its vote in that term.
    pub vote: Option<MemberId>,
    /// Highest index known committed. Clamped to the last index on load.
    pub commit: Index,
}

/// An order to make a batch durable; answered by `Input::Synced` with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Counts up by one from the last batch of the log.
    pub seq: WalSeq,
    /// As of this batch.
    pub hard_state: HardState,
    /// Consecutive entries. The first may lie at or below the end of the log: then everything from it
    /// on is replaced (a new leader's truncation).
    pub entries: Vec<Entry>,
}
