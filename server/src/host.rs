//! The seam between the driver and the world it runs in: production or a simulation.
//!
//! A [`Host`] gives the time and carries orders out; what happens comes back as [`Event`]s in the
//! inbox of a later [`Driver::turn`](crate::driver::Driver::turn). Waiting for events is the business
//! of the shell around the driver, which alone is asynchronous.

use holdfast_core::auth::TokenChange;
use holdfast_core::fact::Fact;
use holdfast_core::id::{MemberId, RequestId};
use holdfast_core::membership::{Membership, Stranger};
use holdfast_core::message::{Message, PeerHello};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::Request;
use holdfast_core::response::{self, Response};
use holdfast_core::status::Status;
use holdfast_core::time::Instant;
use holdfast_storage::disk::{Completion, DiskOp, Token};
use holdfast_storage::snapshot::Snapshot;

/// What may have happened since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A session of this member asks something.
    Request(Request),
    /// A peer said something.
    Message {
        /// Who.
        from: MemberId,
        /// What.
        message: Message,
    },
    /// A connection to a peer opened, its handshake checked.
    Connected {
        /// Which peer.
        peer: MemberId,
        /// What it said of itself.
        hello: PeerHello,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// Which peer.
        peer: MemberId,
    },
    /// An edge of this member has something to say to a peer, which may be lost.
    Tell {
        /// To whom.
        to: MemberId,
        /// What.
        message: Message,
    },
    /// A disk order ended.
    Completed(Completion),
    /// A peer will not talk to this member any more, for a reason that stays: it must stop.
    Expelled(Stranger),
}

/// A new state of the store, and the changes that led to it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Reads of it see all changes up to its mark.
    pub snapshot: Snapshot,
    /// In revision order; empty when only other tables changed.
    pub events: Vec<response::Event>,
    /// What became of simple tokens, in the order of the log.
    pub tokens: Vec<TokenChange>,
    /// The store was replaced by a peer's snapshot: there are no events for what changed.
    pub restored: bool,
}

/// What the world does for a driver. Every call returns at once.
pub trait Host {
    /// This member's monotonic clock.
    fn now(&self) -> Instant;

    /// Starts a disk order; it ends as [`Event::Completed`].
    fn submit(&mut self, token: Token, op: DiskOp);

    /// All orders that are due now were submitted: a host that gathers them starts them.
    fn kick(&mut self) {}

    /// Gives a message to a peer. It may be lost.
    fn send(&mut self, to: MemberId, message: Message);

    /// Hands a new state to the edges. Every reply given later in the same turn may be read from it.
    fn publish(&mut self, publication: Publication);

    /// Answers a request.
    fn reply(&mut self, id: RequestId, result: Result<Response, Rejection>);

    /// Who there is has changed: talk to these from now on, and to no others.
    fn membership(&mut self, membership: Membership);

    /// Something an operator should read.
    fn warn(&mut self, message: &str);

    /// The end of a turn: what the node says of itself, and what happened in it.
    fn turned(&mut self, status: Status, facts: &[Fact]);
}
