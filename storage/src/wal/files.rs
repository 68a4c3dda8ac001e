//! The segment files of a running log: making the next one ahead of need, and giving up old ones.
//!
//! Leaves out when that is due ([`Wal::purge`], [`Wal::pump`]).
//!
//! Laws:
//!  1. Purged segments go one at a time and in order, so a crash leaves no hole.
//!  2. A segment that becomes a spare has no header on the disk any more.
//!  3. A full disk is an event, any other failure to make or to retire a file a fault.
//!
//! Worked example: segments 1 and 2 are purged while no spare waits: the headers of 1 are zeroed,
//! then it is a spare; then 2 becomes the other one, and a purged 3 would be removed.

use std::io;

use holdfast_core::store::Fault;

use super::segment::file_name;
use super::{Order, Wal, WalEvent};
use crate::disk::{BLOCK, Buffer, DiskOp, Done, Token};

impl Wal {
    pub(super) fn make(&mut self, bytes: u64, ops: &mut Vec<(Token, DiskOp)>) {
        if let Some(op) = self.spares.make(bytes) {
            self.order(Order::Make, op, ops);
        }
    }

    pub(super) fn make_completed(
        &mut self,
        result: io::Result<Done>,
        ops: &mut Vec<(Token, DiskOp)>,
    ) {
        match result {
            Ok(_) => {
                if let Some(op) = self.spares.made() {
                    self.order(Order::Make, op, ops);
                }
            }
            Err(error) if is_full(&error) => {
                let op = self.spares.fail_full();
                if !std::mem::replace(&mut self.full, true) {
                    self.events.push_back(WalEvent::NoSpace { cause: error.to_string() });
                }
                self.order(Order::Discard, op, ops);
            }
            Err(error) => self.poison(Fault::new("make the log's next segment", "wal", error)),
        }
    }

    /// The oldest purged segment becomes a spare, or goes. One at a time and in order: otherwise a
    /// crash could leave an older one before a hole, and the hole would look like a lost batch.
    pub(super) fn retire(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
        let Some(spare) = self.purged.front().copied().filter(|_| !self.retiring) else { return };
        self.retiring = true;
        let file = file_name(spare.sequence);
        if self.spares.wants(spare.geometry) {
            let zeros = || Buffer::from_slice(&[0; BLOCK]);
            let parts = vec![(0, zeros()), (BLOCK as u64, zeros())];
            self.order(Order::Retire, DiskOp::Write { file, parts, sync: true }, ops);
        } else {
            self.order(Order::Remove, DiskOp::Remove { file }, ops);
        }
    }

    pub(super) fn retired(&mut self, result: io::Result<Done>, ops: &mut Vec<(Token, DiskOp)>) {
        let spare = *self.purged.front().expect("it is being retired");
        if let Err(error) = result {
            let place = file_name(spare.sequence).to_string();
            self.poison(Fault::new("retire a segment of the log", place, error));
            return;
        }
        self.retiring = false;
        if self.spares.wants(spare.geometry) {
            self.purged.pop_front();
            self.spares.add(spare);
        }
        // Else the spare that was being made has taken its place, and it is removed after all.
        self.retire(ops);
    }

    /// A purged segment that could not be removed stays first in line until the next purge.
    pub(super) fn removed(&mut self, result: io::Result<Done>, ops: &mut Vec<(Token, DiskOp)>) {
        self.retiring = false;
        let spare = *self.purged.front().expect("it is being retired");
        match result {
            Ok(_) => {
                self.purged.pop_front();
                self.retire(ops);
            }
            Err(error) => {
                let (file, cause) = (file_name(spare.sequence), error.to_string());
                self.events.push_back(WalEvent::NotRemoved { file, cause });
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
