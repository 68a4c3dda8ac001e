//! The world of a golden script: a connection, the services' side of it, and a client that is a list
//! of frames.
//!
//! Leaves out running scripts. Worked example: `headers 1 /etcdserverpb.KV/Put; data 1 "x" end` is one
//! read, and prints `call 1 Put "x"`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::time::Instant;

use super::super::frame::{self, ACK, END_HEADERS, END_STREAM, HEAD, Head, Kind, Reason};
use super::super::hpack::Decoder;
use super::super::{Connection, End, Http2Options, Names, Rate};
use crate::call::{Code, FromClient, GrpcStatus, Reply, StreamId};
use crate::sniff::PREFACE;

type Said<T> = Result<T, String>;

/// Names calls 1, 2, 3, and keeps their slots.
#[derive(Default)]
struct Counter(BTreeMap<u64, u32>);

impl Names for Counter {
    fn name(&mut self, slot: u32) -> Option<StreamId> {
        let name = self.0.len() as u64 + 1;
        self.0.insert(name, slot);
        Some(StreamId(name))
    }
}

/// See the file's head.
pub(super) struct World {
    connection: Connection,
    names: Counter,
    decoder: Decoder,
    now: Instant,
    blocked: bool,
    ended: Option<End>,
}

impl World {
    pub(super) fn new() -> World {
        World {
            connection: Connection::new(Http2Options::default(), Instant(0)),
            names: Counter::default(),
            decoder: Decoder::new(),
            now: Instant(0),
            blocked: false,
            ended: None,
        }
    }

    /// Runs one line and gives what it printed.
    pub(super) fn command(&mut self, line: &str) -> Said<Vec<String>> {
        let mut bytes = Vec::new();
        let mut out = Vec::new();
        for command in line.split("; ") {
            let (command, times) = match command.rsplit_once(" x") {
                Some((command, times)) if times.parse::<usize>().is_ok() => {
                    (command, times.parse().map_err(|_| "a number")?)
                }
                _ => (command, 1),
            };
            let words = words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            for _ in 0..times {
                if !self.act(&words)? {
                    client_frame(&words, &mut bytes)?;
                }
            }
        }
        if !bytes.is_empty() {
            self.connection.receive(self.now, &bytes, &mut self.names);
        }
        self.print(&mut out)?;
        Ok(out)
    }

