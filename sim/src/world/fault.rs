//! Carries the schedule out: begins and ends faults, and heals everything at the end of chaos.

use std::time::Duration;

use holdfast_core::status::Role;

use super::member::{Armed, Life};
use super::operator::Goal;
use super::{Happening, Phase, World, place_of};
use crate::checker::Seen;
use crate::clock::Moment;
use crate::nemesis::{Direction, Fault, FaultKind, MemberOrder, Target, Then, When};
use crate::network::Quality;
use crate::report::{Race, Trouble};

/// What has to be undone when a fault ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Active {
    /// Whom it hit.
    member: usize,
    /// Directed links that are cut.
    cuts: Vec<(usize, usize)>,
    /// A disk that is slow or full.
    disk: bool,
    /// A clock that goes wrong.
    clock: bool,
    /// What happens during the snapshot that follows.
    then: Option<Then>,
}

/// How long clients go on after chaos has ended.
const HEAL: Duration = Duration::from_secs(8);

impl World {
    /// Who is meant.
    fn resolve(&self, target: Target) -> usize {
        let leads = |n: &usize| {
            let life = self.members[*n].life.as_ref()?;
            let status = life.driver.host().status;
            (status.role == Role::Leader).then_some((status.term, *n))
        };
        let leader = (0..self.members.len()).filter_map(|n| leads(&n)).max().map(|(_, n)| n);
        let living = (0..self.members.len()).find(|n| self.members[*n].life.is_some());
        let there = |member: usize| match self.members[member].over {
            true => living.unwrap_or(member),
            false => member,
        };
        match target {
            Target::Member(member) => there(member),
            Target::Leader(member) => leader.unwrap_or(there(member)),
            Target::Follower(member) if leader == Some(there(member)) => {
                let others = (1..self.members.len()).map(|n| (member + n) % self.members.len());
                let mut others = others.filter(|n| self.members[*n].life.is_some());
                others.next().unwrap_or(there(member))
            }
            Target::Follower(member) => there(member),
        }
    }

    /// What is wrong at this moment.
    fn trouble(&self) -> Trouble {
        let mut started = self.members.iter().filter(|slot| slot.started && !slot.over);
        Trouble {
            // Whoever has its turn is not in its place, and not down.
            crash: started.any(|slot| slot.is_down),
            partition: self.active.values().any(|active| !active.cuts.is_empty()),
            pause: self.members.iter().any(|slot| slot.paused_until > self.now),
        }
    }

    /// Something ran that must be right whatever goes wrong meanwhile.
    pub(super) fn race(&mut self, race: Race) {
        let trouble = self.trouble();
        self.counts.races.note(race, trouble);
    }

    pub(super) fn begin_fault(&mut self, place: usize) {
        if self.phase != Phase::Chaos {
            return;
        }
        let fault = self.faults[place];
        self.say(|| format!("fault {fault}"));
        self.counts.faults += 1;
        let active = match fault.kind {
            FaultKind::Crash { .. } | FaultKind::PowerCut => {
                self.begin_crash(fault);
                return;
            }
            FaultKind::Pause { target, asking } => {
                let member = self.resolve(target);
                match asking {
                    true => self.members[member].stiffens = Some(fault.lasts),
                    false => self.pause(member, self.now.after(fault.lasts)),
                }
                return;
            }
            FaultKind::Stranger { target, copy } => {
                return self.stranger(self.resolve(target), copy);
            }
            FaultKind::Reset { a, b } => return self.disconnect(a, b),
            FaultKind::Sever { target } => return self.cut_lines(self.resolve(target)),
            FaultKind::Leave { target } => return self.leave(self.resolve(target), fault.lasts),
            FaultKind::Members(order) => return self.order(order),
            FaultKind::Wipe { target } => return self.wipe(self.resolve(target), fault.lasts),
            FaultKind::ForceNew { target } => {
                return self.force_new(self.resolve(target), fault.lasts);
            }
            FaultKind::Flap { .. } => {
                self.after(Duration::ZERO, Happening::Flap { fault: place, on: true });
                return;
            }
            _ => self.begin_lasting(fault),
        };
        for (from, to) in &active.cuts {
            self.network.link(*from, *to).cut();
        }
        self.active.insert(place, active);
        self.after(fault.lasts, Happening::End(place));
        if fault.kind == FaultKind::Storm {
            self.after(
                self.swarm.limits.election_timeout,
                Happening::Flap { fault: place, on: true },
            );
        }
    }

