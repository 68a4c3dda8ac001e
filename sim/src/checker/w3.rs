//! W3: a watcher misses nothing: when it is told of a revision, it has been told of every change it
//! wants from where it began up to there.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, Told, WatchSpec, WatcherId};

/// The first revision each watcher has not been told about.
#[derive(Default)]
pub(super) struct Reliable(BTreeMap<WatcherId, Revision>);

impl Checker for Reliable {
    fn id(&self) -> &'static str {
        "W3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice } = seen else { return Ok(()) };
        match notice {
            Notice::Created { from, .. } => {
                self.0.entry(spec.id).or_insert(*from);
            }
            Notice::Events(events) => return self.events(scene, spec, events),
            Notice::Compacted { begins, .. } => {
                let next = self.0.entry(spec.id).or_default();
                *next = (*next).max(*begins);
            }
            Notice::Refused(_) => {}
            // Whether progress may claim so much is W6's business.
            Notice::Progress(revision) => {
                let next = self.0.entry(spec.id).or_default();
                *next = (*next).max(revision.next());
            }
        }
        Ok(())
    }
}

impl Reliable {
    fn events(
        &mut self,
        scene: &Scene<'_>,
        spec: &WatchSpec,
        events: &[Told],
    ) -> Result<(), String> {
        scene.compared();
        let next = self.0.entry(spec.id).or_default();
        let Some(last) = events.iter().map(|event| event.revision).max() else { return Ok(()) };
        let mut told = events.iter();
        let owed = scene.model.changes_from(*next).iter().take_while(|c| c.at.main <= last);
        for change in owed.filter(|change| spec.wants(&change.key, change.delete)) {
            let heard = told.next().map(|event| (event.revision, &event.key, event.delete));
            if heard != Some((change.at.main, &change.key, change.delete)) {
                return Err(format!(
                    "{:?} should be told of {:?} at {}, and hears {heard:?}",
                    spec.id, change.key, change.at
                ));
            }
        }
        *next = last.next();
        match told.next() {
            Some(event) => Err(format!("{:?} is told of {event:?}, which nobody did", spec.id)),
            None => Ok(()),
        }
    }
}
