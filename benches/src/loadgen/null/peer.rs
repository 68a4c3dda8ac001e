//! One connection of the null server.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::super::frame::{self, Call, Frame, frame};
use super::super::hpack::Decoder;
use super::canned::Canned;

/// What the client may send before we confirm.
const STREAM_WINDOW: u32 = 16 << 20;
const CONN_WINDOW: u32 = 1 << 30;
/// Largest request.
const MESSAGE_MAX: usize = STREAM_WINDOW as usize;

/// `:status: 200` and the content type: written out once on a connection, an index from then on.
const STATUS: u8 = 0x88;
const CONTENT_TYPE: &[u8] = b"\x5f\x10application/grpc";
const TRAILERS: &[u8] = b"\x40\x0bgrpc-status\x010";

/// What the server has to know of what a connection read.
#[derive(Default)]
pub(super) struct Noticed {
    pub changes: u64,
    pub watches: Vec<u32>,
}

struct Stream {
    call: Call,
    answered: bool,
    partial: Vec<u8>,
}

pub(super) struct Peer {
    socket: TcpStream,
    open: bool,
    writable: bool,
    input: Vec<u8>,
    filled: usize,
    greeted: bool,
    output: Vec<u8>,
    written: usize,
    decoder: Decoder,
    streams: BTreeMap<u32, Stream>,
    unconfirmed: u32,
    /// Whether the client's table holds our content type, and our trailers.
    known: (bool, bool),
}

impl Peer {
    pub fn new(socket: TcpStream) -> Peer {
        let mut output = Vec::new();
        frame(&mut output, 6, (frame::SETTINGS, 0), 0);
        output.extend_from_slice(&[0, 4]);
        output.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        frame(&mut output, 4, (frame::WINDOW_UPDATE, 0), 0);
        output.extend_from_slice(&CONN_WINDOW.to_be_bytes());
        Peer {
            socket,
            open: true,
            writable: true,
            input: vec![0; 256 << 10],
            filled: 0,
            greeted: false,
            output,
            written: 0,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            unconfirmed: 0,
            known: (false, false),
        }
    }

    /// The socket is ready: reads what is there and answers it.
    pub fn attend(&mut self, writable: bool, canned: &mut Canned) -> Noticed {
        let mut noticed = Noticed::default();
        self.writable |= writable;
        while self.open {
            match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    self.filled += count;
                    let full = self.filled == self.input.len();
                    // A client that breaks the protocol is cut off, and counts that as its errors.
                    self.open = self.frames(canned, &mut noticed).is_ok();
                    if !full {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.open = false,
            }
        }
        self.flush();
        noticed
    }

    /// Sends a message on a stream that stays open.
    pub fn tell(&mut self, stream: u32, message: &[u8]) {
        if self.open {
            put_data(&mut self.output, stream, message);
        }
    }

    pub fn flush(&mut self) {
        while self.open && self.writable && self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.open = false,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        if !self.open {
            // The client sees the end, as from any server that is gone.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn frames(&mut self, canned: &mut Canned, noticed: &mut Noticed) -> Result<(), String> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..self.filled];
        if !self.greeted {
            match rest.strip_prefix(frame::PREFACE) {
                Some(after) => (rest, self.greeted) = (after, true),
                None if rest.len() >= frame::PREFACE.len() => return Err("no preface".to_owned()),
                None => {}
            }
        }
        while self.greeted
            && let Some(frame) = frame::next_frame(&mut rest)?
        {
            self.frame(frame, canned, noticed)?;
        }
        let left = rest.len();
        let from = self.filled - left;
        self.input = input;
        self.input.copy_within(from..self.filled, 0);
        self.filled = left;
        if self.unconfirmed >= CONN_WINDOW / 2 {
            frame(&mut self.output, 4, (frame::WINDOW_UPDATE, 0), 0);
            self.output.extend_from_slice(&std::mem::take(&mut self.unconfirmed).to_be_bytes());
        }
        Ok(())
    }

    fn frame(
        &mut self,
        frame: Frame<'_>,
        canned: &mut Canned,
        noticed: &mut Noticed,
    ) -> Result<(), String> {
        match frame.kind {
            frame::HEADERS => {
                let head = self.decoder.decode(frame::block_of(&frame)?)?;
                let call = head.call.ok_or("a path that nobody serves")?;
                let stream = Stream { call, answered: false, partial: Vec::new() };
                self.streams.insert(frame.stream, stream);
            }
            frame::DATA => self.data(frame, canned, noticed)?,
            frame::SETTINGS if !frame.is(frame::ACK) => {
                frame::frame(&mut self.output, 0, (frame::SETTINGS, frame::ACK), 0);
            }
            _ => {}
        }
        Ok(())
    }

    fn data(
        &mut self,
        frame: Frame<'_>,
        canned: &mut Canned,
        noticed: &mut Noticed,
    ) -> Result<(), String> {
        self.unconfirmed += frame.payload.len() as u32;
        let Some(mut stream) = self.streams.remove(&frame.stream) else { return Ok(()) };
        let mut joined = std::mem::take(&mut stream.partial);
        let mut rest = frame.payload;
        if !joined.is_empty() {
            joined.extend_from_slice(frame.payload);
            rest = &joined;
        }
        while let Some(request) = frame::next_message(&mut rest, MESSAGE_MAX)? {
            let (answer, changes) = canned.answer(stream.call, request);
            noticed.changes += u64::from(changes);
            if !stream.answered {
                put_headers(&mut self.output, frame.stream, &mut self.known);
                stream.answered = true;
            }
            put_data(&mut self.output, frame.stream, answer);
            if stream.call == Call::Watch {
                noticed.watches.push(frame.stream);
            }
        }
        if frame.is(frame::END_STREAM) {
            put_trailers(&mut self.output, frame.stream, &mut self.known);
        } else {
            stream.partial = rest.to_vec();
            self.streams.insert(frame.stream, stream);
        }
        Ok(())
    }
}

fn put_headers(out: &mut Vec<u8>, stream: u32, known: &mut (bool, bool)) {
    let head = out.len();
    frame(out, 0, (frame::HEADERS, frame::END_HEADERS), stream);
    out.push(STATUS);
    match *known {
        (false, _) => out.extend_from_slice(CONTENT_TYPE),
        (true, false) => out.push(0x80 | 62),
        (true, true) => out.push(0x80 | 63), // the trailers came into the table after it
    }
    known.0 = true;
    frame::close_frame(out, head);
}

fn put_data(out: &mut Vec<u8>, stream: u32, message: &[u8]) {
    for chunk in message.chunks(frame::FRAME_MAX) {
        frame(out, chunk.len(), (frame::DATA, 0), stream);
        out.extend_from_slice(chunk);
    }
}

fn put_trailers(out: &mut Vec<u8>, stream: u32, known: &mut (bool, bool)) {
    let head = out.len();
    frame(out, 0, (frame::HEADERS, frame::END_HEADERS | frame::END_STREAM), stream);
    if known.1 {
        out.push(0x80 | 62);
    } else {
        out.extend_from_slice(TRAILERS);
    }
    known.1 = true;
    frame::close_frame(out, head);
}
