//! A history made by hand, to show that a checker can fail: a law that lets everything through proves
//! nothing.
//!
//! Worked example: `commit` two puts, `ask` a range, `answer` it with one of them, and let a checker `see`
//! that it returned.

use std::cell::Cell;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, Revision};
use holdfast_core::query::{Answer, AnswerBody, Header, Query};
use holdfast_core::request::{Op, Put};

use super::{Checker, Requests, Scene, Seen};
use crate::clock::Moment;
use crate::history::{History, OpId, Outcome, Record};
use crate::model::Model;
use crate::swarm::Swarm;

/// What a checker is shown.
#[derive(Default)]
pub(super) struct Trial {
    pub now: Moment,
    pub model: Model,
    pub history: History,
    pub requests: Requests,
}

impl Trial {
    /// The log grows by a command; gives its place.
    pub fn commit(&mut self, op: Op) -> usize {
        self.model.apply(&op);
        self.model.steps().len() - 1
    }

    /// The same, for a request.
    pub fn commit_of(&mut self, op: OpId, what: Op) {
        let step = self.commit(what);
        self.requests.steps.insert(op, step);
    }

    /// A client asks.
    pub fn ask(&mut self, query: Query) -> OpId {
        self.history.invoke(Record {
            client: 0,
            member: 0,
            user: None,
            query,
            invoked: self.now,
            returned: None,
            outcome: Outcome::Pending,
            floor: Revision(0),
            steps_before: self.model.steps().len(),
            run: 0,
        })
    }

    /// It is told this.
    pub fn answer(&mut self, op: OpId, outcome: Outcome) {
        self.history.complete(op, self.now, 0, outcome);
    }

    /// What a checker says.
    pub fn see(&self, checker: &mut dyn Checker, seen: &Seen<'_>) -> Result<(), String> {
        let swarm = Swarm::draw(0);
        let scene = Scene {
            now: self.now,
            swarm: &swarm,
            model: &self.model,
            log: &[],
            history: &self.history,
            requests: &self.requests,
            comparisons: Cell::new(0),
        };
        checker.see(&scene, seen)
    }
}

/// An answer whose header names a revision.
pub(super) fn answered(revision: Revision, body: AnswerBody) -> Outcome {
    Outcome::Answered(Answer { header: Header { revision, ..Header::default() }, body })
}

pub(super) fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

pub(super) fn plain(name: &'static str, value: &'static str) -> Put {
    Put {
        key: key(name),
        value: key(value),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

pub(super) fn put(name: &'static str, value: &'static str) -> Op {
    Op::Put(plain(name, value))
}
