//! W9: a watch whose start lies in the future is silent until then: no event from before it (etcd
//! #20221), and no progress that has not reached it.
//!
//! Watchers that resume on a member that is behind start in its future.

use std::collections::BTreeMap;

use holdfast_core::id::Revision;

use super::{Checker, Scene, Seen};
use crate::workload::watch::{Notice, WatcherId};

/// The start that each watcher has named; 0 when it began at the present.
#[derive(Default)]
pub(super) struct SilentUntilStart(BTreeMap<WatcherId, Revision>);

impl Checker for SilentUntilStart {
    fn id(&self) -> &'static str {
        "W9"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noticed { spec, notice } = seen else { return Ok(()) };
        let start = self.0.entry(spec.id).or_default();
        match notice {
            Notice::Created { from, resumed } => {
                *start = if *resumed { *from } else { Revision(0) };
            }
            Notice::Progress(revision) if start.0 > 0 => {
                scene.compared();
                if revision < start {
                    let id = spec.id;
                    return Err(format!("{id:?} starts at {start} and progresses to {revision}"));
                }
            }
            Notice::Events(events) if start.0 > 0 => {
                scene.compared();
                if let Some(early) = events.iter().find(|event| event.revision < *start) {
                    let (id, revision) = (spec.id, early.revision);
                    return Err(format!("{id:?} starts at {start} and hears {revision}"));
                }
            }
            Notice::Progress(_)
            | Notice::Events(_)
            | Notice::Compacted { .. }
            | Notice::Refused(_) => {}
        }
        Ok(())
    }
}
