//! Members that lose their data: one that comes back under its old id, and a cluster of which one
//! member is left.
//!
//! Leaves out what must hold then: R12 and R13, and all other laws, which go on.
//!
//! Worked example: m1 of m0, m1, m2 loses its disk and starts as new; m0 knows it by its birth, hangs up
//! and says why; m1 halts; the operator removes it and adds m3 in its place.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::id::MemberId;

use super::operator::Goal;
use super::{World, member_id, place_of};
use crate::checker::Seen;
use crate::disk::SimDisk;
use crate::swarm::Stream;

impl World {
    /// A member's disk is lost, and somebody starts it again with an empty one.
    pub(super) fn wipe(&mut self, member: usize, lasts: Duration) {
        if !self.may_wipe(member) {
            return;
        }
        self.say(|| format!("m{member} loses its disk"));
        let disks = Stream::Disks.rng(self.swarm.seed).fork(1_000 + member as u64);
        let (latency, capacity) = (self.swarm.latency.clone(), self.swarm.storage.capacity);
        let slot = &mut self.members[member];
        slot.relapses = 0;
        slot.wiped = true;
        self.crash(member, true, lasts);
        self.members[member].disk = Arc::new(SimDisk::new(disks, latency, capacity));
        self.counts.wiped += 1;
        self.see(&Seen::Wiped { member });
        self.operator.goals.push_front(Goal::Renew(member));
    }

    /// Whether the others can go on without it, and know it well enough to know it again.
    fn may_wipe(&self, member: usize) -> bool {
        let id = member_id(member);
        let all = self.model.members();
        let voters = all.values().filter(|member| !member.is_learner);
        let is_voter = all.get(&id).is_some_and(|member| !member.is_learner);
        let recovers = self.members.iter().any(|slot| slot.wiped || slot.forced);
        let listed = self.members.iter().filter(|slot| all.contains_key(&member_id(slot.number)));
        let known = listed.clone().all(|slot| slot.known.births.contains_key(&id));
        let complete = listed.clone().all(|slot| slot.started && !slot.over);
        let spare = self.spare().is_some();
        let lives = self.members[member].life.is_some();
        let idle = self.operator.is_idle() && spare && lives && !recovers;
        is_voter && voters.count() >= 3 && known && complete && idle
    }

    /// A member says of itself that its data are not those that the others know it by.
    pub(super) fn is_lost(&mut self, member: usize) -> bool {
        if !self.members[member].wiped {
            self.broke("R12", format!("member {member} says that it has lost its data"));
        }
        self.members[member].over = true;
        self.counts.wiped_stopped += 1;
        true
    }

    /// All members but one are lost for good, and that one is told to go on alone.
    pub(super) fn force_new(&mut self, wanted: usize, lasts: Duration) {
        let places = (0..self.members.len()).map(|n| (wanted + n) % self.members.len());
        let survivor = places.into_iter().find(|place| self.has_everything(*place));
        let lonely = self.model.members().len() < 2;
        let Some(survivor) = survivor.filter(|_| !lonely && self.operator.is_idle()) else {
            return;
        };
        self.say(|| format!("all but m{survivor} are lost"));
        for member in (0..self.members.len()).filter(|member| *member != survivor) {
            if self.members[member].started {
                self.members[member].over = true;
                self.crash(member, true, Duration::ZERO);
            }
        }
        self.members[survivor].forced = true;
        self.see(&Seen::Forced { member: survivor });
        self.crash(survivor, true, lasts);
        self.operator.goals = [Goal::Enlarge, Goal::Enlarge].into();
    }

    /// Whether a voter has on its disk what was applied anywhere.
    fn has_everything(&self, member: usize) -> bool {
        let slot = &self.members[member];
        let listed = self.model.members().get(&member_id(member));
        let Some(life) = &slot.life else { return false };
        let Some(last) = self.log.last() else { return false };
        let node = life.driver.node();
        let has = node.durable_last().index >= last.at.index
            && node.log_term(last.at.index) == Some(last.at.term);
        has && !slot.wiped
            && !slot.forced
            && !life.is_stopping()
            && listed.is_some_and(|member| !member.is_learner)
    }

    /// The log says that a member is alone from now on.
    pub(super) fn is_alone(&mut self, id: MemberId) {
        let place = place_of(id).filter(|place| *place < self.members.len());
        match place {
            Some(place) if self.members[place].forced => {
                self.members[place].forced = false;
                self.counts.forced += 1;
            }
            _ => self.broke("R13", format!("{id} gives all others up, and nobody has told it to")),
        }
    }
}
