//! An edge on a thread of its own: its sessions and streams, and the two boxes between it and the
//! driver's thread.
//!
//! What its connections ask in one turn of theirs goes to the driver as one batch, and what a turn of
//! the driver has for it comes as one ([`crate::router`]). Nothing crosses threads for a single
//! request.
//!
//! Leaves out threads, sockets and how a connection comes here ([`crate::edge_threads`]): in a
//! simulated network the same worker is a task beside the driver's.
//!
//! Laws:
//!  1. A box is locked to put something in or to swap it out, never while anything is worked on.
//!  2. What has come is taken up before a client is listened to, so that an edge never serves from
//!     less than what another client of this member has been told (law 2 of the router).
//!  3. The box to the driver holds at most as many requests as may be pending, and one batch; what does
//!     not fit waits, and new requests are refused.
//!
//! Worked example: 16 puts come on two connections. The worker's task runs once, puts 16 requests into
//! the box and rings; the driver's turn takes all of them. Its answers come back in one box, and one
//! ring.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::time::Instant;
use holdfast_core::watch::HubCounts;
use holdfast_net::call::FromClient;
use holdfast_net::grpc::{self, GrpcOptions, Services, Streams};
use holdfast_storage::snapshot::Snapshot;
use tokio::sync::Notify;

use crate::auth::vault::Vault;
use crate::edge::{Edge, EdgeConfig};
use crate::host::Event;
use crate::member::{MemberConfig, RuntimeTimer, STREAM_BYTES_MAX, edge_config, sessions_config};
use crate::router::{Letters, Mail, MailBounds, Post};
use crate::runtime::Runtime;
use crate::session::Sessions;

/// How soon requests that found the box full are offered again.
const RETRY: Duration = Duration::from_millis(10);

/// Between the driver's thread and one further edge's.
pub struct EdgePost {
    mail: Mutex<Mail>,
    /// Whether there is mail, so that who only looks takes no lock.
    has_mail: AtomicBool,
    requests: Mutex<Vec<Event>>,
    requests_max: usize,
    /// Rung for the edge's worker, and for the driver's.
    bell: Notify,
    driver: Arc<Notify>,
    connections: AtomicUsize,
    stopping: AtomicBool,
}

