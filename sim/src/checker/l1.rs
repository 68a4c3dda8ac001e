//! L1: a lease never expires early: not before its TTL has passed since its owner *sent* the last
//! grant or renewal that was acknowledged, measured on the true clock and shortened by the declared
//! drift of the fastest clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_core::query::{AnswerBody, Query};
use holdfast_core::request::Op;

use super::{Checker, Scene, Seen};
use crate::clock::{Moment, RATE_TRUE};
use crate::history::Outcome;

/// Until when each lease was promised, and which ones somebody asked to revoke.
#[derive(Default)]
pub(super) struct NeverEarly {
    promised: BTreeMap<i64, Moment>,
    revoked: BTreeSet<i64>,
}

impl Checker for NeverEarly {
    fn id(&self) -> &'static str {
        "L1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Returned { op } => {
                let record = scene.history.record(*op);
                let Outcome::Answered(answer) = &record.outcome else { return Ok(()) };
                if let AnswerBody::LeaseGrant { id, ttl } | AnswerBody::LeaseKeepAlive { id, ttl } =
                    &answer.body
                    && *ttl > 0
                {
                    let ttl = Duration::from_secs(*ttl as u64);
                    let shortest = ttl * RATE_TRUE as u32 / scene.swarm.rate_max() as u32;
                    let until = record.invoked.after(shortest);
                    let promised = self.promised.entry(id.0).or_default();
                    *promised = (*promised).max(until);
                }
                Ok(())
            }
            Seen::Committed { id: request, op: Op::LeaseRevoke { id }, .. } => {
                if let Some(op) = scene.requests.ops.get(request) {
                    debug_assert!(matches!(
                        scene.history.record(*op).query,
                        Query::LeaseRevoke { .. }
                    ));
                    self.revoked.insert(id.0);
                }
                let promised = self.promised.remove(&id.0);
                if promised.is_some() && !self.revoked.contains(&id.0) {
                    scene.compared();
                }
                match promised {
                    Some(until) if scene.now < until && !self.revoked.contains(&id.0) => {
                        Err(format!("lease {id} was promised until {until}"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
