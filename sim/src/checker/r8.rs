//! R8: nothing is applied that nobody asked for. Lease revocations, alarms, digests, and
//! what members publish about themselves are the cluster's own.

use holdfast_core::auth::{AuthOp, AuthQuery};
use holdfast_core::membership::MemberChange;
use holdfast_core::query::Query;
use holdfast_core::request::Op;

use super::{Checker, Scene, Seen};

/// Needs to remember nothing.
pub(super) struct Validity;

impl Checker for Validity {
    fn id(&self) -> &'static str {
        "R8"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { id, op, .. } = seen else { return Ok(()) };
        let Some(request) = scene.requests.ops.get(id) else {
            return match op {
                Op::LeaseRevoke { .. }
                | Op::Publish { .. }
                | Op::Started { .. }
                | Op::Alarm(_)
                | Op::LeaseCheckpoint(_)
                | Op::Audit(_)
                | Op::Member(MemberChange::ForceNew { .. })
                | Op::ClusterVersion(_) => Ok(()),
                _ => Err(format!("{id} was never asked: {op:?}")),
            };
        };
        scene.compared();
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
        (Query::MemberChange(asked), Op::Member(applied)) => asked == applied,
        (Query::MemberAdd { peer_urls, is_learner }, Op::Member(applied)) => matches!(
            applied,
            MemberChange::Add { peer_urls: urls, is_learner: learner, .. }
                if urls == peer_urls && learner == is_learner
        ),
        (Query::Auth(asked), Op::Auth(applied)) => calls_for(asked, applied),
        _ => false,
    }
}

/// A password must not be in the log: what stands there is its hash.
fn calls_for(asked: &AuthQuery, applied: &AuthOp) -> bool {
    match (asked, applied) {
        (AuthQuery::Op(asked), applied) => asked == applied,
        (AuthQuery::Authenticate { name, .. }, AuthOp::Authenticate { user, .. }) => name == user,
        (
            AuthQuery::UserAdd { name, password },
            AuthOp::UserAdd { name: applied, password: hash, no_password: false },
        )
        | (
            AuthQuery::UserChangePassword { name, password },
            AuthOp::UserChangePassword { name: applied, password: Some(hash) },
        ) => name == applied && password != hash,
        _ => false,
    }
}
