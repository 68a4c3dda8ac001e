//! Watch streams: their requests and responses as typed values, and the pure state machines between.

use bytes::Bytes;

use crate::id::Revision;
use crate::request::KeyRange;

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
