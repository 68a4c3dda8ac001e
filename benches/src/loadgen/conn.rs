//! One client connection: HTTP/2 frames, flow control both ways, and gRPC calls of every kind.
//!
//! A slot carries one stream at a time; the number of slots is the number of calls in flight. Whole
//! messages are handed over from where they were read, without a copy. Leaves out what a client does
//! not need: push and priorities.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::frame::{self, Call, Frame, frame, number, unpadded};
use super::hpack::{Decoder, Encoder, Head};

/// What the server may send before we confirm, on a stream and on the connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONN_WINDOW: u32 = 64 << 20;
/// Largest message, and largest header block.
const MESSAGE_MAX: usize = 1 << 30;
const BLOCK_MAX: usize = 1 << 20;

/// Told what comes back.
pub(super) trait Answers {
    /// A message on the slot's stream.
    fn message(&mut self, conn: &mut Conn, slot: usize, message: &[u8]);
    /// The slot's stream is over; the slot may be used again at once.
    fn ended(&mut self, conn: &mut Conn, slot: usize, end: Result<(), String>);
}

/// Whether the client has more to say on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Once,
    More,
}

#[derive(Default)]
struct Slot {
    /// 0 while idle.
    stream: u32,
    send_window: i64,
    out: Vec<u8>,
    sent: usize,
    /// Whether the stream ends with what is in `out`, and whether that end was sent.
    last: bool,
    closed: bool,
    /// The beginning of a message whose rest has not come.
    partial: Vec<u8>,
    unconfirmed: u32,
    http: Option<u32>,
}

/// See the module.
pub(super) struct Conn {
    number: usize,
    authority: String,
    socket: TcpStream,
    closed: bool,
    writable: bool,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    next_stream: u32,
    streams: HashMap<u32, usize, BuildHasherDefault<StreamHasher>>,
    slots: Vec<Slot>,
    /// Slots whose call waits for SETTINGS or for a stream, and those that wait for a window.
    queued: VecDeque<(usize, Call)>,
    blocked: VecDeque<usize>,
    streams_max: usize,
    stream_window: i64,
    send_window: i64,
    unconfirmed: u32,
    settled: bool,
    /// A header block whose end has not come: its stream, the flags of its HEADERS frame, its bytes.
    partial: Option<(u32, u8, Vec<u8>)>,
    decoder: Decoder,
    encoder: Encoder,
}

