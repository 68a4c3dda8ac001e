//! A2: a member says that the data have parted exactly if they have: the digests in the log, the hashes that
//! members compare, and the states that they publish agree.

use std::collections::BTreeMap;

use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, MemberId, Position};
use holdfast_core::store::View;

use super::{Checker, Scene, Seen, image};

/// The digest of the state after some entries, and what was said and seen.
#[derive(Default)]
pub(super) struct CorruptIffParted {
    states: BTreeMap<Position, (u32, usize)>,
    differ: Option<Position>,
    said: Option<(usize, MemberId, Index)>,
    /// What came of comparing hashes.
    warned: Option<(usize, String)>,
}

/// States are compared at every entry whose index is a multiple of this.
const EVERY: u64 = 8;

impl Checker for CorruptIffParted {
    fn id(&self) -> &'static str {
        "A2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Fact { member, fact: Fact::Parted { from, at } } => {
                self.said.get_or_insert((*member, *from, *at));
            }
            Seen::Warned { member, text } => {
                self.warned.get_or_insert((*member, (*text).to_string()));
            }
            Seen::Published { member, view, .. } => {
                let applied = view.mark().applied;
                if self.differ.is_none() && applied.index.0.is_multiple_of(EVERY) {
                    self.note(*member, *view)?;
                }
            }
            Seen::Settled => {
                scene.compared();
                return self.judge();
            }
            _ => {}
        }
        Ok(())
    }
}

impl CorruptIffParted {
    fn note(&mut self, member: usize, view: &dyn View) -> Result<(), String> {
        let applied = view.mark().applied;
        let digest = image::digest(view)?;
        let (first, _) = *self.states.entry(applied).or_insert((digest, member));
        if first != digest {
            self.differ = Some(applied);
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        if let (Some((member, text)), None) = (&self.warned, self.differ) {
            return Err(format!("member {member} warns, and all states were equal: {text}"));
        }
        match (self.said, self.differ) {
            (Some((member, from, at)), None) => Err(format!(
                "member {member} says that its data parted from {from}'s at entry {at}, and all \
                 states were equal"
            )),
            (None, Some(at)) => {
                Err(format!("the states after {at} differ, and nobody has said so"))
            }
            _ => Ok(()),
        }
    }
}
