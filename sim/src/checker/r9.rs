//! R9: no request is applied twice: no id of a request stands in two commands of the log, and a member
//! applies each entry once, one after the other, from where its state is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, RequestId};

use super::{Checker, Scene, Seen};

/// Requests whose commands have been applied, and how far each member is.
#[derive(Default)]
pub(super) struct Once {
    applied: BTreeSet<RequestId>,
    places: BTreeMap<usize, Index>,
}

impl Checker for Once {
    fn id(&self) -> &'static str {
        "R9"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            // What the cluster itself proposes has no number: it may be asked again.
            Seen::Committed { id, op, .. } if id.sequence != 0 => {
                scene.compared();
                match self.applied.insert(*id) {
                    true => Ok(()),
                    false => Err(format!("{id} is applied a second time: {op:?}")),
                }
            }
            Seen::Booted { member, view, .. } => {
                self.places.insert(*member, view.mark().applied.index);
                Ok(())
            }
            Seen::Fact { member, fact: Fact::SnapshotInstalled { at } } => {
                self.places.insert(*member, at.index);
                Ok(())
            }
            Seen::Fact { member, fact: Fact::Applied { at, .. } } => {
                self.applies(*member, at.index)
            }
            _ => Ok(()),
        }
    }
}

impl Once {
    fn applies(&mut self, member: usize, index: Index) -> Result<(), String> {
        let last = self.places.insert(member, index);
        match last {
            Some(last) if last.next() != index => {
                Err(format!("member {member} applies {index} after {last}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::trial::{Trial, put};
    use holdfast_core::id::{Incarnation, MemberId, Position, Revision};
    use holdfast_core::request::Identity;

    fn committed(checker: &mut Once, sequence: u64) -> Result<(), String> {
        let id = RequestId { member: MemberId(1), incarnation: Incarnation(1), sequence };
        let (who, op) = (&Identity::default(), &put("a", "x"));
        let at = Position::new(1, 1);
        Trial::default().see(checker, &Seen::Committed { id, who, op, step: 0, at })
    }

    fn applied(checker: &mut Once, index: u64) -> Result<(), String> {
        let (at, revision) = (Position::new(index, 1), Revision(1));
        let fact = &Fact::Applied { at, digest: 0, revision };
        Trial::default().see(checker, &Seen::Fact { member: 0, fact })
    }

    #[test]
    fn a_request_is_applied_once() {
        let mut checker = Once::default();
        for sequence in [1, 2, 0, 0, 3] {
            committed(&mut checker, sequence).expect("each is new, or the cluster's own");
        }
        assert!(committed(&mut checker, 2).is_err());
    }

    #[test]
    fn a_member_leaves_no_entry_out_and_repeats_none() {
        let mut checker = Once::default();
        for index in [4, 5, 6] {
            applied(&mut checker, index).expect("one after the other");
        }
        let installed = &Fact::SnapshotInstalled { at: Position::new(20, 1) };
        let seen = Seen::Fact { member: 0, fact: installed };
        Trial::default().see(&mut checker, &seen).expect("a snapshot may jump");
        applied(&mut checker, 21).expect("it goes on there");
        assert!(applied(&mut checker, 21).is_err(), "twice");
        assert!(applied(&mut checker, 23).is_err(), "one left out");
    }
}
