//! A member's edges: the first has its turns with the driver, the further ones later, behind the
//! shipped router, as threads of their own would.
//!
//! Leaves out what an edge is ([`super::front`]). Worked example: a turn of the driver answers a
//! request of edge 1, whose bell rings; 800 µs later edge 1 has its turn and finds the answer in its
//! box, together with the states of three more turns.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_server::edge::Edge;
use holdfast_server::host::Event;
use holdfast_server::router::{Letters, Mail, MailBounds, Post, Router, least_loaded};

use super::World;
use super::front::Front;
use super::member::{Life, OWN, text_of};
use crate::clock::Moment;
use crate::history::OpId;

/// The box of a further edge.
pub(super) struct SimPost {
    mail: RefCell<Mail>,
    rung: Cell<bool>,
}

impl SimPost {
    pub(super) fn new(bounds: MailBounds) -> Rc<SimPost> {
        Rc::new(SimPost { mail: RefCell::new(Mail::new(bounds)), rung: Cell::new(false) })
    }

    /// Gives the edge what has come for it.
    pub(super) fn take_up(&self, now: Instant, edge: &mut Edge) {
        let mut letters = Letters::default();
        self.mail.borrow_mut().take(&mut letters);
        letters.deliver(now, edge);
    }
}

impl Post for SimPost {
    fn put(&self, put: &mut dyn FnMut(&mut Mail) -> bool) {
        if put(&mut self.mail.borrow_mut()) {
            self.rung.set(true);
        }
    }
}

/// An edge that is not the driver's.
pub(super) struct Further {
    pub front: Front,
    pub post: Rc<SimPost>,
    /// Its requests, until the driver's next turn.
    offered: Vec<Event>,
    /// When it has its next turn.
    due: Moment,
}

/// All edges of a member.
pub(super) struct Edges {
    pub first: Front,
    further: Vec<Further>,
    pub router: Router,
}

impl Edges {
    pub(super) fn new(first: Front, further: Vec<(Front, Rc<SimPost>)>) -> Edges {
        let posts = further.iter().map(|(_, post)| -> Rc<dyn Post> { post.clone() }).collect();
        let further = further.into_iter().map(|(front, post)| {
            let (offered, due) = (Vec::new(), Moment::NEVER);
            Further { front, post, offered, due }
        });
        Edges { first, further: further.collect(), router: Router::new(posts) }
    }

    /// The edge that takes the `n`th of something.
    pub(super) fn place_of(&self, n: usize) -> usize {
        n % (1 + self.further.len())
    }

    /// The edge that a new connection is given to.
    pub(super) fn place_of_connection(&self) -> usize {
        least_loaded(self.fronts().map(|(_, front)| match front {
            Front::Served(served) => served.held().2,
            Front::Direct(_) => 0,
        }))
    }

    pub(super) fn front(&mut self, place: usize) -> &mut Front {
        match place.checked_sub(1) {
            None => &mut self.first,
            Some(further) => &mut self.further[further].front,
        }
    }

    pub(super) fn fronts(&self) -> impl Iterator<Item = (usize, &Front)> {
        let further = self.further.iter().map(|further| &further.front);
        std::iter::once(&self.first).chain(further).enumerate()
    }

    pub(super) fn fronts_mut(&mut self) -> impl Iterator<Item = (usize, &mut Front)> {
        let further = self.further.iter_mut().map(|further| &mut further.front);
        std::iter::once(&mut self.first).chain(further).enumerate()
    }

    /// Moves what further edges have asked to the driver's inbox.
    pub(super) fn collect_offered(&mut self, inbox: &mut Vec<Event>) {
        self.further.iter_mut().for_each(|further| inbox.append(&mut further.offered));
    }

    /// Whether there is something to collect.
    pub(super) fn has_offered(&self) -> bool {
        self.further.iter().any(|further| !further.offered.is_empty())
    }

    /// When the next of the further edges has its turn.
    pub(super) fn next_due(&self) -> Moment {
        self.further.iter().map(|further| further.due).min().unwrap_or(Moment::NEVER)
    }
}

impl World {
    /// Something came for an edge of a member.
    pub(super) fn poke_edge(&mut self, member: usize, place: usize) {
        if place == 0 {
            return self.poke(member);
        }
        let delay = Duration::from_nanos(5_000 + self.edge_delay(member));
        let due = self.now.after(delay);
        if let Some(life) = &mut self.members[member].life {
            let further = &mut life.edges.further[place - 1];
            further.due = further.due.min(due);
            let due = further.due;
            self.wake(member, due);
        }
    }

    /// How late a thread comes to what it was woken for.
    fn edge_delay(&mut self, member: usize) -> u64 {
        let longest = self.swarm.edge_delay.as_nanos() as u64;
        let rng = &mut self.members[member].rng;
        if rng.chance(20) { rng.below(longest + 1) } else { rng.below(60_000) }
    }

    /// The further edges whose time has come have their turns.
    pub(super) fn run_edges(&mut self, member: usize, life: &mut Life, now: Instant) {
        for place in 0..life.edges.further.len() {
            if life.edges.further[place].post.rung.take() {
                let due = self.now.after(Duration::from_nanos(self.edge_delay(member)));
                let further = &mut life.edges.further[place];
                further.due = further.due.min(due);
            }
            if life.edges.further[place].due > self.now {
                continue;
            }
            let further = &mut life.edges.further[place];
            let ran = catch_unwind(AssertUnwindSafe(|| self.run_edge(member, further, now)));
            if let Err(panic) = ran {
                let what = text_of(&*panic);
                self.broke("P0", format!("edge {} of member {member} panics: {what}", place + 1));
            }
        }
    }

    fn run_edge(&mut self, member: usize, further: &mut Further, now: Instant) {
        let Further { front, post, offered, due } = further;
        front.with_edge(|edge| post.take_up(now, edge));
        front.collect(now, offered, &mut self.requests);
        self.deliver(member, front, now);
        let attentive = front.with_edge(|edge| edge.is_attentive());
        let rests = post.mail.borrow_mut().rest(attentive);
        let slot = &self.members[member];
        let busy = !rests || front.is_woken() || !offered.is_empty();
        let when = if busy { self.now } else { slot.clock.when(front.deadline()) };
        *due = when.max(self.now.after(Duration::from_micros(20)));
    }

    /// What an edge has to say leaves.
    pub(super) fn deliver(&mut self, member: usize, front: &mut Front, now: Instant) {
        match front {
            Front::Direct(direct) => {
                let mut answers = Vec::new();
                direct.edge.take_answers(now, &mut answers);
                for (call, answered) in answers {
                    if call != OWN {
                        self.send_answer(member, OpId(call.0 as usize), answered);
                    }
                }
                self.serve_watches(member, direct, now);
            }
            Front::Served(served) => served.deliver(now),
        }
    }
}