impl Conn {
    /// Connects and greets. `number` names the connection among its thread's.
    pub fn open(address: SocketAddr, slots: usize, number: usize) -> io::Result<Conn> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Conn {
            number,
            authority: address.to_string(),
            socket,
            closed: false,
            writable: true,
            input: vec![0; 256 << 10],
            filled: 0,
            output: greeting(),
            written: 0,
            next_stream: 1,
            streams: HashMap::default(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            queued: VecDeque::new(),
            blocked: VecDeque::new(),
            streams_max: usize::MAX,
            stream_window: frame::WINDOW,
            send_window: frame::WINDOW,
            unconfirmed: 0,
            settled: false,
            partial: None,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
        })
    }

    pub fn number(&self) -> usize {
        self.number
    }

    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Starts a call in an idle slot; `fill` writes the request message.
    pub fn call(
        &mut self,
        slot: usize,
        (call, says): (Call, Says),
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let state = &mut self.slots[slot];
        state.out.clear();
        state.partial.clear();
        (state.sent, state.unconfirmed, state.http) = (0, 0, None);
        (state.last, state.closed) = (says == Says::Once, false);
        frame::put_grpc(&mut state.out, fill);
        if self.may_begin() && self.queued.is_empty() {
            self.begin(slot, call);
        } else {
            self.queued.push_back((slot, call));
        }
    }

    /// Sends a further message on the open stream of a slot.
    pub fn say(&mut self, slot: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        frame::put_grpc(&mut self.slots[slot].out, fill);
        self.pump(slot);
    }

    /// The socket is ready: reads what is there, tells the answers, sends what came of them.
    pub fn ready(&mut self, writable: bool, readable: bool, answers: &mut impl Answers) {
        self.writable |= writable;
        if self.closed {
            return;
        }
        if readable && let Err(why) = self.read(answers) {
            return self.close(&why, answers);
        }
        self.flush(answers);
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self, answers: &mut impl Answers) {
        while self.writable && self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.close(&format!("write: {}", error.kind()), answers),
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// The connection is of no more use: every call on it has failed.
    fn close(&mut self, why: &str, answers: &mut impl Answers) {
        self.closed = true;
        self.streams.clear();
        let queued = std::mem::take(&mut self.queued);
        for slot in 0..self.slots.len() {
            let under_way = std::mem::take(&mut self.slots[slot].stream) != 0;
            if under_way || queued.iter().any(|(queued, _)| *queued == slot) {
                answers.ended(self, slot, Err(why.to_owned()));
            }
        }
    }

    fn may_begin(&self) -> bool {
        self.settled && self.streams.len() < self.streams_max
    }

    fn begin(&mut self, slot: usize, call: Call) {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.streams.insert(stream, slot);
        let state = &mut self.slots[slot];
        (state.stream, state.send_window) = (stream, self.stream_window);
        let at = self.output.len();
        frame(&mut self.output, 0, (frame::HEADERS, frame::END_HEADERS), stream);
        self.encoder.request(&mut self.output, &self.authority, call.path());
        frame::close_frame(&mut self.output, at);
        self.pump(slot);
    }

    /// Sends a slot's messages, as far as the windows allow.
    fn pump(&mut self, slot: usize) {
        let state = &mut self.slots[slot];
        while state.stream != 0 && state.sent < state.out.len() {
            let left = state.out.len() - state.sent;
            let room = self.send_window.min(state.send_window).max(0) as usize;
            let count = left.min(room).min(frame::FRAME_MAX);
            if count == 0 {
                return self.blocked.push_back(slot);
            }
            state.closed = state.last && count == left;
            let flags = if state.closed { frame::END_STREAM } else { 0 };
            frame(&mut self.output, count, (frame::DATA, flags), state.stream);
            self.output.extend_from_slice(&state.out[state.sent..state.sent + count]);
            state.sent += count;
            state.send_window -= count as i64;
            self.send_window -= count as i64;
        }
        if state.stream != 0 {
            state.out.clear();
            state.sent = 0;
        }
    }

    fn unblock(&mut self) {
        for slot in std::mem::take(&mut self.blocked) {
            self.pump(slot);
        }
    }

    fn read(&mut self, answers: &mut impl Answers) -> Result<(), String> {
        loop {
            match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => {
                    self.filled += count;
                    let full = self.filled == self.input.len();
                    self.frames(answers)?;
                    if !full {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("read: {}", error.kind())),
            }
        }
    }

    /// Handles all whole frames that have arrived, and keeps the rest.
    fn frames(&mut self, answers: &mut impl Answers) -> Result<(), String> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..self.filled];
        while let Some(frame) = frame::next_frame(&mut rest)? {
            self.frame(frame, answers)?;
        }
        let left = rest.len();
        let from = self.filled - left;
        self.input = input;
        self.input.copy_within(from..self.filled, 0);
        self.filled = left;
        if self.unconfirmed >= CONN_WINDOW / 2 {
            confirm(&mut self.output, 0, &mut self.unconfirmed);
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame<'_>, answers: &mut impl Answers) -> Result<(), String> {
        if self.partial.is_some() != (frame.kind == frame::CONTINUATION) {
            return Err("a header block that is not continued, or none that could be".to_owned());
        }
        match frame.kind {
            frame::DATA => self.data(frame, answers),
            frame::HEADERS => {
                let block = frame::block_of(&frame)?;
                self.block((frame.flags, frame.stream), block.to_vec(), frame.flags, answers)
            }
            frame::CONTINUATION => {
                let (begun, first, mut block) = self.partial.take().expect("checked above");
                block.extend_from_slice(frame.payload);
                if begun != frame.stream || block.len() > BLOCK_MAX {
                    return Err("a bad CONTINUATION frame".to_owned());
                }
                self.block((first, begun), block, frame.flags, answers)
            }
            frame::RST_STREAM => {
                let why = format!("the stream was reset, code {}", number(frame.payload));
                self.end(frame.stream, Err(why), answers);
                Ok(())
            }
            frame::GOAWAY => {
                let code = number(frame.payload.get(4..).unwrap_or_default());
                Err(format!("the server goes away, code {code}"))
            }
            _ => self.housekeeping(frame),
        }
    }

    fn housekeeping(&mut self, frame: Frame<'_>) -> Result<(), String> {
        match frame.kind {
            frame::SETTINGS if !frame.is(frame::ACK) => self.settings(frame.payload),
            frame::PING if !frame.is(frame::ACK) => {
                let length = frame.payload.len();
                frame::frame(&mut self.output, length, (frame::PING, frame::ACK), 0);
                self.output.extend_from_slice(frame.payload);
            }
            frame::WINDOW_UPDATE => {
                self.window(frame.stream, i64::from(number(frame.payload) & 0x7fff_ffff));
            }
            _ => {}
        }
        Ok(())
    }

    fn window(&mut self, stream: u32, more: i64) {
        if stream == 0 {
            self.send_window += more;
        } else if let Some(slot) = self.streams.get(&stream) {
            self.slots[*slot].send_window += more;
        }
        if !self.blocked.is_empty() {
            self.unblock();
        }
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.as_chunks::<6>().0 {
            let value = number(&setting[2..]);
            match setting[1] {
                1 if value < 1024 => self.encoder.indexing = false, // comes before our first request
                3 => self.streams_max = value as usize,
                4 => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window += more;
                    for slot in self.slots.iter_mut().filter(|slot| slot.stream != 0) {
                        slot.send_window += more;
                    }
                }
                _ => {}
            }
        }
        frame(&mut self.output, 0, (frame::SETTINGS, frame::ACK), 0);
        self.settled = true;
        self.unblock();
        self.begin_queued();
    }

    fn begin_queued(&mut self) {
        while self.may_begin()
            && let Some((slot, call)) = self.queued.pop_front()
        {
            self.begin(slot, call);
        }
    }

    fn data(&mut self, frame: Frame<'_>, answers: &mut impl Answers) -> Result<(), String> {
        self.unconfirmed += frame.payload.len() as u32;
        let Some(slot) = self.streams.get(&frame.stream).copied() else { return Ok(()) };
        let ends = frame.is(frame::END_STREAM);
        let state = &mut self.slots[slot];
        state.unconfirmed += frame.payload.len() as u32;
        if state.unconfirmed >= STREAM_WINDOW / 2 && !ends {
            confirm(&mut self.output, frame.stream, &mut state.unconfirmed);
        }
        self.messages(slot, unpadded(frame.payload, frame.flags)?, answers)?;
        if ends {
            self.end(frame.stream, Err("the stream ended without trailers".to_owned()), answers);
        }
        Ok(())
    }

    /// Hands over the whole messages, and keeps the rest with the slot.
    fn messages(
        &mut self,
        slot: usize,
        payload: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), String> {
        let mut joined = std::mem::take(&mut self.slots[slot].partial);
        let mut rest = payload;
        if !joined.is_empty() {
            joined.extend_from_slice(payload);
            rest = &joined;
        }
        while let Some(message) = frame::next_message(&mut rest, MESSAGE_MAX)? {
            answers.message(self, slot, message);
        }
        let kept = rest.len();
        if joined.is_empty() {
            joined.extend_from_slice(&payload[payload.len() - kept..]);
        } else {
            joined.drain(..joined.len() - kept);
        }
        self.slots[slot].partial = joined;
        Ok(())
    }

    /// A header block, or a part of one: `first` are the flags of its HEADERS frame, `last` those of
    /// the frame that ended it, if it has ended.
    fn block(
        &mut self,
        (first, stream): (u8, u32),
        block: Vec<u8>,
        last: u8,
        answers: &mut impl Answers,
    ) -> Result<(), String> {
        if last & frame::END_HEADERS == 0 {
            self.partial = Some((stream, first, block));
            return Ok(());
        }
        let head = self.decoder.decode(&block)?;
        let Some(slot) = self.streams.get(&stream).copied() else { return Ok(()) };
        let state = &mut self.slots[slot];
        state.http = state.http.or(head.http);
        if first & frame::END_STREAM != 0 {
            let verdict = verdict(state.http, &head, !state.partial.is_empty());
            self.end(stream, verdict, answers);
        }
        Ok(())
    }

    /// A stream is over.
    fn end(&mut self, stream: u32, verdict: Result<(), String>, answers: &mut impl Answers) {
        let Some(slot) = self.streams.remove(&stream) else { return };
        let state = &mut self.slots[slot];
        state.stream = 0;
        if state.sent < state.out.len() {
            self.blocked.retain(|blocked| *blocked != slot);
        }
        answers.ended(self, slot, verdict);
        if !self.queued.is_empty() {
            self.begin_queued();
        }
    }
}

