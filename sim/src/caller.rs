//! A client's end of one HTTP/2 connection: calls in, frames out; bytes in, what became of calls out.
//!
//! It keeps the rules that a client must keep, uses the freedom that they leave by dice (padding, pieces,
//! small windows that it enlarges late), and believes the server: whether that is right is for the
//! checkers, which are shown every [`Note`] in the order in which it came about.
//!
//! ```text
//!  call, say, reset ──► frames ──► out            bytes ──► frames ──► notes
//!                                                              └────► heard (messages, ends)
//! ```
//!
//! Leaves out sockets, time, and what a message means. Laws:
//!  1. Each call ends once: by its trailers, by a reset of either side, by a GOAWAY below it, or with
//!     the connection; a call that the client resets ends without a word.
//!  2. It never sends more than both windows let it, and opens no more streams than it may.
//!
//! Worked example: `call` for `/etcdserverpb.KV/Put` and `say` with the end give HEADERS 1 and DATA 1;
//! HEADERS 1, DATA 1 and HEADERS 1 with `grpc-status: 0` come back as one `Ended` with the message.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::rng::Rng;

use crate::history::OpId;
use crate::wire::Breach;
use crate::wire::frame::{self, Frame, Reader};
use crate::wire::hpack::Encoder;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request of the history.
    Op(OpId),
    /// A watch stream: the watching client, and its number there.
    Watch {
        /// Whose.
        client: usize,
        /// Which.
        stream: u64,
    },
    /// A call whose answer is known beforehand.
    Probe(Probe),
}

/// Calls that the history knows nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A method that etcd does not have.
    Unknown,
    /// Is the server well?
    Health,
    /// Is a service well that does not exist?
    HealthUnknown,
    /// Tell me whether the server is well, for ever.
    HealthWatch,
}

/// How long a call lives by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message each way.
    Unary,
    /// A stream that ends once what was asked is answered.
    Asking,
    /// A stream that goes on.
    Lasting,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By its trailers.
    Status(u32, String),
    /// The server reset it.
    Reset(u32),
    /// A GOAWAY says that nobody looks at it.
    Ignored,
    /// The connection is gone.
    Lost,
}

/// What a client learns of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next message of a call that may have several.
    Message(Purpose, Bytes),
    /// A call is over; a unary one with its message, if there was one.
    Ended(Purpose, Option<Bytes>, End),
}

/// What was said on a connection, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The client opens a stream.
    Opened(u32, Kind),
    /// The client ends its side of a stream.
    HalfClosed(u32),
    /// The client resets a stream.
    Reset(u32),
    /// The client sends SETTINGS, perhaps with a new initial window.
    Settings(Option<u32>),
    /// The client asks whether the server is there.
    Ping([u8; 8]),
    /// The client enlarges a window; stream 0 is the connection.
    Window(u32, u32),
    /// The server said something.
    Heard(Frame),
    /// The connection is over.
    Closed,
}

/// The ways of one client.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The initial window that it announces.
    pub window: u32,
    /// What it lets the connection's window grow to again, once that has run low.
    pub connection: u32,
    /// It enlarges windows only when it is [`Caller::ease`]d.
    pub slow: bool,
    /// How many of its frames are padded or cut into pieces, in percent.
    pub odd: u64,
}

#[derive(Debug)]
struct Call {
    purpose: Purpose,
    kind: Kind,
    /// What the server lets it send.
    window: i64,
    unsent: Vec<u8>,
    ends: bool,
    half_closed: bool,
    inbox: Vec<u8>,
    message: Option<Bytes>,
    status: (Option<u32>, String),
    /// What the server may still send.
    allowed: i64,
    grant: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Caller {
    rng: Rng,
    habits: Habits,
    reader: Reader,
    encoder: Encoder,
    out: Vec<u8>,
    notes: Vec<Note>,
    calls: BTreeMap<u32, Call>,
    next: u32,
    window: i64,
    window_initial: i64,
    calls_max: usize,
    allowed: i64,
    last_looked_at: Option<u32>,
    pings: u64,
}

impl Caller {
    /// A client that has just connected; it says hello at once.
    pub fn new(rng: Rng, habits: Habits) -> Caller {
        let mut caller = Caller {
            rng,
            reader: Reader::default(),
            encoder: Encoder::default(),
            out: frame::PREFACE.to_vec(),
            notes: Vec::new(),
            calls: BTreeMap::new(),
            next: 1,
            window: frame::WINDOW,
            window_initial: frame::WINDOW,
            calls_max: usize::MAX,
            allowed: frame::WINDOW,
            last_looked_at: None,
            pings: 0,
            habits: Habits { window: frame::WINDOW as u32, ..habits },
        };
        caller.resize(habits.window);
        caller
    }

