//! A member's clients' side as it is shipped: `grpc::serve` for each connection and one `Sessions`, run
//! by hand.
//!
//! A task is polled only when its waker was called, and a timer calls it only when its time has come on
//! the member's clock: a wake-up that is lost is lost here too.
//!
//! Leaves out the driver, and where bytes come from ([`super::lines`]). Worked example: a piece of a
//! request arrives and wakes its connection's task; the member's next turn polls it, hands the request
//! to the driver, and polls it again for the answer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::RequestId;
use holdfast_core::limits::Limits;
use holdfast_core::time::Instant;
use holdfast_net::call::{FromClient, StreamId};
use holdfast_net::grpc::{GrpcOptions, ServeError, Services, Sleep, Streams, Timer, serve};
use holdfast_net::wire::{Origin, WireLimits};
use holdfast_server::edge::Edge;
use holdfast_server::host::Event;
use holdfast_server::session::{Sessions, SessionsConfig};

use super::edges::SimPost;
use crate::checker::Requests;
use crate::history::OpId;
use crate::pipe::Socket;
use crate::swarm::transport::TransportMix;
use crate::wire::request::op_of;

/// How often one turn may come back to a task that goes on waking itself.
const PASSES: usize = 4;

/// Calls that wait for a reply, watch streams, connections.
pub(super) type Held = (usize, usize, usize);

/// Whose requests are whose.
#[derive(Default)]
struct Asked {
    /// Those that were made at once of what was asked.
    made: Vec<(RequestId, OpId)>,
    /// The calls of clients: what waits for its token, or for a password, becomes a request later.
    calls: BTreeMap<StreamId, OpId>,
}

/// See the module.
pub(super) struct Served {
    sessions: Rc<RefCell<Sessions>>,
    streams: Rc<Streams>,
    alarms: Rc<Alarms>,
    /// Where a further edge finds what the driver has for it.
    post: Option<Rc<SimPost>>,
    asked: Rc<RefCell<Asked>>,
    options: GrpcOptions,
    tasks: BTreeMap<u64, Task>,
    /// It was told to stop.
    pub stopping: bool,
    ended: Vec<(u64, Result<(), ServeError>)>,
    polled: BTreeSet<u64>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = Result<(), ServeError>>>>,
    flag: Arc<Flag>,
}

/// Who a member is and what bounds it.
pub(super) struct ServedConfig<'a> {
    pub origin: Origin,
    pub limits: &'a Limits,
    pub mix: &'a TransportMix,
    /// Which of its edges this is, and where it finds what the driver has for it.
    pub place: usize,
    pub post: Option<Rc<SimPost>>,
}

impl Served {
    pub(super) fn new(edge: Edge, now: Instant, config: &ServedConfig<'_>) -> Served {
        let alarms = Rc::new(Alarms::new(now));
        let streams = Rc::new(Streams::new(config.place as u8, config.mix.stream_bytes_max));
        let clock = alarms.clone();
        let limits = config.limits;
        let sessions = SessionsConfig {
            origin: config.origin,
            limits: WireLimits {
                txn_ops_max: limits.txn_ops_max,
                request_bytes_max: limits.request_bytes_max,
            },
            election_timeout: limits.election_timeout,
            streams: streams.clone(),
            clock: Rc::new(move || clock.now.get()),
            // The driver looks at its inbox in every turn of its member, and a task that runs has one.
            wake: Rc::new(|| ()),
        };
        let mut options = GrpcOptions::new(Rc::new(AlarmClock(alarms.clone())));
        *options = config.mix.options.clone();
        Served {
            sessions: Rc::new(RefCell::new(Sessions::new(edge, sessions))),
            streams,
            alarms,
            post: config.post.clone(),
            asked: Rc::default(),
            options,
            tasks: BTreeMap::new(),
            stopping: false,
            ended: Vec::new(),
            polled: BTreeSet::new(),
        }
    }

    /// A client has connected; `first` was read from it already.
    pub(super) fn accept(&mut self, connection: u64, socket: Socket, first: Bytes) {
        let tap = Tap {
            sessions: self.sessions.clone(),
            post: self.post.clone(),
            alarms: self.alarms.clone(),
            asked: self.asked.clone(),
        };
        let services: Rc<RefCell<dyn Services>> = Rc::new(RefCell::new(tap));
        let options = self.options.clone();
        let future = Box::pin(serve(socket, first, services, self.streams.clone(), options));
        self.tasks.insert(connection, Task { future, flag: Arc::new(Flag(true.into())) });
    }

    /// Polls what was woken.
    pub(super) fn run(&mut self, now: Instant) {
        self.alarms.ring(now);
        for _ in 0..PASSES {
            let woken = self.tasks.iter().filter(|(_, task)| task.flag.take());
            let woken: Vec<u64> = woken.map(|(connection, _)| *connection).collect();
            if woken.is_empty() {
                return;
            }
            for connection in woken {
                let Some(task) = self.tasks.get_mut(&connection) else { continue };
                self.polled.insert(connection);
                let waker = Waker::from(task.flag.clone());
                let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(result) = polled {
                    self.tasks.remove(&connection);
                    self.ended.push((connection, result));
                }
            }
        }
    }

