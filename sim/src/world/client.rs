//! Traffic between clients and members.

use std::time::Duration;

use bytes::Bytes;
use holdfast_core::auth::AuthQuery;
use holdfast_core::query::{Answer, AnswerBody, Answered, OpAnswer, Query, RangeAnswer, TxnAnswer};

use holdfast_server::auth::Credential;
use holdfast_server::session::learner::may_answer;

use super::front::Front;
use super::{Happening, Phase, World};
use crate::checker::Seen;
use crate::history::{OpId, Outcome, Record, outcome_of_rejection};
use crate::network::Link;
use crate::workload::Told;
use crate::workload::users::Account;

/// Whether a request goes through the log.
pub(super) fn is_write(query: &Query) -> bool {
    match query {
        Query::Put(_)
        | Query::DeleteRange(_)
        | Query::Compact { .. }
        | Query::LeaseGrant { .. }
        | Query::LeaseRevoke { .. }
        | Query::AlarmList
        | Query::Alarm(_) => true,
        Query::Auth(query) => !matches!(query, AuthQuery::Authenticate { .. }),
        Query::Txn(txn) => !txn.is_read_only() && !txn.is_serializable(),
        _ => false,
    }
}

impl World {
    /// The link between a client (watchers come after the others) and a member.
    pub(super) fn client_link(&mut self, client: usize, member: usize, back: bool) -> &mut Link {
        let members = self.members.len();
        &mut self.client_links[(client * members + member) * 2 + usize::from(back)]
    }

    pub(super) fn think(&mut self, client: usize) {
        if self.phase > Phase::Heal || self.clients[client].waits_for.is_some() {
            return;
        }
        let told = Told { revision: self.model.revision().0, compacted: self.model.compacted().0 };
        let query = self.clients[client].next(&self.swarm.work, self.now, told);
        let member = self.in_use(self.clients[client].member);
        self.clients[client].member = member;
        let account = self.clients[client].account.as_ref();
        let by = account.map_or(Credential::None, Account::credential);
        let user = account.filter(|_| by != Credential::None).map(|account| account.name.clone());
        let record = Record {
            client,
            member,
            user,
            query,
            invoked: self.now,
            returned: None,
            outcome: Outcome::Pending,
            floor: holdfast_core::id::Revision(0),
            steps_before: self.model.steps().len(),
            run: 0,
        };
        let op = self.history.invoke(record);
        self.clients[client].waits_for = Some(op);
        if self.swarm.transport.is_some() {
            self.call(op, &by);
        } else {
            let now = self.now;
            let [first, _] = self.client_link(client, member, false).send(now, 200);
            if let Some(when) = first {
                self.at(when, Happening::Ask { op, by });
            }
        }
        self.after(self.swarm.work.patience, Happening::Patience { op });
    }

    /// A place that somebody would name as an endpoint: this one, or the next that was started and has not
    /// been removed.
    pub(super) fn in_use(&self, wanted: usize) -> usize {
        let places = (0..self.members.len()).map(|n| (wanted + n) % self.members.len());
        let mut used = places.filter(|n| self.members[*n].started && !self.members[*n].over);
        used.next().unwrap_or(wanted)
    }

    pub(super) fn ask_arrives(&mut self, op: OpId, by: Credential) {
        let record = self.history.record(op);
        let (member, query) = (record.member, record.query.clone());
        let life = self.members[member].life.as_mut();
        // The sessions in front of the edge would say so.
        if life.as_ref().is_some_and(|life| life.is_learner() && !may_answer(&query)) {
            let refused = Err(holdfast_core::rejection::Rejection::NotSupportedForLearner);
            return self.send_answer(member, op, refused);
        }
        let place = life.as_ref().map_or(0, |life| life.edges.place_of(op.0));
        match life.map(|life| life.edges.front(place)) {
            Some(Front::Direct(direct)) => {
                direct.asks.push((op, query, by));
                self.poke_edge(member, place);
            }
            _ => {
                // Connection refused: known at once, but not whether an earlier try got through.
                let delay = Duration::from_millis(1);
                let refused = Box::new(Err(holdfast_core::rejection::Rejection::Stopped));
                self.after(delay, Happening::Answer { op, run: 0, answered: refused });
            }
        }
    }

    pub(super) fn send_answer(&mut self, member: usize, op: OpId, answered: Answered) {
        let client = self.history.record(op).client;
        let now = self.now;
        let [first, _] = self.client_link(client, member, true).send(now, 200);
        if let Some(when) = first {
            let (run, answered) = (self.members[member].life_number, Box::new(answered));
            self.at(when, Happening::Answer { op, run, answered });
        }
    }

