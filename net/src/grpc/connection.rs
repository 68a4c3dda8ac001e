//! One connection: everything that happened since the last turn in, everything that is ready out.
//!
//! A turn takes the replies that wait, lets HTTP/2 read and write, starts the calls that came,
//! moves the calls that have news, and tells the services that the batch is over. Turns follow each
//! other while there is news, and at most [`TURNS_MAX`] before other tasks run.
//!
//! Leaves out a single call's bytes ([`super::open`]) and what is called. Laws: (1) the services
//! hear `Cancelled` of every call they heard of and have not answered, exactly once, also when the
//! connection or its task ends; (2) all replies that waited leave in one write.
//!
//! Worked example: the driver answers 16 puts of a connection. The first reply rings its bell; the
//! task runs, `take_replies` hands all 16 to HTTP/2, and `accept` writes them before it reads.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use holdfast_core::time::Instant;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::bell::{Bell, SlotBell};
use super::keepalive::Keepalive;
use super::open::{Open, Read, Wrote};
use super::piece::Piece;
use super::streams::{Post, Streams};
use super::wire::Wire;
use super::{GrpcOptions, ServeError, Services, Sleep, head, status};
use crate::call::{Call, Code, FromClient, GrpcStatus, Reply};

/// Turns in one wake-up.
const TURNS_MAX: usize = 8;

/// Calls started in one turn, and so in one batch.
const CALLS_MAX: usize = 1024;

struct Slot {
    open: Option<Open>,
    bell: Arc<SlotBell>,
    waker: Waker,
}

/// One connection after the handshake.
pub(super) struct Connection<IO> {
    h2: h2::server::Connection<Wire<IO>, Piece>,
    calls: Calls,
    events: Vec<FromClient>,
    alarm: Option<(Instant, Sleep)>,
    drain_until: Option<Instant>,
    keepalive: Option<Keepalive>,
    waker: Waker,
    replies: Vec<(u32, Reply)>,
    news: Vec<u32>,
    services: Rc<RefCell<dyn Services>>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(super) fn new(
        mut h2: h2::server::Connection<Wire<IO>, Piece>,
        services: Rc<RefCell<dyn Services>>,
        streams: Rc<Streams>,
        options: GrpcOptions,
    ) -> Connection<IO> {
        let pings = options.keepalive.zip(h2.ping_pong());
        let keepalive =
            pings.map(|(keepalive, pings)| Keepalive::new(keepalive, pings, options.timer.now()));
        let post = streams.join();
        let waker = Waker::from(post.bell.clone());
        let calls = Calls {
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            bell: post.bell.clone(),
            post,
            streams,
            options,
        };
        Connection {
            h2,
            calls,
            events: Vec::new(),
            alarm: None,
            drain_until: None,
            keepalive,
            waker,
            replies: Vec::new(),
            news: Vec::new(),
            services,
        }
    }

