//! One connection as a state machine: bytes and replies in, bytes and calls out.
//!
//! ```text
//!  bytes ── receive ──► control ─┐                          ┌─► events (calls, messages, cancellations)
//!                       request ─┴─► streams in their slab ─┤
//!  replies ── reply ──► answer  ────────────────────────────┴─► output, one buffer
//!  time ── tick ──────► clock
//! ```
//!
//! It reads no clock and waits for nothing. All frames of one `receive` are handled before its events
//! are looked at, as far as the output has room for what they may be answered; the rest of them waits
//! until it has, and [`Connection::resume`] goes on. All replies that were given leave with the next
//! write of `output`.
//!
//! Leaves out sockets, and what is called. Laws:
//!  1. Any bytes in: events, output, perhaps an end; never a panic.
//!  2. Each call the services hear of ends once: by their last reply or by `Cancelled`, also when the
//!     connection ends. Of one that is answered they hear nothing more.
//!  3. What a client makes this grow is bounded by [`Http2Options`]; the exception are unary answers,
//!     which the services budget, and behind `unsent_bytes_max` of which no new call is taken.
//!  4. DATA is written only within both windows, and every received byte returns to the client's
//!     windows once, when nobody holds it any more.
//!  5. What one frame is answered is all that is written beyond the room of the output: its owner
//!     reads no more before what came was looked at.
//!
//! Worked example: 16 puts arrive in one read. `receive` makes 16 `Call` events; one flush of the log
//! later 16 replies are given, and `output` has 16 answers for one write.

mod answer;
mod clock;
mod control;
mod request;

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use holdfast_core::time::Instant;

use super::frame::{self, HEAD, Head, Kind, MAX_31, PAYLOAD_MAX, Reason};
use super::head::HeadReader;
use super::hpack::Decoder;
use super::options::Http2Options;
use super::outbox::Outbox;
use super::police::{Bucket, PingPolice};
use super::slab::Slab;
use crate::call::{Code, FromClient, GrpcStatus, StreamId};
use crate::sniff::PREFACE;
pub use answer::Taken;
use clock::Clock;
use request::Block;

/// HTTP/2's windows and frames before anybody says otherwise (RFC 9113, 6.5.2 and 6.9.2).
const WINDOW: u32 = 65_535;

/// Parameters of SETTINGS.
const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
const SETTINGS_ENABLE_PUSH: u16 = 2;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const SETTINGS_MAX_FRAME_SIZE: u16 = 5;
const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 6;

/// Streams of one connection in any case; a client may try more of them elsewhere.
const STREAMS_MAX: usize = 1 << 17;

/// An unfinished frame's buffer up to this capacity is kept.
const TAIL_KEPT: usize = 1 << 10;

/// Gives calls the names by which the services know them, and room for their messages.
pub trait Names {
    /// A new name, for the call in a slot; `None` when there are too many.
    fn name(&mut self, slot: u32) -> Option<StreamId>;

    /// A copy of a message that is whole and of a method that [`is brief`](Method::is_brief): it may
    /// share memory with others.
    fn keep(&mut self, message: &[u8]) -> Bytes {
        Bytes::copy_from_slice(message)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client left, or it was told to and has no open call.
    Closed,
    /// No preface and settings in time.
    HandshakeTimeout,
    /// Nothing came for too long, not even the answer to a ping.
    KeepaliveTimeout,
    /// The client broke the rules, or asked for too much.
    Broken(Broken),
}

/// Why the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What GOAWAY says.
    pub reason: Reason,
    /// The same in words, for the logs of both sides.
    pub text: &'static str,
}

fn broken(reason: Reason, text: &'static str) -> Broken {
    Broken { reason, text }
}

fn protocol(text: &'static str) -> Broken {
    broken(Reason::Protocol, text)
}

fn frame_size(text: &'static str) -> Broken {
    broken(Reason::FrameSize, text)
}

fn calm(text: &'static str) -> Broken {
    broken(Reason::EnhanceYourCalm, text)
}

/// What has been received of the connection's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// This much of the preface.
    Preface(usize),
    /// The preface; SETTINGS must follow.
    Settings,
    Open,
}

