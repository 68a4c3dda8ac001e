//! What the machine keeps count of: the bytes that are stored, and a running digest of what was done.
//!
//! The bytes are logical, a pure function of the log and so the same number on every member: of each
//! record its key, its value and [`RECORD_OVERHEAD`], from the change that writes it until a compaction
//! decides that nobody can read it any more. What is physically there is the engine's business.
//!
//! ```text
//! Table::Meta  "ledger"  → version:01 written freed garbage sampled digest   (8 bytes little-endian each)
//! Table::Meta  "garbage/" 2^63-1 - revision (8 bytes big-endian)  → garbage up to that revision, likewise
//! ```
//!
//! Laws:
//!  1. The stored bytes are `written - freed`, and `freed <= garbage <= written`.
//!  2. `garbage` counts the records that a newer change of their key has made unreadable from that
//!     change's revision on; a tombstone is such a record itself. So what a compaction at revision r
//!     frees is what `garbage` was after r.
//!  3. The digest after an entry depends on the digest before it and on everything the entry changed
//!     and answered, and on nothing of this member's own (its compaction cursor, its caches).
//!
//! Price: the past of `garbage` is kept in samples, at most some thousands of rows, so a compaction
//! frees up to one step too little (a 4096th of what is stored, or 4 KiB); the next one makes up for
//! it. One row is written for each entry.
//!
//! Worked example: put a=1, put a=22, compact at the first: 66 + 67 bytes written, 66 of them garbage
//! from r3 on, none freed. Compact at r3: 66 freed, 67 stored.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::Revision;
use crate::rejection::Rejection;
use crate::response::Body;
use crate::store::{Batch, Change, Table, View};

/// What a record counts for beside its key and value, in bytes: about what index and log need for it.
pub const RECORD_OVERHEAD: u64 = 64;

const KEY: &[u8] = b"ledger";
const SAMPLES: &[u8] = b"garbage/";
const VERSION: u8 = 1;

/// Smallest step between two samples, in bytes of garbage.
const STEP_MIN: u64 = 4 << 10;

/// The bytes that are stored in a state: live data and the history that can still be read.
pub fn stored_bytes(view: &dyn View) -> u64 {
    Ledger::load(view).stored()
}

/// The running digest of a state; `None` for one made before there were digests.
pub fn applied_digest(view: &dyn View) -> Option<u64> {
    Ledger::load(view).digest
}

/// The row that a new cluster begins with.
pub(super) fn genesis() -> Change {
    Ledger { digest: Some(0), ..Ledger::default() }.row()
}

/// What a record of this key and value counts for.
pub(super) fn record_bytes(key: &[u8], value_len: usize) -> u64 {
    (key.len() + value_len) as u64 + RECORD_OVERHEAD
}

/// What one command adds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub(super) written: u64,
    pub(super) garbage: u64,
}

impl Delta {
    /// One more step adds this.
    pub(super) fn add(&mut self, step: Delta) {
        self.written += step.written;
        self.garbage += step.garbage;
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    written: u64,
    freed: u64,
    garbage: u64,
    /// What `garbage` was at the newest sample.
    sampled: u64,
    digest: Option<u64>,
    /// The digest has taken in how the command under way begins.
    begun: bool,
}

impl Ledger {
    pub(super) fn load(view: &dyn View) -> Ledger {
        let row = view.table(Table::Meta, KEY);
        row.as_deref().and_then(decode).unwrap_or_default()
    }

    pub(super) fn stored(&self) -> u64 {
        self.written.saturating_sub(self.freed)
    }

    pub(super) fn digest(&self) -> Option<u64> {
        self.digest
    }

    /// Takes in a step of a command that goes on, before the store does. Where a command is cut into
    /// steps does not show in the digest.
    pub(super) fn note(&mut self, batch: &Batch) {
        if batch.changes().is_empty() {
            return; // its revision may not be taken yet
        }
        if let Some(digest) = self.digest {
            self.digest = Some(digest_of((digest, self.begun), batch, ""));
            self.begun = true;
        }
    }

