//! Watch streams: their requests and responses as typed values, and the pure state machines between.
//!
//! A publication enters [`Hub::published`] once. The key index finds the watchers it concerns, which
//! note where its events are in the shared log; a poll of their stream turns that into responses.
//! Whoever asks for the past, or was too slow for the log, reads the store's records instead, a
//! bounded stretch in each poll. The laws are stated at [`hub`].
//!
//! Leaves out permissions, encoding and transport.
//!
//! Worked example: a client creates a watcher on `a`; the hub is at r4, so it says `created` at r4.
//! A put of `a` is published at r5: `ready` names the stream, and polling it yields one response
//! with header r5 and one event.

mod catchup;
pub mod hub;
mod index;
mod interval;
mod log;
mod send;
mod stream;
mod watcher;

use std::fmt;

use bytes::Bytes;

pub use self::hub::{Hub, HubCounts, HubOptions};

use crate::id::Revision;
use crate::request::KeyRange;

/// Names one Watch stream within an edge worker for as long as it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchStreamId(pub u64);

impl fmt::Display for WatchStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One message from the client of a Watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRequest {
    /// Starts a watcher.
    Create(WatchCreate),
    /// Ends one; unknown ids are ignored.
    Cancel {
        /// Which.
        id: i64,
    },
    /// Asks how far all watchers of the stream are.
    Progress,
}

/// What a new watcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchCreate {
    /// 0 lets the server choose.
    pub id: i64,
    /// Which keys; an empty key has become `"\0"`.
    pub keys: KeyRange,
    /// First revision wanted; 0 is the one after the current.
    pub start: i64,
    /// Report progress from time to time.
    pub progress_notify: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// Send the previous pair with each event.
    pub prev_kv: bool,
    /// Large responses may be split.
    pub fragment: bool,
}

/// One message to the client of a Watch stream; the member's ids and term are added by the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchResponse {
    /// For the header; 0 in the cancel message of a compacted watcher.
    pub revision: Revision,
    /// Which watcher; -1 for refused creations and stream-wide progress.
    pub id: i64,
    /// First message of a watcher.
    pub created: bool,
    /// Last message of a watcher.
    pub canceled: bool,
    /// Where history begins, if that is why the watcher ends.
    pub compact_revision: Revision,
    /// Why a creation was refused.
    pub cancel_reason: String,
    /// More of the same response follows.
    pub fragment: bool,
    /// In revision order.
    pub events: Vec<WatchEvent>,
}

/// One event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// Whether the key was deleted.
    pub delete: bool,
    /// The encoded pair; for a delete only key and mod_revision.
    pub kv: Bytes,
    /// The encoded previous pair.
    pub prev_kv: Option<Bytes>,
}
