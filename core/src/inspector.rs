//! Comparing the members' hashes: what a member asks of itself and of the others, when, and whom it names.
//!
//! The three checks of etcd as one machine. Of the periodic one (`--corrupt-check-time`) and that of the last
//! compactions (`--compact-hash-check-time`) every member keeps the time, and the leader acts; the initial one
//! (gate InitialCorruptCheck) is a starting member's own. Leaves out how a hash is made ([`crate::mvcc::hash`]),
//! who compares what ([`judge`]), and carrying the orders out.
//!
//! Laws:
//!  1. One round is under way at a time, and each of its steps has an end: a peer that does not answer, or
//!     cannot, is given up after the rules' patience, and is not named.
//!  2. A peer that has not applied the revision yet, or was not reached, is asked again until then.
//!  3. Two hashes are compared only if both are of the same revision and the same compacted revision.
//!  4. The periodic check hashes twice, and confirms in between by a read index that it knows all that the
//!     peers knew: so none of them may be ahead of the second hash.
//!  5. A round of a leader that leads no longer ends without naming anybody.
//!
//! Worked example, three members, n1 leads: the time comes, n1 hashes r9 and asks n2 and n3 for theirs at r9.
//! Both answer; n1 takes a read index and hashes again. n3's hash differs, n2's does not: n3 is named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{MemberId, Revision};
use crate::message::{HashAnswer, HashAsk, HashOutcome};
use crate::mvcc::hash::KvHash;
use crate::time::Instant;

mod judge;
mod remembered;

pub use judge::Accusation;
pub use remembered::CompactionHashes;

/// What is checked, and for how long others are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectorRules {
    /// Whose.
    pub member: MemberId,
    /// `--corrupt-check-time`; `None` never checks.
    pub every: Option<Duration>,
    /// `--compact-hash-check-time` with the gate CompactHashCheck on; `None` with the gate off.
    pub compactions_every: Option<Duration>,
    /// How long answers of peers are waited for at most; half a period, or ten minutes, if that is longer.
    pub patience: Duration,
    /// How often a peer is asked that has not answered.
    pub repeat: Duration,
}

/// What the member is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectorOrder {
    /// Hash the newest revision; → [`Inspector::hashed`].
    Hash,
    /// Ask a peer; → [`Inspector::answered`], or nothing.
    Ask {
        /// Whom.
        to: MemberId,
        /// What.
        ask: HashAsk,
    },
    /// Take a read index; → [`Inspector::confirmed`].
    Confirm,
    /// Raise the CORRUPT alarm of a member.
    Accuse(Accusation),
    /// Something an operator should read.
    Warn(String),
    /// The initial check has ended: with a difference the member must not serve.
    Concluded(Result<(), String>),
}

/// How things are when it is time for something.
#[derive(Clone, Debug)]
pub struct Scene {
    /// This member leads.
    pub leads: bool,
    /// All members, this one among them.
    pub members: BTreeSet<MemberId>,
    /// The hashes of the last compactions, ascending.
    pub compactions: Vec<KvHash>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Inspector {
    rules: InspectorRules,
    next: Instant,
    next_compactions: Instant,
    /// The initial check is to begin.
    initial: bool,
    /// The newest compaction at which all members agreed.
    agreed: Revision,
    number: u64,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Periodic,
    Initial,
    Compactions,
}

/// A check under way.
#[derive(Clone, Debug)]
struct Round {
    kind: Kind,
    /// The members beside this one.
    others: BTreeSet<MemberId>,
    /// Compactions that are looked at next if not all answer for the present one, ascending.
    older: Vec<KvHash>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The own hash is being made.
    Hashing,
    /// The peers are asked for theirs.
    Asking(Asking),
    /// A read index is on its way.
    Confirming(KvHash, BTreeMap<MemberId, HashAnswer>),
    /// The second own hash is being made.
    Again(KvHash, BTreeMap<MemberId, HashAnswer>),
}

#[derive(Clone, Debug)]
struct Asking {
    own: KvHash,
    ask: HashAsk,
    answers: BTreeMap<MemberId, HashAnswer>,
    deadline: Instant,
    repeat_at: Instant,
}

impl Inspector {
    /// Begins to keep the time.
    pub fn new(rules: InspectorRules, now: Instant) -> Inspector {
        Inspector {
            next: after(now, rules.every),
            next_compactions: after(now, rules.compactions_every),
            initial: false,
            agreed: Revision(0),
            number: 0,
            round: None,
            rules,
        }
    }

