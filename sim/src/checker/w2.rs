//! W2: a watcher sees each event once.

use std::collections::BTreeSet;

use bytes::Bytes;
use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// Every event each watcher was told of: one key changes at most once in a revision.
#[derive(Default)]
pub(super) struct Unique(BTreeSet<(WatcherId, Revision, Bytes)>);

impl Checker for Unique {
    fn id(&self) -> &'static str {
        "W2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice: Notice::Events(events) } = seen else { return Ok(()) };
        scene.compared();
        for event in events {
            if !self.0.insert((spec.id, event.revision, event.key.clone())) {
                let (revision, key) = (event.revision, &event.key);
                return Err(format!("{:?} is told of {key:?} at {revision} twice", spec.id));
            }
        }
        Ok(())
    }
}
