//! W7: an event carries the exact pair, and the previous one if it was asked for and still exists.

use super::{Checker, Scene, Seen};
use crate::workload::watch::Notice;

/// Needs to remember nothing.
pub(super) struct Content;

impl Checker for Content {
    fn id(&self) -> &'static str {
        "W7"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice: Notice::Events(events) } = seen else { return Ok(()) };
        scene.compared();
        for event in events {
            let mut at_revision = scene.model.changes_from(event.revision).iter();
            let Some(change) = at_revision.find(|change| change.key == event.key) else {
                return Err(format!("{:?} is told of {event:?}, which nobody did", spec.id));
            };
            if (change.at.main, &change.kv) != (event.revision, &event.kv) {
                return Err(format!("{:?} hears {event:?}, the oracle {change:?}", spec.id));
            }
            let readable = event.revision.0 > scene.model.compacted().0;
            let wanted = change.prev.as_ref().filter(|_| spec.prev_kv);
            let fits = match &event.prev {
                Some(prev) => wanted == Some(prev),
                None => wanted.is_none() || !readable,
            };
            if !fits {
                return Err(format!(
                    "{:?} hears {:?} before {:?} at {}, the oracle {wanted:?}",
                    spec.id, event.prev, event.key, event.revision
                ));
            }
        }
        Ok(())
    }
}
