//! From a request to a proposal: bounds, deadlines, and entries of many commands.

use crate::command::Command;
use crate::fact::Fact;
use crate::id::RequestId;
use crate::mutant;
use crate::output::Output;
use crate::rejection::Rejection;
use crate::request::{Ask, Op, Request};
use crate::response::{Body, Response};
use crate::status::{REPLAYED_BYTES, Role};
use crate::time::Instant;

use super::pending::Waiting;
use super::{Node, Reader};

impl Node {
    /// Takes a session's request; what cannot be admitted is answered at the end of the turn.
    pub(super) fn admit(&mut self, now: Instant, request: Request) {
        let Request { id, identity, ask, deadline } = request;
        let is_proposal = matches!(ask, Ask::Propose(_));
        self.pending.push(id.sequence, Waiting { deadline, is_proposal });
        if self.pending.len() > self.config.limits.pending_commands_max {
            return self.answer(id, Err(Rejection::TooManyRequests));
        }
        match ask {
            Ask::Propose(op @ Op::Member(_)) => {
                self.admit_change(deadline, Command { id, identity, op });
            }
            Ask::Propose(op) => {
                if self.space.full && op.needs_space() {
                    return self.refuse_for_space(id);
                }
                if self.over_quota(id, &op) {
                    return;
                }
                let mut command = Command { id, identity, op };
                if mutant::on(20) && self.raft.role() != Role::Leader {
                    command.id.sequence = 0;
                }
                if let Err(rejection) = self.queue.admit(&command, &self.config.limits) {
                    self.answer(id, Err(rejection));
                }
            }
            Ask::ReadIndex if mutant::on(6) && self.raft.role() == Role::Leader => {
                self.early_read(id);
            }
            Ask::ReadIndex => self.reads.join(Reader::Request(id)),
            Ask::LeaseKeepAlive { id: lease } => self.ask_lease(now, id, lease, true),
            Ask::LeaseTimeToLive { id: lease } => self.ask_lease(now, id, lease, false),
            Ask::TransferLeadership | Ask::MoveLeader { .. } => {
                match ask {
                    Ask::MoveLeader { to } => self.raft.move_leader(to),
                    _ => {
                        self.raft.transfer_leadership(crate::id::Index(0));
                        self.checkpoint_stale |= self.applied_bytes >= REPLAYED_BYTES;
                    }
                }
                let response = Response {
                    revision: crate::id::Revision(0),
                    term: self.raft.term(),
                    body: Body::TransferLeadership,
                };
                self.answer(id, Ok(response));
            }
        }
    }

    /// Only a mutant reads without asking the others.
    fn early_read(&mut self, id: RequestId) {
        let response = Response {
            revision: crate::id::Revision(0),
            term: self.raft.term(),
            body: Body::ReadIndex,
        };
        self.answer(id, Ok(response));
    }

    /// Whether a proposal could go anywhere now. A leader lets commands gather while enough batches are
    /// on their way to the disk: that is the whole of group commit.
    pub(super) fn may_propose(&self) -> bool {
        let behind = self.backlog.bytes() >= self.config.limits.uncommitted_bytes_max;
        if self.raft.is_installing() || self.dropped || behind {
            return false;
        }
        match (self.raft.role(), self.raft.leader()) {
            (Role::Leader, _) => {
                let in_flight = self.next_seq.0 - 1 - self.synced.0;
                in_flight < self.config.limits.batches_in_flight_max as u64
            }
            (_, leader) => leader.is_some(),
        }
    }

    /// Proposes what has gathered, as few entries as the bounds allow. A proposal that raft drops (a
    /// leader that hands over) stays queued until it can be made or its requests' time is over; so does
    /// what is beyond one turn's share.
    pub(super) fn propose(&mut self) {
        if self.raft.role() != Role::Leader {
            // An expiry is this member's decision as the leader, and so is what it noted: its successor
            // has given the lease more time, and must not be handed the decision of before.
            self.queue.retain(|waiting| !waiting.is_of_lessor || waiting.id.sequence != 0);
        }
        let mut proposed = 0;
        while proposed < self.config.limits.turn_bytes_max
            && !self.queue.is_empty()
            && self.may_propose()
        {
            let audit = self.audit();
            let Some(next) = self.queue.next(audit.as_ref(), &self.config.limits) else { return };
            proposed += next.bytes;
            if self.raft.propose(next.entry.clone()) && !mutant::on(19) {
                self.queue.proposed(&next);
            } else {
                self.dropped = true;
            }
            if mutant::on(19) {
                self.queue.retain(|waiting| waiting.id.sequence != 0);
            }
        }
    }

    /// Answers the requests whose time is over. Whether their commands take effect stays open.
    pub(super) fn expire_requests(&mut self, now: Instant, out: &mut Output) {
        let (member, incarnation) = (self.config.member, self.config.incarnation);
        let lost_lately =
            self.leader_lost.is_some_and(|at| now.since(at) <= self.config.limits.request_timeout);
        let own = self.config.member;
        let cut_off = |leader| leader != own && !self.members.is_connected(leader);
        let late = if lost_lately {
            Rejection::TimeoutLeaderFail
        } else if self.raft.leader().is_some_and(cut_off) {
            Rejection::TimeoutConnectionLost
        } else {
            Rejection::Timeout
        };
        let mut failed = 0;
        while let Some((sequence, first)) = self.pending.first_late(now) {
            failed += usize::from(first.is_proposal);
            let id = RequestId { member, incarnation, sequence };
            let late = if self.waited_for_alarm(sequence) { Rejection::NoSpace } else { late };
            self.answer(id, Err(late));
        }
        if failed > 0 {
            out.facts.push(Fact::ProposalsFailed { commands: failed });
        }
        let pending = &self.pending;
        self.members.expire(now, |sequence| pending.contains(sequence));
        self.queue
            .retain(|waiting| waiting.id.sequence == 0 || pending.contains(waiting.id.sequence));
        self.reads.retain(|reader| match reader {
            Reader::Request(id) => pending.contains(id.sequence),
            Reader::Lease(work) => work.deadline > now,
        });
        self.forwarded.retain(|_, forwarded| pending.contains(forwarded.request.sequence));
        self.expiring.retain(|_, waiting| {
            waiting.retain(|work| work.deadline > now);
            !waiting.is_empty()
        });
    }
}
