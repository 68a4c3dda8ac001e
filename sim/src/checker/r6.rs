//! R6: a checkpoint, and the log after it, are together the full replay: a member recovers after any
//! crash, its log attaches to its checkpoint, and its state equals the oracle's at the same entry.

use holdfast_core::store::View;

use super::{Checker, Scene, Seen, image};

/// How often each member has published.
#[derive(Default)]
pub(super) struct ReplayEqual {
    published: u64,
}

/// Every how many publications at the end of the committed log the state is compared in full.
const EVERY: u64 = 8;

impl Checker for ReplayEqual {
    fn id(&self) -> &'static str {
        "R6"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::BootFailed { member, why } => {
                Err(format!("member {member} cannot recover: {why}"))
            }
            Seen::Published { member, view, restored } => {
                self.published += 1;
                if !restored && !self.published.is_multiple_of(EVERY) {
                    return Ok(());
                }
                compare(scene, *member, *view)
            }
            Seen::Booted { member, view, .. } => compare(scene, *member, *view),
            _ => Ok(()),
        }
    }
}

/// The oracle only has its newest state at hand, so a member behind it is compared by its marks.
fn compare(scene: &Scene<'_>, member: usize, view: &dyn View) -> Result<(), String> {
    let mark = view.mark();
    let index = mark.applied.index.0 as usize;
    if index == scene.log.len() {
        scene.compared();
        return image::equals_model(view, scene.model).map_err(|what| {
            format!("the state of member {member} after {} is wrong: {what}", mark.applied)
        });
    }
    let Some(place) = index.checked_sub(1) else { return Ok(()) };
    let Some(entry) = scene.log.get(place) else {
        return Err(format!("member {member} has applied {}, beyond the log", mark.applied));
    };
    let Some(step) = entry.steps_after.checked_sub(1) else { return Ok(()) };
    let step = &scene.model.steps()[step];
    if (step.revision, step.compacted) != (mark.revision, mark.compacted) {
        return Err(format!(
            "member {member} after {} is at {} compacted {}, replay says {} compacted {}",
            mark.applied, mark.revision, mark.compacted, step.revision, step.compacted
        ));
    }
    Ok(())
}
