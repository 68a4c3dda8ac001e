//! The changes of one step of a command.
//!
//! Leaves out: what to change; the files beside this one know that, and [`super::task`] what a step is.
//!
//! Laws:
//!  1. A draft is empty until its command can no longer be refused. What earlier steps wrote is in the
//!     store below; what this step writes is not read within it.
//!  2. The revision is taken with the command's first change of a key, and sub-revisions count up from
//!     0 through all its steps.
//!  3. Keys in changes and events are slices of their own pair's bytes, never of the log entry: a
//!     small key does not keep a megabyte of entry alive. Small pairs share a chunk of memory with
//!     their neighbours in revision order, which stay and go with them.
//!
//! Worked example: a transaction at r17 that deletes [a, c) twice: the first step finds "a" and "b" and
//! drafts tombstones r18.0 and r18.1, which the store absorbs; the second finds them dead.

use bytes::Bytes;

use crate::arena::Arena;
use crate::auth::TokenChange;
use crate::id::{LeaseId, Position, RevSub, Revision};
use crate::kv::{KeyValue, key_slice};
use crate::machine::lease::attachment;
use crate::machine::ledger::{Delta, record_bytes};
use crate::machine::{Applied, LeaseChange};
use crate::response::Event;
use crate::store::{Batch, Change, Fault, Mark, Record, Row, Table, View};

/// What one draft after the other is made in, so that a command allocates little.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) batch: Batch,
    pairs: Arena,
}

impl Room {
    /// For drafts on a state at `mark`.
    pub(super) fn new(mark: Mark) -> Room {
        Room { batch: Batch::new(mark), pairs: Arena::default() }
    }
}

/// One step's changes so far.
pub(super) struct Draft<'a> {
    view: &'a dyn View,
    mark: Mark,
    /// Where the next change of a key goes.
    next: RevSub,
    room: &'a mut Room,
    delta: Delta,
    out: &'a mut Applied,
}

/// What a put leaves in its key.
pub(super) struct Written<'a> {
    pub(super) value: &'a [u8],
    pub(super) lease: LeaseId,
}