    /// The initial check begins with the next [`Inspector::turn`].
    pub fn begin_initial(&mut self) {
        self.initial = true;
    }

    /// When [`Inspector::turn`] has something to do.
    pub fn deadline(&self) -> Instant {
        match &self.round {
            Some(Round { stage: Stage::Asking(asking), .. }) => {
                asking.deadline.min(asking.repeat_at)
            }
            // Its next step is somebody else's.
            Some(_) => Instant::NEVER,
            None if self.initial => Instant(0),
            None => self.next.min(self.next_compactions),
        }
    }

    /// Begins what is due, asks again, and gives up whom it has waited for long enough.
    pub fn turn(&mut self, now: Instant, scene: &Scene, out: &mut Vec<InspectorOrder>) {
        let Some(round) = &mut self.round else { return self.begin_due(now, scene, out) };
        let kind = round.kind;
        let Stage::Asking(asking) = &mut round.stage else { return };
        if !scene.leads && kind != Kind::Initial {
            return self.end(kind, now);
        }
        if now >= asking.deadline {
            return self.compare(now, scene.leads, out);
        }
        if now >= asking.repeat_at {
            asking.repeat_at = now + self.rules.repeat;
            round.ask_missing(out);
        }
    }

    /// The member's own hash is there, or could not be made.
    pub fn hashed(
        &mut self,
        now: Instant,
        (leads, hash): (bool, Option<KvHash>),
        out: &mut Vec<InspectorOrder>,
    ) {
        let Some(round) = self.round.take_if(|round| round.is_hashing()) else { return };
        let (kind, unable) = (round.kind, || "this member's own hash cannot be made".to_string());
        match (round.stage, hash) {
            (Stage::Hashing, Some(own)) => {
                let (others, older) = (round.others, round.older);
                self.ask(now, (kind, own), (others, older), out);
                if self.has_all() {
                    self.compare(now, leads, out);
                }
            }
            (Stage::Again(own, answers), Some(again)) if leads => {
                let found =
                    judge::periodic(self.rules.member, (own, again), &answers, &round.others);
                out.extend(found.into_iter().map(InspectorOrder::Accuse));
                self.end(kind, now);
            }
            (_, None) if kind == Kind::Initial => {
                out.push(InspectorOrder::Concluded(Err(unable())));
                self.end(kind, now);
            }
            (_, None) => {
                out.push(InspectorOrder::Warn(unable()));
                self.end(kind, now);
            }
            (_, Some(_)) => self.end(kind, now),
        }
    }

    /// A peer has answered; one that nobody waits for is dropped.
    pub fn answered(
        &mut self,
        now: Instant,
        leads: bool,
        (by, answer): (MemberId, HashAnswer),
        out: &mut Vec<InspectorOrder>,
    ) {
        let Some(round) = &mut self.round else { return };
        let Stage::Asking(asking) = &mut round.stage else { return };
        let wanted = answer.number == asking.ask.number && round.others.contains(&by);
        // Whoever is behind is asked again (law 2).
        if !wanted || answer.outcome == HashOutcome::Future {
            return;
        }
        asking.answers.insert(by, answer);
        if self.has_all() {
            self.compare(now, leads, out);
        }
    }

    /// The read index is confirmed, or could not be.
    pub fn confirmed(&mut self, now: Instant, success: bool, out: &mut Vec<InspectorOrder>) {
        let Some(round) = &mut self.round else { return };
        let kind = round.kind;
        let Stage::Confirming(own, answers) = &mut round.stage else { return };
        if !success {
            return self.end(kind, now);
        }
        round.stage = Stage::Again(*own, std::mem::take(answers));
        out.push(InspectorOrder::Hash);
    }

