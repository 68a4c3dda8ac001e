//! What must hold, each in a file of its own with the id of the catalogue: safety while things go
//! wrong, liveness once they have stopped to.
//!
//! The world shows everything that happens to every checker as [`Seen`], together with the [`Scene`]:
//! the committed log as first applied anywhere, and the oracle that has replayed it. A checker says
//! at once when its law is broken, so that a run stops at the first bad event.
//!
//! | id | law |
//! |---|---|
//! | R1 | at most one leader in a term |
//! | R2 | a committed entry never changes |
//! | R3 | term and vote never go back, across restarts too |
//! | R5 | members that applied the same entries have the same state, all tables included |
//! | R6 | checkpoint and log together are the full replay; recovery always works |
//! | R7 | what was acknowledged is in the log of every later leader |
//! | R8 | nothing is applied that nobody asked for |
//! | R9 | no request is applied twice, and no entry is left out |
//! | R10 | learners and removed members have no say in elections, and no id comes back |
//! | R11 | commits are by majorities of the applied configuration; changes one at a time |
//! | R12 | who has lost its data is not listened to, and stops |
//! | R13 | nobody gives the others up who was not told to; R6 and R7 see that what it had is there |
//! | K1 | strict serializability, by revision witness |
//! | K1b | linearizability of registers, by a search that never looks at revisions |
//! | K2 | header revisions never go back in a session, and are never ahead of the store |
//! | K3 | every option of a range means what etcd says |
//! | K4 | a serializable read is the exact state of some past revision |
//! | K5 | a read at an old revision is exact, or rightly refused |
//! | W1 | a watcher sees revisions in order |
//! | W2 | and each event once |
//! | W3 | and none is missing |
//! | W4 | and a revision is never split |
//! | W5 | and it can resume on any member where it stopped |
//! | W6 | and progress is never ahead of what it was sent |
//! | W7 | events carry the right pair and the right previous pair |
//! | W9 | a watch from a future revision is silent until then |
//! | A1 | nothing is applied or read without the right to it at that point of the log |
//! | A4 | a watch is refused exactly if its member's tables refuse it when it is created |
//! | L1 | a lease never expires early |
//! | L2 | it does expire |
//! | L3 | all its keys go at one revision |
//! | L4 | a new leader gives it no less than its TTL |
//! | L5 | a keepalive is acknowledged only while it lives |
//! | A2 | a member says that the data have parted exactly if they have |
//! | A3 | want of space refuses what adds, for a reason, and nothing else; bytes are counted right |
//! | H1 | over HTTP/2, each call gets one answer or end, on its own stream, in gRPC's form |
//! | H2 | the server keeps HTTP/2's rules: windows, closed streams, confirmations |
//! | H3 | no connection gets stuck, and what is over is forgotten |
//! | V6 | what a watch stream carries over HTTP/2 can be read: W1 to W7 are checked at its far end |
//! | V1–V5 | after healing: a leader, a write, equal members, every request ends, watchers catch up |

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, MemberId, Position, RequestId, Term};
use holdfast_core::message::Message;
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Identity, Op};
use holdfast_core::store::View;

use crate::caller::Note;
use crate::clock::Moment;
use crate::history::{History, OpId};
use crate::model::Model;
use crate::swarm::Swarm;
use crate::workload::watch::{Notice, WatchSpec};

mod a1;
mod a2;
mod a3;
mod a4;
mod config;
mod h1;
mod h2;
mod h3;
mod image;
mod k1;
pub mod k1b;
mod k2;
mod k3;
mod k4;
mod k5;
mod l1;
mod l2;
mod l3;
mod l4;
mod l5;
mod r1;
mod r10;
mod r11;
mod r12;
mod r2;
mod r3;
mod r5;
mod r6;
mod r7;
mod r8;
mod r9;
mod ranges;
#[cfg(test)]
mod trial;
mod w1;
mod w2;
mod w3;
mod w4;
mod w5;
mod w6;
mod w7;
mod w9;

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose law.
    pub checker: &'static str,
    /// When it was noticed.
    pub at: Moment,
    /// What was seen and what should have been.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.checker, self.at, self.what)
    }
}

/// An entry of the committed log, as it was first applied anywhere.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it is.
    pub at: Position,
    /// CRC-32 of kind and data.
    pub digest: u32,
    /// How many commands had been applied before it.
    pub steps_before: usize,
    /// How many had been after it.
    pub steps_after: usize,
    /// When it was first applied.
    pub when: Moment,
}

/// Everything that checkers may look at.
pub struct Scene<'a> {
    /// True time.
    pub now: Moment,
    /// The seed's configuration.
    pub swarm: &'a Swarm,
    /// The oracle, fed with the committed log.
    pub model: &'a Model,
    /// The committed log, from index 1 on.
    pub log: &'a [Committed],
    /// What clients asked and were told.
    pub history: &'a History,
    /// Whose request each command answers.
    pub requests: &'a Requests,
    /// Counts comparisons: a law that never had anything to compare proves nothing.
    pub comparisons: Cell<u64>,
}

