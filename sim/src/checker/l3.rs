//! L3: when a lease goes, all its keys go with it, in one revision, and none stays behind: on every
//! member that has applied the revocation.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, Revision};
use holdfast_core::request::Op;
use holdfast_core::store::View;

use super::{Checker, Scene, Seen};

/// A revocation: the revision before it, the one it must make, and the keys it takes.
struct Revocation {
    id: LeaseId,
    revision: Revision,
    keys: Vec<Bytes>,
}

/// Revocations that took keys, by the index of their entry, and how far each member was checked.
#[derive(Default)]
pub(super) struct AllAtOnce {
    revocations: BTreeMap<u64, Vec<Revocation>>,
    checked: BTreeMap<usize, u64>,
}

impl Checker for AllAtOnce {
    fn id(&self) -> &'static str {
        "L3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { op: Op::LeaseRevoke { id }, step, .. } => {
                self.note(scene, *id, *step);
                Ok(())
            }
            Seen::Stopped { member } => {
                self.checked.remove(member);
                Ok(())
            }
            Seen::Published { member, view, .. } => self.check(scene, *member, *view),
            _ => Ok(()),
        }
    }
}

impl AllAtOnce {
    fn note(&mut self, scene: &Scene<'_>, id: LeaseId, step: usize) {
        let after = &scene.model.steps()[step];
        let before =
            step.checked_sub(1).map_or(Revision::EMPTY, |n| scene.model.steps()[n].revision);
        if after.verdict.is_err() || after.revision == before {
            return;
        }
        let changes = scene.model.changes_from(after.revision).iter();
        let keys = changes.filter(|c| c.at.main == after.revision).map(|c| c.key.clone()).collect();
        // The entry is the one after those that are complete.
        let index = scene.log.len() as u64;
        let revocation = Revocation { id, revision: after.revision, keys };
        self.revocations.entry(index).or_default().push(revocation);
    }

    fn check(&mut self, scene: &Scene<'_>, member: usize, view: &dyn View) -> Result<(), String> {
        let applied = view.mark().applied.index.0;
        let checked = self.checked.insert(member, applied).unwrap_or(0);
        if applied <= checked {
            return Ok(());
        }
        for revocation in self.revocations.range(checked + 1..=applied).flat_map(|(_, all)| all) {
            revocation.check(scene, member, view)?;
        }
        Ok(())
    }
}

impl Revocation {
    fn check(&self, scene: &Scene<'_>, member: usize, view: &dyn View) -> Result<(), String> {
        scene.compared();
        for key in &self.keys {
            // Compaction may have forgotten the key, and a later command may have changed it again.
            let Some(row) = view.row(key) else { continue };
            let mut later = scene.model.changes_from(self.revision.next()).iter();
            if later.any(|change| change.key == *key) {
                continue;
            }
            if !row.is_tombstone() || row.modified.main != self.revision {
                return Err(format!(
                    "lease {} took its keys at {}, but on member {member} {key:?} was last changed \
                     at {}",
                    self.id, self.revision, row.modified
                ));
            }
        }
        Ok(())
    }
}
