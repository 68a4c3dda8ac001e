//! W6: progress at a revision means that everything up to it was delivered (etcd #15220).

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// The first revision each watcher has not been told about.
#[derive(Default)]
pub(super) struct Progress(BTreeMap<WatcherId, Revision>);

impl Checker for Progress {
    fn id(&self) -> &'static str {
        "W6"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice } = seen else { return Ok(()) };
        let next = self.0.entry(spec.id).or_default();
        match notice {
            Notice::Created { from, resumed: false } => *next = *from,
            Notice::Created { .. } | Notice::Refused(_) => {}
            Notice::Events(events) => {
                let last = events.iter().map(|event| event.revision.next()).max();
                *next = (*next).max(last.unwrap_or_default());
            }
            Notice::Compacted { begins, .. } => *next = (*next).max(*begins),
            Notice::Progress(revision) => {
                scene.compared();
                let newest = scene.model.revision();
                if *revision > newest {
                    return Err(format!("{:?} progresses to {revision} of {newest}", spec.id));
                }
                let mut owed = scene.model.changes_from(*next).iter();
                let missed = owed.find(|change| {
                    change.at.main <= *revision && spec.wants(&change.key, change.delete)
                });
                if let Some(change) = missed {
                    let (key, at) = (&change.key, change.at);
                    return Err(format!(
                        "{:?} progresses to {revision} without {key:?} at {at}",
                        spec.id
                    ));
                }
                *next = (*next).max(revision.next());
            }
        }
        Ok(())
    }
}