impl<'a> Draft<'a> {
    /// On the state of `view`, in a room that the draft has for itself until it is closed. `next` is
    /// where an earlier step of the same command has left off.
    pub(super) fn new(
        view: &'a dyn View,
        (at, next): (Position, Option<RevSub>),
        (room, out): (&'a mut Room, &'a mut Applied),
    ) -> Draft<'a> {
        let mark = Mark { applied: at, ..view.mark() };
        let next = next.unwrap_or(mark.revision.after());
        room.batch.renew(mark);
        Draft { view, mark, next, room, delta: Delta::default(), out }
    }

    /// Leaves the changes, and where they lead, in the room's batch; says where the next step goes on,
    /// and what these changes count for.
    pub(super) fn close(self) -> (RevSub, Delta) {
        self.room.batch.set_mark(self.mark);
        (self.next, self.delta)
    }

    /// Whether this step has changed nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.room.batch.changes().is_empty()
    }

    /// The state before this step.
    pub(super) fn view(&self) -> &'a dyn View {
        self.view
    }

    /// The revision as of the changes so far.
    pub(super) fn revision(&self) -> Revision {
        self.mark.revision
    }

    /// The bound of a read that sees the changes so far.
    pub(super) fn below(&self) -> RevSub {
        self.next
    }

    /// The compacted revision.
    pub(super) fn compacted(&self) -> Revision {
        self.mark.compacted
    }

    /// Decides a compaction.
    pub(super) fn set_compacted(&mut self, revision: Revision) {
        self.mark.compacted = revision;
    }

    /// The newest row of a key, a tombstone included.
    pub(super) fn row(&self, key: &[u8]) -> Option<Row> {
        self.view.row(key)
    }

    /// The encoded pair of a change.
    pub(super) fn pair(&self, at: RevSub) -> Result<Bytes, Fault> {
        Ok(self.view.record(at)?.kv)
    }

    /// Writes a key whose newest row is `newest`.
    pub(super) fn put(&mut self, key: &[u8], newest: Option<Row>, new: Written<'_>) {
        let at = self.take();
        let before = newest.filter(|row| !row.is_tombstone());
        let row = Row {
            modified: at,
            created: before.map_or(at.main, |row| row.created),
            version: before.map_or(1, |row| row.version + 1),
            lease: new.lease,
            value_len: new.value.len() as u32,
        };
        let kv = KeyValue {
            key,
            create_revision: row.created,
            mod_revision: at.main,
            version: row.version,
            value: new.value,
            lease: new.lease,
        };
        let kv = self.room.pairs.write(|out| kv.write(out));
        let key = key_slice(&kv, key.len());
        self.delta.written += record_bytes(&key, new.value.len());
        self.delta.garbage += before.map_or(0, |row| record_bytes(&key, row.value_len as usize));
        self.attach(&key, before.map_or(LeaseId::NONE, |row| row.lease), new.lease);
        let prev = before.map(|row| row.modified);
        let event = Event { at, prev, delete: false, key: key.clone(), kv: kv.clone() };
        self.out.events.push(event);
        // A tombstone that compaction has not physically reached yet counts as the change before: a
        // read of an older revision, resolved after this command, still walks through it.
        let prev = newest.map(|row| row.modified);
        self.write(key, row, Record { at, prev, tombstone: false, kv });
    }

    /// Deletes a key whose living row is `before`.
    pub(super) fn delete(&mut self, key: &[u8], before: Row) {
        let at = if crate::mutant::on(38) { self.take_without_bump() } else { self.take() };
        let row = Row {
            modified: at,
            created: Revision(0),
            version: 0,
            lease: LeaseId::NONE,
            value_len: 0,
        };
        let bare = KeyValue { key, ..KeyValue::default() };
        let event = KeyValue { mod_revision: at.main, ..bare };
        let event = self.room.pairs.write(|out| event.write(out));
        let kv = self.room.pairs.write(|out| bare.write(out));
        let key = key_slice(&kv, key.len());
        let tombstone = record_bytes(&key, 0);
        self.delta.written += tombstone;
        self.delta.garbage += tombstone + record_bytes(&key, before.value_len as usize);
        self.attach(&key, before.lease, LeaseId::NONE);
        let prev = Some(before.modified);
        self.out.events.push(Event { at, prev, delete: true, key: key.clone(), kv: event });
        self.write(key, row, Record { at, prev, tombstone: true, kv });
    }

    /// Sets a row of a table.
    pub(super) fn set(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.room.batch.push(Change::Set { table, key, value });
    }

    /// Removes a row of a table.
    pub(super) fn clear(&mut self, table: Table, key: Bytes) {
        self.room.batch.push(Change::Clear { table, key });
    }

    /// Tells the lessor.
    pub(super) fn lease_changed(&mut self, change: LeaseChange) {
        self.out.leases.push(change);
    }

    /// Tells the keepers of tokens.
    pub(super) fn token_changed(&mut self, change: TokenChange) {
        self.out.tokens.push(change);
    }

    /// Where the command stands in the log.
    pub(super) fn applied(&self) -> Position {
        self.mark.applied
    }

    /// Ends the revision within the command: only a mutant does that.
    pub(super) fn split_revision(&mut self) {
        self.next = self.mark.revision.after();
    }

    fn write(&mut self, key: Bytes, row: Row, record: Record) {
        self.room.batch.push(Change::Write { key, row, record });
    }

    fn attach(&mut self, key: &[u8], old: LeaseId, new: LeaseId) {
        if old == new {
            return;
        }
        if old != LeaseId::NONE {
            self.clear(Table::LeaseKeys, attachment(old, key));
        }
        if new != LeaseId::NONE {
            self.set(Table::LeaseKeys, attachment(new, key), Bytes::new());
        }
    }

    fn take(&mut self) -> RevSub {
        let at = self.next;
        self.mark.revision = at.main;
        self.next.sub += 1;
        at
    }

    /// Mutant M38: a place after every change of the present revision.
    fn take_without_bump(&mut self) -> RevSub {
        let mut last = RevSub { main: self.mark.revision, sub: 0 };
        let seen = self.view.records(last, &mut |record| {
            last = record.at;
            std::ops::ControlFlow::Continue(())
        });
        assert!(seen.is_ok(), "the mutant runs on a healthy disk only");
        for change in self.room.batch.changes() {
            if let Change::Write { row, .. } = change {
                last = row.modified;
            }
        }
        RevSub { sub: last.sub + 1, ..last }
    }
}
