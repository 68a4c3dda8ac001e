//! One connection's task: its socket, its clock and the services around [`crate::http2`].
//!
//! A turn writes what waits, reads once, tells the services what that brought, as one batch, and
//! writes again what they answered at once. Turns follow each other while there is news, and at most
//! [`TURNS_MAX`] before other tasks run.
//!
//! Leaves out HTTP/2 and what is called. Laws: (1) the services hear `Cancelled` of every call they
//! heard of and have not answered, exactly once, also when the connection or its task ends; (2) all
//! replies that waited leave in one write; (3) a flush without bytes never reaches the socket
//! (madsim's sends a packet for each, so two ends that flush would keep each other awake for ever).
//!
//! Worked example: the driver answers 16 puts of a connection. The first reply wakes the task, which
//! finds 16 answers in the output and writes them before it reads.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use holdfast_core::mutant;
use holdfast_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::{Naming, Post, Streams};
use super::{ServeError, Services, Sleep, Timer};
use crate::call::FromClient;
use crate::http2::End;

/// Turns in one wake-up.
const TURNS_MAX: usize = 8;

/// Slices of one write: more than a full output has, a head and a part of a message for each frame.
const SLICES_MAX: usize = 64;

/// Bytes written in one wake-up, about a tenth of a millisecond of work; then others have their turn, also
/// those that have only just got something to read.
const WRITTEN_MAX: usize = 256 << 10;

/// How long a client has to read what is left for it, and why, before the socket goes.
const LINGER: Duration = Duration::from_secs(1);

type Served = Result<(), ServeError>;

/// How far the end has come.
enum Phase {
    Serving,
    /// What is written is flushed, and the client is told that no more comes.
    Ending(Served),
    /// The client reads the rest; what it still sends is dropped, since closing now would reset.
    Lingering(Served, Sleep),
}

/// See the module.
pub(super) struct Task<IO: AsyncRead + AsyncWrite + Unpin> {
    pub(super) io: IO,
    post: Rc<Post>,
    streams: Rc<Streams>,
    services: Rc<RefCell<dyn Services>>,
    timer: Rc<dyn Timer>,
    alarm: Option<(Instant, Sleep)>,
    events: Vec<FromClient>,
    unflushed: bool,
    /// Bytes written in this wake-up.
    written: usize,
    phase: Phase,
    /// For what is left to write after the end.
    patience: Option<Sleep>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Task<IO> {
    pub(super) fn new(
        io: IO,
        post: Rc<Post>,
        services: Rc<RefCell<dyn Services>>,
        (streams, timer): (Rc<Streams>, Rc<dyn Timer>),
    ) -> Task<IO> {
        Task {
            io,
            post,
            streams,
            services,
            timer,
            alarm: None,
            events: Vec::new(),
            unflushed: false,
            written: 0,
            phase: Phase::Serving,
            patience: None,
        }
    }

    /// Bytes that came before the task was there.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let mut naming = Naming { streams: &self.streams, post: &self.post };
        self.post.connection.borrow_mut().receive(self.timer.now(), bytes, &mut naming);
    }