    /// Whether another call may be made.
    pub fn may_call(&self) -> bool {
        !self.is_leaving() && self.calls.len() < self.calls_max
    }

    /// Whether the server has said that it will go.
    pub fn is_leaving(&self) -> bool {
        self.last_looked_at.is_some()
    }

    /// Open calls.
    pub fn calls_open(&self) -> usize {
        self.calls.len()
    }

    /// Whether it could enlarge a window.
    pub fn is_sparing(&self) -> bool {
        self.habits.slow
    }

    /// The bytes that it has to send.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What was said since the last time.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Opens a call; its first message has to follow.
    pub fn call(&mut self, path: &str, kind: Kind, purpose: Purpose, more: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "sim"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        fields.extend_from_slice(more);
        let block = self.encoder.block(&mut self.rng, &fields);
        if self.rng.chance(self.habits.odd) && block.len() > 1 {
            let (first, rest) = block.split_at(self.rng.below(block.len() as u64) as usize);
            frame::put(&mut self.out, frame::HEADERS, 0, (stream, first));
            frame::put(&mut self.out, frame::CONTINUATION, frame::END_HEADERS, (stream, rest));
        } else {
            frame::put(&mut self.out, frame::HEADERS, frame::END_HEADERS, (stream, &block));
        }
        self.notes.push(Note::Opened(stream, kind));
        let call = Call {
            purpose,
            kind,
            window: self.window_initial,
            unsent: Vec::new(),
            ends: false,
            half_closed: false,
            inbox: Vec::new(),
            message: None,
            status: (None, String::new()),
            allowed: i64::from(self.habits.window),
            grant: 64,
        };
        self.calls.insert(stream, call);
        self.top_up();
        stream
    }

    /// Sends a message of a call; with `ends` the client's side ends.
    pub fn say(&mut self, stream: u32, message: &[u8], ends: bool) {
        let Some(call) = self.calls.get_mut(&stream).filter(|call| !call.ends) else { return };
        call.unsent.extend(frame::framed(message));
        call.ends = ends;
        self.send(stream);
    }

    /// Ends the client's side of a call.
    pub fn half_close(&mut self, stream: u32) {
        let Some(call) = self.calls.get_mut(&stream).filter(|call| !call.ends) else { return };
        call.ends = true;
        self.send(stream);
    }

    /// Gives a call up.
    pub fn reset(&mut self, stream: u32) {
        if self.calls.remove(&stream).is_some() {
            let reason = frame::CANCEL.to_be_bytes();
            frame::put(&mut self.out, frame::RST_STREAM, 0, (stream, &reason));
            self.notes.push(Note::Reset(stream));
        }
    }

    /// Gives all calls up.
    pub fn reset_all(&mut self) {
        for stream in self.calls.keys().copied().collect::<Vec<_>>() {
            self.reset(stream);
        }
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self) {
        self.pings += 1;
        let data = self.pings.to_be_bytes();
        frame::put(&mut self.out, frame::PING, 0, (0, &data));
        self.notes.push(Note::Ping(data));
    }

    /// Announces another initial window.
    pub fn resize(&mut self, window: u32) {
        let by = i64::from(window) - i64::from(self.habits.window);
        self.habits.window = window;
        for call in self.calls.values_mut() {
            call.allowed += by;
        }
        frame::put_settings(&mut self.out, &[(frame::SETTING_WINDOW, window)]);
        self.notes.push(Note::Settings(Some(window)));
        self.top_up();
    }

    /// SETTINGS that change nothing, to be confirmed like all others.
    pub fn nag(&mut self) {
        frame::put_settings(&mut self.out, &[]);
        self.notes.push(Note::Settings(None));
    }

    /// From now on it is no slower than it has to be.
    pub fn calm(&mut self) {
        self.habits.slow = false;
        self.top_up();
    }

    /// A slow client enlarges its windows.
    pub fn ease(&mut self) {
        let slow = std::mem::replace(&mut self.habits.slow, false);
        self.top_up();
        self.habits.slow = slow;
    }

    /// The connection is gone.
    pub fn lose(&mut self) -> Vec<Heard> {
        self.notes.push(Note::Closed);
        let calls = std::mem::take(&mut self.calls).into_values();
        calls.map(|call| Heard::Ended(call.purpose, None, End::Lost)).collect()
    }

    /// Bytes of the server came.
    ///
    /// # Errors
    /// They are not what a server may send: the connection has no future.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Breach> {
        let mut heard = Vec::new();
        self.reader.push(bytes);
        while let Some(frame) = self.reader.pop()? {
            self.notes.push(Note::Heard(frame.clone()));
            self.frame(frame, &mut heard)?;
        }
        self.top_up();
        Ok(heard)
    }