    fn begin_crash(&mut self, fault: Fault) {
        let FaultKind::Crash { target, power, when, again } = fault.kind else {
            for member in 0..self.members.len() {
                self.crash(member, true, fault.lasts);
            }
            return;
        };
        let member = self.resolve(target);
        self.members[member].relapses = again;
        match when {
            When::Now => self.crash(member, power, fault.lasts),
            When::Writing | When::Receiving => {
                let receiving = when == When::Receiving;
                self.members[member].armed = Some(Armed { power, lasts: fault.lasts, receiving });
            }
        }
    }

    /// The operator gets something to do.
    fn order(&mut self, order: MemberOrder) {
        let goal = match order {
            MemberOrder::Replace(target) => Goal::Replace(self.resolve(target)),
            MemberOrder::Remove(target) => Goal::Remove(self.resolve(target)),
            MemberOrder::Move(target) => Goal::Move(self.resolve(target)),
            MemberOrder::Grow => Goal::Grow,
            MemberOrder::Return => Goal::Return,
        };
        self.operator.goals.push_back(goal);
    }

    fn begin_lasting(&mut self, fault: Fault) -> Active {
        match fault.kind {
            FaultKind::Isolate { target, direction } => {
                let member = self.resolve(target);
                Active { member, cuts: self.around(member, direction), ..Active::default() }
            }
            FaultKind::Split { side } => {
                let inside = |n: usize| side & (1 << n) != 0;
                let all = 0..self.members.len();
                let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
                let cuts = pairs.filter(|(a, b)| inside(*a) != inside(*b)).collect();
                Active { cuts, ..Active::default() }
            }
            FaultKind::SlowDisk { target, factor } => {
                let member = self.resolve(target);
                self.members[member].disk.set_slowdown(factor);
                Active { member, disk: true, ..Active::default() }
            }
            FaultKind::FullDisk { target } => {
                let member = self.resolve(target);
                let slot = &mut self.members[member];
                slot.disk.set_capacity(slot.disk.used());
                slot.full = true;
                self.see(&Seen::Full { member });
                Active { member, disk: true, ..Active::default() }
            }
            FaultKind::Drift { target, rate } => {
                let member = self.resolve(target);
                self.set_rate(member, rate);
                Active { member, clock: true, ..Active::default() }
            }
            FaultKind::StaleLeader { rate, pause } => {
                let member = self.resolve(Target::Leader(0));
                self.set_rate(member, rate);
                self.pause(member, self.now.after(pause));
                // Some clients keep speaking to it, whatever becomes of it.
                for client in self.clients.iter_mut().step_by(2) {
                    client.member = member;
                }
                let cuts = self.around(member, Direction::Both);
                Active { member, cuts, clock: true, ..Active::default() }
            }
            FaultKind::Storm => {
                let member = self.resolve(Target::Leader(0));
                let cuts = self.around(member, Direction::Both);
                Active { member, cuts, ..Active::default() }
            }
            FaultKind::LeftBehind { target, both, then } => {
                let member = self.resolve(target);
                let mut cuts = self.around(member, Direction::Both);
                if both {
                    let other = self.resolve(Target::Follower((member + 1) % self.members.len()));
                    cuts.extend(self.around(other, Direction::Both));
                    cuts.sort_unstable();
                    cuts.dedup();
                }
                Active { member, cuts, then: Some(then), ..Active::default() }
            }
            _ => Active::default(),
        }
    }

    /// The links of a member with all others.
    fn around(&self, member: usize, direction: Direction) -> Vec<(usize, usize)> {
        let peers = (0..self.members.len()).filter(|peer| *peer != member);
        peers
            .flat_map(|peer| match direction {
                Direction::Both => vec![(member, peer), (peer, member)],
                Direction::In => vec![(peer, member)],
                Direction::Out => vec![(member, peer)],
            })
            .collect()
    }

    fn set_rate(&mut self, member: usize, rate: u64) {
        let now = self.now;
        self.members[member].clock.set_rate(now, rate);
        // Timers were set for the old rate: look again soon.
        self.poke(member);
    }

