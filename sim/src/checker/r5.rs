//! R5: members that have applied the same entries have the same state, everything included, also
//! after a restart and after a snapshot install.

use std::collections::BTreeMap;

use holdfast_core::id::Position;
use holdfast_core::store::View;

use super::{Checker, Scene, Seen, image};

/// The digest of the state after some entries, and who had it first.
#[derive(Default)]
pub(super) struct EqualState(BTreeMap<Position, (u32, usize)>);

/// The state is compared at every entry whose index is a multiple of this, and at special occasions.
const EVERY: u64 = 16;

impl Checker for EqualState {
    fn id(&self) -> &'static str {
        "R5"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Published { member, view, restored } => {
                let applied = view.mark().applied;
                let known = self.0.contains_key(&applied);
                if *restored || known || applied.index.0.is_multiple_of(EVERY) {
                    return self.compare(scene, *member, *view);
                }
                Ok(())
            }
            Seen::Booted { member, view, .. } => self.compare(scene, *member, *view),
            _ => Ok(()),
        }
    }
}

impl EqualState {
    fn compare(&mut self, scene: &Scene<'_>, member: usize, view: &dyn View) -> Result<(), String> {
        let applied = view.mark().applied;
        let digest = image::digest(view)?;
        let (first, other) = *self.0.entry(applied).or_insert((digest, member));
        if other != member {
            scene.compared();
        }
        if first != digest {
            return Err(format!(
                "after {applied} member {member} has digest {digest:08x}, member {other} had \
                 {first:08x}"
            ));
        }
        Ok(())
    }
}
