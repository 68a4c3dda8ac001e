//! R12: a member is the data that its promises are kept in. One that lost them and comes back under its
//! old id is listened to by nobody, never leads, and has stopped by the end.

use std::collections::BTreeSet;

use super::{Checker, Scene, Seen};

/// Members that have lost their data, and those of them that run.
#[derive(Default)]
pub(super) struct LostIsLost {
    lost: BTreeSet<usize>,
    running: BTreeSet<usize>,
}

impl Checker for LostIsLost {
    fn id(&self) -> &'static str {
        "R12"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Wiped { member } => {
                scene.compared();
                self.lost.insert(*member);
            }
            Seen::Booted { member, .. } if self.lost.contains(member) => {
                self.running.insert(*member);
            }
            Seen::Stopped { member } => {
                self.running.remove(member);
            }
            Seen::Heeded { member, from } => {
                return Err(format!(
                    "member {member} listens to member {from}, which has lost its data"
                ));
            }
            Seen::Elected { member, term, .. } if self.lost.contains(member) => {
                return Err(format!("member {member} leads in {term} and has lost its data"));
            }
            Seen::Settled => {
                if let Some(member) = self.running.first() {
                    return Err(format!("member {member} has lost its data and still runs"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::trial::Trial;

    #[test]
    fn who_has_lost_its_data_may_stop_and_nothing_else() {
        let trial = Trial::default();
        let mut checker = LostIsLost::default();
        for seen in [Seen::Wiped { member: 1 }, Seen::Settled] {
            trial.see(&mut checker, &seen).expect("it does not run");
        }
        assert!(trial.see(&mut checker, &Seen::Heeded { member: 0, from: 1 }).is_err());
        checker.running.insert(1);
        assert!(trial.see(&mut checker, &Seen::Settled).is_err(), "it still runs");
        trial.see(&mut checker, &Seen::Stopped { member: 1 }).expect("it may stop");
        trial.see(&mut checker, &Seen::Settled).expect("it has stopped");
    }
}
