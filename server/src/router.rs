//! What the driver's turns have for the edges of its member: states, answers, and how the node is.
//!
//! The first edge shares the driver's thread and is given everything at once. Each further one has a
//! thread of its own and a box, [`Mail`], that is filled turn by turn and emptied when its thread
//! comes to it. All of this is synchronous: how a box is shared and its owner woken is the
//! [`Post`]'s. The simulator runs the same router.
//!
//! Laws:
//!  1. An edge is given a state before any answer of the turn that published it, and answers in the
//!     order in which the driver gave them: what an answer names is read from the state it was made
//!     at, never from a later one, which may have forgotten it.
//!  2. Every edge is handed a state before any edge is handed an answer of that turn: what one client
//!     was told, another that asks afterwards can read, whatever thread serves it.
//!  3. A box is bounded, however long its edge stays away: answers by the edge's own requests, states
//!     by the answers between them, events and changes of tokens by [`MailBounds`]. An edge that is
//!     spared events reads them from the store; one that is spared changes of tokens knows none.
//!  4. An edge is woken at most once until it has looked, and not for what can wait until it looks:
//!     a state while nobody watches.
//!
//! Worked example: edge 1 asked for a put, nobody watches at edge 2. The turn that applies it puts the
//! state into both boxes and the answer into box 1; edge 1 is woken. Edge 2 finds the state when a
//! client next asks it something.

use std::rc::Rc;
use std::sync::Arc;

use holdfast_core::auth::TokenChange;
use holdfast_core::fact::Fact;
use holdfast_core::id::{RequestId, Revision};
use holdfast_core::mutant;
use holdfast_core::rejection::Rejection;
use holdfast_core::response::{Event, Response};
use holdfast_core::status::Status;
use holdfast_core::time::Instant;

use crate::edge::{Edge, EdgeConfig};
use crate::host::Publication;

/// States after which an edge that nobody watches at is woken all the same: the one it reads from
/// keeps memory that newer ones have given up.
const STATES_UNSEEN_MAX: usize = 64;

/// What a state counts for beside its events: while it waits, it keeps memory that newer ones have
/// given up.
const STATE_BYTES: usize = 4096;

/// What the node answered, and to whom.
type Replied = (RequestId, Result<Response, Rejection>);

/// Bounds of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailBounds {
    /// Bytes of events; a hub keeps no more of them either.
    pub events_bytes_max: usize,
    /// Changes of tokens; an edge keeps no more tokens either.
    pub tokens_max: usize,
}

impl MailBounds {
    /// Those of an edge.
    pub fn of(config: &EdgeConfig) -> MailBounds {
        let events_bytes_max = config.hub.log_bytes;
        MailBounds { events_bytes_max, tokens_max: config.auth.tokens_max }
    }
}

enum Item {
    /// With all that changed; shared by all edges.
    State(Arc<Publication>),
    /// Without its events.
    Bare(Publication),
    Reply(Replied),
}

/// What is taken out of a box at once.
#[derive(Default)]
pub struct Letters {
    items: Vec<Item>,
    status: Option<Status>,
    compacted: Option<Revision>,
}

impl Letters {
    /// Gives an edge what came for it.
    pub fn deliver(&mut self, now: Instant, edge: &mut Edge) {
        for item in self.items.drain(..) {
            match item {
                Item::State(publication) => edge.published(now, Arc::unwrap_or_clone(publication)),
                Item::Bare(publication) => edge.published(now, publication),
                Item::Reply((id, result)) => edge.replied(id, result),
            }
        }
        if let Some(status) = self.status.take() {
            let finished = self.compacted.take();
            let finished = finished.map(|revision| Fact::CompactionFinished { revision });
            edge.turned(status, finished.as_slice());
        }
    }
}

/// The box of one edge.
pub struct Mail {
    bounds: MailBounds,
    letters: Letters,
    /// Of the states with their events, all changes of tokens, and states since its edge looked.
    events_bytes: usize,
    tokens: usize,
    states: usize,
    /// How the node was when it was told last.
    told: Status,
    attentive: bool,
    /// Its edge has something to do now; it was woken since it last looked.
    due: bool,
    woken: bool,
}

impl Mail {
    /// An empty one.
    pub fn new(bounds: MailBounds) -> Mail {
        Mail {
            bounds,
            letters: Letters::default(),
            events_bytes: 0,
            tokens: 0,
            states: 0,
            told: Status::default(),
            attentive: false,
            due: false,
            woken: false,
        }
    }

    /// Takes everything out. `letters`, which is empty, lends its room.
    pub fn take(&mut self, letters: &mut Letters) {
        std::mem::swap(&mut self.letters, letters);
        (self.events_bytes, self.tokens, self.states) = (0, 0, 0);
        (self.due, self.woken) = (false, false);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.letters.items.is_empty() && self.letters.status.is_none()
    }

    /// Its edge is about to wait: with `attentive` it wants to be woken for states too. False if one is
    /// there for which it would have been.
    pub fn rest(&mut self, attentive: bool) -> bool {
        self.attentive = attentive;
        !(self.due || attentive && self.states > 0)
    }

    /// Whether the owner is to be woken now (law 4).
    fn must_wake(&mut self) -> bool {
        let wake = self.due && !self.woken;
        self.woken |= wake;
        wake
    }

