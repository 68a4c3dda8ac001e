//! One client connection: HTTP/2 frames, flow control both ways, and gRPC's unary calls.
//!
//! A slot carries one stream at a time; the number of slots is the number of calls in flight. Leaves
//! out what a client of unary calls does not need: push, priorities, streams of messages.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::hpack::{Decoder, Encoder, Head};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Bytes before a gRPC message.
const PREFIX: usize = 5;
/// Largest frame either side sends.
const FRAME_MAX: usize = 16 << 10;
/// What the server may send before we confirm, on a stream and on the connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONN_WINDOW: u32 = 64 << 20;
/// The windows of HTTP/2 before any SETTINGS.
const WINDOW: i64 = 65_535;
/// Largest answer, and largest header block.
const ANSWER_MAX: usize = STREAM_WINDOW as usize;
const BLOCK_MAX: usize = 1 << 20;

/// What can be called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Put,
    Range,
    DeleteRange,
}

impl Call {
    fn path(self) -> &'static str {
        match self {
            Call::Put => "/etcdserverpb.KV/Put",
            Call::Range => "/etcdserverpb.KV/Range",
            Call::DeleteRange => "/etcdserverpb.KV/DeleteRange",
        }
    }
}

/// Told of the end of each call; the slot may be used again at once.
pub(super) trait Answers {
    fn answered(&mut self, conn: &mut Conn, slot: usize, answer: Result<&[u8], String>);
}