    /// Whether a task waits to be polled.
    pub(super) fn is_woken(&self) -> bool {
        self.tasks.values().any(|task| task.flag.0.load(Ordering::Relaxed))
    }

    /// Connections that have ended since the last time, and why.
    pub(super) fn take_ended(&mut self) -> Vec<(u64, Result<(), ServeError>)> {
        std::mem::take(&mut self.ended)
    }

    /// Connections that may have something to say since the last time.
    pub(super) fn take_polled(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.polled)
    }

    /// Moves requests to the driver's inbox, and notes whose they are.
    pub(super) fn collect(&mut self, inbox: &mut Vec<Event>, requests: &mut Requests) {
        let before = inbox.len();
        self.sessions.borrow_mut().collect(inbox);
        let mut asked = self.asked.borrow_mut();
        for event in &inbox[before..] {
            if let Event::Request(request) = event
                && let Some(call) = self.sessions.borrow().view().asker(request.id)
                && let Some(op) = asked.calls.get(&call)
            {
                requests.ops.insert(request.id, *op);
            }
        }
        requests.ops.extend(asked.made.drain(..));
    }

    /// Hands out what a turn has come to, and lets the connections send it.
    pub(super) fn deliver(&mut self, now: Instant) {
        self.sessions.borrow_mut().deliver();
        self.run(now);
    }

    pub(super) fn with_edge<T>(&mut self, look: impl FnOnce(&mut Edge) -> T) -> T {
        look(self.sessions.borrow_mut().edge())
    }

    /// What a process does that is told to stop.
    pub(super) fn stop(&mut self, now: Instant) {
        self.alarms.now.set(now);
        self.stopping = true;
        if self.post.is_none() {
            self.sessions.borrow_mut().hand_over();
        }
        self.sessions.borrow_mut().stop();
        self.streams.drain();
    }

    /// What it holds: calls that wait for a reply, watch streams, connections.
    pub(super) fn held(&self) -> Held {
        let watches = self.sessions.borrow_mut().edge().watches().0.counts().streams;
        (self.streams.open(), watches, self.streams.connections())
    }

    pub(super) fn deadline(&self) -> Instant {
        self.sessions.borrow().deadline().min(self.alarms.deadline())
    }
}

/// Sits in front of the services and notes which request was made of which message.
struct Tap {
    sessions: Rc<RefCell<Sessions>>,
    post: Option<Rc<SimPost>>,
    alarms: Rc<Alarms>,
    asked: Rc<RefCell<Asked>>,
}

impl Services for Tap {
    fn handle(&mut self, event: FromClient) {
        let op = match &event {
            FromClient::Call(call) => {
                let op = op_of(&call.message);
                self.asked.borrow_mut().calls.extend(op.map(|op| (call.stream, op)));
                op
            }
            FromClient::Message { message, .. } => op_of(message),
            _ => None,
        };
        let mut sessions = self.sessions.borrow_mut();
        if let Some(post) = &self.post {
            // As `EdgeWorker` does it, before a client is listened to.
            post.take_up(self.alarms.now.get(), sessions.edge());
        }
        let before = sessions.view().last_request();
        sessions.handle(event);
        let after = sessions.view().last_request();
        if let Some(op) = op.filter(|_| after != before) {
            self.asked.borrow_mut().made.push((after, op));
        }
    }

    fn batch_end(&mut self) {
        self.sessions.borrow_mut().batch_end();
    }
}

/// Whether a task is to be polled.
struct Flag(AtomicBool);

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Timers on a member's clock, which the world moves.
struct Alarms {
    now: Cell<Instant>,
    next: Cell<u64>,
    set: RefCell<BTreeMap<(Instant, u64), Option<Waker>>>,
}

impl Alarms {
    fn new(now: Instant) -> Alarms {
        Alarms { now: Cell::new(now), next: Cell::new(0), set: RefCell::default() }
    }

    /// It is `now`: wakes whoever waited for that.
    fn ring(&self, now: Instant) {
        self.now.set(now);
        for ((at, _), waker) in self.set.borrow_mut().iter_mut() {
            if *at > now {
                return;
            }
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    fn deadline(&self) -> Instant {
        let set = self.set.borrow();
        let next = set.iter().find(|(_, waker)| waker.is_some());
        next.map_or(Instant::NEVER, |((at, _), _)| *at)
    }
}

struct AlarmClock(Rc<Alarms>);

impl Timer for AlarmClock {
    fn now(&self) -> Instant {
        self.0.now.get()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        let key = (self.0.now.get() + duration, number);
        self.0.set.borrow_mut().insert(key, None);
        Box::pin(Alarm { alarms: self.0.clone(), key })
    }
}

struct Alarm {
    alarms: Rc<Alarms>,
    key: (Instant, u64),
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.alarms.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.alarms.set.borrow_mut().insert(self.key, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.set.borrow_mut().remove(&self.key);
    }
}