    fn publish(&mut self, publication: &Arc<Publication>, events_bytes: usize) {
        self.states += 1;
        self.due |= self.attentive || self.states >= STATES_UNSEEN_MAX;
        self.tokens += publication.tokens.len();
        if self.attentive {
            self.events_bytes += events_bytes + STATE_BYTES;
        }
        let (many, lost) = (
            self.events_bytes > self.bounds.events_bytes_max,
            self.tokens > self.bounds.tokens_max,
        );
        if self.attentive && !many && !lost {
            return self.letters.items.push(Item::State(publication.clone()));
        }
        if many || lost {
            self.strip(lost);
        }
        let mut state = bare(publication);
        if lost {
            // As after a peer's snapshot: whoever had a token logs in again.
            state.tokens.clear();
            state.restored = true;
        }
        self.push_bare(state);
    }

    /// Takes the events out, and the changes of tokens if they are `lost` (law 3).
    fn strip(&mut self, lost: bool) {
        self.events_bytes = 0;
        if lost {
            self.tokens = 0;
        }
        for item in std::mem::take(&mut self.letters.items) {
            let mut state = match item {
                Item::State(publication) => bare(&publication),
                Item::Bare(publication) => publication,
                Item::Reply(_) => {
                    self.letters.items.push(item);
                    continue;
                }
            };
            if lost {
                state.tokens.clear();
            }
            self.push_bare(state);
        }
    }

    /// Adds a state without events: together with the one before, if no answer stands between. What
    /// they leave out is a gap that the hub sees.
    fn push_bare(&mut self, state: Publication) {
        let Some(Item::Bare(last)) = self.letters.items.last_mut() else {
            return self.letters.items.push(Item::Bare(state));
        };
        if state.restored {
            last.tokens.clear();
        }
        last.restored |= state.restored;
        last.tokens.extend(state.tokens);
        last.snapshot = state.snapshot;
    }

    fn reply(&mut self, replies: &mut Vec<Replied>) {
        self.due |= !replies.is_empty();
        self.letters.items.extend(replies.drain(..).map(Item::Reply));
    }

    fn turned(&mut self, status: Status, compacted: Option<Revision>) {
        let told = std::mem::replace(&mut self.told, status);
        let news = (told.term, told.leader, told.role) != (status.term, status.leader, status.role);
        self.due |= news || compacted.is_some();
        self.letters.status = Some(status);
        self.letters.compacted = compacted.or(self.letters.compacted);
    }
}

/// A state without its events.
fn bare(publication: &Publication) -> Publication {
    let Publication { snapshot, tokens, restored, .. } = publication;
    let (snapshot, tokens): (_, Vec<TokenChange>) = (snapshot.clone(), tokens.clone());
    Publication { snapshot, events: Vec::new(), tokens, restored: *restored }
}

/// Where the box of a further edge is.
pub trait Post {
    /// Lets `put` see to the box, alone; if it says so, the box's owner is woken afterwards.
    fn put(&self, put: &mut dyn FnMut(&mut Mail) -> bool);
}

/// See the module. One turn is `published` at most once, then `replied` for each answer, then
/// `turned`.
pub struct Router {
    further: Vec<Further>,
    told: Status,
    /// Only a mutant has one.
    withheld: Option<Arc<Publication>>,
}

struct Further {
    post: Rc<dyn Post>,
    replies: Vec<Replied>,
    /// It was given a state in this turn.
    published: bool,
}

impl Router {
    /// For a member whose further edges, from number 1 on, have their boxes there.
    pub fn new(posts: Vec<Rc<dyn Post>>) -> Router {
        let further = posts.into_iter();
        let further = further.map(|post| Further { post, replies: Vec::new(), published: false });
        Router { further: further.collect(), told: Status::default(), withheld: None }
    }

    /// The driver has published a state; `first` is the edge of its own thread.
    pub fn published(&mut self, now: Instant, publication: Publication, first: &mut Edge) {
        if self.further.is_empty() {
            return first.published(now, publication);
        }
        let publication = Arc::new(publication);
        if mutant::on(78) {
            self.withheld = Some(publication.clone());
        } else {
            self.post(&publication);
        }
        first.published(now, Arc::unwrap_or_clone(publication));
    }

    /// The driver has answered a request.
    pub fn replied(&mut self, reply: Replied, first: &mut Edge) {
        match reply.0.edge() {
            0 => first.replied(reply.0, reply.1),
            // A number that no edge has given is nobody's.
            edge => {
                if let Some(further) = self.further.get_mut(edge - 1) {
                    further.replies.push(reply);
                }
            }
        }
    }

    /// The end of the driver's turn.
    pub fn turned(&mut self, status: Status, facts: &[Fact], first: &mut Edge) {
        first.turned(status, facts);
        let compacted = facts.iter().rev().find_map(|fact| match fact {
            Fact::CompactionFinished { revision } => Some(*revision),
            _ => None,
        });
        let news = std::mem::replace(&mut self.told, status) != status || compacted.is_some();
        for Further { post, replies, published } in &mut self.further {
            if news || *published || !replies.is_empty() {
                post.put(&mut |mail| {
                    mail.reply(replies);
                    mail.turned(status, compacted);
                    mail.must_wake()
                });
            }
            *published = false;
        }
        if let Some(publication) = self.withheld.take() {
            self.post(&publication);
        }
    }

    fn post(&mut self, publication: &Arc<Publication>) {
        let events_bytes = publication.events.iter().map(Event::size).sum();
        for Further { post, published, .. } in &mut self.further {
            *published = true;
            post.put(&mut |mail| {
                mail.publish(publication, events_bytes);
                false
            });
        }
    }
}

/// Which of a member's edges a new connection is given to: the one with the fewest, the lower of equals.
pub fn least_loaded(connections: impl IntoIterator<Item = usize>) -> usize {
    let edges = connections.into_iter().enumerate();
    edges.min_by_key(|(_, connections)| *connections).map_or(0, |(edge, _)| edge)
}

#[cfg(test)]
mod tests;
