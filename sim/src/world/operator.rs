//! The operator: changes the members of a running cluster, one goal after the other, as an operator
//! would who looks at nothing but answers. It asks any member that may live, tries again, and gives a
//! goal up after a while.
//!
//! Leaves out when a goal comes up; that is a fault of the schedule.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_core::membership::MemberChange;
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::rng::Rng;

use holdfast_server::auth::Credential;

use super::{Happening, Phase, World, member_id};
use crate::history::{OpId, Outcome, Record};
use crate::workload::users::Account;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A new member comes as a learner, gets its vote, and this one goes.
    Replace(usize),
    /// A new voter comes.
    Grow,
    /// This member goes.
    Remove(usize),
    /// This member has other peer URLs.
    Move(usize),
    /// This member has lost its data: it goes, and a new one comes in its place.
    Renew(usize),
    /// A new member comes as a learner and gets its vote.
    Enlarge,
    /// A member that was removed is added again; it must not be.
    Return,
}

/// One request of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add { place: usize, learner: bool },
    Promote(usize),
    Remove(usize),
    Move(usize),
    Return(usize),
}

/// Requests that may fail before a goal is given up.
const PATIENCE: u32 = 12;

/// See the module.
#[derive(Debug)]
pub(super) struct Operator {
    rng: Rng,
    pub goals: VecDeque<Goal>,
    steps: VecDeque<Step>,
    failures: u32,
    pub waits_for: Option<OpId>,
}

impl Operator {
    pub fn new(rng: Rng) -> Operator {
        Operator {
            rng,
            goals: VecDeque::new(),
            steps: VecDeque::new(),
            failures: 0,
            waits_for: None,
        }
    }

    /// Whether it has nothing under way.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.waits_for.is_none()
    }
}

impl World {
    /// The operator's place among the clients: behind all others.
    pub(super) fn operator_client(&self) -> usize {
        self.clients.len() + self.watchers.len()
    }

    /// The operator looks what there is to do.
    pub(super) fn operate(&mut self) {
        if self.phase > Phase::Heal {
            return;
        }
        let pause = Duration::from_millis(100 + self.operator.rng.below(700));
        self.after(pause, Happening::Operate);
        if self.operator.waits_for.is_some() {
            return;
        }
        if self.operator.steps.is_empty() && self.phase == Phase::Chaos {
            let Some(goal) = self.operator.goals.pop_front() else { return };
            self.operator.failures = 0;
            self.operator.steps = self.steps_of(goal).into();
        }
        let Some(step) = self.operator.steps.front().copied() else { return };
        let query = query_of(step);
        let living: Vec<usize> = (0..self.members.len()).filter(|n| self.may_serve(*n)).collect();
        if living.is_empty() {
            return;
        }
        let member = living[self.operator.rng.below(living.len() as u64) as usize];
        let (by, user) = self.operator_credential();
        let op = self.history.invoke(Record {
            client: self.operator_client(),
            member,
            user,
            query,
            invoked: self.now,
            returned: None,
            outcome: Outcome::Pending,
            floor: holdfast_core::id::Revision(0),
            steps_before: self.model.steps().len(),
            run: 0,
        });
        self.say(|| format!("operator asks m{member} for {step:?}"));
        self.operator.waits_for = Some(op);
        match self.swarm.transport.is_some() {
            true => self.call(op, &by),
            false => self.after(Duration::from_millis(2), Happening::Ask { op, by }),
        }
        self.after(Duration::from_secs(8), Happening::Patience { op });
    }

    /// The operator has root's token, as far as root has one itself.
    fn operator_credential(&self) -> (Credential, Option<String>) {
        let account = self.clients[0].account.as_ref();
        let by = account.map_or(Credential::None, Account::credential);
        let user = account.filter(|_| by != Credential::None).map(|account| account.name.clone());
        (by, user)
    }

    /// A learner refuses everything.
    fn may_serve(&self, member: usize) -> bool {
        let life = self.members[member].life.as_ref();
        life.is_some_and(|life| !life.is_learner())
    }

