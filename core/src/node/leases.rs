//! Questions about leases: asked at any member, answered by the leader's clock.
//!
//! A follower forwards the question and repeats it until it is answered or its time is over; asking
//! twice renews twice, which is harmless. The leader first confirms by a read index that it still
//! leads: a deposed one must not promise time that its successor does not know of.

use crate::fact::Fact;
use crate::id::{Index, LeaseId, MemberId, RequestId};
use crate::lessor::Renewal;
use crate::message::{LeaseAnswer, LeaseAsk, LeaseOutcome, Message};
use crate::mutant;
use crate::output::{Effect, Output};
use crate::request::Op;
use crate::response::Body;
use crate::status::Role;
use crate::store::Store;
use crate::time::Instant;

use super::{Node, Reader};

/// Who gets the answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Request(RequestId),
    Peer { member: MemberId, number: u64 },
}

/// A question that this member, as leader, answers after its read index.
#[derive(Clone, Debug)]
pub(super) struct LeaseWork {
    pub asker: Asker,
    pub lease: LeaseId,
    pub renew: bool,
    pub deadline: Instant,
}

/// A question of this member that a leader elsewhere has to answer.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    pub request: RequestId,
    pub ask: LeaseAsk,
    pub sent: Option<Instant>,
}

impl Node {
    /// Expired leases are revoked through the log like any other; nobody waits for the answer. A bounded
    /// number is on its way at a time, and more follow as soon as half of them are gone.
    pub(super) fn expire_leases(&mut self, now: Instant, out: &mut Output) {
        if self.may_expire() {
            let most = self.config.limits.lease_revoke_batch;
            for id in self.lessor.expired(now, most - self.lessor.reported()) {
                out.facts.push(Fact::LeaseExpired { id });
                self.propose_own(Op::LeaseRevoke { id });
            }
        }
        self.overdue = self.lessor.deadline() <= now;
    }

    /// Whether revocations may be proposed for more expired leases.
    pub(super) fn may_expire(&self) -> bool {
        self.lessor.reported() <= self.config.limits.lease_revoke_batch / 2
    }

    /// Once per heartbeat: some leases of which it is time to note what is left.
    pub(super) fn note_leases(&mut self, now: Instant) {
        let notes = self.lessor.to_note(now, self.config.limits.lease_checkpoint_batch);
        if !notes.is_empty() {
            self.propose_own(Op::LeaseCheckpoint(notes));
        }
    }

    /// A session asks: the leader answers itself, others forward.
    pub(super) fn ask_lease(
        &mut self,
        now: Instant,
        request: RequestId,
        lease: LeaseId,
        renew: bool,
    ) {
        if self.raft.role() == Role::Leader {
            let deadline = now + self.config.limits.request_timeout;
            let asker = Asker::Request(request);
            self.reads.join(Reader::Lease(LeaseWork { asker, lease, renew, deadline }));
        } else {
            self.forward(request, lease, renew);
        }
    }

    fn forward(&mut self, request: RequestId, lease: LeaseId, renew: bool) {
        let number = self.number();
        let ask = LeaseAsk { number, id: lease, renew };
        self.forwarded.insert(number, Forwarded { request, ask, sent: None });
        self.turn.forwards = true;
    }

    /// A follower's question arrives.
    pub(super) fn lease_asked(
        &mut self,
        now: Instant,
        from: MemberId,
        ask: LeaseAsk,
        out: &mut Output,
    ) {
        let asker = Asker::Peer { member: from, number: ask.number };
        if self.raft.role() != Role::Leader {
            return self.tell(asker, ask.renew, LeaseOutcome::NotLeader, out);
        }
        let deadline = now + self.config.limits.request_timeout;
        let work = LeaseWork { asker, lease: ask.id, renew: ask.renew, deadline };
        self.reads.join(Reader::Lease(work));
    }

    /// A leader's answer arrives.
    pub(super) fn lease_answered(&mut self, answer: LeaseAnswer) {
        let Some(forwarded) = self.forwarded.remove(&answer.number) else { return };
        let (request, ask) = (forwarded.request, forwarded.ask);
        match self.lease_body(answer.outcome, ask.renew) {
            Some(body) => self.turn.lease_answers.push((request, body)),
            None => {
                // Asked again at the next tick, of whoever leads then.
                self.forwarded.insert(answer.number, Forwarded { request, ask, sent: None });
            }
        }
    }

    /// Sends what has not been sent, or not been answered for a while; takes over what was forwarded
    /// when this member has become the leader itself.
    pub(super) fn forward_lease_asks(&mut self, now: Instant, out: &mut Output) {
        let retry_after = self.config.limits.election_timeout / 2;
        if self.raft.role() == Role::Leader {
            for (_, forwarded) in std::mem::take(&mut self.forwarded) {
                self.ask_lease(now, forwarded.request, forwarded.ask.id, forwarded.ask.renew);
            }
            return;
        }
        let Some(leader) = self.raft.leader() else { return };
        for forwarded in self.forwarded.values_mut() {
            if forwarded.sent.is_none_or(|at| now.since(at) >= retry_after) {
                forwarded.sent = Some(now);
                let message = Message::LeaseAsk(forwarded.ask);
                out.effects.push(Effect::Send { to: leader, message });
            }
        }
    }

