//! What operators ask of one member: to hand over its leadership, and to give back space.

use holdfast_core::id::MemberId;
use holdfast_core::machine;
use holdfast_core::machine::guard::Act;
use holdfast_core::query::{Answer, AnswerBody, Header};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity};
use holdfast_core::status::Role;
use holdfast_core::time::Instant;
use holdfast_net::call::StreamId;

use super::{Edge, Waiting};
use crate::auth::Credential;
use crate::host::Event;

impl Edge {
    /// Whether a caller may do what only root may.
    ///
    /// # Errors
    /// Why not.
    pub fn permit_admin(&mut self, by: &Credential) -> Result<(), Rejection> {
        self.access.permit(&self.source.snapshot, by, Act::Admin)
    }

    /// There is nothing to give back that is not given back by itself, and nobody to stop for it.
    pub(super) fn answer_defragment(&mut self, call: StreamId, by: &Credential) {
        if !self.may(call, by, Act::Admin) {
            return;
        }
        self.reads.answers.push((call, Ok(bare(AnswerBody::Defragment))));
    }

    /// Asks for the hand-over; answered once that member leads, or refused when it has not done so in the time
    /// that a request has. (etcd leaves a caller without a deadline waiting for ever.)
    pub(super) fn move_leader(
        &mut self,
        now: Instant,
        (call, by, to): (StreamId, &Credential, MemberId),
        inbox: &mut Vec<Event>,
    ) {
        if !self.may(call, by, Act::Admin) {
            return;
        }
        let members = machine::members(&self.source.snapshot);
        let heir = members.iter().any(|member| member.id == to && !member.is_learner);
        let refusal = match (self.status.role, heir) {
            (Role::Leader, true) => None,
            (Role::Leader, false) => Some(Rejection::BadLeaderTransferee),
            _ => Some(Rejection::NotLeader),
        };
        let full = self.moving.len() >= self.config.limits.pending_commands_max;
        let refusal = refusal.or_else(|| full.then_some(Rejection::TooManyRequests));
        if let Some(rejection) = refusal {
            return self.reads.answers.push((call, Err(rejection)));
        }
        let deadline = now + self.config.limits.request_timeout;
        self.moving.push(Move { call, to, deadline });
        let waiting = Waiting::Reads(Vec::new());
        self.send(now, waiting, (Identity::SYSTEM, Ask::MoveLeader { to }), inbox);
        self.answer_moved();
    }

    /// Answers those whose member leads now, and forgets those who wait no more.
    pub(super) fn answer_moved(&mut self) {
        let (leader, cancelled) = (self.status.leader, &mut self.cancelled);
        let answers = &mut self.reads.answers;
        self.moving.retain(|Move { call, to, .. }| {
            let moved = leader == Some(*to);
            if moved {
                answers.push((*call, Ok(bare(AnswerBody::MoveLeader))));
            }
            !moved && !cancelled.remove(call)
        });
    }

    /// Refuses those whose member did not come to lead in time.
    pub(super) fn expire_moves(&mut self, now: Instant) {
        let answers = &mut self.reads.answers;
        self.moving.retain(|Move { call, deadline, .. }| {
            let late = *deadline <= now;
            if late {
                answers.push((*call, Err(Rejection::TimeoutLeaderTransfer)));
            }
            !late
        });
    }
}

/// A hand-over that a caller waits for.
#[derive(Debug)]
pub(super) struct Move {
    call: StreamId,
    to: MemberId,
    deadline: Instant,
}

fn bare(body: AnswerBody) -> Answer {
    Answer { header: Header::default(), body }
}
