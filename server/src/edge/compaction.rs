//! Compactions that nobody asks for: the compactor's decision becomes a request like a client's.
//!
//! Leaves out when, and to which revision ([`Compactor`]).

use holdfast_core::compactor::Compactor;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Op};
use holdfast_core::response::Response;
use holdfast_core::status::Role;
use holdfast_core::store::View;
use holdfast_core::time::Instant;

use super::{Edge, Waiting};
use crate::host::Event;

impl Edge {
    /// Asks for a compaction if it is time.
    pub(super) fn compact_by_itself(&mut self, now: Instant, inbox: &mut Vec<Event>) {
        let Some(rule) = self.config.auto_compaction else { return };
        let revision = self.source.snapshot.mark().revision;
        let leads = self.status.role == Role::Leader;
        let compactor = self.compactor.get_or_insert_with(|| Compactor::new(rule, now, revision));
        if let Some(revision) = compactor.due(now, revision, leads) {
            let ask = Ask::Propose(Op::Compact { revision });
            self.send(now, Waiting::Compaction, (Identity::SYSTEM, ask), inbox);
        }
    }

    /// What became of it; one that somebody else has done is done.
    pub(super) fn compacted_by_itself(
        &mut self,
        now: Instant,
        result: &Result<Response, Rejection>,
    ) {
        if let Some(compactor) = &mut self.compactor {
            compactor.done(now, matches!(result, Ok(_) | Err(Rejection::Compacted)));
        }
    }
}
