//! W5: a watcher can resume on any member after the last revision it was told of: it is told of
//! nothing before, and is refused only what is really compacted.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// Where each watcher began or resumed last.
#[derive(Default)]
pub(super) struct Resumable(BTreeMap<WatcherId, Revision>);

impl Checker for Resumable {
    fn id(&self) -> &'static str {
        "W5"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice } = seen else { return Ok(()) };
        match notice {
            Notice::Created { from, resumed } => {
                if *resumed {
                    scene.compared();
                }
                self.0.insert(spec.id, *from);
            }
            Notice::Events(events) => {
                let from = self.0.get(&spec.id).copied().unwrap_or_default();
                if let Some(early) = events.iter().find(|event| event.revision < from) {
                    let revision = early.revision;
                    return Err(format!("{:?} began at {from} and hears {revision}", spec.id));
                }
            }
            Notice::Compacted { begins, owed } => {
                let compacted = scene.model.compacted();
                if *begins > compacted || *owed >= *begins {
                    return Err(format!(
                        "{:?} wants {owed} and is told that history begins at {begins}; compacted \
                         is {compacted}",
                        spec.id
                    ));
                }
            }
            Notice::Progress(_) | Notice::Refused(_) => {}
        }
        Ok(())
    }
}