    fn begin_due(&mut self, now: Instant, scene: &Scene, out: &mut Vec<InspectorOrder>) {
        let mut others = scene.members.clone();
        others.remove(&self.rules.member);
        if std::mem::take(&mut self.initial) {
            return self.begin_hashing(Kind::Initial, others, out);
        }
        if now >= self.next {
            self.next = after(now, self.rules.every);
            if scene.leads {
                return self.begin_hashing(Kind::Periodic, others, out);
            }
        }
        if now >= self.next_compactions {
            self.next_compactions = after(now, self.rules.compactions_every);
            let fresh = scene.compactions.iter().filter(|hash| hash.revision > self.agreed);
            let mut older: Vec<KvHash> = fresh.copied().collect();
            if scene.leads
                && !others.is_empty()
                && let Some(own) = older.pop()
            {
                self.ask(now, (Kind::Compactions, own), (others, older), out);
            }
        }
    }

    fn begin_hashing(
        &mut self,
        kind: Kind,
        others: BTreeSet<MemberId>,
        out: &mut Vec<InspectorOrder>,
    ) {
        self.round = Some(Round { kind, others, older: Vec::new(), stage: Stage::Hashing });
        out.push(InspectorOrder::Hash);
    }

    fn ask(
        &mut self,
        now: Instant,
        (kind, own): (Kind, KvHash),
        (others, older): (BTreeSet<MemberId>, Vec<KvHash>),
        out: &mut Vec<InspectorOrder>,
    ) {
        self.number += 1;
        let patience = match (kind, self.rules.every) {
            // Whoever has much to hash takes long, and the next check comes later.
            (Kind::Periodic, Some(every)) => self.rules.patience.max((every / 2).min(PATIENCE_MAX)),
            _ => self.rules.patience,
        };
        let asking = Asking {
            own,
            ask: HashAsk { number: self.number, revision: own.revision, compacted: own.compacted },
            answers: BTreeMap::new(),
            deadline: now + patience,
            repeat_at: now + self.rules.repeat,
        };
        let round = Round { kind, others, older, stage: Stage::Asking(asking) };
        round.ask_missing(out);
        self.round = Some(round);
    }

    /// Whether every peer has answered.
    fn has_all(&self) -> bool {
        self.round.as_ref().is_some_and(|round| match &round.stage {
            Stage::Asking(asking) => asking.answers.len() == round.others.len(),
            _ => false,
        })
    }

    /// No more answers are waited for.
    fn compare(&mut self, now: Instant, leads: bool, out: &mut Vec<InspectorOrder>) {
        let Some(mut round) = self.round.take() else { return };
        let kind = round.kind;
        let Stage::Asking(Asking { own, answers, .. }) = round.stage else { return };
        match kind {
            Kind::Initial => {
                let found = judge::initial(own, &answers);
                out.push(InspectorOrder::Concluded(found));
                self.end(kind, now);
            }
            _ if !leads => self.end(kind, now),
            Kind::Periodic => {
                out.push(InspectorOrder::Confirm);
                round.stage = Stage::Confirming(own, answers);
                self.round = Some(round);
            }
            Kind::Compactions => {
                let found = judge::compaction(self.rules.member, own, &answers, &round.others);
                if found.is_complete {
                    self.agreed = self.agreed.max(own.revision);
                }
                let ends = found.is_complete || !found.accused.is_empty();
                out.extend(found.accused.into_iter().map(InspectorOrder::Accuse));
                match round.older.pop().filter(|_| !ends) {
                    Some(own) => {
                        self.ask(now, (kind, own), (round.others, round.older), out);
                    }
                    None => self.end(kind, now),
                }
            }
        }
    }

    /// The round is over: the next of its kind comes a whole pause later, as in etcd.
    fn end(&mut self, kind: Kind, now: Instant) {
        self.round = None;
        match kind {
            Kind::Periodic => self.next = after(now, self.rules.every),
            Kind::Compactions => self.next_compactions = after(now, self.rules.compactions_every),
            Kind::Initial => {}
        }
    }
}

impl Round {
    fn is_hashing(&self) -> bool {
        matches!(self.stage, Stage::Hashing | Stage::Again(..))
    }

    fn ask_missing(&self, out: &mut Vec<InspectorOrder>) {
        let Stage::Asking(asking) = &self.stage else { return };
        let missing = self.others.iter().filter(|other| !asking.answers.contains_key(other));
        out.extend(missing.map(|to| InspectorOrder::Ask { to: *to, ask: asking.ask }));
    }
}

/// A peer that is down does not keep what the others have answered from being compared for longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(600);

fn after(now: Instant, pause: Option<Duration>) -> Instant {
    pause.map_or(Instant::NEVER, |pause| now + pause)
}

#[cfg(test)]
mod tests;
