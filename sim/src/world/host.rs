//! The simulated [`Host`]: collects a turn's orders; the world carries them out afterwards.

use holdfast_core::fact::Fact;
use holdfast_core::id::{MemberId, RequestId};
use holdfast_core::membership::Membership;
use holdfast_core::message::Message;
use holdfast_core::rejection::Rejection;
use holdfast_core::response::Response;
use holdfast_core::status::Status;
use holdfast_core::time::Instant;
use holdfast_server::host::{Host, Publication};
use holdfast_storage::disk::{DiskOp, Token};

/// One order of a driver.
pub(super) enum Order {
    Submit(Token, DiskOp),
    Send(MemberId, Message),
    Publish(Publication),
    Reply(RequestId, Result<Response, Rejection>),
    Membership(Membership),
}

/// See the module.
#[derive(Default)]
pub(super) struct SimHost {
    /// What the member's clock shows during this turn.
    pub now: Instant,
    /// Orders of this turn, in sequence.
    pub orders: Vec<Order>,
    /// Facts of this turn.
    pub facts: Vec<Fact>,
    /// What the node last said of itself.
    pub status: Status,
}

impl Host for SimHost {
    fn now(&self) -> Instant {
        self.now
    }

    fn submit(&mut self, token: Token, op: DiskOp) {
        self.orders.push(Order::Submit(token, op));
    }

    fn send(&mut self, to: MemberId, message: Message) {
        self.orders.push(Order::Send(to, message));
    }

    fn publish(&mut self, publication: Publication) {
        self.orders.push(Order::Publish(publication));
    }

    fn reply(&mut self, id: RequestId, result: Result<Response, Rejection>) {
        self.orders.push(Order::Reply(id, result));
    }

    fn membership(&mut self, membership: Membership) {
        self.orders.push(Order::Membership(membership));
    }

    fn warn(&mut self, _message: &str) {}

    fn turned(&mut self, status: Status, facts: &[Fact]) {
        self.status = status;
        self.facts.extend_from_slice(facts);
    }
}
