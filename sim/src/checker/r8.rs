//! R8: nothing is applied that nobody asked for, and nothing twice. Lease revocations, alarms, digests, and
//! what members publish about themselves are the cluster's own.

use std::collections::BTreeSet;

use holdfast_core::id::RequestId;
use holdfast_core::query::Query;
use holdfast_core::request::Op;

use super::{Checker, Scene, Seen};

/// Requests whose commands have been applied.
#[derive(Default)]
pub(super) struct Validity(BTreeSet<RequestId>);

impl Checker for Validity {
    fn id(&self) -> &'static str {
        "R8"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { id, op, .. } = seen else { return Ok(()) };
        let Some(request) = scene.requests.ops.get(id) else {
            return match op {
                Op::LeaseRevoke { .. } | Op::Publish { .. } | Op::Alarm(_) | Op::Audit(_) => Ok(()),
                _ => Err(format!("{id} was never asked: {op:?}")),
            };
        };
        scene.compared();
        if !self.0.insert(*id) {
            return Err(format!("{id} is applied a second time: {op:?}"));
        }
        let query = &scene.history.record(*request).query;
        if asks_for(query, op) {
            Ok(())
        } else {
            Err(format!("{id} asked {query:?}, applied {op:?}"))
        }
    }
}

fn asks_for(query: &Query, op: &Op) -> bool {
    match (query, op) {
        (Query::Put(asked), Op::Put(applied)) => asked == applied,
        (Query::DeleteRange(asked), Op::DeleteRange(applied)) => asked == applied,
        (Query::Txn(asked), Op::Txn(applied)) => asked == applied,
        (Query::Compact { revision, .. }, Op::Compact { revision: applied }) => {
            *revision == applied.0
        }
        (Query::LeaseGrant { id, ttl }, Op::LeaseGrant { id: applied, ttl: granted }) => {
            (id.0 == 0 || id == applied) && granted >= ttl
        }
        (Query::LeaseRevoke { id }, Op::LeaseRevoke { id: applied }) => id == applied,
        (Query::AlarmList, Op::AlarmList) => true,
        (Query::Alarm(asked), Op::Alarm(applied)) => asked == applied,
        _ => false,
    }
}