    /// What is not the client's; false if it is.
    fn act(&mut self, words: &[&str]) -> Said<bool> {
        match words {
            ["client", options @ ..] => {
                *self = World { now: self.now, ..World::new() };
                self.connection = Connection::new(options_of(options)?, self.now);
                self.connection.receive(self.now, PREFACE, &mut self.names);
            }
            ["connect"] => *self = World { now: self.now, ..World::new() },
            ["reply", call, text, rest @ ..] => {
                self.reply(call, Bytes::copy_from_slice(quoted(text)?.as_bytes()), rest)?;
            }
            ["bulk", call, bytes, rest @ ..] => {
                self.reply(call, Bytes::from(vec![b'x'; number(bytes)? as usize]), rest)?;
            }
            ["close", call, code, text @ ..] => {
                let code = [Code::Ok, Code::NotFound, Code::Unavailable]
                    .into_iter()
                    .find(|known| format!("{known:?}") == *code)
                    .ok_or("a code")?;
                let status = GrpcStatus { code, message: text.join(" ") };
                let (slot, stream) = self.call(call)?;
                self.connection.reply(slot, Reply::End { stream, status });
            }
            ["at", time] => {
                self.now = Instant(0) + duration(time)?;
                self.connection.tick(self.now);
            }
            ["drain"] => self.connection.drain(self.now),
            ["hang-up"] => self.connection.hang_up(),
            ["blocked"] => self.blocked = true,
            ["flowing"] => self.blocked = false,
            ["takes", count] => self.connection.wrote(number(count)? as usize),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn call(&self, call: &str) -> Said<(u32, StreamId)> {
        let name = number(call)?;
        let slot = self.names.0.get(&name).ok_or("no such call")?;
        Ok((*slot, StreamId(name)))
    }

    fn reply(&mut self, call: &str, message: Bytes, rest: &[&str]) -> Said<()> {
        let (slot, stream) = self.call(call)?;
        let last = rest.contains(&"last");
        self.connection.reply(slot, Reply::Message { stream, message: message.into(), last });
        Ok(())
    }

    fn print(&mut self, out: &mut Vec<String>) -> Said<()> {
        loop {
            out.extend(self.connection.events().drain(..).map(event));
            let mut written = if self.blocked { Vec::new() } else { self.connection.take_output() };
            let more = self.connection.resume(&mut self.names);
            let nothing = written.is_empty() && self.connection.events().is_empty() && !more;
            while let Some(head) = written.first_chunk::<HEAD>().map(Head::read) {
                let payload = written[HEAD..HEAD + head.length].to_vec();
                out.push(self.server_frame(head, &payload)?);
                written.drain(..HEAD + head.length);
            }
            if nothing {
                break;
            }
        }
        if !self.connection.wants_input() && self.connection.end().is_none() {
            out.push("reads nothing".into());
        }
        if self.ended != self.connection.end() {
            self.ended = self.connection.end();
            out.extend(self.ended.map(|end| match end {
                End::Broken(why) => format!("ended: {:?}, {}", why.reason, why.text),
                end => format!("ended: {end:?}"),
            }));
        }
        Ok(())
    }

    fn server_frame(&mut self, head: Head, payload: &[u8]) -> Said<String> {
        let ack = if head.has(ACK) { " ack" } else { "" };
        let end = if head.has(END_STREAM) { " end" } else { "" };
        let reason = |at: usize| -> String {
            let code = payload[at..].first_chunk().map(|code| u32::from_be_bytes(*code));
            reason_name(code.unwrap_or(u32::MAX))
        };
        let number =
            |at: usize| payload[at..].first_chunk().map_or(0, |number| u32::from_be_bytes(*number));
        Ok(match head.kind {
            Kind::Settings => {
                let (settings, _) = payload.as_chunks::<6>();
                let shown = settings
                    .iter()
                    .map(|[_, name, value @ ..]| format!(" {name}={}", u32::from_be_bytes(*value)));
                format!("→ SETTINGS{ack}{}", shown.collect::<String>())
            }
            Kind::Headers => format!("→ HEADERS {}{end}{}", head.stream, self.fields(payload)?),
            Kind::Data => format!("→ DATA {}{end} {}", head.stream, shown(payload)),
            Kind::Ping => format!("→ PING{ack} {}", payload.escape_ascii()),
            Kind::Goaway => {
                let text = payload[8..].escape_ascii();
                format!("→ GOAWAY last={} {} {text}", number(0), reason(4)).trim_end().to_string()
            }
            Kind::RstStream => format!("→ RST_STREAM {} {}", head.stream, reason(0)),
            Kind::WindowUpdate => format!("→ WINDOW_UPDATE {} {}", head.stream, number(0)),
            other => return Err(format!("the server sent {other:?}")),
        })
    }

    fn fields(&mut self, block: &[u8]) -> Said<String> {
        let mut out = String::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let take = |field: super::super::hpack::Field<'_>| {
            out.push_str(&format!(" {}={:?}", text(field.name), text(field.value)));
        };
        self.decoder.decode(block, usize::MAX, take).map_err(|error| error.text().to_string())?;
        Ok(out)
    }
}

fn event(event: FromClient) -> String {
    match event {
        FromClient::Call(call) => {
            let mut out =
                format!("call {} {:?} {}", call.stream.0, call.method, shown(&call.message));
            if let Some(timeout) = call.timeout {
                out.push_str(&format!(" timeout={timeout:?}"));
            }
            if let Some(token) = call.metadata.token {
                out.push_str(&format!(" token={token}"));
            }
            out
        }
        FromClient::Message { stream, message } => {
            format!("message {} {}", stream.0, shown(&message))
        }
        FromClient::HalfClosed { stream } => format!("half-closed {}", stream.0),
        FromClient::Cancelled { stream } => format!("cancelled {}", stream.0),
        FromClient::Writable { stream } => format!("writable {}", stream.0),
    }
}

fn shown(bytes: &[u8]) -> String {
    if bytes.len() > 60 {
        format!("{} bytes", bytes.len())
    } else {
        format!("\"{}\"", bytes.escape_ascii())
    }
}

fn reason_name(code: u32) -> String {
    let known = [
        Reason::NoError,
        Reason::Protocol,
        Reason::FlowControl,
        Reason::StreamClosed,
        Reason::FrameSize,
        Reason::RefusedStream,
        Reason::Cancel,
        Reason::Compression,
        Reason::EnhanceYourCalm,
    ];
    let found = known.into_iter().find(|reason| *reason as u32 == code);
    found.map_or(format!("code {code}"), |reason| format!("{reason:?}"))
}

/// Splits at blanks outside quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        quoted ^= letter == '"';
        if letter == ' ' && !quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn number(word: &str) -> Said<u64> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

fn quoted(word: &str) -> Said<&str> {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    inner.ok_or_else(|| format!("`{word}` has no quotes"))
}

fn duration(word: &str) -> Said<Duration> {
    if let Some(number) = word.strip_suffix("ms") {
        return number.parse().map(Duration::from_millis).map_err(|_| "a time".into());
    }
    let number = word.strip_suffix('s').ok_or("a time")?;
    number.parse().map(Duration::from_secs).map_err(|_| "a time".into())
}

fn hex(word: &str) -> Said<Vec<u8>> {
    let digits: Vec<u8> = word
        .bytes()
        .filter_map(|byte| (byte as char).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    if digits.len() != word.len() || !digits.len().is_multiple_of(2) {
        return Err(format!("`{word}` is not hexadecimal"));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn options_of(words: &[&str]) -> Said<Http2Options> {
    let mut options = Http2Options::default();
    for word in words {
        let (name, value) = word.split_once('=').ok_or("NAME=N")?;
        let value = number(value)?;
        let rate = Rate { burst: value as u32, per_second: 1 };
        match name {
            "streams" => options.concurrent_streams_max = value as u32,
            "output" => options.output_bytes_max = value as usize,
            "header" => options.header_bytes_max = value as u32,
            "recv" => options.recv_bytes_max = value as usize,
            "full" => options.stream_bytes_max = value as usize,
            "unsent" => options.unsent_bytes_max = value as usize,
            "unfinished" => options.unfinished_bytes_max = value as usize,
            "window" => options.stream_window = value as u32,
            "connection" => options.connection_window = value as u32,
            "cancels" => options.cancels = rate,
            "idle" => options.idle_frames = rate,
            _ => return Err(format!("no option `{name}`")),
        }
    }
    Ok(options)
}

/// Appends the client's frame.
fn client_frame(words: &[&str], out: &mut Vec<u8>) -> Said<()> {
    let has = |word: &str| words.contains(&word);
    let end = if has("end") { END_STREAM } else { 0 };
    let ack = if has("ack") { ACK } else { 0 };
    match words {
        ["settings", settings @ ..] => put_settings(settings, ack, out)?,
        ["headers", stream, path, more @ ..] => {
            let flags = end | if has("open") { 0 } else { END_HEADERS };
            put(out, (Kind::Headers, flags), stream, &request(path, more))?;
        }
        ["trailers", stream, more @ ..] => {
            put(out, (Kind::Headers, END_STREAM | END_HEADERS), stream, &literals(more))?;
        }
        ["more", stream, block, ..] => {
            let flags = if has("end") { END_HEADERS } else { 0 };
            put(out, (Kind::Continuation, flags), stream, &hex(block)?)?;
        }
        ["data", stream, text, ..] => {
            let text = quoted(text)?.as_bytes();
            let message = [&super::super::piece::prefix(text.len()), text].concat();
            put(out, (Kind::Data, end), stream, &message)?;
        }
        ["bytes", stream, bytes, ..] => put(out, (Kind::Data, end), stream, &hex(bytes)?)?,
        ["none", stream, ..] => put(out, (Kind::Data, end), stream, &[])?,
        ["zeros", stream, count, ..] => {
            let zeros = vec![0; number(count)? as usize];
            let message = [&super::super::piece::prefix(zeros.len())[..], &zeros].concat();
            put(out, (Kind::Data, end), stream, &message)?;
        }
        ["ping", data, ..] => put(out, (Kind::Ping, ack), "0", &hex(data)?)?,
        ["window", stream, by] => {
            put(out, (Kind::WindowUpdate, 0), stream, &(number(by)? as u32).to_be_bytes())?;
        }
        ["reset", stream] => {
            put(out, (Kind::RstStream, 0), stream, &(Reason::Cancel as u32).to_be_bytes())?;
        }
        ["priority", stream, on] => {
            let payload = [&(number(on)? as u32).to_be_bytes()[..], &[0]].concat();
            put(out, (Kind::Priority, 0), stream, &payload)?;
        }
        ["goaway"] => put(out, (Kind::Goaway, 0), "0", &[0; 8])?,
        ["raw", bytes @ ..] => out.extend(hex(&bytes.concat())?),
        _ => return Err("no such command".into()),
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, kind: (Kind, u8), stream: &str, payload: &[u8]) -> Said<()> {
    frame::put_head(out, kind.0, kind.1, (number(stream)? as u32, payload.len()));
    out.extend_from_slice(payload);
    Ok(())
}

fn put_settings(words: &[&str], ack: u8, out: &mut Vec<u8>) -> Said<()> {
    let mut payload = Vec::new();
    for word in words.iter().filter(|word| **word != "ack") {
        let (name, value) = word.split_once('=').ok_or("NAME=N")?;
        let names = ["table", "push", "streams", "window", "frame", "list"];
        let at = names.iter().position(|known| *known == name).ok_or("a setting")?;
        payload.extend((at as u16 + 1).to_be_bytes());
        payload.extend((number(value)? as u32).to_be_bytes());
    }
    put(out, (Kind::Settings, ack), "0", &payload)
}

/// A request's header block: fields written out, nothing indexed.
fn request(path: &str, more: &[&str]) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` of the static table.
    let mut block = vec![0x83, 0x86];
    literal(":path", path, &mut block);
    if !more.contains(&"plain") {
        literal("content-type", "application/grpc", &mut block);
        literal("te", "trailers", &mut block);
    }
    block.extend(literals(more));
    block
}

fn literals(words: &[&str]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
        literal(name, value, &mut block);
    }
    block
}

fn literal(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        assert!(text.len() < 127, "a short string");
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}
