//! The gRPC services: message bytes to queries, answers to message bytes, and the streams between.
//!
//! One [`Sessions`] serves all connections of a worker. It never waits: what a call needs from the
//! driver goes into the inbox, and [`Sessions::deliver`] hands out everything that is ready after a turn.
//!
//! Leaves out: HTTP/2 (`net`), what a request means (`core`), and reading (the [`Edge`]).

pub mod learner;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::id::Term;
use holdfast_core::query::{Answered, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::Op;
use holdfast_core::status::Role;
use holdfast_core::time::Instant;
use holdfast_core::watch::{WatchResponse, WatchStreamId};
use holdfast_net::call::{Call, Code, FromClient, GrpcStatus, Method, Reply, StreamId};
use holdfast_net::grpc::{Streams, Taken};
use holdfast_net::payload::Payload;
use holdfast_net::wire::{self, Origin, Serving, WireLimits};
use tokio::sync::oneshot;

use crate::auth::Credential;
use crate::edge::{Asked, Edge};
use crate::errand;
use crate::host::Event;

mod calls;
mod errands;

use calls::Calls;
use errands::Errands;

/// Election timeouts without a leader after which streams that require one are ended (etcd's rule).
const LEADERLESS_TIMEOUTS: u32 = 3;

/// The first id of calls made inside the process; transports stay below it.
const INTERNAL: u64 = 0xff << 56;

/// An open call.
struct Open {
    method: Method,
    require_leader: bool,
    /// Whose the requests of a client stream are.
    by: Credential,
    /// Renewals asked and not answered yet.
    asked: usize,
    /// A renewal was refused, and will be when those before it are answered: nothing more is asked.
    refused: bool,
    /// How the call ends once they are; until then it goes on.
    ending: Option<GrpcStatus>,
    /// A watch of the server's health that has said that it serves.
    told_serving: bool,
}

impl Open {
    fn new(method: Method, require_leader: bool) -> Open {
        let by = Credential::None;
        Open {
            method,
            require_leader,
            by,
            asked: 0,
            refused: false,
            ending: None,
            told_serving: false,
        }
    }
}

/// See the module.
pub struct Sessions {
    edge: Edge,
    origin: Origin,
    limits: WireLimits,
    election_timeout: Duration,
    streams: Rc<Streams>,
    clock: Rc<dyn Fn() -> Instant>,
    /// When what is being handled together came: the clock is read once for all of it.
    came: Option<Instant>,
    wake: Rc<dyn Fn()>,
    inbox: Vec<Event>,
    calls: Calls<Open>,
    /// Watch streams whose transport can take no more now, and have more to say.
    full: BTreeSet<StreamId>,
    errands: Errands,
    internal: BTreeMap<StreamId, oneshot::Sender<Answered>>,
    /// Who waits for the initial check.
    checked: Option<oneshot::Sender<Result<(), String>>>,
    next_internal: u64,
    leaderless_since: Option<Instant>,
    stopping: bool,
    scratch: Vec<WatchResponse>,
    /// Answers that are being handed out.
    answers: Vec<(StreamId, Answered)>,
    /// Where small answers are written.
    chunk: BytesMut,
}

/// What a [`Sessions`] is made of.
pub struct SessionsConfig {
    /// For response headers.
    pub origin: Origin,
    /// Bounds of requests.
    pub limits: WireLimits,
    /// For streams that require a leader.
    pub election_timeout: Duration,
    /// The way back to the connections.
    pub streams: Rc<Streams>,
    /// The member's clock.
    pub clock: Rc<dyn Fn() -> Instant>,
    /// Wakes the driver's task.
    pub wake: Rc<dyn Fn()>,
}

impl Sessions {
    /// Services over `edge`.
    pub fn new(edge: Edge, config: SessionsConfig) -> Sessions {
        Sessions {
            edge,
            origin: config.origin,
            limits: config.limits,
            election_timeout: config.election_timeout,
            streams: config.streams,
            clock: config.clock,
            came: None,
            wake: config.wake,
            inbox: Vec::new(),
            calls: Calls::default(),
            full: BTreeSet::new(),
            errands: Errands::default(),
            internal: BTreeMap::new(),
            checked: None,
            next_internal: INTERNAL,
            leaderless_since: None,
            stopping: false,
            scratch: Vec::new(),
            answers: Vec::new(),
            chunk: BytesMut::new(),
        }
    }

    /// The edge, for the driver's shell.
    pub fn edge(&mut self) -> &mut Edge {
        &mut self.edge
    }

    /// The edge, to look at.
    pub fn view(&self) -> &Edge {
        &self.edge
    }

    /// Moves what has gathered for the driver into `inbox`.
    pub fn collect(&mut self, inbox: &mut Vec<Event>) {
        let now = (self.clock)();
        self.edge.flush(now, &mut self.inbox);
        inbox.append(&mut self.inbox);
    }

    /// Asks a query from inside the process (health checks).
    pub fn query(&mut self, query: Query) -> oneshot::Receiver<Answered> {
        let (call, answer) = self.expect_answer();
        let now = (self.clock)();
        let asked = Asked { call, query, by: Credential::System };
        self.edge.ask(now, asked, &mut self.inbox);
        (self.wake)();
        answer
    }

    /// Proposes on the member's own behalf.
    pub fn propose(&mut self, op: Op) -> oneshot::Receiver<Answered> {
        let (call, answer) = self.expect_answer();
        let now = (self.clock)();
        self.edge.propose(now, call, op, &mut self.inbox);
        (self.wake)();
        answer
    }

    /// Compares the member's data with its peers', before it serves; the answer is an error if they differ.
    pub fn check_initially(&mut self) -> oneshot::Receiver<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        self.checked = Some(sender);
        self.edge.check_initially();
        (self.wake)();
        receiver
    }

    /// Refuses new calls and ends the streams.
    pub fn stop(&mut self) {
        self.stopping = true;
        let lasting = |open: &Open| {
            open.method.is_client_stream()
                || matches!(open.method, Method::HealthWatch | Method::Snapshot)
                || errand::is_errand(open.method)
        };
        let streams = self.calls.iter().filter(|(_, open)| lasting(open));
        let streams: Vec<StreamId> = streams.map(|(stream, _)| stream).collect();
        for stream in streams {
            self.tell_not_serving(stream);
            self.end(stream, wire::status_of(Rejection::Stopped));
        }
        (self.wake)();
    }

    /// Starts handing leadership over: once in a member, whatever the number of its sessions.
    pub fn hand_over(&mut self) {
        let now = (self.clock)();
        self.edge.transfer_leadership(now, &mut self.inbox);
        (self.wake)();
    }

    /// Hands out what is ready after a turn: answers, watch events, ended streams.
    pub fn deliver(&mut self) {
        let now = (self.clock)();
        let mut answers = std::mem::take(&mut self.answers);
        self.edge.take_answers(now, &mut answers);
        for (call, answered) in answers.drain(..) {
            match self.internal.remove(&call) {
                // The asker may have given up; then nobody wants the answer.
                Some(waiting) => drop(waiting.send(answered)),
                None => {
                    if let Some(answered) = self.errand_answered(call, answered) {
                        self.answer(call, answered);
                    }
                }
            }
        }
        self.answers = answers;
        if let Some(result) = self.edge.take_conclusion()
            && let Some(sender) = self.checked.take()
        {
            // Whoever has given up asking needs no answer.
            drop(sender.send(result));
        }
        self.edge.watches().0.tick(now);
        while let Some(stream) = self.edge.next_watch() {
            let stream = StreamId(stream.0);
            // A full one is named again once its transport can take more.
            if !self.errand_watched(stream) && !self.full.contains(&stream) {
                self.poll_watch(stream);
            }
        }
        self.send_backups();
        self.end_leaderless(now);
    }

    /// When [`Sessions::deliver`] has something to do without a turn.
    pub fn deadline(&self) -> Instant {
        if self.backups_wait() { Instant(0) } else { self.edge.deadline() }
    }

    fn came(&mut self) -> Instant {
        *self.came.get_or_insert_with(|| (self.clock)())
    }

    fn expect_answer(&mut self) -> (StreamId, oneshot::Receiver<Answered>) {
        self.next_internal += 1;
        let (sender, receiver) = oneshot::channel();
        let call = StreamId(self.next_internal);
        self.internal.insert(call, sender);
        (call, receiver)
    }

    fn begin(&mut self, call: Call) {
        let Call { stream, method, metadata, message, .. } = call;
        if let Some(status) = self.refusal(method, &metadata) {
            return self.end(stream, status);
        }
        let require_leader = metadata.require_leader;
        let by = Credential::of(metadata.token);
        match method {
            Method::Watch => {
                let now = self.came();
                self.edge.watches().0.open(WatchStreamId(stream.0), now);
            }
            Method::LeaseKeepAlive => {}
            Method::HealthCheck | Method::HealthList | Method::HealthWatch => {
                return self.health(stream, method, &message);
            }
            Method::Snapshot => return self.begin_backup((stream, by), &message),
            _ if errand::is_errand(method) => {
                return self.begin_errand((stream, by), (method, &message));
            }
            _ => return self.unary((stream, by), method, &message),
        }
        self.calls.insert(stream, Open { by, ..Open::new(method, require_leader) });
    }

    /// Why a call is not even looked at.
    fn refusal(
        &self,
        method: Method,
        metadata: &holdfast_net::call::Metadata,
    ) -> Option<GrpcStatus> {
        if self.stopping {
            return Some(wire::status_of(Rejection::Stopped));
        }
        if matches!(metadata.client_api_version, Some(Err(()))) {
            return Some(wire::status_of(Rejection::InvalidClientApiVersion));
        }
        if self.is_learner() && !learner::may_serve(method) {
            return Some(wire::status_of(Rejection::NotSupportedForLearner));
        }
        let leaderless = metadata.require_leader && self.edge.status().leader.is_none();
        leaderless.then(|| wire::status_of(Rejection::NoLeader))
    }

    fn is_learner(&self) -> bool {
        self.edge.status().role == Role::Learner
    }

    fn unary(&mut self, (stream, by): (StreamId, Credential), method: Method, message: &Bytes) {
        if self.is_learner() && !learner::may_check(method, message) {
            return self.end(stream, wire::status_of(Rejection::NotSupportedForLearner));
        }
        match wire::decode_query(method, message, &self.limits) {
            Ok(query) => {
                self.calls.insert(stream, Open::new(method, false));
                let now = self.came();
                self.edge.ask(now, Asked { call: stream, query, by }, &mut self.inbox);
            }
            Err(status) => self.end(stream, status),
        }
    }

    fn health(&mut self, stream: StreamId, method: Method, message: &Bytes) {
        if method == Method::HealthWatch {
            self.calls.insert(stream, Open::new(method, false));
        }
        let mut out = BytesMut::new();
        if method == Method::HealthList {
            wire::encode_health_list(Serving::Serving, &mut out);
            return self.send(stream, out.freeze(), true);
        }
        match wire::decode_health_check(message) {
            Err(status) => self.end(stream, status),
            Ok(service) if service.is_empty() => {
                if let Some(open) = self.calls.get_mut(stream) {
                    open.told_serving = true;
                }
                wire::encode_health(Serving::Serving, &mut out);
                self.send(stream, out.freeze(), method == Method::HealthCheck);
            }
            Ok(_) if method == Method::HealthCheck => {
                self.end(stream, wire::unknown_health_service());
            }
            Ok(_) => {
                wire::encode_health(Serving::ServiceUnknown, &mut out);
                self.send(stream, out.freeze(), false);
            }
        }
    }

    /// The last message of a watch of the server's health; one of a service that is not known hears nothing.
    fn tell_not_serving(&mut self, stream: StreamId) {
        if self.calls.get(stream).is_some_and(|open| open.told_serving) {
            let mut out = BytesMut::new();
            wire::encode_health(Serving::NotServing, &mut out);
            self.send(stream, out.freeze(), false);
        }
    }

    fn message(&mut self, stream: StreamId, message: &Bytes) {
        let now = self.came();
        let Some(open) = self.calls.get(stream) else { return };
        match open.method {
            Method::Watch => match wire::decode_watch(message) {
                Ok(Some(request)) => {
                    self.edge.watch(now, WatchStreamId(stream.0), (request, &open.by));
                    let hub = self.edge.watches().0;
                    if hub.is_congested(WatchStreamId(stream.0)) {
                        self.poll_watch(stream);
                    }
                }
                Ok(None) => {}
                Err(status) => self.end(stream, status),
            },
            // As etcd, which has returned by then.
            Method::LeaseKeepAlive if open.refused || open.ending.is_some() => {}
            Method::LeaseKeepAlive => self.renewal(now, (stream, open.by.clone()), message),
            _ => {}
        }
    }

    /// One message of a keepalive stream. What it asks is answered by the driver, or refused at once.
    fn renewal(&mut self, now: Instant, (stream, by): (StreamId, Credential), message: &Bytes) {
        let query = match wire::decode_query(Method::LeaseKeepAlive, message, &self.limits) {
            Ok(query) => query,
            Err(status) => return self.end_after_answers(stream, status),
        };
        let before = self.edge.answers_waiting();
        self.edge.ask(now, Asked { call: stream, query, by }, &mut self.inbox);
        let refused = self.edge.answers_waiting() > before;
        if let Some(open) = self.calls.get_mut(stream) {
            open.asked += 1;
            open.refused = refused;
        }
    }

    /// A half-closed watch stays open: the client still listens. A keepalive stream ends once its
    /// questions are answered (etcd's handler returns at the end of the client's messages).
    fn half_closed(&mut self, stream: StreamId) {
        self.end_after_answers(stream, GrpcStatus { code: Code::Ok, message: String::new() });
    }

    /// A keepalive stream ends when what was asked before has been answered.
    fn end_after_answers(&mut self, stream: StreamId, status: GrpcStatus) {
        if let Some(open) = self.calls.get_mut(stream) {
            // The first refusal stays, and takes the place of a half-closed stream's good end.
            if open.ending.as_ref().is_none_or(|ending| ending.code == Code::Ok) {
                open.ending = Some(status);
            }
        }
        self.end_if_done(stream);
    }

    fn end_if_done(&mut self, stream: StreamId) {
        let done = |open: &Open| open.method == Method::LeaseKeepAlive && open.asked == 0;
        let open = self.calls.get(stream).filter(|open| done(open));
        if let Some(status) = open.and_then(|open| open.ending.clone()) {
            self.end(stream, status);
        }
    }

    fn answer(&mut self, stream: StreamId, answered: Answered) {
        let Some(open) = self.calls.get_mut(stream) else { return };
        open.asked = open.asked.saturating_sub(1);
        let last = !open.method.is_client_stream();
        if last {
            self.calls.remove(stream);
        }
        match answered {
            Ok(answer) => {
                let message = wire::answer_payload(self.origin, &answer, &mut self.chunk);
                self.send(stream, message, last);
                self.end_if_done(stream);
            }
            Err(rejection) if !last => self.end_after_answers(stream, wire::status_of(rejection)),
            Err(rejection) => self.end(stream, wire::status_of(rejection)),
        }
    }

    fn poll_watch(&mut self, stream: StreamId) {
        let term = self.edge.status().term;
        let mut responses = std::mem::take(&mut self.scratch);
        if self.edge.poll_watch(WatchStreamId(stream.0), &mut responses).is_err() {
            self.end(stream, wire::status_of(Rejection::Corrupt));
        }
        for response in responses.drain(..) {
            self.send_watch(stream, term, &response);
        }
        self.scratch = responses;
    }

    fn send_watch(&mut self, stream: StreamId, term: Term, response: &WatchResponse) {
        let message = wire::watch_payload(self.origin, term, response, &mut self.chunk);
        self.send(stream, message, false);
    }

    fn send(&mut self, stream: StreamId, message: impl Into<Payload>, last: bool) {
        let message = message.into();
        match self.streams.reply(Reply::Message { stream, message, last }) {
            Taken::Yes => {}
            Taken::Full => {
                self.full.insert(stream);
            }
            Taken::Gone => self.forget(stream),
        }
    }

    fn end(&mut self, stream: StreamId, status: GrpcStatus) {
        self.forget(stream);
        self.streams.reply(Reply::End { stream, status });
    }

    fn forget(&mut self, stream: StreamId) {
        self.full.remove(&stream);
        self.forget_errand(stream, true);
        match self.calls.remove(stream).map(|open| open.method) {
            Some(Method::Watch) => self.edge.watches().0.close(WatchStreamId(stream.0)),
            // Answers to these find no call, and nothing of them waits for long.
            Some(Method::LeaseKeepAlive | Method::HealthWatch | Method::Snapshot) | None => {}
            Some(method) if errand::is_errand(method) => {}
            Some(_) => self.edge.cancel(stream),
        }
    }

    /// Streams that require a leader end when there has been none for too long.
    fn end_leaderless(&mut self, now: Instant) {
        if self.edge.status().leader.is_some() {
            self.leaderless_since = None;
            return;
        }
        let since = *self.leaderless_since.get_or_insert(now);
        if now.since(since) < self.election_timeout * LEADERLESS_TIMEOUTS {
            return;
        }
        let requiring = self.calls.iter().filter(|(_, open)| open.require_leader);
        let requiring: Vec<StreamId> = requiring.map(|(stream, _)| stream).collect();
        for stream in requiring {
            self.end(stream, wire::status_of(Rejection::NoLeader));
        }
    }
}

impl holdfast_net::grpc::Services for Sessions {
    fn handle(&mut self, event: FromClient) {
        match event {
            FromClient::Call(call) => self.begin(call),
            FromClient::Message { stream, message } => self.message(stream, &message),
            FromClient::HalfClosed { stream } => self.half_closed(stream),
            FromClient::Cancelled { stream } => self.forget(stream),
            FromClient::Writable { stream } => {
                self.full.remove(&stream);
                self.resume_errand(stream);
                if self.backups_wait() {
                    (self.wake)();
                }
                self.edge.watches().0.resume(WatchStreamId(stream.0));
            }
        }
    }

    fn batch_end(&mut self) {
        self.came = None;
        (self.wake)();
    }
}