/// See the module.
pub struct Connection {
    options: Http2Options,
    now: Instant,
    phase: Phase,
    /// A frame that is not complete.
    tail: Vec<u8>,
    /// The rest of a read, at which nobody looks before the output has room.
    rest: Vec<u8>,
    block: Block,
    decoder: Decoder,
    reader: HeadReader,
    /// The highest stream that was begun.
    last_id: u32,
    recv_window: i64,
    recv_unreturned: u32,
    unfinished: usize,
    slab: Slab,
    out: Outbox,
    frame_max: usize,
    send_window: i64,
    send_window_initial: i64,
    /// Streams that have something to send and a window for it.
    ready: VecDeque<u32>,
    /// Streams that held bytes back and may go on.
    resumable: Vec<u32>,
    unsent: usize,
    pings: PingPolice,
    cancels: Bucket,
    idle_frames: Bucket,
    clock: Clock,
    events: Vec<FromClient>,
    end: Option<End>,
}

impl Connection {
    /// A connection that a client has just opened. Its output begins with our SETTINGS.
    pub fn new(mut options: Http2Options, now: Instant) -> Connection {
        // Until a client knows our settings it may send this much.
        options.stream_window = options.stream_window.clamp(WINDOW, MAX_31);
        options.connection_window = options.connection_window.clamp(WINDOW, MAX_31);
        let mut connection = Connection {
            now,
            phase: Phase::Preface(0),
            tail: Vec::new(),
            rest: Vec::new(),
            block: Block::default(),
            decoder: Decoder::new(),
            reader: HeadReader::default(),
            last_id: 0,
            recv_window: i64::from(options.connection_window),
            recv_unreturned: 0,
            unfinished: 0,
            slab: Slab::default(),
            out: Outbox::new(options.output_bytes_max),
            frame_max: PAYLOAD_MAX,
            send_window: i64::from(WINDOW),
            send_window_initial: i64::from(WINDOW),
            ready: VecDeque::new(),
            resumable: Vec::new(),
            unsent: 0,
            pings: PingPolice::new(options.keepalive_min),
            cancels: Bucket::new(options.cancels),
            idle_frames: Bucket::new(options.idle_frames),
            clock: Clock::new(&options, now),
            events: Vec::new(),
            end: None,
            options,
        };
        connection.greet();
        connection
    }

    fn greet(&mut self) {
        let options = &self.options;
        let limited = options.concurrent_streams_max != u32::MAX;
        let settings = [
            (SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window),
            (SETTINGS_MAX_HEADER_LIST_SIZE, options.header_bytes_max),
            (SETTINGS_MAX_CONCURRENT_STREAMS, options.concurrent_streams_max),
        ];
        let more = options.connection_window - WINDOW;
        frame::put_settings(&mut self.out.bytes, &settings[..if limited { 3 } else { 2 }]);
        if more > 0 {
            frame::put_window(&mut self.out.bytes, 0, more);
        }
    }

    /// Bytes came. What they say is in [`Connection::events`] and [`Connection::output`].
    pub fn receive(&mut self, now: Instant, bytes: &[u8], names: &mut dyn Names) {
        if self.end.is_some() {
            return;
        }
        self.now = now;
        self.clock.heard(now);
        if self.rest.is_empty() {
            self.look(bytes, names);
        } else {
            self.rest.extend_from_slice(bytes);
        }
        self.settle();
    }

    /// Handles what has room, and keeps the rest.
    fn look(&mut self, bytes: &[u8], names: &mut dyn Names) {
        match self.take(bytes, names) {
            Ok(rest) if self.end.is_none() => self.rest.extend_from_slice(rest),
            Ok(_) => {}
            Err(broken) => self.break_off(broken),
        }
    }

    /// Goes on with what waited for room, and with streams that were full. True if there is more to
    /// look at now.
    pub fn resume(&mut self, names: &mut dyn Names) -> bool {
        if !self.rest.is_empty() && self.end.is_none() && self.out.has_room() {
            let rest = std::mem::take(&mut self.rest);
            self.look(&rest, names);
        }
        self.resume_streams();
        self.settle();
        self.is_resumable()
    }

