//! Facts that a node learns, in the past tense. Each effect that takes time is answered by one:
//! `Append → Synced`, `Flush → Flushed`, `Ship → Shipped`, `Install → Installed`, `Fetch → Fetched`.

use crate::entry::Entry;
use crate::id::{MemberId, Position, Term, WalSeq};
use crate::message::{Message, PeerHello, SnapshotMeta};
use crate::request::Request;

/// One fact.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time given by [`Node::deadline`](deadline) may have come.
    Wake,
    /// A session asks something.
    Request(Request),
    /// A peer said something. Its connection's handshake was checked.
    Message {
        /// Who.
        from: MemberId,
        /// What.
        message: Message,
    },
    /// A connection to a peer opened.
    Connected {
        /// Which peer.
        peer: MemberId,
        /// What it said of itself.
        hello: PeerHello,
    },
    /// The connection to a peer is gone.
    Disconnected {
        /// Which peer.
        peer: MemberId,
    },
    /// Every log batch up to this one is durable.
    Synced {
        /// The highest.
        seq: WalSeq,
    },
    /// The checkpoint ordered by `Flush` is durable.
    Flushed {
        /// The last entry it includes.
        at: Position,
    },
    /// The checkpoint ordered by `Flush` could not be made; the one before stands.
    FlushFailed,
    /// The entries ordered by `Fetch` were read from the log.
    Fetched {
        /// The order's number.
        number: u64,
        /// They, or as many of them as the log still has; empty when it has none.
        entries: Vec<Entry>,
    },
    /// A snapshot from a peer is complete on this member's disk, not yet in use.
    Staged {
        /// Who sent it.
        from: MemberId,
        /// The leader's term when it did.
        term: Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// The snapshot ordered by `Install` is this member's state now: store and log start after it.
    Installed {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// The transfer ordered by `Ship` ended.
    Shipped {
        /// To whom.
        to: MemberId,
        /// Whether the receiver has it all.
        complete: bool,
    },
    /// Whether the disk has no room for the log to grow.
    Space {
        /// It has none.
        full: bool,
    },
    /// The inbox is empty: propose, persist, apply and answer now. The last input of each turn.
    Drained,
}