#[derive(Default)]
struct Slot {
    /// 0 while idle.
    stream: u32,
    send_window: i64,
    out: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
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
    streams: BTreeMap<u32, usize>,
    slots: Vec<Slot>,
    /// Slots whose call waits for SETTINGS or for a stream, and those that wait for a window.
    queued: VecDeque<(usize, Call)>,
    blocked: VecDeque<usize>,
    streams_max: usize,
    stream_window: i64,
    send_window: i64,
    unconfirmed: u32,
    settled: bool,
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
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut output, 12, (SETTINGS, 0), 0);
        output.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]); // no push; the window of streams
        output.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        frame(&mut output, 4, (WINDOW_UPDATE, 0), 0);
        output.extend_from_slice(&(CONN_WINDOW - WINDOW as u32).to_be_bytes());
        Ok(Conn {
            number,
            authority: address.to_string(),
            socket,
            closed: false,
            writable: true,
            input: vec![0; 256 << 10],
            filled: 0,
            output,
            written: 0,
            next_stream: 1,
            streams: BTreeMap::new(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            queued: VecDeque::new(),
            blocked: VecDeque::new(),
            streams_max: usize::MAX,
            stream_window: WINDOW,
            send_window: WINDOW,
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

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Starts a call in an idle slot; `fill` writes the request message.
    pub fn call(&mut self, slot: usize, call: Call, fill: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.slots[slot].out;
        out.clear();
        out.extend_from_slice(&[0; PREFIX]);
        fill(out);
        let length = (out.len() - PREFIX) as u32;
        out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        if self.may_begin() && self.queued.is_empty() {
            self.begin(slot, call);
        } else {
            self.queued.push_back((slot, call));
        }
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
                answers.answered(self, slot, Err(why.to_owned()));
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
        (state.stream, state.send_window, state.sent) = (stream, self.stream_window, 0);
        state.answer.clear();
        state.http = None;
        let at = self.output.len();
        frame(&mut self.output, 0, (HEADERS, END_HEADERS), stream);
        self.encoder.request(&mut self.output, &self.authority, call.path());
        let length = (self.output.len() - at - HEAD) as u16;
        self.output[at + 1..at + 3].copy_from_slice(&length.to_be_bytes());
        self.pump(slot);
    }

    /// Sends a slot's message, as far as the windows allow.
    fn pump(&mut self, slot: usize) {
        let state = &mut self.slots[slot];
        while state.stream != 0 && state.sent < state.out.len() {
            let left = state.out.len() - state.sent;
            let room = self.send_window.min(state.send_window).max(0) as usize;
            let count = left.min(room).min(FRAME_MAX);
            if count == 0 {
                return self.blocked.push_back(slot);
            }
            let flags = if count == left { END_STREAM } else { 0 };
            frame(&mut self.output, count, (DATA, flags), state.stream);
            self.output.extend_from_slice(&state.out[state.sent..state.sent + count]);
            state.sent += count;
            state.send_window -= count as i64;
            self.send_window -= count as i64;
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
        while let Some((head, body)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME_MAX {
                return Err("a frame that is too large".to_owned());
            }
            let Some((payload, after)) = body.split_at_checked(length) else { break };
            let stream = number(&head[5..]) & 0x7fff_ffff;
            self.frame(head[3], (head[4], stream), payload, answers)?;
            rest = after;
        }
        let left = rest.len();
        let from = self.filled - left;
        self.input = input;
        self.input.copy_within(from..self.filled, 0);
        self.filled = left;
        if self.unconfirmed >= CONN_WINDOW / 2 {
            frame(&mut self.output, 4, (WINDOW_UPDATE, 0), 0);
            self.output.extend_from_slice(&self.unconfirmed.to_be_bytes());
            self.unconfirmed = 0;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        (flags, stream): (u8, u32),
        payload: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), String> {
        if self.partial.is_some() != (kind == CONTINUATION) {
            return Err("a header block that is not continued, or none that could be".to_owned());
        }
        match kind {
            DATA => self.data(flags, stream, payload, answers),
            HEADERS => {
                let mut block = unpadded(payload, flags)?;
                if flags & PRIORITY != 0 {
                    block = block.get(5..).ok_or("a short HEADERS frame")?;
                }
                self.block((flags, stream), block.to_vec(), flags, answers)
            }
            CONTINUATION => {
                let (begun, first, mut block) = self.partial.take().expect("checked above");
                block.extend_from_slice(payload);
                if begun != stream || block.len() > BLOCK_MAX {
                    return Err("a bad CONTINUATION frame".to_owned());
                }
                self.block((first, stream), block, flags, answers)
            }
            RST_STREAM => {
                let why = format!("the stream was reset, code {}", number(payload));
                self.end(stream, Err(why), answers);
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload),
            PING if flags & ACK == 0 => {
                frame(&mut self.output, payload.len(), (PING, ACK), 0);
                self.output.extend_from_slice(payload);
                Ok(())
            }
            GOAWAY => {
                let code = number(payload.get(4..).unwrap_or_default());
                Err(format!("the server goes away, code {code}"))
            }
            WINDOW_UPDATE => {
                self.window(stream, i64::from(number(payload) & 0x7fff_ffff));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn window(&mut self, stream: u32, more: i64) {
        if stream == 0 {
            self.send_window += more;
        } else if let Some(slot) = self.streams.get(&stream) {
            self.slots[*slot].send_window += more;
        }
        self.unblock();
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), String> {
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
        frame(&mut self.output, 0, (SETTINGS, ACK), 0);
        self.settled = true;
        self.unblock();
        self.begin_queued();
        Ok(())
    }

    fn begin_queued(&mut self) {
        while self.may_begin()
            && let Some((slot, call)) = self.queued.pop_front()
        {
            self.begin(slot, call);
        }
    }

    fn data(
        &mut self,
        flags: u8,
        stream: u32,
        payload: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), String> {
        self.unconfirmed += payload.len() as u32;
        let Some(slot) = self.streams.get(&stream).copied() else { return Ok(()) };
        let answer = &mut self.slots[slot].answer;
        answer.extend_from_slice(unpadded(payload, flags)?);
        if answer.len() > ANSWER_MAX {
            return Err("an answer that is too large".to_owned());
        }
        if flags & END_STREAM != 0 {
            self.end(stream, Err("the stream ended without trailers".to_owned()), answers);
        }
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
        if last & END_HEADERS == 0 {
            self.partial = Some((stream, first, block));
            return Ok(());
        }
        let head = self.decoder.decode(&block)?;
        let Some(slot) = self.streams.get(&stream).copied() else { return Ok(()) };
        let state = &mut self.slots[slot];
        state.http = state.http.or(head.http);
        if first & END_STREAM != 0 {
            let verdict = verdict(state.http, &head);
            self.end(stream, verdict, answers);
        }
        Ok(())
    }

    /// A call is over.
    fn end(&mut self, stream: u32, verdict: Result<(), String>, answers: &mut impl Answers) {
        let Some(slot) = self.streams.remove(&stream) else { return };
        self.slots[slot].stream = 0;
        self.blocked.retain(|blocked| *blocked != slot);
        let answer = std::mem::take(&mut self.slots[slot].answer);
        answers.answered(self, slot, verdict.and_then(|()| message(&answer)));
        if self.slots[slot].answer.is_empty() {
            self.slots[slot].answer = answer; // its memory
            self.slots[slot].answer.clear();
        }
        self.begin_queued();
    }
}

fn frame(out: &mut Vec<u8>, length: usize, (kind, flags): (u8, u8), stream: u32) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// The four bytes at the front; a shorter payload counts as zero.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], String> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or("bad padding")?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or("bad padding")?;
    Ok(&rest[..length])
}

/// The one message of an answer.
fn message(answer: &[u8]) -> Result<&[u8], String> {
    match answer.split_first_chunk::<PREFIX>() {
        Some((prefix, message))
            if prefix[0] == 0 && number(&prefix[1..]) as usize == message.len() =>
        {
            Ok(message)
        }
        _ => Err("an answer that is not one plain message".to_owned()),
    }
}

fn verdict(http: Option<u32>, trailers: &Head) -> Result<(), String> {
    match (http, trailers.grpc) {
        (Some(200), Some(0)) => Ok(()),
        (Some(200), Some(code)) => {
            Err(format!("grpc-status {code}: {}", trailers.message.as_deref().unwrap_or("")))
        }
        (Some(200), None) => Err("no grpc-status in the trailers".to_owned()),
        _ => Err(format!("HTTP status {http:?}")),
    }
}