    /// Whether [`Connection::resume`] would do something.
    pub fn is_resumable(&self) -> bool {
        let rest = !self.rest.is_empty() && self.end.is_none() && self.out.has_room();
        rest || !self.resumable.is_empty()
    }

    /// What the services are to be told, in order.
    pub fn events(&mut self) -> &mut Vec<FromClient> {
        &mut self.events
    }

    /// The first of what is to be written to the socket; empty when nothing is.
    pub fn output(&self) -> &[u8] {
        self.out.waiting()
    }

    /// The same and what follows, in as many slices as there are; gives how many are filled.
    pub fn output_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(self.out.parts());
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    /// All that is to be written now, for whoever has no socket; it counts as written.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.out.parts().collect::<Vec<_>>().concat();
        self.wrote(output.len());
        output
    }

    /// The socket took the first `count` bytes of the output; more may follow at once.
    pub fn wrote(&mut self, count: usize) {
        if count > 0 && !self.wants_input() {
            // Nothing is read meanwhile, not even the answer to a ping: that it takes what it is
            // sent is the client's sign of life.
            self.clock.heard(self.now);
        }
        self.out.advance(count);
        self.pump();
        self.settle();
    }

    /// Whether it is time to read. A client that does not take its answers is not read.
    pub fn wants_input(&self) -> bool {
        self.end.is_none() && self.out.has_room() && self.rest.is_empty()
    }

    /// How it ended, if it did; then write what is left of the output, and close.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Open calls.
    pub fn calls_open(&self) -> usize {
        self.slab.open()
    }

    /// The client is gone: nobody waits for answers.
    pub fn hang_up(&mut self) {
        self.finish_with(End::Closed);
    }

    /// Handles frames while there is room; gives what was not looked at.
    fn take<'a>(&mut self, mut bytes: &'a [u8], names: &mut dyn Names) -> Result<&'a [u8], Broken> {
        if let Phase::Preface(seen) = self.phase {
            let count = bytes.len().min(PREFACE.len() - seen);
            if bytes[..count] != PREFACE[seen..seen + count] {
                return Err(protocol("the connection does not begin as HTTP/2"));
            }
            bytes = &bytes[count..];
            let whole = seen + count == PREFACE.len();
            self.phase = if whole { Phase::Settings } else { Phase::Preface(seen + count) };
        }
        if !self.tail.is_empty() {
            bytes = self.complete_tail(bytes, names)?;
        }
        while let Some(head) = bytes.first_chunk::<HEAD>().map(Head::read) {
            if !self.out.has_room() {
                return Ok(bytes);
            }
            check_length(&head)?;
            let Some(payload) = bytes.get(HEAD..HEAD + head.length) else { break };
            self.frame(head, payload, names)?;
            bytes = &bytes[HEAD + head.length..];
        }
        self.tail.extend_from_slice(bytes);
        Ok(&[])
    }

    /// Handles the frame that was not complete, if it is now; gives what follows it.
    fn complete_tail<'a>(
        &mut self,
        mut bytes: &'a [u8],
        names: &mut dyn Names,
    ) -> Result<&'a [u8], Broken> {
        loop {
            let head = self.tail.first_chunk::<HEAD>().map(Head::read);
            let whole = head.map_or(HEAD, |head| HEAD + head.length);
            if let Some(head) = head {
                check_length(&head)?;
            }
            let count = bytes.len().min(whole - self.tail.len());
            self.tail.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.tail.len() < whole {
                return Ok(bytes);
            }
            // What is complete is the head alone, which tells how much more there is, or the frame.
            let Some(head) = head else { continue };
            let mut tail = std::mem::take(&mut self.tail);
            self.frame(head, &tail[HEAD..], names)?;
            tail.clear();
            if tail.capacity() <= TAIL_KEPT {
                self.tail = tail;
            }
            return Ok(bytes);
        }
    }

    #[inline]
    fn frame(&mut self, head: Head, payload: &[u8], names: &mut dyn Names) -> Result<(), Broken> {
        if self.block.is_open() && (head.kind != Kind::Continuation || !self.block.is_of(&head)) {
            return Err(protocol("a header block is interrupted by another frame"));
        }
        if self.phase == Phase::Settings && head.kind != Kind::Settings {
            return Err(protocol("the first frame is not SETTINGS"));
        }
        match head.kind {
            Kind::Data => self.data(head, payload, names),
            Kind::Headers => self.headers(head, payload, names),
            Kind::Continuation => self.continuation(head, payload, names),
            Kind::Priority => self.priority(head, payload),
            Kind::RstStream => self.rst_stream(head, payload),
            Kind::Settings => self.settings(head, payload),
            Kind::PushPromise => Err(protocol("a client has nothing to promise")),
            Kind::Ping => self.ping(head, payload),
            Kind::Goaway => self.goaway(head, payload),
            Kind::WindowUpdate => self.window_update(head, payload),
            Kind::Unknown => self.idle_frame(),
        }
    }

    /// A frame that says nothing, or nothing of use.
    fn idle_frame(&mut self) -> Result<(), Broken> {
        let often = !self.idle_frames.take(self.now);
        if often { Err(calm("too many frames that say nothing")) } else { Ok(()) }
    }

    /// Ends a stream that broke the rules.
    fn reset(&mut self, slot: u32, reason: Reason) -> Result<(), Broken> {
        let Some(stream) = self.slab.get(slot) else { return Ok(()) };
        frame::put_reset(&mut self.out.bytes, stream.id, reason);
        self.cancel(slot, true);
        self.count_cancel()
    }

    /// Answers a stream that was never opened.
    fn refuse(&mut self, id: u32, reason: Reason) -> Result<(), Broken> {
        frame::put_reset(&mut self.out.bytes, id, reason);
        self.slab.remember(id, true);
        self.count_cancel()
    }

    fn count_cancel(&mut self) -> Result<(), Broken> {
        let often = !self.cancels.take(self.now);
        if often { Err(calm("too many streams are cancelled")) } else { Ok(()) }
    }

    /// The call is over and the services, if they still care, are told.
    fn cancel(&mut self, slot: u32, by_us: bool) {
        let Some(stream) = self.slab.get(slot) else { return };
        if let (Some(stream), false) = (stream.name, stream.answered) {
            self.events.push(FromClient::Cancelled { stream });
        }
        self.close(slot, by_us);
    }

    /// Frees the slot and everything that was counted for it.
    fn close(&mut self, slot: u32, by_us: bool) {
        let Some(stream) = self.slab.get(slot) else { return };
        self.unfinished -= stream.counted + stream.kept;
        self.unsent -= stream.queued;
        self.recv_unreturned += stream.held.len() as u32;
        self.slab.remove(slot, by_us);
        if self.slab.shrink() {
            self.ready = VecDeque::new();
            self.resumable = Vec::new();
        }
    }

    fn break_off(&mut self, broken: Broken) {
        let last = self.clock.last_promised(self.last_id);
        frame::put_goaway(&mut self.out.bytes, last, broken.reason, broken.text);
        self.finish_with(End::Broken(broken));
    }

    fn finish_with(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.rest = Vec::new();
        for slot in self.slab.slots() {
            self.cancel(slot, true);
        }
    }

    /// Whether it is worth a frame to give received bytes back: when it is half of the window, or all
    /// that is left of it, since what full streams hold does not come back before they move.
    fn returns_window(&self) -> bool {
        let half = self.recv_unreturned >= self.options.connection_window / 2;
        half || self.recv_unreturned > 0 && i64::from(self.recv_unreturned) >= self.recv_window
    }

    /// What is due after anything happened.
    fn settle(&mut self) {
        if self.end.is_none() && self.returns_window() {
            let by = std::mem::take(&mut self.recv_unreturned);
            self.recv_window += i64::from(by);
            frame::put_window(&mut self.out.bytes, 0, by);
        }
        if self.clock.is_drained() && self.slab.open() == 0 {
            self.end.get_or_insert(End::Closed);
        }
    }
}

fn check_length(head: &Head) -> Result<(), Broken> {
    if head.length > PAYLOAD_MAX {
        return Err(frame_size("a frame is longer than SETTINGS_MAX_FRAME_SIZE"));
    }
    Ok(())
}

fn status(code: Code, message: &str) -> GrpcStatus {
    GrpcStatus { code, message: message.to_string() }
}