    pub(super) fn answer_arrives(&mut self, op: OpId, run: u64, answered: Answered) {
        let answered = answered.map(taken);
        let record = self.history.record(op);
        if record.outcome != Outcome::Pending {
            return;
        }
        let (client, query) = (record.client, record.query.clone());
        if client == self.operator_client() {
            let outcome = answered.map_or_else(outcome_of_rejection, Outcome::Answered);
            return self.complete_operation(op, run, outcome);
        }
        match &answered {
            Ok(answer) => {
                self.learn_leases(client, &answer.body, &query);
                self.clients[client].wander(self.members.len());
            }
            Err(rejection) => {
                self.say(|| format!("request {} is refused: {rejection}", op.0));
                self.clients[client].refused(*rejection);
                self.see(&Seen::Refused { op, rejection: *rejection });
                if *rejection == holdfast_core::rejection::Rejection::NotSupportedForLearner {
                    let members = self.members.len();
                    self.clients[client].move_on(members);
                }
            }
        }
        let outcome = answered.map_or_else(outcome_of_rejection, Outcome::Answered);
        if outcome == Outcome::Unknown {
            self.clients[client].gave_up(self.members.len(), &query);
        }
        self.complete(op, run, outcome);
    }

    fn learn_leases(&mut self, client: usize, body: &AnswerBody, query: &Query) {
        match (body, query) {
            (AnswerBody::LeaseGrant { id, .. }, _) => self.clients[client].granted(id.0),
            (AnswerBody::LeaseKeepAlive { id, ttl: 0 }, _) => self.clients[client].lease_gone(id.0),
            (AnswerBody::LeaseRevoke, Query::LeaseRevoke { id }) => {
                self.clients[client].lease_gone(id.0);
            }
            _ => {}
        }
    }

    pub(super) fn patience_ends(&mut self, op: OpId) {
        let record = self.history.record(op);
        if record.outcome != Outcome::Pending {
            return;
        }
        let (client, query) = (record.client, record.query.clone());
        if self.swarm.transport.is_some() {
            self.abandon(op);
        }
        if client == self.operator_client() {
            return self.complete_operation(op, 0, Outcome::Unknown);
        }
        self.clients[client].gave_up(self.members.len(), &query);
        self.complete(op, 0, Outcome::Unknown);
    }

    fn complete_operation(&mut self, op: OpId, run: u64, outcome: Outcome) {
        self.operated(&outcome);
        self.history.complete(op, self.now, run, outcome);
    }

    fn complete(&mut self, op: OpId, run: u64, outcome: Outcome) {
        self.history.complete(op, self.now, run, outcome);
        self.see(&Seen::Returned { op });
        let record = self.history.record(op);
        let client = record.client;
        if let Some(account) = &mut self.clients[client].account {
            account.learn(&record.query, &record.outcome);
        }
        if let Outcome::Rejected(_) = &record.outcome {
            // The log has decided it: the cluster works, whatever the client may.
            self.liveness.answered(self.now, self.requests.steps.contains_key(&op));
        }
        if let Outcome::Answered(answer) = &record.outcome {
            let revision = answer.header.revision;
            self.liveness.answered(self.now, is_write(&record.query));
            // A serializable read is the state of some past moment, and so was known to exist then.
            self.history.raise_floor(revision);
        } else {
            self.counts.unknown += 1;
        }
        self.clients[client].waits_for = None;
        let pause = self.clients[client].think(&self.swarm.work);
        self.after(pause, Happening::Think { client });
    }
}

/// An answer as its client has it: a copy, so that the history holds nothing of a member's memory.
fn taken(mut answer: Answer) -> Answer {
    match &mut answer.body {
        AnswerBody::Range(range) => copy(range),
        AnswerBody::Txn(txn) => copy_all(txn),
        _ => {}
    }
    answer
}

fn copy_all(txn: &mut TxnAnswer) {
    for op in &mut txn.ops {
        match op {
            OpAnswer::Range(_, range) => copy(range),
            OpAnswer::Txn(inner) => copy_all(inner),
            OpAnswer::Put(..) | OpAnswer::DeleteRange(..) => {}
        }
    }
}

fn copy(range: &mut RangeAnswer) {
    range.kvs = range.kvs.iter().map(Bytes::copy_from_slice).collect();
}