    /// Answers everybody whose read index is applied, and the renewals that waited for a revocation.
    pub(super) fn finish_reads(&mut self, now: Instant, store: &impl Store, out: &mut Output) {
        let settled = self.backlog.settled().applied.index;
        let applied = if mutant::on(9) { Index(u64::MAX) } else { settled };
        if mutant::on(59) {
            self.answer_from_memory(store);
        }
        let mut work = self.take_concluded();
        for reader in self.reads.take_ready(applied) {
            match reader {
                Reader::Request(id) => self.answer_body(id, Body::ReadIndex),
                Reader::Lease(lease) => work.push(lease),
            }
        }
        // What is being applied may take its time; a lease whose renewal waits for it lives on.
        for reader in self.reads.confirmed() {
            if let Reader::Lease(LeaseWork { lease, renew: true, .. }) = reader {
                self.lessor.hold(now, *lease);
            }
        }
        for work in work {
            self.answer_lease(now, (work, settled), out);
        }
        for (request, body) in std::mem::take(&mut self.turn.lease_answers) {
            self.answer_body(request, body);
        }
        let notes = std::mem::take(&mut self.turn.notes_ended);
        for notes in notes.chunks(self.config.limits.lease_checkpoint_batch) {
            self.propose_own(Op::LeaseCheckpoint(notes.to_vec()));
        }
    }

    /// Renewals that need not wait any more: what they waited for has happened, or is another's business.
    fn take_concluded(&mut self) -> Vec<LeaseWork> {
        let outcomes = std::mem::take(&mut self.turn.lease_outcomes);
        if self.raft.role() != Role::Leader || !self.lessor.is_primary() {
            return std::mem::take(&mut self.expiring).into_values().flatten().collect();
        }
        let waiting = outcomes.iter().filter_map(|id| self.expiring.remove(id));
        waiting.flatten().collect()
    }

    /// Only a mutant answers renewals from what this member has applied.
    fn answer_from_memory(&mut self, store: &impl Store) {
        let known = |forwarded: &Forwarded| {
            let ttl = crate::machine::lease_ttl(store, forwarded.ask.id)?;
            forwarded.ask.renew.then_some((forwarded.request, Body::LeaseKeepAlive { ttl }))
        };
        let answers: Vec<_> = self.forwarded.values().filter_map(known).collect();
        self.turn.lease_answers.extend(answers);
    }

    /// Law 4 of the node: the read index has confirmed the leadership, and the lessor is primary only
    /// after an entry of this term was applied. `applied` is where this member's state is.
    fn answer_lease(
        &mut self,
        now: Instant,
        (work, applied): (LeaseWork, Index),
        out: &mut Output,
    ) {
        if self.raft.role() != Role::Leader || !self.lessor.is_primary() {
            return match work.asker {
                Asker::Request(request) if self.is_pending(request) => {
                    self.forward(request, work.lease, work.renew);
                }
                asker => self.tell(asker, work.renew, LeaseOutcome::NotLeader, out),
            };
        }
        if !work.renew {
            let outcome = match self.lessor.remaining(now, work.lease) {
                Some((ttl, granted)) => LeaseOutcome::Alive { ttl, granted, applied },
                None => LeaseOutcome::Missing,
            };
            return self.tell(work.asker, work.renew, outcome, out);
        }
        match self.lessor.renew(now, work.lease) {
            Renewal::Renewed { ttl } => {
                out.facts.push(Fact::LeaseRenewed { id: work.lease, ttl });
                let outcome = LeaseOutcome::Alive { ttl, granted: ttl, applied };
                self.tell(work.asker, work.renew, outcome, out);
            }
            Renewal::Missing => self.tell(work.asker, work.renew, LeaseOutcome::Missing, out),
            Renewal::Expiring => self.expiring.entry(work.lease).or_default().push(work),
            Renewal::Noted { take_back } => {
                self.turn.notes_ended.extend(take_back);
                self.expiring.entry(work.lease).or_default().push(work);
            }
        }
    }

    fn tell(&mut self, asker: Asker, renew: bool, outcome: LeaseOutcome, out: &mut Output) {
        match asker {
            Asker::Peer { member, number } => {
                let message = Message::LeaseAnswer(LeaseAnswer { number, outcome });
                out.effects.push(Effect::Send { to: member, message });
            }
            Asker::Request(request) => {
                if let Some(body) = self.lease_body(outcome, renew) {
                    self.turn.lease_answers.push((request, body));
                }
            }
        }
    }

    fn lease_body(&self, outcome: LeaseOutcome, renew: bool) -> Option<Body> {
        match (outcome, renew) {
            (LeaseOutcome::Alive { ttl, .. }, true) => Some(Body::LeaseKeepAlive { ttl }),
            (LeaseOutcome::Missing, true) => Some(Body::LeaseKeepAlive { ttl: 0 }),
            (LeaseOutcome::Alive { ttl, granted, applied }, false) => {
                Some(Body::LeaseTimeToLive { ttl, granted, applied })
            }
            (LeaseOutcome::Missing, false) => {
                Some(Body::LeaseTimeToLive { ttl: -1, granted: 0, applied: Index(0) })
            }
            (LeaseOutcome::NotLeader, _) => None,
        }
    }
}