    /// Serves; ready when the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServeError>> {
        let bell = self.calls.bell.clone();
        bell.wake_up(cx.waker());
        for _ in 0..TURNS_MAX {
            if let Some(end) = self.turn() {
                return Poll::Ready(end);
            }
            let waiting = !self.calls.post.replies.borrow().is_empty();
            if !waiting && bell.sleep() {
                return Poll::Pending;
            }
        }
        bell.give_way();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self) -> Option<Result<(), ServeError>> {
        self.take_replies();
        // From here on everything that can ring is looked at.
        self.calls.bell.hush();
        let end = self.accept();
        self.calls.take_news(&mut self.news);
        for slot in self.news.drain(..) {
            self.calls.advance(slot, &mut self.events);
        }
        let over = self.check_time();
        self.tell_services();
        end.or(over)
    }

    fn take_replies(&mut self) {
        std::mem::swap(&mut self.replies, &mut *self.calls.post.replies.borrow_mut());
        for (slot, reply) in self.replies.drain(..) {
            self.calls.answer(slot, reply, &mut self.events);
        }
    }

    /// Reads, writes, and starts the calls that came.
    fn accept(&mut self) -> Option<Result<(), ServeError>> {
        let mut cx = Context::from_waker(&self.waker);
        for _ in 0..CALLS_MAX {
            match self.h2.poll_accept(&mut cx) {
                Poll::Pending => return None,
                Poll::Ready(None) => return Some(Ok(())),
                Poll::Ready(Some(Err(error))) => return Some(Err(error.into())),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.calls.start(request, respond, &mut self.events);
                }
            }
        }
        self.calls.bell.ring();
        None
    }

    fn tell_services(&mut self) {
        if self.events.is_empty() {
            return;
        }
        let mut services = self.services.borrow_mut();
        self.events.drain(..).for_each(|event| services.handle(event));
        services.batch_end();
    }

    /// Deadlines of calls, of the draining and of the keepalive.
    fn check_time(&mut self) -> Option<Result<(), ServeError>> {
        if self.calls.post.draining.get() && self.drain_until.is_none() {
            self.h2.graceful_shutdown();
            let options = &self.calls.options;
            self.drain_until = Some(options.timer.now() + options.drain_timeout);
            self.calls.bell.ring();
        }
        let mut cx = Context::from_waker(&self.waker);
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.look(&mut cx, || self.calls.options.timer.now());
        }
        loop {
            let first = self.calls.deadlines.first().map(|(at, _)| *at);
            let keepalive = self.keepalive.as_ref().map(|keepalive| keepalive.at);
            let next = first.into_iter().chain(self.drain_until).chain(keepalive).min()?;
            if self.alarm.as_ref().is_none_or(|(at, _)| *at > next) {
                let timer = &self.calls.options.timer;
                self.alarm = Some((next, timer.sleep(next.since(timer.now()))));
            }
            let (_, alarm) = self.alarm.as_mut().expect("it was set above");
            if alarm.as_mut().poll(&mut cx).is_pending() {
                return None;
            }
            self.alarm = None;
            let now = self.calls.options.timer.now();
            self.calls.expire(now, &mut self.events);
            if self.keepalive.as_mut().is_some_and(|keepalive| !keepalive.is_alive(now)) {
                return Some(Err(ServeError::KeepaliveTimeout));
            }
            if self.drain_until.is_some_and(|until| until <= now) {
                return Some(self.cut());
            }
        }
    }

    /// The draining took too long: what is open ends here, as far as one write tells it.
    fn cut(&mut self) -> Result<(), ServeError> {
        let status =
            GrpcStatus { code: Code::Unavailable, message: "etcdserver: server stopped".into() };
        for slot in 0..self.calls.slots.len() as u32 {
            self.calls.fail(slot, status.clone(), &mut self.events);
        }
        let mut cx = Context::from_waker(&self.waker);
        let _ = self.h2.poll_closed(&mut cx);
        self.h2.abrupt_shutdown(Reason::NO_ERROR);
        let _ = self.h2.poll_closed(&mut cx);
        Ok(())
    }
}

impl<IO> Drop for Connection<IO> {
    fn drop(&mut self) {
        for slot in 0..self.calls.slots.len() as u32 {
            self.calls.cancel(slot, &mut self.events);
        }
        self.calls.streams.leave(&self.calls.post);
        // Borrowed only if the services themselves end the task, who then know.
        if let Ok(mut services) = self.services.try_borrow_mut()
            && !self.events.is_empty()
        {
            self.events.drain(..).for_each(|event| services.handle(event));
            services.batch_end();
        }
    }
}

/// The calls of a connection.
struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
    deadlines: BTreeSet<(Instant, u32)>,
    bell: Arc<Bell>,
    post: Rc<Post>,
    streams: Rc<Streams>,
    options: GrpcOptions,
}

impl Calls {
    fn take_news(&self, news: &mut Vec<u32>) {
        self.bell.take_slots(news);
        news.iter().for_each(|slot| self.slots[*slot as usize].bell.unlist());
    }

