//! W1: a watcher sees revisions in order, over all streams it lives on.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// The last revision each watcher was told of.
#[derive(Default)]
pub(super) struct Ordered(BTreeMap<WatcherId, Revision>);

impl Checker for Ordered {
    fn id(&self) -> &'static str {
        "W1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice: Notice::Events(events) } = seen else { return Ok(()) };
        scene.compared();
        let last = self.0.entry(spec.id).or_default();
        for event in events {
            if event.revision < *last {
                return Err(format!("{:?} is told {} after {last}", spec.id, event.revision));
            }
            *last = event.revision;
        }
        Ok(())
    }
}
