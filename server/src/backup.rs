//! Maintenance.Snapshot: a dump of a pinned state in pieces, and its SHA-256 as the last one.
//!
//! Leaves out the dump's bytes ([`Dump`]), and who waits for a slow client.
//!
//! Law: each message says how many bytes of the dump follow it; the hash is over the dump and comes in a
//! message of its own, so that the whole has a multiple of 512 bytes and 32 more, as etcd's tools check.
//!
//! Worked example: a state of 40,000 bytes is a message of 32 KiB with 7,680 remaining, one of 7,680 with
//! none, and one of 32.

use bytes::{Bytes, BytesMut};
use holdfast_core::mvcc::dump::Dump;
use holdfast_core::mvcc::{Budget, ReadError};
use holdfast_core::rejection::Rejection;
use holdfast_net::proto::etcdserverpb::SnapshotResponse;
use holdfast_net::wire::STORAGE_VERSION;
use holdfast_storage::snapshot::Snapshot;
use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes of a piece (etcd's number).
const PIECE_BYTES: usize = 32 << 10;

/// A snapshot being sent.
pub struct Backup {
    snapshot: Snapshot,
    dump: Dump,
    hash: Sha256,
    /// Written and not sent.
    ready: BytesMut,
    /// All is written.
    complete: bool,
}

impl Backup {
    /// A snapshot of this state, which is held until it is sent.
    pub fn new(snapshot: Snapshot) -> Backup {
        let (hash, ready) = (Sha256::new(), BytesMut::new());
        Backup { snapshot, dump: Dump::default(), hash, ready, complete: false }
    }

    /// The next message, and whether it is the last; nothing when the budget was spent before one was
    /// complete.
    ///
    /// # Errors
    /// This member cannot read its own state.
    pub fn next(&mut self, budget: &mut Budget) -> Result<Option<(Bytes, bool)>, Rejection> {
        if self.ready.is_empty() && self.complete {
            let hash = std::mem::take(&mut self.hash).finalize();
            return Ok(Some((message(Bytes::copy_from_slice(&hash), 0), true)));
        }
        if self.ready.len() < PIECE_BYTES && !self.complete {
            let step = self.dump.step(&self.snapshot, (budget, PIECE_BYTES), &mut self.ready);
            self.complete = step.map_err(|error| match error {
                ReadError::Rejection(rejection) => rejection,
                ReadError::Fault(_) => Rejection::Corrupt,
            })?;
        }
        if self.ready.len() < PIECE_BYTES && !self.complete {
            return Ok(None);
        }
        let piece = self.ready.split_to(self.ready.len().min(PIECE_BYTES)).freeze();
        self.hash.update(&piece);
        let remaining = self.ready.len() as u64 + self.dump.remaining();
        Ok(Some((message(piece, remaining), false)))
    }
}

/// Like etcd's, it has no header.
fn message(blob: Bytes, remaining_bytes: u64) -> Bytes {
    let response =
        SnapshotResponse { header: None, remaining_bytes, blob, version: STORAGE_VERSION.into() };
    response.encode_to_vec().into()
}
