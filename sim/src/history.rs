//! What clients asked, when, and what they were told: the outside of a run.
//!
//! Leaves out watch streams, which have a history of their own ([`crate::workload::watch`]).
//!
//! Laws:
//!  1. A record's outcome is set once.
//!  2. An outcome is `Unknown` when the client cannot know whether its request took effect; only
//!     refusals that prove that it did not are `Rejected`.

use holdfast_core::id::Revision;
use holdfast_core::query::{Answer, Query};
use holdfast_core::rejection::Rejection;

use crate::clock::Moment;

pub mod register;

/// Names one request of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub usize);

/// What a client knows of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// The answer.
    Answered(Answer),
    /// A refusal that proves that nothing was changed.
    Rejected(Rejection),
    /// The answer is lost, or says that nobody knows.
    Unknown,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who asked.
    pub client: usize,
    /// Which member was asked.
    pub member: usize,
    /// Whose token came with it.
    pub user: Option<String>,
    /// What was asked.
    pub query: Query,
    /// When the client sent it.
    pub invoked: Moment,
    /// When the client got the outcome.
    pub returned: Option<Moment>,
    /// The outcome.
    pub outcome: Outcome,
    /// The highest revision that anybody had been told of when this was sent.
    pub floor: Revision,
    /// How many commands had been applied anywhere when this was sent.
    pub steps_before: usize,
    /// Which run of the member gave the answer: an answer may come after its member has restarted.
    pub run: u64,
}

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    floor: Revision,
}

impl History {
    /// A client sends a request.
    pub fn invoke(&mut self, record: Record) -> OpId {
        self.records.push(Record { floor: self.floor, ..record });
        OpId(self.records.len() - 1)
    }

    /// A client learns an outcome.
    pub fn complete(&mut self, id: OpId, now: Moment, run: u64, outcome: Outcome) {
        let record = &mut self.records[id.0];
        assert_eq!(record.outcome, Outcome::Pending, "request {} has one outcome", id.0);
        record.returned = Some(now);
        record.run = run;
        record.outcome = outcome;
    }

    /// Somebody was told of a revision: whoever asks from now on may not be told less.
    pub fn raise_floor(&mut self, revision: Revision) {
        self.floor = self.floor.max(revision);
    }

    /// One request.
    pub fn record(&self, id: OpId) -> &Record {
        &self.records[id.0]
    }

    /// All requests, in the order in which they were sent.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Requests that were answered.
    pub fn completed(&self) -> usize {
        let answered = |record: &&Record| matches!(record.outcome, Outcome::Answered(_));
        self.records.iter().filter(answered).count()
    }
}

/// What a refusal tells about the request.
pub fn outcome_of_rejection(rejection: Rejection) -> Outcome {
    match rejection {
        Rejection::Timeout
        | Rejection::TimeoutLeaderFail
        | Rejection::TimeoutConnectionLost
        | Rejection::TimeoutWaitAppliedIndex
        | Rejection::LeaderChanged
        | Rejection::NoLeader
        | Rejection::NotLeader
        | Rejection::NotPrimaryLessor
        | Rejection::NoSpace
        | Rejection::TooManyRequests
        | Rejection::NoAnswerMemory
        | Rejection::Stopped => Outcome::Unknown,
        _ => Outcome::Rejected(rejection),
    }
}