/// Stream numbers are dense already: one multiplication spreads them.
#[derive(Default)]
struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(self.0 as u32 ^ u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

fn greeting() -> Vec<u8> {
    let mut output = frame::PREFACE.to_vec();
    frame(&mut output, 12, (frame::SETTINGS, 0), 0);
    output.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]); // no push; the window of streams
    output.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
    frame(&mut output, 4, (frame::WINDOW_UPDATE, 0), 0);
    output.extend_from_slice(&(CONN_WINDOW - frame::WINDOW as u32).to_be_bytes());
    output
}

/// Lets the server send as much again as it has sent.
fn confirm(output: &mut Vec<u8>, stream: u32, unconfirmed: &mut u32) {
    frame(output, 4, (frame::WINDOW_UPDATE, 0), stream);
    output.extend_from_slice(&std::mem::take(unconfirmed).to_be_bytes());
}

fn verdict(http: Option<u32>, trailers: &Head, partial: bool) -> Result<(), String> {
    match (http, trailers.grpc) {
        (Some(200), Some(0)) if partial => {
            Err("the stream ended in the middle of a message".to_owned())
        }
        (Some(200), Some(0)) => Ok(()),
        (Some(200), Some(code)) => {
            Err(format!("grpc-status {code}: {}", trailers.message.as_deref().unwrap_or("")))
        }
        (Some(200), None) => Err("no grpc-status in the trailers".to_owned()),
        _ => Err(format!("HTTP status {http:?}")),
    }
}
