//! K4: a serializable read may be old, but is exactly the state of the revision in its header.

use holdfast_core::query::{AnswerBody, Query};

use super::{Checker, Scene, Seen};
use crate::history::Outcome;

/// Needs to remember nothing.
pub(super) struct PastState;

impl Checker for PastState {
    fn id(&self) -> &'static str {
        "K4"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Returned { op } = seen else { return Ok(()) };
        let record = scene.history.record(*op);
        let Outcome::Answered(answer) = &record.outcome else { return Ok(()) };
        let revision = answer.header.revision;
        let expected = match &record.query {
            Query::Range(range) if range.serializable => {
                AnswerBody::Range(scene.model.range(revision, range))
            }
            Query::Txn(txn) if txn.is_serializable() => {
                AnswerBody::Txn(scene.model.read_txn(revision, txn))
            }
            _ => return Ok(()),
        };
        scene.compared();
        if expected == answer.body {
            return Ok(());
        }
        Err(format!(
            "request {} ({:?}) at {revision} is told {:?}, the oracle {expected:?}",
            op.0, record.query, answer.body
        ))
    }
}
