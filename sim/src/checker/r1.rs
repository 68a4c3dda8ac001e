//! R1: at most one leader in a term (thesis 3.2, election safety).

use std::collections::BTreeMap;

use holdfast_core::id::Term;

use super::{Checker, Scene, Seen};

/// Who was elected in each term.
#[derive(Default)]
pub(super) struct OneLeader(BTreeMap<Term, usize>);

impl Checker for OneLeader {
    fn id(&self) -> &'static str {
        "R1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Forced { .. } = seen {
            // Who goes on alone need not know the terms of those who are gone.
            self.0.clear();
        }
        let Seen::Elected { member, term, .. } = seen else { return Ok(()) };
        scene.compared();
        match self.0.insert(*term, *member) {
            Some(other) if other != *member => {
                Err(format!("members {other} and {member} both lead in {term}"))
            }
            _ => Ok(()),
        }
    }
}
