//! R2: a committed entry never changes: whoever applies an index applies the same bytes of the same
//! term, and a recovered log holds, under the position of a committed entry, its bytes.

use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, Position};

use super::{Checker, Committed, Scene, Seen};

/// Needs to remember nothing: the committed log is in the scene.
pub(super) struct CommittedStays;

impl Checker for CommittedStays {
    fn id(&self) -> &'static str {
        "R2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Fact { member, fact: Fact::Applied { at, digest, .. } } => {
                let Some(committed) = entry(scene, at.index) else { return Ok(()) };
                scene.compared();
                if (committed.at, committed.digest) == (*at, *digest) {
                    return Ok(());
                }
                Err(format!(
                    "member {member} applies {at} with digest {digest:08x}; committed was {} with \
                     {:08x}",
                    committed.at, committed.digest
                ))
            }
            Seen::Booted { member, terms, .. } => terms
                .entries()
                .into_iter()
                .try_for_each(|(at, digest)| same(scene, *member, at, digest)),
            _ => Ok(()),
        }
    }
}

fn same(scene: &Scene<'_>, member: usize, at: Position, digest: u32) -> Result<(), String> {
    match entry(scene, at.index) {
        Some(committed) if committed.at == at && committed.digest != digest => Err(format!(
            "the log of member {member} holds {at} with digest {digest:08x}; committed was {:08x}",
            committed.digest
        )),
        _ => Ok(()),
    }
}

fn entry<'a>(scene: &Scene<'a>, index: Index) -> Option<&'a Committed> {
    scene.log.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
}
