//! L2: a lease does expire: when the run has settled, for longer than any TTL and without renewals, no
//! lease is left.

use super::{Checker, Scene, Seen};

/// Needs to remember nothing.
pub(super) struct Expires;

impl Checker for Expires {
    fn id(&self) -> &'static str {
        "L2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        if matches!(seen, Seen::Settled) {
            scene.compared();
        }
        match seen {
            Seen::Settled if !scene.model.leases().is_empty() => {
                Err(format!("leases that should have expired: {:?}", scene.model.leases()))
            }
            _ => Ok(()),
        }
    }
}
