//! A member's disk orders on a [`SimDisk`]: each takes as long as the disk says, and only then
//! happens.
//!
//! The orders of a member that is killed never complete: its tasks are gone, and the disk has torn
//! or lost what was under way.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_server::worker::DiskQueue;
use holdfast_sim::disk::SimDisk;
use holdfast_storage::disk::{Completion, DiskOp, Token};
use tokio::sync::Notify;

/// [`DiskQueue`] over a simulated disk, for one life of a member.
pub struct SimQueue {
    disk: Arc<SimDisk>,
    ended: Rc<RefCell<Vec<Completion>>>,
    wake: Arc<Notify>,
}

impl SimQueue {
    /// `wake` is rung when an order has ended.
    pub fn new(disk: Arc<SimDisk>, wake: Arc<Notify>) -> SimQueue {
        SimQueue { disk, ended: Rc::default(), wake }
    }
}

impl DiskQueue for SimQueue {
    fn submit(&self, token: Token, op: DiskOp) {
        let takes = self.disk.begin(token, op);
        let (disk, ended, wake) = (self.disk.clone(), self.ended.clone(), self.wake.clone());
        madsim::task::spawn_local(async move {
            madsim::time::sleep(takes).await;
            if let Some(completion) = disk.finish(token) {
                ended.borrow_mut().push(completion);
                wake.notify_one();
            }
        });
    }

    fn reap(&self, into: &mut Vec<Completion>) {
        into.append(&mut self.ended.borrow_mut());
    }
}
