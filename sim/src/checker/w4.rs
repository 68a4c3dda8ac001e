//! W4: the changes of one revision come in one response, or in pieces that say so: the client has put those
//! together before it shows them.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// The last revision of the last response of each watcher.
#[derive(Default)]
pub(super) struct Atomic(BTreeMap<WatcherId, Revision>);

impl Checker for Atomic {
    fn id(&self) -> &'static str {
        "W4"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice: Notice::Events(events) } = seen else { return Ok(()) };
        scene.compared();
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        match self.0.insert(spec.id, last.revision) {
            Some(before) if before == first.revision => {
                Err(format!("{:?} is told of {before} in two responses", spec.id))
            }
            _ => Ok(()),
        }
    }
}