    pub(super) fn end_fault(&mut self, place: usize) {
        let Some(active) = self.active.remove(&place) else { return };
        let fault = self.faults[place];
        self.say(|| format!("end of fault {fault}"));
        for (from, to) in &active.cuts {
            self.network.link(*from, *to).mend();
        }
        // A long cut ends connections; a short one only delays.
        if fault.lasts > Duration::from_secs(2) {
            for (from, to) in &active.cuts {
                self.disconnect(*from, *to);
            }
        }
        let member = active.member;
        if active.disk {
            let capacity = self.swarm.storage.capacity;
            let slot = &mut self.members[member];
            slot.disk.set_slowdown(1);
            slot.disk.set_capacity(capacity);
            slot.full = false;
        }
        if active.clock {
            let rate = self.members[member].rate;
            self.set_rate(member, rate);
        }
        if self.phase != Phase::Chaos {
            return;
        }
        match active.then {
            Some(Then::Crash) => {
                let lasts = Duration::from_millis(200);
                self.members[member].armed = Some(Armed { power: true, lasts, receiving: true });
            }
            Some(Then::Stall) => self.members[member].stalls = Some(place),
            Some(Then::Nothing) | None => {}
        }
    }

    /// A member that was left behind installs its snapshot, alone and slowly.
    pub(super) fn stall(&mut self, member: usize, place: usize) {
        self.say(|| format!("m{member} installs a snapshot, and is cut off"));
        let cuts = self.around(member, Direction::Both);
        for (from, to) in &cuts {
            self.network.link(*from, *to).cut();
        }
        self.members[member].disk.set_slowdown(300);
        self.active.insert(place, Active { member, cuts, disk: true, ..Active::default() });
        self.after(self.swarm.limits.election_timeout * 4, Happening::End(place));
    }

    /// Cuts a member off and takes it back, in the rhythm of election timeouts.
    pub(super) fn flap(&mut self, place: usize, on: bool) {
        let fault = self.faults[place];
        let FaultKind::Flap { target } = fault.kind else { return self.gust(place) };
        if !on {
            self.end_fault(place);
        }
        let over = self.now >= fault.at.after(fault.lasts) || self.phase != Phase::Chaos;
        if over {
            return self.end_fault(place);
        }
        if on {
            let member = self.resolve(target);
            let cuts = self.around(member, Direction::Both);
            for (from, to) in &cuts {
                self.network.link(*from, *to).cut();
            }
            self.active.insert(place, Active { member, cuts, ..Active::default() });
        }
        let timeout = self.swarm.limits.election_timeout.as_millis() as u64;
        let delay = Duration::from_millis(self.chance.between(timeout / 2, timeout * 3 / 2));
        self.after(delay, Happening::Flap { fault: place, on: !on });
    }

    /// One of the members that elect loses its power for a moment.
    fn gust(&mut self, place: usize) {
        let Some(active) = self.active.get(&place).filter(|_| self.phase == Phase::Chaos) else {
            return;
        };
        let others: Vec<usize> = (0..self.members.len()).filter(|n| *n != active.member).collect();
        let struck = others[self.chance.below(others.len() as u64) as usize];
        let lasts = Duration::from_millis(self.chance.between(1, 40));
        if self.chance.chance(50) {
            // While it writes: what it writes down now are votes.
            let armed = Armed { power: true, lasts, receiving: false };
            self.members[struck].armed = Some(armed);
        } else {
            self.crash(struck, true, lasts);
        }
        let timeout = self.swarm.limits.election_timeout.as_millis() as u64;
        let delay = Duration::from_millis(self.chance.between(20, timeout / 2));
        self.after(delay, Happening::Flap { fault: place, on: true });
    }

    /// Chaos is over: everything works again, and everybody comes back.
    pub(super) fn heal(&mut self) {
        self.say(|| "heal".to_string());
        for place in self.active.keys().copied().collect::<Vec<_>>() {
            self.end_fault(place);
        }
        self.network.set_quality(&Quality::calm());
        for link in &mut self.client_links {
            link.set_quality(Quality::calm());
        }
        self.calm_lines();
        let new: Vec<usize> = self.model.members().keys().filter_map(|id| place_of(*id)).collect();
        for place in new {
            self.start_spare(place);
        }
        for member in 0..self.members.len() {
            let slot = &mut self.members[member];
            slot.armed = None;
            slot.stalls = None;
            slot.stiffens = None;
            slot.relapses = 0;
            slot.full = false;
            slot.disk.set_slowdown(1);
            slot.disk.set_calm();
            slot.paused_until = Moment(0);
            if slot.life.as_ref().is_some_and(Life::is_stopping) {
                self.crash(member, false, Duration::from_millis(20));
            } else if slot.life.is_none() {
                self.schedule_boot(member, Duration::from_millis(20));
            } else {
                self.poke(member);
            }
        }
        self.liveness.healed(self.now);
        self.after(Duration::from_millis(50), Happening::Probe);
        self.after(HEAL, Happening::Phase(Phase::Settle));
    }
}