impl Scene<'_> {
    /// The checker has just compared something.
    fn compared(&self) {
        self.comparisons.set(self.comparisons.get() + 1);
    }
}

/// Which request of the history stands behind each command, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// The request that a client made under this id.
    pub ops: BTreeMap<RequestId, OpId>,
    /// The command of each request: its place among the oracle's steps.
    pub steps: BTreeMap<OpId, usize>,
}

/// A log whose terms can be looked up.
pub trait Terms {
    /// The term of the entry at an index; `None` when the log does not reach so far, or no longer
    /// holds it.
    fn term_at(&self, index: Index) -> Option<Term>;
    /// Entries up to here are covered by the checkpoint.
    fn checkpoint(&self) -> Index;
    /// Its entries, with the CRC-32 of kind and data.
    fn entries(&self) -> Vec<(Position, u32)>;
}

/// Something that happened.
pub enum Seen<'a> {
    /// A member's process recovered from its disk.
    Booted {
        /// Who.
        member: usize,
        /// The term it found.
        term: Term,
        /// Its log.
        terms: &'a dyn Terms,
        /// Its state.
        view: &'a dyn View,
    },
    /// A member could not recover.
    BootFailed {
        /// Who.
        member: usize,
        /// Why.
        why: &'a str,
    },
    /// A member has lost its disk; it will start as if it were new.
    Wiped {
        /// Who.
        member: usize,
    },
    /// A member takes what one says that has lost its disk.
    Heeded {
        /// Who.
        member: usize,
        /// Who has spoken.
        from: usize,
    },
    /// All others are lost, and a member is to go on alone.
    Forced {
        /// Who.
        member: usize,
    },
    /// A member's edge has a warning for the operator.
    Warned {
        /// Who.
        member: usize,
        /// What.
        text: &'a str,
    },
    /// A member stopped.
    Stopped {
        /// Who.
        member: usize,
    },
    /// A fact of a member.
    Fact {
        /// Whose.
        member: usize,
        /// Which.
        fact: &'a Fact,
    },
    /// A member was elected; its log as of then.
    Elected {
        /// Who.
        member: usize,
        /// In which term.
        term: Term,
        /// Its log.
        terms: &'a dyn Terms,
    },
    /// A member led at the end of a turn.
    Leads {
        /// Who.
        member: usize,
        /// In which term.
        term: Term,
        /// How far it has committed.
        commit: Index,
        /// Where its durable log ends.
        durable: Index,
        /// Its log.
        terms: &'a dyn Terms,
    },
    /// A command was applied for the first time anywhere; the oracle has just done so too.
    Committed {
        /// Its id.
        id: RequestId,
        /// Who asked.
        who: &'a Identity,
        /// What it does.
        op: &'a Op,
        /// Its place among the oracle's steps.
        step: usize,
        /// Where its entry is.
        at: Position,
    },
    /// A member gave a message to the network.
    Said {
        /// Who.
        member: usize,
        /// To whom.
        to: MemberId,
        /// What.
        message: &'a Message,
    },
    /// A member published a state.
    Published {
        /// Who.
        member: usize,
        /// The state.
        view: &'a dyn View,
        /// A snapshot of a peer replaced the state before.
        restored: bool,
    },
    /// A member answered a write; the client may never hear of it.
    Replied {
        /// Which request.
        op: OpId,
    },
    /// A client is refused; what that proves is for [`Seen::Returned`].
    Refused {
        /// Which request.
        op: OpId,
        /// Why.
        rejection: Rejection,
    },
    /// A member's disk has no room for its log to grow.
    Full {
        /// Whose.
        member: usize,
    },
    /// A client learnt the outcome of its request.
    Returned {
        /// Which request.
        op: OpId,
    },
    /// A client asks for a watcher.
    WatchAsked {
        /// Which watcher.
        spec: &'a WatchSpec,
        /// On which of the client's streams.
        stream: u64,
        /// Whom.
        member: usize,
        /// Whose token came with the stream.
        user: Option<&'a str>,
    },
    /// A watcher was told something.
    Noticed {
        /// Which watcher.
        spec: &'a WatchSpec,
        /// What.
        notice: &'a Notice,
    },
    /// Something was said on an HTTP/2 connection whose client keeps the rules.
    Line {
        /// Its number in the run.
        connection: u64,
        /// The member at its other end.
        member: usize,
        /// What.
        note: &'a Note,
    },
    /// What a member still holds after everything it was asked is over.
    Emptied {
        /// Who.
        member: usize,
        /// Calls that wait for their last reply.
        calls: usize,
        /// Watch streams of the hub.
        watches: usize,
        /// Connections, if they too are over.
        connections: usize,
    },
    /// The run is over: faults had stopped, members had time to settle.
    Settled,
}