    fn frame(&mut self, frame: Frame, heard: &mut Vec<Heard>) -> Result<(), Breach> {
        match frame {
            Frame::Settings(settings) => self.settings(&settings),
            Frame::Ping(data) => frame::put(&mut self.out, frame::PING, frame::ACK, (0, &data)),
            Frame::SettingsAck | Frame::Pong(_) => {}
            Frame::Window { stream: 0, by } => {
                self.window += i64::from(by);
                self.send_all();
            }
            Frame::Window { stream, by } => {
                if let Some(call) = self.calls.get_mut(&stream) {
                    call.window += i64::from(by);
                }
                self.send(stream);
            }
            Frame::Goaway { last, .. } => self.goaway(last, heard),
            Frame::Reset { stream, reason } => self.end(stream, Some(End::Reset(reason)), heard),
            Frame::Headers { stream, fields, end } => {
                let Some(call) = self.calls.get_mut(&stream) else { return Ok(()) };
                for (name, value) in fields {
                    match &name[..] {
                        "grpc-status" => call.status.0 = value.parse().ok(),
                        "grpc-message" => call.status.1 = unescaped(&value),
                        _ => {}
                    }
                }
                if end {
                    self.end(stream, None, heard);
                }
            }
            Frame::Data { stream, bytes, end } => {
                self.allowed -= bytes.len() as i64;
                self.data(stream, &bytes, heard)?;
                if end {
                    self.end(stream, None, heard);
                }
            }
        }
        Ok(())
    }

    fn settings(&mut self, settings: &[(u16, u32)]) {
        for (name, value) in settings {
            match *name {
                frame::SETTING_WINDOW => {
                    let by = i64::from(*value) - self.window_initial;
                    self.window_initial = i64::from(*value);
                    self.calls.values_mut().for_each(|call| call.window += by);
                }
                frame::SETTING_STREAMS => self.calls_max = *value as usize,
                _ => {}
            }
        }
        frame::put(&mut self.out, frame::SETTINGS, frame::ACK, (0, &[]));
        self.send_all();
    }

    fn goaway(&mut self, last: u32, heard: &mut Vec<Heard>) {
        self.last_looked_at = Some(last);
        for (_, call) in self.calls.split_off(&last.saturating_add(1)) {
            heard.push(Heard::Ended(call.purpose, None, End::Ignored));
        }
    }

