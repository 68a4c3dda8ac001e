//! R7: an acknowledged write survives every crash: its entry is in the log of every later leader
//! (thesis 3.2, leader completeness), or behind that leader's checkpoint.

use std::collections::BTreeSet;

use holdfast_core::id::Position;

use super::{Checker, Scene, Seen};

/// Entries with a write that was acknowledged.
#[derive(Default)]
pub(super) struct AcknowledgedSurvives(BTreeSet<(u64, Position)>);

impl Checker for AcknowledgedSurvives {
    fn id(&self) -> &'static str {
        "R7"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Replied { op } => {
                let Some(step) = scene.requests.steps.get(op) else {
                    return Err(format!("request {} is acknowledged and in nobody's log", op.0));
                };
                let entry = scene.log.partition_point(|entry| entry.steps_after <= *step);
                if let Some(entry) = scene.log.get(entry) {
                    self.0.insert((entry.at.index.0, entry.at));
                }
                Ok(())
            }
            Seen::Elected { member, term, terms } => {
                let checkpoint = terms.checkpoint();
                for (index, at) in
                    self.0.iter().rev().take_while(|(index, _)| *index > checkpoint.0)
                {
                    scene.compared();
                    let found = terms.term_at(at.index);
                    if found != Some(at.term) {
                        return Err(format!(
                            "{at} was acknowledged, and member {member}, elected in {term}, has \
                             {found:?} at {index}"
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