    /// A request came.
    fn start(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Piece>,
        events: &mut Vec<FromClient>,
    ) {
        let (parts, recv) = request.into_parts();
        let head = match head::parse(&parts) {
            Ok(head) => head,
            Err(refused) => {
                // An error means that the client is gone already.
                let response = status::outcome_only(refused.http, &refused.status);
                let _ = respond.send_response(response, true);
                return;
            }
        };
        let client_stream = head.method.is_client_stream();
        let deadline = head.timeout.map(|timeout| self.options.timer.now() + timeout);
        let mut open = Open::new(head, recv, respond, self.options.recv_bytes_max);
        open.deadline = deadline;
        let slot = self.place(open);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, slot));
        }
        if client_stream {
            self.introduce(slot, events);
        }
        self.advance(slot, events);
    }

    fn place(&mut self, open: Open) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize].open = Some(open);
            return slot;
        }
        let slot = self.slots.len() as u32;
        let bell = SlotBell::new(&self.bell, slot);
        let waker = Waker::from(bell.clone());
        self.slots.push(Slot { open: Some(open), bell, waker });
        slot
    }

    /// Tells the services of a call.
    fn introduce(&mut self, slot: u32, events: &mut Vec<FromClient>) {
        let Some(open) = self.slots[slot as usize].open.as_mut() else { return };
        let Some(head) = open.head.take() else { return };
        match self.streams.add(&self.post, slot) {
            Some(stream) => {
                open.id = Some(stream);
                events.push(FromClient::Call(Call {
                    stream,
                    method: head.method,
                    metadata: head.metadata,
                    timeout: head.timeout,
                    message: open.message.take().unwrap_or_default(),
                }));
            }
            None => {
                let message = "too many open calls on this server".to_string();
                self.fail(slot, GrpcStatus { code: Code::ResourceExhausted, message }, events);
            }
        }
    }

    /// Moves a call that has news as far as it goes.
    fn advance(&mut self, slot: u32, events: &mut Vec<FromClient>) {
        self.read(slot, events);
        self.write(slot, events);
        let Slot { open, waker, .. } = &mut self.slots[slot as usize];
        if open.as_mut().is_some_and(|open| open.is_gone(&mut Context::from_waker(waker))) {
            self.cancel(slot, events);
        }
    }

    fn read(&mut self, slot: u32, events: &mut Vec<FromClient>) {
        for _ in 0..Open::reads_max() {
            let Slot { open: Some(open), waker, .. } = &mut self.slots[slot as usize] else {
                return;
            };
            if open.id.is_some_and(|id| self.streams.is_full(id)) {
                return;
            }
            match (open.read(&mut Context::from_waker(waker)), open.id) {
                (Read::Wait, _) => return,
                (Read::Message(message), Some(stream)) => {
                    events.push(FromClient::Message { stream, message });
                }
                (Read::End, Some(stream)) => {
                    events.push(FromClient::HalfClosed { stream });
                    return;
                }
                (Read::Message(message), None) => {
                    if open.message.replace(message).is_some() {
                        let text = "more than one message in a unary call";
                        return self.fail(slot, internal(text), events);
                    }
                }
                (Read::End, None) if open.message.is_some() => return self.introduce(slot, events),
                (Read::End, None) => {
                    return self.fail(slot, internal("no message in a unary call"), events);
                }
                (Read::Refuse(status), _) => return self.fail(slot, status, events),
                (Read::Gone, _) => return self.cancel(slot, events),
            }
        }
        self.slots[slot as usize].waker.wake_by_ref();
    }

    /// The services answer.
    fn answer(&mut self, slot: u32, reply: Reply, events: &mut Vec<FromClient>) {
        let Some(open) = self.slots[slot as usize].open.as_mut() else { return };
        let stream = match &reply {
            Reply::Message { stream, .. } | Reply::End { stream, .. } => *stream,
        };
        if open.id != Some(stream) {
            return;
        }
        match reply {
            Reply::Message { message, last, .. } => open.queue(message, last),
            Reply::End { status, .. } => open.end(status),
        }
        self.write(slot, events);
    }

    fn write(&mut self, slot: u32, events: &mut Vec<FromClient>) {
        let Slot { open: Some(open), waker, .. } = &mut self.slots[slot as usize] else { return };
        let id = open.id;
        match open.write(&mut Context::from_waker(waker)) {
            Wrote::Over => self.close(slot),
            Wrote::Gone => self.cancel(slot, events),
            Wrote::Bytes(bytes) => {
                let Some(stream) = id else { return };
                if bytes > 0 && self.streams.sent(stream, bytes) {
                    events.push(FromClient::Writable { stream });
                    // Reading stopped when the stream was full.
                    waker.wake_by_ref();
                } else if self.streams.is_overrun(stream) {
                    open.reset(Reason::ENHANCE_YOUR_CALM);
                    self.cancel(slot, events);
                }
            }
        }
    }

    /// Ends a call with a status of the transport's own.
    fn fail(&mut self, slot: u32, status: GrpcStatus, events: &mut Vec<FromClient>) {
        let Slot { open: Some(open), waker, .. } = &mut self.slots[slot as usize] else { return };
        open.fail(status);
        // Without queued messages this cannot wait for the client.
        open.write(&mut Context::from_waker(waker));
        self.cancel(slot, events);
    }

    /// The call is over and the services, if they still care, are told.
    fn cancel(&mut self, slot: u32, events: &mut Vec<FromClient>) {
        let id = self.slots[slot as usize].open.as_ref().and_then(|open| open.id);
        if let Some(stream) = id
            && self.streams.remove(stream)
        {
            events.push(FromClient::Cancelled { stream });
        }
        self.close(slot);
    }

    fn close(&mut self, slot: u32) {
        let Some(open) = self.slots[slot as usize].open.take() else { return };
        if let Some(deadline) = open.deadline {
            self.deadlines.remove(&(deadline, slot));
        }
        self.free.push(slot);
    }

    fn expire(&mut self, now: Instant, events: &mut Vec<FromClient>) {
        while let Some((at, slot)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            let message = "context deadline exceeded".to_string();
            self.fail(slot, GrpcStatus { code: Code::DeadlineExceeded, message }, events);
        }
    }
}

fn internal(text: &str) -> GrpcStatus {
    GrpcStatus { code: Code::Internal, message: text.to_string() }
}
