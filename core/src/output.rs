//! Orders of a node, in the sequence in which the driver carries them out.
//!
//! The buffer is the caller's: the driver steps a whole inbox into it and only then acts, so group
//! commit, coalesced messages and one wake-up per turn fall out of the loop's shape.

use crate::auth::TokenChange;
use crate::entry::{Append, HardState};
use crate::fact::Fact;
use crate::id::{Index, MemberId, Position, RequestId, Term};
use crate::membership::Membership;
use crate::message::{Message, SnapshotMeta};
use crate::rejection::Rejection;
use crate::response::{Event, Response};
use crate::status::Status;
use crate::store::Fault;

/// One order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make a log batch durable; → `Input::Synced`.
    Append(Append),
    /// Give a peer a message. May be lost.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: Message,
    },
    /// The store has a new state: publish its snapshot, these events to the watchers, and these
    /// changes to the keepers of tokens. Comes before every `Reply` that depends on it.
    Publish {
        /// In revision order.
        events: Vec<Event>,
        /// In the order of the log.
        tokens: Vec<TokenChange>,
    },
    /// Answer a request of this member.
    Reply {
        /// Which.
        id: RequestId,
        /// With what.
        result: Result<Response, Rejection>,
    },
    /// Make the published state durable as a checkpoint, in the background; → `Input::Flushed`.
    Flush {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// The log up to here is no longer needed: its files may go.
    Purge {
        /// The last entry not needed.
        upto: Index,
    },
    /// Read entries back from the log for a slow peer; → `Input::Fetched`.
    Fetch {
        /// Numbers the order.
        number: u64,
        /// The first.
        from: Index,
        /// One past the last wanted.
        below: Index,
        /// Stop after this many bytes, but give at least one entry.
        bytes_max: u64,
    },
    /// Send a peer the durable checkpoint at `at`; → `Input::Shipped`.
    Ship {
        /// To whom.
        to: MemberId,
        /// What it stands for; goes to the receiver.
        meta: SnapshotMeta,
        /// The sender's term; goes to the receiver.
        term: Term,
    },
    /// Make the staged snapshot this member's state, durably, and let the log start after it;
    /// → `Input::Installed`.
    Install {
        /// What it stands for.
        meta: SnapshotMeta,
        /// For the log's first batch.
        hard_state: HardState,
    },
    /// A staged snapshot is not wanted: its files may go.
    Discard {
        /// What it stands for.
        at: Position,
    },
    /// The set of members, their URLs or births have changed: who may be talked to from now on.
    Membership(Membership),
    /// Stop: nothing this member does can be trusted any more.
    Halt(Fault),
}

/// The driver's buffer.
#[derive(Debug, Default)]
pub struct Output {
    /// Orders, in sequence.
    pub effects: Vec<Effect>,
    /// What happened, for logs, metrics and checkers.
    pub facts: Vec<Fact>,
    /// The node's public state after the turn.
    pub status: Status,
}

impl Output {
    /// Forgets everything but the status, keeping the memory.
    pub fn clear(&mut self) {
        self.effects.clear();
        self.facts.clear();
    }
}
