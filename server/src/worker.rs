//! The shell around a driver: waits, collects the inbox, turns, hands out what came of it.
//!
//! Everything of a member runs as tasks of one thread: this one, one for each client connection, one
//! for each peer; and of further threads that only serve clients, if there are any
//! ([`crate::edge_worker`]). Between threads go disk orders, and in batches what those edges ask and
//! are given.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_core::fact::Fact;
use holdfast_core::id::{MemberId, RequestId};
use holdfast_core::membership::Membership;
use holdfast_core::message::Message;
use holdfast_core::rejection::Rejection;
use holdfast_core::response::Response;
use holdfast_core::status::Status;
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
pub use holdfast_storage::disk::DiskQueue;
use holdfast_storage::disk::{Completion, DiskOp, Owner, Token};
use tokio::sync::Notify;

use crate::driver::Driver;
use crate::edge_worker::EdgePost;
use crate::host::{Event, Host, Publication};
use crate::observer::Observer;
use crate::peers::Peers;
use crate::router::{Post, Router};
use crate::runtime::Runtime;
use crate::session::Sessions;

/// What a turn hands to the sessions, in order.
enum Out {
    Publish(Publication),
    Reply(RequestId, Result<Response, Rejection>),
    Turned(Status, Vec<Fact>),
    Warn(String),
}

/// [`Host`] for a real server and for one in a simulated network alike.
pub struct WorkerHost<R: Runtime> {
    runtime: R,
    disk: Rc<dyn DiskQueue>,
    peers: Rc<Peers>,
    out: Vec<Out>,
    /// The log's writes under way: since when, and of how many bytes.
    writes: BTreeMap<Token, (Instant, u64)>,
}

impl<R: Runtime> WorkerHost<R> {
    /// A host over a runtime's clock, a disk and the peers.
    pub fn new(runtime: R, disk: Rc<dyn DiskQueue>, peers: Rc<Peers>) -> WorkerHost<R> {
        WorkerHost { runtime, disk, peers, out: Vec::new(), writes: BTreeMap::new() }
    }
}

impl<R: Runtime> Host for WorkerHost<R> {
    fn now(&self) -> Instant {
        self.runtime.now()
    }

    fn submit(&mut self, token: Token, op: DiskOp) {
        if let (Owner::Wal, DiskOp::Write { parts, .. }) = (token.owner, &op) {
            let bytes = parts.iter().map(|(_, part)| part.len() as u64).sum();
            self.writes.insert(token, (self.runtime.now(), bytes));
        }
        self.disk.submit(token, op);
    }

    fn kick(&mut self) {
        self.disk.kick();
    }

    fn send(&mut self, to: MemberId, message: Message) {
        self.peers.send(to, message);
    }

    fn publish(&mut self, publication: Publication) {
        self.out.push(Out::Publish(publication));
    }

    fn reply(&mut self, id: RequestId, result: Result<Response, Rejection>) {
        self.out.push(Out::Reply(id, result));
    }

    fn membership(&mut self, membership: Membership) {
        self.peers.update(&self.runtime, membership);
    }

    fn warn(&mut self, message: &str) {
        self.out.push(Out::Warn(message.to_string()));
    }

    fn turned(&mut self, status: Status, facts: &[Fact]) {
        self.out.push(Out::Turned(status, facts.to_vec()));
    }
}

/// A driver and all that is around it.
pub struct Worker<R: Runtime> {
    /// Collects and answers.
    pub sessions: Rc<RefCell<Sessions>>,
    /// What the edges of other threads ask.
    pub further: Vec<Arc<EdgePost>>,
    /// Sends and receives.
    pub peers: Rc<Peers>,
    /// Writes.
    pub disk: Rc<dyn DiskQueue>,
    /// Rung when there is something in one of the inboxes.
    pub wake: Arc<Notify>,
    /// Gets every fact and the status after each turn.
    pub observer: Rc<dyn Observer>,
    /// Time and tasks.
    pub runtime: R,
}

impl<R: Runtime> Worker<R> {
    /// Runs `driver` until a fault stops it.
    pub async fn run(&self, mut driver: Driver<WorkerHost<R>>) -> Fault {
        let mut inbox = Vec::new();
        let mut completions = Vec::new();
        let posts = self.further.iter().map(|post| -> Rc<dyn Post> { Rc::new(post.clone()) });
        let mut router = Router::new(posts.collect());
        loop {
            self.sessions.borrow_mut().collect(&mut inbox);
            self.further.iter().for_each(|post| post.collect(&mut inbox));
            self.disk.reap(&mut completions);
            self.observe_writes(&mut driver, &completions);
            inbox.extend(completions.drain(..).map(Event::Completed));
            self.peers.collect(&mut inbox);
            if let Err(fault) = driver.turn(&mut inbox) {
                return fault;
            }
            self.peers.set_hello(driver.hello());
            self.deliver(&mut driver, &mut router);
            let deadline = driver.deadline().min(self.sessions.borrow().deadline());
            self.wait(deadline).await;
        }
    }

    fn observe_writes(&self, driver: &mut Driver<WorkerHost<R>>, completions: &[Completion]) {
        for completion in completions {
            if let Some((since, bytes)) = driver.host_mut().writes.remove(&completion.token) {
                self.observer.synced(bytes, self.runtime.now().since(since));
            }
        }
    }

    fn deliver(&self, driver: &mut Driver<WorkerHost<R>>, router: &mut Router) {
        let now = self.runtime.now();
        let mut sessions = self.sessions.borrow_mut();
        for out in driver.host_mut().out.drain(..) {
            match out {
                Out::Publish(publication) => router.published(now, publication, sessions.edge()),
                Out::Reply(id, result) => router.replied((id, result), sessions.edge()),
                Out::Warn(message) => self.observer.warn(&message),
                Out::Turned(status, facts) => {
                    router.turned(status, &facts, sessions.edge());
                    let warnings = sessions.edge().take_warnings();
                    warnings.iter().for_each(|warning| self.observer.warn(warning));
                    self.observer.turned(&status, &facts);
                }
            }
        }
        sessions.deliver();
    }

    /// The one place where the driver waits.
    async fn wait(&self, deadline: Instant) {
        let now = self.runtime.now();
        if deadline <= now {
            // Connections and peers get their turn between two of ours.
            return tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = self.runtime.sleep(deadline.since(now)) => {}
        }
    }
}