    /// Takes in a command's last step and its outcome, before the store does; `view` is the state before
    /// that step, `delta` counts all of them.
    pub(super) fn enter(
        &mut self,
        (view, batch): (&dyn View, &mut Batch),
        delta: Delta,
        result: &Result<Body, Rejection>,
    ) {
        let mark = batch.mark();
        if let Some(digest) = self.digest {
            let refusal = result.as_ref().err().map_or("", |rejection| rejection.text());
            self.digest = Some(digest_of((digest, self.begun), batch, refusal));
        }
        self.begun = false;
        self.written += delta.written;
        self.garbage += delta.garbage;
        if mark.compacted > view.mark().compacted {
            self.free(view, batch);
        }
        if self.garbage - self.sampled >= STEP_MIN.max(self.stored() >> 12) {
            self.sampled = self.garbage;
            let value = Bytes::copy_from_slice(&self.garbage.to_le_bytes());
            batch.push(Change::Set { table: Table::Meta, key: sample(mark.revision), value });
        }
    }

    /// Mutant M54: something of the member gets into the digest.
    pub(super) fn mix(&mut self, own: bool) {
        self.digest = self.digest.map(|digest| digest ^ u64::from(own));
    }

    /// The row as it has to be stored now.
    pub(super) fn row(&self) -> Change {
        let mut value = BytesMut::with_capacity(41);
        value.put_u8(VERSION);
        for number in [self.written, self.freed, self.garbage, self.sampled] {
            value.put_u64_le(number);
        }
        if let Some(digest) = self.digest {
            value.put_u64_le(digest);
        }
        Change::Set { table: Table::Meta, key: Bytes::from_static(KEY), value: value.freeze() }
    }

    /// A compaction was decided: what was garbage at its revision goes, and the samples up to there.
    fn free(&mut self, view: &dyn View, batch: &mut Batch) {
        let compacted = batch.mark().compacted;
        let mut newest = None;
        view.table_scan(Table::Meta, &sample(compacted), &mut |key, value| {
            if !key.starts_with(SAMPLES) {
                return ControlFlow::Break(());
            }
            newest = newest.or_else(|| Some(u64::from_le_bytes(value.try_into().ok()?)));
            batch.push(Change::Clear { table: Table::Meta, key: Bytes::copy_from_slice(key) });
            ControlFlow::Continue(())
        });
        let all = compacted == batch.mark().revision;
        let freed = if all { Some(self.garbage) } else { newest };
        self.freed = self.freed.max(freed.unwrap_or(0));
    }
}

/// Newer revisions come first, so that the newest sample up to a revision is the first from its key on.
fn sample(revision: Revision) -> Bytes {
    let mut key = BytesMut::with_capacity(SAMPLES.len() + 8);
    key.put_slice(SAMPLES);
    key.put_i64(i64::MAX - revision.0);
    key.freeze()
}

fn decode(row: &[u8]) -> Option<Ledger> {
    let (&VERSION, rest) = row.split_first()? else { return None };
    let mut numbers = rest.chunks_exact(8).map(|chunk| {
        u64::from_le_bytes(chunk.try_into().expect("a chunk of eight has eight bytes"))
    });
    Some(Ledger {
        written: numbers.next()?,
        freed: numbers.next()?,
        garbage: numbers.next()?,
        sampled: numbers.next()?,
        digest: numbers.next(),
        begun: false,
    })
}

/// The digest after a step of a command (law 3), given the one before and whether the command has begun
/// in it. The batches hold everything that the command changes, events and lease changes follow from
/// them; of the answer only its kind is not in there.
fn digest_of((before, begun): (u64, bool), batch: &Batch, refusal: &str) -> u64 {
    let mut digest = Digest(before);
    if !begun {
        let mark = batch.mark();
        digest.number(mark.applied.index.0);
        digest.number(mark.revision.0 as u64);
        digest.number(mark.compacted.0 as u64);
        digest.bytes(refusal.as_bytes());
    }
    for change in batch.changes() {
        match change {
            Change::Write { row, record, .. } => {
                digest.number(row.modified.main.0 as u64);
                digest.number(u64::from(row.modified.sub) << 1 | u64::from(record.tombstone));
                digest.number(row.lease.0 as u64);
                digest.bytes(&record.kv);
            }
            Change::Forget { key } => digest.bytes(key),
            Change::Set { table, key, value } => {
                digest.number(*table as u64);
                digest.bytes(key);
                digest.bytes(value);
            }
            Change::Clear { table, key } => {
                digest.number(*table as u64 | 1 << 8);
                digest.bytes(key);
            }
        }
    }
    digest.0
}

/// Multiply and fold; bytes enter by their length and CRC-32, which costs little for large values.
struct Digest(u64);

impl Digest {
    fn number(&mut self, number: u64) {
        let product =
            u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number((bytes.len() as u64) << 32 | u64::from(crc32fast::hash(bytes)));
    }
}
