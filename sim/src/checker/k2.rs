//! K2: header revisions never go back for a client that speaks to one run of one member, and are never
//! ahead of the store.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;
use holdfast_core::query::Query;

use super::{Checker, Scene, Seen};
use crate::history::Outcome;

/// What each client was last told by each run of each member.
#[derive(Default)]
pub(super) struct Monotonic(BTreeMap<(usize, usize, u64), Revision>);

impl Checker for Monotonic {
    fn id(&self) -> &'static str {
        "K2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Returned { op } => {
                let record = scene.history.record(*op);
                let Outcome::Answered(answer) = &record.outcome else { return Ok(()) };
                let revision = answer.header.revision;
                let newest = scene.model.revision();
                scene.compared();
                if revision > newest {
                    return Err(format!("request {} is told {revision}, ahead of {newest}", op.0));
                }
                // Those two say nothing of the store, as with etcd.
                if matches!(record.query, Query::MemberList { .. } | Query::MoveLeader { .. }) {
                    return Ok(());
                }
                let last = self.0.entry((record.client, record.member, record.run)).or_default();
                if revision < *last {
                    let (client, member) = (record.client, record.member);
                    return Err(format!(
                        "client {client} is told {revision} by member {member} after {last}"
                    ));
                }
                *last = revision;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