impl EdgePost {
    /// Empty boxes of an edge; `driver` is rung when there is something in the one to the driver.
    pub fn new(config: &EdgeConfig, driver: Arc<Notify>) -> EdgePost {
        EdgePost {
            mail: Mutex::new(Mail::new(MailBounds::of(config))),
            has_mail: AtomicBool::new(false),
            requests: Mutex::default(),
            requests_max: config.limits.pending_commands_max,
            bell: Notify::new(),
            driver,
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// Moves what the edge asks into the driver's inbox.
    pub fn collect(&self, inbox: &mut Vec<Event>) {
        inbox.append(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes the worker.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Tells the worker to stop: no new calls, streams end, connections drain.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Connections that are this edge's, on their way to it included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Offers requests to the driver, as many as fit (law 3).
    fn offer(&self, batch: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= self.requests_max {
            return;
        }
        let rung = !requests.is_empty();
        requests.append(batch);
        drop(requests);
        if !rung {
            self.driver.notify_one();
        }
    }

    fn take(&self, letters: &mut Letters) {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_mail.store(false, Ordering::Release);
        mail.take(letters);
    }

    fn rest(&self, attentive: bool) -> bool {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).rest(attentive)
    }
}

/// A panic in a thread that holds a box ends the process; no box is left half filled before.
impl Post for Arc<EdgePost> {
    fn put(&self, put: &mut dyn FnMut(&mut Mail) -> bool) {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = put(&mut mail);
        self.has_mail.store(true, Ordering::Release);
        drop(mail);
        if wake {
            self.ring();
        }
    }
}

/// A connection counts as its edge's for as long as this lives.
pub struct Counted(Arc<EdgePost>);

impl Counted {
    /// One more.
    pub fn new(post: &Arc<EdgePost>) -> Counted {
        post.connections.fetch_add(1, Ordering::AcqRel);
        Counted(post.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a further edge is made of; it goes to the edge's thread.
pub struct EdgeSeed {
    /// From 1 on.
    pub number: usize,
    /// Its boxes.
    pub post: Arc<EdgePost>,
    /// Its member's.
    config: MemberConfig,
    snapshot: Snapshot,
}

impl EdgeSeed {
    /// Edge `number` of a member whose state is `snapshot` when its first turn comes.
    pub(crate) fn new(
        number: usize,
        config: &MemberConfig,
        snapshot: Snapshot,
        driver: Arc<Notify>,
    ) -> EdgeSeed {
        let post = Arc::new(EdgePost::new(&edge_config(config, number), driver));
        EdgeSeed { number, post, config: config.clone(), snapshot }
    }
}

/// See the module.
pub struct EdgeWorker<R: Runtime> {
    sessions: Rc<RefCell<Sessions>>,
    streams: Rc<Streams>,
    post: Arc<EdgePost>,
    letters: RefCell<Letters>,
    options: GrpcOptions,
    runtime: R,
    stopped: Cell<bool>,
}

impl<R: Runtime> EdgeWorker<R> {
    /// The worker of `seed`, on its own thread's runtime, whose clock is its member's.
    pub fn new(seed: EdgeSeed, runtime: R, vault: Box<dyn Vault>) -> Rc<EdgeWorker<R>> {
        let EdgeSeed { number, post, config, snapshot } = seed;
        let worker = u8::try_from(number).expect("the configuration bounds the edges");
        let streams = Rc::new(Streams::new(worker, STREAM_BYTES_MAX));
        let edge = Edge::new(edge_config(&config, number), snapshot, vault);
        let bell = post.clone();
        let wake: Rc<dyn Fn()> = Rc::new(move || bell.ring());
        let sessions =
            Sessions::new(edge, sessions_config(&config, &runtime, streams.clone(), wake));
        let mut options = GrpcOptions::new(Rc::new(RuntimeTimer(runtime.clone())));
        *options = config.connections;
        Rc::new(EdgeWorker {
            sessions: Rc::new(RefCell::new(sessions)),
            streams,
            post,
            letters: RefCell::default(),
            options,
            runtime,
            stopped: Cell::new(false),
        })
    }

    /// Serves a connection, of which `first` has been read, until it is over.
    pub async fn serve(self: Rc<EdgeWorker<R>>, io: R::Stream, first: Bytes) {
        let (streams, options) = (self.streams.clone(), self.options.clone());
        let services: Rc<RefCell<dyn Services>> = Rc::new(RefCell::new(Listening(self)));
        // What the client did wrong, or what became of its socket: nothing has to be done about it.
        drop(grpc::serve(io, first, services, streams, options).await);
    }

    /// Runs for as long as it is polled.
    pub async fn run(&self) {
        let mut batch = Vec::new();
        loop {
            self.look_for_stop();
            self.take_up();
            if batch.is_empty() {
                self.sessions.borrow_mut().collect(&mut batch);
            }
            self.post.offer(&mut batch);
            let (mut deadline, attentive) = self.deliver();
            if !batch.is_empty() {
                deadline = self.runtime.now() + RETRY;
            }
            self.wait(deadline, attentive).await;
        }
    }

    /// How much is watched at this edge.
    pub fn watched(&self) -> HubCounts {
        self.sessions.borrow_mut().edge().watches().0.counts()
    }

    /// Hands out what is ready; tells when there is more without anything coming, and whether a new
    /// state may bring something.
    fn deliver(&self) -> (Instant, bool) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.deliver();
        (sessions.deadline(), sessions.view().is_attentive())
    }

    fn look_for_stop(&self) {
        if self.post.stopping.load(Ordering::Acquire) && !self.stopped.replace(true) {
            self.sessions.borrow_mut().stop();
            self.streams.drain();
        }
    }

    /// Gives the edge what has come for it.
    fn take_up(&self) {
        if self.post.has_mail.load(Ordering::Acquire) {
            let mut letters = self.letters.borrow_mut();
            self.post.take(&mut letters);
            letters.deliver(self.runtime.now(), self.sessions.borrow_mut().edge());
        }
    }

    async fn wait(&self, deadline: Instant, attentive: bool) {
        let now = self.runtime.now();
        if !self.post.rest(attentive) || deadline <= now {
            // Connections get their turn between two of ours.
            return tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            () = self.post.bell.notified() => {}
            () = self.runtime.sleep(deadline.since(now)) => {}
        }
    }
}

/// A worker's sessions, as its connections reach them (law 2).
struct Listening<R: Runtime>(Rc<EdgeWorker<R>>);

impl<R: Runtime> Services for Listening<R> {
    fn handle(&mut self, event: FromClient) {
        self.0.take_up();
        self.0.sessions.borrow_mut().handle(event);
    }

    fn batch_end(&mut self) {
        self.0.sessions.borrow_mut().batch_end();
    }
}
