//! Snapshots between members: a durable checkpoint travels as the sealed files it consists of.
//!
//! ```text
//!  sender                                  receiver
//!  Offer {files} ──────────────────────►   checks names and sizes
//!        ◄──────────────── Have {file 0, offset 0}
//!  Chunk {file 0, offset 0} ───────────►   writes, then answers
//!        ◄──────────────── Have {file 0, offset 1 MiB}
//!        …                                 all there: reads everything back and verifies it
//!        ◄──────────────── Have {file n, offset 0}          → Staged; Shipped at the sender
//! ```
//!
//! The receiver alone knows how far it is: the sender answers each `Have` that goes beyond what it
//! last sent, and repeats its last piece when nothing comes back. Lost, doubled and reordered
//! messages cost time and nothing else. Files keep their names (ids are unique across members), so
//! a segment that the receiver already has is not sent, and a new offer goes on with what an
//! earlier, broken transfer left. The files go to their final place; they are nobody's, and gone
//! after a restart, until a superblock refers to them.
//!
//! Laws:
//!  1. Whatever a peer says, the receiver writes only files that it created for this transfer,
//!     never beyond the offered length, one bounded piece at a time.
//!  2. `Staged` is said only of files that were all read back and verified.

use std::sync::Arc;

use holdfast_core::id::{ClusterId, MemberId, Position};
use holdfast_core::message::Transfer;

use crate::disk::Disk;
use crate::engine::EngineEvent;
use crate::engine::lane::Lane;
use crate::segment::sealed::Sealed;

mod receive;
mod send;
mod verify;

pub(crate) use receive::Receiver;
pub(crate) use send::Sender;
pub(crate) use verify::Staged;

/// The largest piece a receiver accepts.
pub(crate) const PIECE_BYTES_MAX: usize = 4 << 20;

/// The most files an offer may name.
pub(crate) const FILES_MAX: usize = 1 << 16;

/// What the receiver sees of the engine it belongs to, and where its orders and answers go.
pub(crate) struct Context<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) cluster: ClusterId,
    pub(crate) applied: Position,
    pub(crate) segments: &'a [Arc<Sealed>],
    pub(crate) lane: &'a mut Lane,
    pub(crate) outbox: &'a mut Vec<(MemberId, Transfer)>,
    pub(crate) events: &'a mut Vec<EngineEvent>,
}

impl Context<'_> {
    /// Tells a peer that its transfer is not wanted, or not known.
    pub(crate) fn stop(&mut self, to: MemberId, number: u64) {
        self.outbox.push((to, Transfer::Stop { number }));
    }

    /// The segment of the durable state with this name and length.
    pub(crate) fn segment(&self, file: &crate::engine::files::DataFile) -> Option<Arc<Sealed>> {
        self.segments.iter().find(|segment| *segment.file == *file).cloned()
    }
}