    fn data(&mut self, stream: u32, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<(), Breach> {
        let Some(call) = self.calls.get_mut(&stream) else { return Ok(()) };
        call.allowed -= bytes.len() as i64;
        call.inbox.extend_from_slice(bytes);
        while let Some(message) = frame::take_message(&mut call.inbox)? {
            match call.kind {
                Kind::Unary => call.message = Some(message),
                Kind::Asking | Kind::Lasting => heard.push(Heard::Message(call.purpose, message)),
            }
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, end: Option<End>, heard: &mut Vec<Heard>) {
        let Some(call) = self.calls.remove(&stream) else { return };
        let (code, text) = call.status;
        let end = end.unwrap_or(End::Status(code.unwrap_or(u32::MAX), text));
        heard.push(Heard::Ended(call.purpose, call.message, end));
    }

    /// Enlarges the windows that are running out.
    fn top_up(&mut self) {
        if self.habits.slow {
            return;
        }
        let whole = i64::from(self.habits.connection);
        if self.allowed <= whole / 2 {
            let by = (whole - self.allowed) as u32;
            self.allowed += i64::from(by);
            self.enlarge(0, by);
        }
        let low = i64::from(self.habits.window / 2).min(frame::WINDOW);
        let short = self.calls.iter_mut().filter(|(_, call)| call.allowed <= low);
        let mut grants = Vec::new();
        for (stream, call) in short {
            // More each time: an answer of megabytes through a window of bytes must end some day.
            let by = call.grant.max((low - call.allowed) as u32);
            call.grant = (call.grant * 2).min(1 << 20);
            call.allowed += i64::from(by);
            grants.push((*stream, by));
        }
        for (stream, by) in grants {
            self.enlarge(stream, by);
        }
    }

    fn enlarge(&mut self, stream: u32, by: u32) {
        frame::put(&mut self.out, frame::WINDOW_UPDATE, 0, (stream, &by.to_be_bytes()));
        self.notes.push(Note::Window(stream, by));
    }

    fn send_all(&mut self) {
        for stream in self.calls.keys().copied().collect::<Vec<_>>() {
            self.send(stream);
        }
    }

    /// Sends what a call has to say, as far as both windows go.
    fn send(&mut self, stream: u32) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        loop {
            let window = self.window.min(call.window).max(0) as usize;
            // Padding counts too, so that there must be room for it.
            let most = call.unsent.len().min(window).min(frame::PAYLOAD_MAX - 1);
            let odd = self.rng.chance(self.habits.odd);
            let count = if odd { self.rng.below(most as u64 + 1) as usize } else { most };
            if count == 0 && !call.unsent.is_empty() && most == 0 || call.half_closed {
                return;
            }
            let rest = call.unsent.split_off(count);
            let mut payload = std::mem::replace(&mut call.unsent, rest);
            let last = call.unsent.is_empty();
            let mut flags = if last && call.ends { frame::END_STREAM } else { 0 };
            if odd && window > count {
                flags |= frame::PADDED;
                payload.insert(0, 0);
            }
            if payload.is_empty() && flags == 0 {
                return;
            }
            self.window -= payload.len() as i64;
            call.window -= payload.len() as i64;
            frame::put(&mut self.out, frame::DATA, flags, (stream, &payload));
            if flags & frame::END_STREAM != 0 {
                call.half_closed = true;
                self.notes.push(Note::HalfClosed(stream));
            }
            if last {
                return;
            }
        }
    }

    /// What the server lets the client send on the whole connection.
    pub fn window(&self) -> i64 {
        self.window
    }
}

/// A status text, whose odd bytes are `%XX`.
fn unescaped(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex: Option<String> =
            (byte == b'%').then(|| bytes.by_ref().take(2).map(char::from).collect());
        let coded = hex.and_then(|hex| u8::from_str_radix(&hex, 16).ok());
        out.push(coded.unwrap_or(byte));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `grpc-timeout` of a duration.
pub fn timeout(duration: Duration) -> String {
    format!("{}m", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{DATA, END_HEADERS, END_STREAM, HEADERS};

    #[test]
    fn a_call_comes_back_with_its_message_and_its_status() {
        let habits = Habits { window: 70_000, connection: 65_535, slow: false, odd: 0 };
        let mut caller = Caller::new(Rng::new(1), habits);
        let purpose = Purpose::Op(OpId(3));
        let stream = caller.call("/etcdserverpb.KV/Put", Kind::Unary, purpose, &[]);
        caller.say(stream, b"message", true);
        let mut bytes = Vec::new();
        frame::put_settings(&mut bytes, &[]);
        frame::put(&mut bytes, HEADERS, END_HEADERS, (1, &[0x88]));
        frame::put(&mut bytes, DATA, 0, (1, &frame::framed(b"answer")));
        let mut block = b"\0\x0bgrpc-status\x015\0\x0cgrpc-message\x0550%25".to_vec();
        frame::put(&mut bytes, HEADERS, END_HEADERS | END_STREAM, (1, &block));
        let heard = caller.receive(&bytes).expect("it is well formed");
        let end = End::Status(5, "50%".into());
        assert_eq!(heard, [Heard::Ended(purpose, Some("answer".into()), end)]);
        assert_eq!((caller.calls_open(), caller.lose().len()), (0, 0));
        block.clear();
    }

    #[test]
    fn it_sends_no_more_than_it_may_and_all_of_it_in_the_end() {
        for seed in 0..50 {
            let habits = Habits { window: 70_000, connection: 65_535, slow: false, odd: 50 };
            let mut caller = Caller::new(Rng::new(seed), habits);
            let stream = caller.call("/x/y", Kind::Unary, Purpose::Probe(Probe::Unknown), &[]);
            caller.out().clear();
            caller.say(stream, &[7; 100_000], true);
            let (mut sent, mut window) = (0, 65_535);
            for _ in 0..1_000 {
                let out = std::mem::take(caller.out());
                let (mut at, mut ended) = (0, false);
                while at < out.len() {
                    let length = usize::from(out[at + 1]) << 8 | usize::from(out[at + 2]);
                    if out[at + 3] == DATA {
                        sent += length;
                        ended |= out[at + 4] & END_STREAM != 0;
                    }
                    at += 9 + length;
                }
                assert!(sent <= window, "{sent} of {window}");
                if ended {
                    break;
                }
                window += 500;
                let mut bytes = Vec::new();
                if window == 66_035 {
                    frame::put_settings(&mut bytes, &[]);
                }
                for stream in [0, stream] {
                    let by = 500_u32.to_be_bytes();
                    frame::put(&mut bytes, frame::WINDOW_UPDATE, 0, (stream, &by));
                }
                caller.receive(&bytes).expect("it is well formed");
            }
            assert!(sent >= 100_005, "seed {seed} sent {sent}");
        }
    }
}