    fn steps_of(&mut self, goal: Goal) -> Vec<Step> {
        let spare = self.spare();
        let lost = self
            .members
            .iter()
            .any(|slot| slot.wiped && self.model.members().contains_key(&member_id(slot.number)));
        let voters = self.model.members().values().filter(|member| !member.is_learner).count();
        let removed = self.model.removed().iter().next_back().copied();
        match (goal, spare) {
            (Goal::Renew(place), Some(spare)) => vec![
                Step::Remove(place),
                Step::Add { place: spare, learner: true },
                Step::Promote(spare),
            ],
            // Whoever is lost is to be replaced before anything else is done.
            _ if lost => Vec::new(),
            (Goal::Enlarge, Some(place)) => {
                vec![Step::Add { place, learner: true }, Step::Promote(place)]
            }
            (Goal::Replace(target), Some(place)) => vec![
                Step::Add { place, learner: true },
                Step::Promote(place),
                Step::Remove(self.someone(target)),
            ],
            (Goal::Grow, Some(place)) => vec![Step::Add { place, learner: false }],
            (Goal::Remove(target), _) if voters > 2 => vec![Step::Remove(self.someone(target))],
            (Goal::Move(target), _) => vec![Step::Move(self.someone(target))],
            (Goal::Return, _) => {
                let gone = removed.and_then(super::place_of);
                gone.map(Step::Return).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A place for a new member.
    pub(super) fn spare(&self) -> Option<usize> {
        (0..self.members.len())
            .find(|n| !self.members[*n].started && !self.model.removed().contains(&member_id(*n)))
    }

    /// A member that is one, the wanted one if possible.
    fn someone(&self, wanted: usize) -> usize {
        let all = self.model.members();
        if all.contains_key(&member_id(wanted)) {
            return wanted;
        }
        let voter = all.values().find(|member| !member.is_learner);
        voter.and_then(|member| super::place_of(member.id)).unwrap_or(wanted)
    }

    /// What became of the operator's request.
    pub(super) fn operated(&mut self, outcome: &Outcome) {
        self.operator.waits_for = None;
        let Some(step) = self.operator.steps.front().copied() else { return };
        self.say(|| format!("operator: {step:?} {}", told(outcome)));
        let done = match (step, outcome) {
            (_, Outcome::Answered(_)) => {
                self.counts.members_changed += 1;
                true
            }
            (Step::Add { .. }, Outcome::Rejected(why)) => *why == Rejection::MemberExists,
            (Step::Promote(_), Outcome::Rejected(why)) => *why == Rejection::MemberNotLearner,
            (Step::Remove(_), Outcome::Rejected(why)) => *why == Rejection::MemberNotFound,
            _ => false,
        };
        if let Step::Add { place, .. } = step
            && (done || *outcome == Outcome::Unknown)
        {
            // Also one that may have been added: whoever is a member must run in the end.
            self.start_spare(place);
        }
        if done {
            self.operator.failures = 0;
            self.operator.steps.pop_front();
            return;
        }
        self.operator.failures += 1;
        if self.operator.failures > PATIENCE || matches!(step, Step::Return(_) | Step::Move(_)) {
            self.operator.steps.clear();
        }
    }

    /// A new member starts, with an empty disk.
    pub(super) fn start_spare(&mut self, place: usize) {
        let slot = &mut self.members[place];
        if !slot.started {
            slot.started = true;
            self.schedule_boot(place, Duration::from_millis(50));
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(_) => "done".to_string(),
        Outcome::Rejected(why) => format!("refused: {why}"),
        Outcome::Unknown | Outcome::Pending => "nobody knows".to_string(),
    }
}

fn query_of(step: Step) -> Query {
    let urls = |place: usize| vec![format!("http://m{place}:2380")];
    let change = match step {
        Step::Add { place, learner } => {
            return Query::MemberAdd { peer_urls: urls(place), is_learner: learner };
        }
        Step::Return(place) => {
            return Query::MemberAdd { peer_urls: urls(place), is_learner: true };
        }
        Step::Promote(place) => MemberChange::Promote { id: member_id(place) },
        Step::Remove(place) => MemberChange::Remove { id: member_id(place) },
        Step::Move(place) => {
            let peer_urls = vec![format!("http://m{place}:2380"), format!("http://moved{place}:1")];
            MemberChange::Update { id: member_id(place), peer_urls }
        }
    };
    Query::MemberChange(change)
}