/// The operation of a request, where it does not depend on who is asked.
fn op_of(query: &Query) -> Option<Op> {
    Some(match query {
        Query::Put(put) => Op::Put(put.clone()),
        Query::Txn(txn) => Op::Txn(txn.clone()),
        Query::LeaseGrant { id, ttl } => Op::LeaseGrant { id: *id, ttl: *ttl },
        _ => return None,
    })
}

/// One law.
pub trait Checker {
    /// Its id in the catalogue.
    fn id(&self) -> &'static str;

    /// Looks at something that happened.
    ///
    /// # Errors
    /// A sentence that says what broke the law.
    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String>;
}

/// The law with this id, of those that have a checker of their own.
pub fn law_named(id: &str) -> Option<&'static str> {
    Checkers::new(None).ids().find(|law| *law == id)
}

/// All checkers of a run.
pub struct Checkers {
    /// Each with the number of its comparisons.
    all: Vec<(Box<dyn Checker>, u64)>,
    /// Violations of this law only end the run.
    only: Option<&'static str>,
    /// A broken law is noted, and the run goes on.
    go_on: bool,
    /// Laws that were broken while the run went on; they are not looked at again.
    pub broken: BTreeMap<&'static str, Violation>,
}

impl Checkers {
    /// All laws, or those of one id.
    pub fn new(only: Option<&'static str>) -> Checkers {
        // L3 comes before R6, which would notice the same from farther away.
        let all: Vec<Box<dyn Checker>> = vec![
            // Before R1 and R2, which would notice the same from farther away.
            Box::new(r10::WhoVotes::default()),
            Box::new(r11::QuorumsMeet::default()),
            Box::new(r12::LostIsLost::default()),
            Box::new(r1::OneLeader::default()),
            Box::new(r3::NoStepBack::default()),
            Box::new(r7::AcknowledgedSurvives::default()),
            Box::new(r2::CommittedStays),
            Box::new(r8::Validity),
            Box::new(r9::Once::default()),
            Box::new(l1::NeverEarly::default()),
            Box::new(l3::AllAtOnce::default()),
            Box::new(l4::NeverShortened::default()),
            Box::new(l5::AcknowledgedLives::default()),
            Box::new(r6::ReplayEqual::default()),
            Box::new(r5::EqualState::default()),
            // A1 comes before K1, which would notice the same of every wrong answer.
            Box::new(a1::Rights),
            Box::new(a4::RightToWatch::default()),
            // K3 and K5 likewise.
            Box::new(k3::RangesMeanWhatTheySay),
            Box::new(k5::OldRevisions),
            Box::new(k1::Witness),
            Box::new(k2::Monotonic::default()),
            Box::new(k4::PastState),
            Box::new(w1::Ordered::default()),
            Box::new(w2::Unique::default()),
            Box::new(w5::Resumable::default()),
            Box::new(w4::Atomic::default()),
            Box::new(w3::Reliable::default()),
            Box::new(w6::Progress::default()),
            Box::new(w7::Content),
            Box::new(w9::SilentUntilStart::default()),
            Box::new(a3::OnlyWhatAdds::default()),
            Box::new(a2::CorruptIffParted::default()),
            Box::new(l2::Expires),
            Box::new(h1::OneAnswer::default()),
            Box::new(h2::Rules::default()),
            Box::new(h3::NothingStuck::default()),
            Box::new(k1b::Search),
        ];
        let all = all.into_iter().filter(|checker| only.is_none_or(|id| id == checker.id()));
        let all = all.map(|checker| (checker, 0)).collect();
        Checkers { all, only, go_on: false, broken: BTreeMap::new() }
    }

    /// Whether a run goes on after a broken law, which is then noted once.
    pub fn going_on(self, go_on: bool) -> Checkers {
        Checkers { go_on, ..self }
    }

    /// The ids of the laws that are checked in this run.
    pub fn ids(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.all.iter().map(|(checker, _)| checker.id())
    }

    /// Whether the law `id` is checked in this run.
    pub fn listens_to(&self, id: &str) -> bool {
        self.only.is_none_or(|only| only == id)
    }

    /// How often each law had something to compare.
    pub fn compared(&self) -> BTreeMap<&'static str, u64> {
        self.all.iter().map(|(checker, compared)| (checker.id(), *compared)).collect()
    }

    /// Shows something to every checker.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), Violation> {
        for (checker, compared) in &mut self.all {
            if self.broken.contains_key(checker.id()) {
                continue;
            }
            scene.comparisons.set(0);
            let seen = checker.see(scene, seen);
            *compared += scene.comparisons.get();
            let (checker, at) = (checker.id(), scene.now);
            match seen.map_err(|what| Violation { checker, at, what }) {
                Err(violation) if self.go_on => drop(self.broken.insert(checker, violation)),
                seen => seen?,
            }
        }
        Ok(())
    }
}
