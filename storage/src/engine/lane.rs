//! The one queue of the engine's background orders to the disk.
//!
//! One order is under way at a time, so orders for the same file never overtake each other, and
//! background writing never has more than one piece in the disk's queue beside the log.
//!
//! Worked example: `Remove a`, `Create a`, queued in this order, reach the disk one after the
//! other.

use std::collections::VecDeque;

use crate::disk::{DiskOp, Owner, Token};

/// What an order was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file of the checkpoint with this manifest id.
    Checkpoint(u64),
    /// The superblock of a checkpoint.
    Commit,
    /// The superblock of a snapshot from a peer.
    Install,
    /// A file of a snapshot from a peer: the receiver's number for it.
    Receive(u64),
    /// A file nobody needs; whether that works does not matter until the next start.
    Remove,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    numbers: u64,
    queue: VecDeque<(Step, DiskOp)>,
    busy: Option<(u64, Step)>,
}

impl Lane {
    /// Queues an order.
    pub(crate) fn push(&mut self, step: Step, op: DiskOp) {
        self.queue.push_back((step, op));
    }

    /// Starts the next order if none is under way.
    pub(crate) fn start(&mut self, ops: &mut Vec<(Token, DiskOp)>) {
        if self.busy.is_some() {
            return;
        }
        if let Some((step, op)) = self.queue.pop_front() {
            let token = self.token();
            self.busy = Some((token.number, step));
            ops.push((token, op));
        }
    }

    /// What the order that completed was for, if it is the one under way.
    pub(crate) fn completed(&mut self, number: u64) -> Option<Step> {
        let (_, step) = self.busy.take_if(|(busy, _)| *busy == number)?;
        Some(step)
    }

    /// A token for an order beside the queue.
    pub(crate) fn token(&mut self) -> Token {
        self.numbers += 1;
        Token { owner: Owner::Engine, number: self.numbers }
    }
}