    /// Serves; ready when the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Served> {
        self.post.wake_up(cx.waker());
        self.written = 0;
        for _ in 0..TURNS_MAX {
            if let Phase::Serving = self.phase {
                match self.turn(cx) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => return Poll::Ready(Err(broken(&error))),
                }
            }
            if !matches!(self.phase, Phase::Serving) {
                return self.finish(cx);
            }
            self.post.sleep();
            if self.has_written_its_share() {
                // Woken after the runtime has looked at all sockets.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
            }
            return Poll::Pending;
        }
        self.post.sleep();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// True if there may be more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let post = self.post.clone();
        post.take_ring();
        if post.draining.get() {
            post.connection.borrow_mut().drain(self.timer.now());
        }
        self.write(cx)?;
        let asked = post.connection.borrow().wants_input();
        let read = asked && self.read(cx)?;
        let mut naming = Naming { streams: &self.streams, post: &post };
        let more = post.connection.borrow_mut().resume(&mut naming);
        self.keep_time(cx);
        self.tell_services();
        self.write(cx)?;
        let connection = post.connection.borrow();
        if let Some(end) = connection.end() {
            // A client that does not read is not waited for.
            let patience = self.patience.get_or_insert_with(|| self.timer.sleep(LINGER));
            if connection.output().is_empty() || patience.as_mut().poll(cx).is_ready() {
                self.phase = Phase::Ending(served(end));
            }
            return Ok(false);
        }
        // If the last write has made room, nothing else would wake the task for what waits for it.
        let roomy = connection.is_resumable() || !asked && connection.wants_input();
        let roomy = roomy && !mutant::on(74);
        Ok(read || more || roomy || post.take_ring())
    }

    /// Reads once; true if something came.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut bytes = self.streams.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(result) => result?,
        }
        let mut connection = self.post.connection.borrow_mut();
        if buffer.filled().is_empty() {
            connection.hang_up();
        } else {
            let mut naming = Naming { streams: &self.streams, post: &self.post };
            connection.receive(self.timer.now(), buffer.filled(), &mut naming);
        }
        Ok(true)
    }

    fn has_written_its_share(&self) -> bool {
        self.written >= WRITTEN_MAX && !self.post.connection.borrow().output().is_empty()
    }

    /// Writes until nothing is left, the socket is full, or it is others' turn.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut connection = self.post.connection.borrow_mut();
        while !connection.output().is_empty() && self.written < WRITTEN_MAX {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = connection.output_slices(&mut slices);
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(result) => {
                    let count = result?;
                    connection.wrote(count);
                    self.written += count;
                }
            }
            self.unflushed = true;
        }
        drop(connection);
        match self.flush(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Does what is due, and sets the alarm for what comes next.
    fn keep_time(&mut self, cx: &mut Context<'_>) {
        let mut connection = self.post.connection.borrow_mut();
        loop {
            let next = connection.deadline();
            if next == Instant::NEVER {
                return;
            }
            // An alarm that is too early rings for nothing; it need not be set anew for every call.
            if self.alarm.as_ref().is_none_or(|(at, _)| *at > next) {
                let after = next.since(self.timer.now());
                self.alarm = Some((next, self.timer.sleep(after)));
            }
            let (_, alarm) = self.alarm.as_mut().expect("it was set above");
            if alarm.as_mut().poll(cx).is_pending() {
                return;
            }
            self.alarm = None;
            connection.tick(self.timer.now());
        }
    }

    fn tell_services(&mut self) {
        std::mem::swap(&mut self.events, self.post.connection.borrow_mut().events());
        if self.events.is_empty() {
            return;
        }
        let mut services = self.services.borrow_mut();
        for event in self.events.drain(..) {
            // They may have answered the call meanwhile, even in this loop.
            if self.streams.is_news(&event) {
                services.handle(event);
            }
        }
        services.batch_end();
    }

    /// What comes after the last turn.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<Served> {
        if let Phase::Ending(result) = &mut self.phase {
            let shut = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
            let result = std::mem::replace(result, Ok(()));
            // Who is gone reads nothing.
            if shut.is_err() || matches!(result, Err(ServeError::KeepaliveTimeout)) {
                return Poll::Ready(result);
            }
            self.phase = Phase::Lingering(result, self.timer.sleep(LINGER));
        }
        let Phase::Lingering(result, patience) = &mut self.phase else { return Poll::Pending };
        if patience.as_mut().poll(cx).is_pending() {
            let mut bytes = self.streams.read_buffer.borrow_mut();
            for _ in 0..TURNS_MAX {
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    Ok(()) | Err(_) => return Poll::Ready(std::mem::replace(result, Ok(()))),
                }
            }
        }
        // Time is over, or it sends without end.
        Poll::Ready(std::mem::replace(result, Ok(())))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Drop for Task<IO> {
    fn drop(&mut self) {
        let mut connection = self.post.connection.borrow_mut();
        if !mutant::on(77) {
            connection.hang_up();
        }
        self.events.append(connection.events());
        drop(connection);
        // Borrowed only if the services themselves end the task, who then know.
        let mut services = self.services.try_borrow_mut().ok();
        let told = !self.events.is_empty();
        for event in self.events.drain(..) {
            if self.streams.is_news(&event)
                && let Some(services) = &mut services
            {
                services.handle(event);
            }
        }
        self.streams.leave(&self.post);
        if let (Some(services), true) = (&mut services, told) {
            services.batch_end();
        }
    }
}

fn served(end: End) -> Served {
    match end {
        End::Closed => Ok(()),
        End::HandshakeTimeout => Err(ServeError::HandshakeTimeout),
        End::KeepaliveTimeout => Err(ServeError::KeepaliveTimeout),
        End::Broken(why) => Err(ServeError::Http2(why.text.to_string())),
    }
}

fn broken(error: &io::Error) -> ServeError {
    ServeError::Http2(error.to_string())
}
