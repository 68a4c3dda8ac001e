//! Waiting for one's turn: until every key under a prefix that was created before one's own is gone.
//!
//! Worked example: own revision 7, keys created at 3 and 5: the one of 5 is watched until it is deleted,
//! then that of 3.

use bytes::Bytes;
use holdfast_core::query::{Answer, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{KeyRange, Range, SortOrder, SortTarget};
use holdfast_core::watch::WatchResponse;

use super::{Step, first_pair, prefixed, ranged};

/// See the module.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) prefix: Bytes,
    /// The create revision of one's own key.
    pub(super) revision: i64,
}

/// What a watch has told.
pub(super) enum Seen {
    Nothing,
    Deleted,
    Lost(&'static str),
}

impl Turn {
    /// Looks for the youngest key that is older than one's own.
    pub(super) fn look(&self) -> Step {
        Step::Ask(Query::Range(Range {
            order: SortOrder::Descend,
            target: SortTarget::Create,
            limit: 1,
            create_max: self.revision - 1,
            ..Range::of(prefixed(&self.prefix))
        }))
    }

    /// What was found: a key to watch, or `None` when it is one's turn.
    pub(super) fn found(answer: &Answer) -> Option<Step> {
        let older = first_pair(ranged(answer, 0))?;
        let key = KeyRange::single(older.key.to_vec());
        Some(Step::Watch(key, answer.header.revision.0))
    }

    /// What the watch of that key says.
    pub(super) fn seen(response: &WatchResponse) -> Seen {
        if response.events.iter().any(|event| event.delete) {
            return Seen::Deleted;
        }
        match response.canceled {
            false => Seen::Nothing,
            true if response.compact_revision.0 > 0 => Seen::Lost(Rejection::Compacted.text()),
            true => Seen::Lost("lost watcher waiting for delete"),
        }
    }
}
