//! V1–V5: once faults have stopped, the cluster must come back, within bounds.
//!
//! | id | law |
//! |---|---|
//! | V1 | a leader that everybody knows, within four election timeouts; who is told to campaign does so |
//! | V2 | a write is answered within a second more, and a client's patience |
//! | V3 | all members have applied everything and are equal |
//! | V4 | no request is left without an answer |
//! | V5 | every watcher has been told of everything |

use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::id::Term;
use holdfast_core::status::Role;

use super::member::Life;
use super::{Happening, Phase, World, place_of};
use crate::clock::{Moment, RATE_TRUE};

/// When the cluster came back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Liveness {
    healed: Option<Moment>,
    leader: Option<Moment>,
    write: Option<Moment>,
}

impl Liveness {
    pub(super) fn healed(&mut self, now: Moment) {
        self.healed = Some(now);
    }

    pub(super) fn answered(&mut self, now: Moment, write: bool) {
        if write && self.healed.is_some() && self.leader.is_some() {
            self.write.get_or_insert(now);
        }
    }
}

impl World {
    /// Looks whether everybody knows one leader.
    pub(super) fn probe(&mut self) {
        let members = self.model.members().keys().filter_map(|id| place_of(*id));
        let members = members.filter(|place| !self.is_given_up(*place));
        let statuses = members.map(|place| {
            let life = self.members.get(place)?.life.as_ref()?;
            Some(life.driver.host().status)
        });
        let statuses: Option<Vec<_>> = statuses.collect();
        let agreed = statuses.is_some_and(|all| {
            let leaders = all.iter().filter(|status| status.role == Role::Leader).count();
            let first = all[0].leader;
            leaders == 1 && first.is_some() && all.iter().all(|status| status.leader == first)
        });
        if agreed {
            self.liveness.leader.get_or_insert(self.now);
        }
        let Some(healed) = self.liveness.healed else { return };
        let timeout = self.swarm.limits.election_timeout;
        // On the slowest clock, after everybody has started and connected.
        let slowest = timeout * RATE_TRUE as u32 / (RATE_TRUE as u32 * 5 / 6);
        let bound = slowest * 4 + Duration::from_secs(1);
        if self.liveness.leader.is_none() && self.now.since(healed) > bound {
            return self.broke("V1", format!("no leader that all know {bound:?} after healing"));
        }
        let bound = bound + Duration::from_secs(1) + self.swarm.work.patience;
        if self.liveness.write.is_none() && self.now.since(healed) > bound {
            return self.broke("V2", format!("no write was answered {bound:?} after healing"));
        }
        if self.phase == Phase::Heal || self.liveness.write.is_none() {
            self.after(Duration::from_millis(50), Happening::Probe);
        }
    }

    /// Whether a member has lost its data and stopped: it cannot come back, and the operator may have
    /// failed to replace it.
    fn is_given_up(&self, place: usize) -> bool {
        self.members.get(place).is_some_and(|slot| slot.wiped && slot.over)
    }

    /// V1: a member that is told to campaign at once has done so by the end of the turn, unless it knows
    /// better meanwhile, or has no say. Otherwise each hand-over costs an election timeout.
    pub(super) fn check_order(
        &mut self,
        member: usize,
        (life, term): (&Life, Term),
        facts: &[Fact],
    ) {
        let (status, node) = (life.driver.host().status, life.driver.node());
        // It may not, while it still has to apply what could take its vote away.
        let applies = facts.iter().any(|fact| matches!(fact, Fact::Applied { .. }))
            || status.applied.index != status.commit;
        // Nor does it listen while it asks for votes itself.
        let asked = facts.iter().any(
            |fact| matches!(fact, Fact::BecameRole { role: Role::Follower, term: at } if *at == term),
        );
        let excused = applies || asked || node.is_installing() || status.role == Role::Learner;
        if status.term == term && status.role == Role::Follower && !excused {
            self.broke("V1", format!("member {member} is told to campaign in {term} and does not"));
        }
    }

    /// V3 to V5, when the run is over.
    pub(super) fn final_checks(&mut self) {
        if self.liveness.write.is_none() {
            self.broke("V2", "no write was answered after healing");
        }
        let members: Vec<usize> =
            self.model.members().keys().filter_map(|id| place_of(*id)).collect();
        for member in
            members.into_iter().filter(|member| !self.is_given_up(*member)).collect::<Vec<_>>()
        {
            let Some(life) = &self.members[member].life else {
                self.broke("V3", format!("member {member} is down"));
                continue;
            };
            let status = life.driver.host().status;
            let (applied, log) = (status.applied.index.0, self.log.len());
            if applied as usize != log {
                self.broke("V3", format!("member {member} has applied {applied} of {log}"));
            }
            if status.pending > 0 {
                let pending = status.pending;
                self.broke("V4", format!("member {member} owes {pending} answers"));
            }
        }
        for client in 0..self.watchers.len() {
            self.check_watchers(client);
        }
    }

    fn check_watchers(&mut self, client: usize) {
        let owed = self.watchers[client].watchers().find_map(|(spec, next)| {
            let mut changes = self.model.changes_from(next).iter();
            let missed = changes.find(|change| spec.wants(&change.key, change.delete))?;
            (next.0 > 0).then(|| (spec.id, next, missed.at, missed.key.clone()))
        });
        if let Some((id, next, at, key)) = owed {
            let what = format!("watcher {id:?} waits at {next} for {key:?} at {at}");
            self.broke("V5", what);
        }
    }
}
