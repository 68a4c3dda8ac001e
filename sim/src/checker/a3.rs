//! A3: NOSPACE refuses what adds, for a reason, and nothing else; what is stored is counted right.
//!
//! Laws:
//!  1. Only puts, transactions with a put and grants are ever refused for want of space.
//!  2. A refusal of what stands in the log has a reason: the alarm was up there, or it crossed the quota
//!     of the member that was asked. What does not stand there had at some time crossed that
//!     quota, or the member's disk was full.
//!  3. While a member has applied the whole log, its alarms are the oracle's, and its count of bytes is
//!     no less than what can be read, and not much more.

use std::collections::BTreeSet;

use holdfast_core::machine;
use holdfast_core::rejection::Rejection;
use holdfast_core::response::Alarm;
use holdfast_core::store::View;

use super::{Checker, Scene, Seen};
use crate::history::OpId;
use crate::model::space::{cost, slack};

/// Members whose disks have been full, and how many states were seen.
#[derive(Default)]
pub(super) struct OnlyWhatAdds {
    full: BTreeSet<usize>,
    published: u64,
    most: u64,
}

/// Every how many publications the bytes are counted.
const EVERY: u64 = 4;

impl Checker for OnlyWhatAdds {
    fn id(&self) -> &'static str {
        "A3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Full { member } => {
                self.full.insert(*member);
                Ok(())
            }
            Seen::Committed { step, .. } => {
                self.most = self.most.max(scene.model.steps()[*step].stored);
                Ok(())
            }
            Seen::Refused { op, rejection: Rejection::NoSpace } => self.refused(scene, *op),
            Seen::Published { member, view, .. } => {
                self.published += 1;
                if self.published.is_multiple_of(EVERY) {
                    return counts(scene, *member, *view);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl OnlyWhatAdds {
    fn refused(&self, scene: &Scene<'_>, id: OpId) -> Result<(), String> {
        scene.compared();
        let record = scene.history.record(id);
        let refused = |why: String| {
            let (member, query) = (record.member, &record.query);
            Err(format!("request {} to member {member} has no space, {why}: {query:?}", id.0))
        };
        let quota = scene.swarm.quotas[record.member];
        let crosses = |cost: u64, stored: u64| {
            quota.is_some_and(|quota| stored + slack(stored) + cost >= quota)
        };
        let Some(step) = scene.requests.steps.get(&id) else {
            let cost = match super::op_of(&record.query) {
                Some(op) => cost(&op),
                None => 0,
            };
            return match cost {
                0 => refused("and adds nothing".into()),
                _ if self.full.contains(&record.member) || crosses(cost, self.most) => Ok(()),
                _ => refused(format!("with a quota of {quota:?} and at most {}", self.most)),
            };
        };
        let done = &scene.model.steps()[*step];
        let before = step.checked_sub(1).map_or(0, |before| scene.model.steps()[before].stored);
        match &done.verdict {
            Err(Rejection::NoSpace) => Ok(()),
            _ if crosses(cost(&done.op), before) => Ok(()),
            _ => refused(format!("with a quota of {quota:?}, {before} stored and no alarm")),
        }
    }
}

/// Law 3.
fn counts(scene: &Scene<'_>, member: usize, view: &dyn View) -> Result<(), String> {
    let at_end = view.mark().applied.index.0 as usize == scene.log.len();
    let Some(last) = scene.model.steps().last().filter(|_| at_end) else { return Ok(()) };
    let alarms: Vec<Alarm> = machine::alarms(view);
    if alarms.iter().ne(scene.model.alarms()) {
        let wanted = scene.model.alarms();
        return Err(format!("member {member} has the alarms {alarms:?}, replay says {wanted:?}"));
    }
    let (counted, readable) = (machine::stored_bytes(view), last.stored);
    if counted < readable || counted > readable + slack(counted) {
        return Err(format!(
            "member {member} counts {counted} bytes as stored, {readable} can be read"
        ));
    }
    Ok(())
}
