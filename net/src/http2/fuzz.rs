//! The body of the fuzz target for this module, also run by plain tests over random bytes.
//!
//! An input is a program: frames of a client, well made or not, replies, time, and what the socket
//! takes. It runs twice, once with every read whole and once byte by byte.
//!
//! Leaves out what the events mean. Laws it checks: (1) no panic; (2) a call that was told ends once;
//! (3) the output is whole frames, and DATA stays within the connection's window; (4) how bytes are
//! cut into reads changes no event.

use bytes::BytesMut;
use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::time::Instant;

use super::frame::{self, END_HEADERS, END_STREAM, HEAD, Head, Kind};
use super::slab::STREAM_BYTES;
use super::{Connection, Http2Options, Names, Rate, Taken};
use crate::call::{Code, FromClient, GrpcStatus, Reply, StreamId};
use crate::payload::Assembly;
use crate::sniff::PREFACE;

const PATHS: [&[u8]; 4] = [
    b"/etcdserverpb.KV/Put",
    b"/etcdserverpb.Watch/Watch",
    b"/etcdserverpb.Lease/LeaseKeepAlive",
    b"/etcdserverpb.KV/Nope",
];

/// Runs `data` as a program against a connection. Panics only where a law is broken.
pub fn fuzz_http2(data: &[u8]) {
    let whole = Run::new(usize::MAX).play(data);
    let cut = Run::new(1).play(data);
    assert_eq!(whole, cut, "how bytes are cut into reads changes nothing");
}

#[derive(Default)]
struct Counter {
    slots: BTreeMap<u64, u32>,
    last: u64,
}

impl Names for Counter {
    fn name(&mut self, slot: u32) -> Option<StreamId> {
        self.last += 1;
        self.slots.insert(self.last, slot);
        Some(StreamId(self.last))
    }
}

struct Run {
    connection: Connection,
    names: Counter,
    now: Instant,
    read_max: usize,
    told: Vec<String>,
    data_left: i64,
}

impl Run {
    fn new(read_max: usize) -> Run {
        let options = Http2Options {
            recv_bytes_max: 1000,
            concurrent_streams_max: 10,
            header_bytes_max: 500,
            stream_window: 65_535,
            connection_window: 100_000,
            stream_bytes_max: 5000,
            unfinished_bytes_max: 3000 + 9 * STREAM_BYTES,
            unsent_bytes_max: 20_000,
            cancels: Rate { burst: 20, per_second: 1 },
            idle_frames: Rate { burst: 20, per_second: 1 },
            ..Http2Options::default()
        };
        Run {
            connection: Connection::new(options, Instant(0)),
            names: Counter::default(),
            now: Instant(0),
            read_max,
            told: Vec::new(),
            data_left: 65_535,
        }
    }

    fn play(mut self, mut program: &[u8]) -> Vec<String> {
        let mut hello = PREFACE.to_vec();
        frame::put_settings(&mut hello, &[]);
        self.receive(&hello);
        while let Some((op, rest)) = program.split_first() {
            program = rest;
            self.act(*op, &mut program);
            self.look();
            assert!(self.connection.deadline() >= self.now, "what was due is done");
        }
        self.connection.hang_up();
        self.look();
        assert!(self.names.slots.is_empty(), "no call is left without an end");
        self.told
    }

    fn act(&mut self, op: u8, program: &mut &[u8]) {
        let mut byte = || take(program, 1).first().copied().unwrap_or(0);
        match op % 8 {
            0 => {
                let (stream, path, flags) = (byte(), byte(), byte());
                self.receive(&headers(stream, path, flags));
            }
            1 => {
                let (stream, length, flags) = (byte(), byte(), byte());
                let message = [&[0, 0, 0, 0, length][..], &vec![7; usize::from(length)]].concat();
                self.frame((Kind::Data, flags & END_STREAM), stream, &message);
            }
            2 => {
                let (kind, flags, stream, length) = (byte(), byte(), byte(), byte());
                let payload = take(program, usize::from(length));
                let mut bytes = vec![0, 0, payload.len() as u8, kind % 11, flags, 0, 0, 0, stream];
                bytes.extend_from_slice(payload);
                self.receive(&bytes);
            }
            3 => {
                let length = byte();
                // Nobody counts the window updates that these may be.
                self.data_left = i64::MAX / 2;
                self.receive(take(program, usize::from(length)));
            }
            4 | 5 => {
                let (call, size) = (byte(), byte());
                self.reply(usize::from(call), usize::from(size) * 128, op.is_multiple_of(2));
            }
            6 => {
                self.now = self.now + Duration::from_millis(u64::from(byte()) * 50);
                self.connection.tick(self.now);
            }
            _ => self.other(byte(), byte()),
        }
    }

    fn other(&mut self, kind: u8, number: u8) {
        let mut bytes = Vec::new();
        match kind % 4 {
            0 => return self.connection.drain(self.now),
            1 => frame::put_window(&mut bytes, 0, u32::from(number) * 100),
            2 => frame::put_window(&mut bytes, u32::from(number % 16), u32::from(number) * 100),
            _ => frame::put_settings(&mut bytes, &[(4, u32::from(number) * 100)]),
        }
        if kind % 4 == 1 {
            self.data_left += i64::from(number) * 100;
        }
        self.receive(&bytes);
    }

    fn frame(&mut self, (kind, flags): (Kind, u8), stream: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::put_head(&mut bytes, kind, flags, (u32::from(stream), payload.len()));
        bytes.extend_from_slice(payload);
        self.receive(&bytes);
    }

    fn receive(&mut self, bytes: &[u8]) {
        // A frame of the program may be a window update too.
        if bytes.len() == 13 && bytes[3] == 8 && bytes[8] == 0 && self.read_max > 1 {
            self.data_left = i64::MAX / 2;
        }
        for part in bytes.chunks(self.read_max.min(bytes.len().max(1))) {
            self.connection.receive(self.now, part, &mut self.names);
        }
    }

    /// The services answer one of their open calls.
    fn reply(&mut self, call: usize, size: usize, last: bool) {
        let open = self.names.slots.len().max(1);
        let Some((name, slot)) = self.names.slots.iter().nth(call % open) else { return };
        let (stream, slot) = (StreamId(*name), *slot);
        let reply = if size == 0 && last {
            Reply::End { stream, status: GrpcStatus { code: Code::NotFound, message: "%".into() } }
        } else {
            // Of a large one, half is shared.
            let mut message = Assembly::sharing(BytesMut::new());
            message.extend_from_slice(&vec![1; size - size / 2]);
            message.share(&vec![1; size / 2].into());
            Reply::Message { stream, message: message.finish().0, last }
        };
        let taken = self.connection.reply(slot, reply);
        if last {
            assert_eq!(taken, Taken::Yes, "an open call takes its last reply");
            self.names.slots.remove(&stream.0);
        }
    }

    /// Takes events and output until there are no more.
    fn look(&mut self) {
        loop {
            let events = std::mem::take(self.connection.events());
            for event in &events {
                self.hear(event);
            }
            let output = self.connection.take_output();
            self.check_output(&output);
            let more = self.connection.resume(&mut self.names);
            if events.is_empty() && output.is_empty() && !more {
                return;
            }
        }
    }

    fn hear(&mut self, event: &FromClient) {
        self.told.push(format!("{event:?}"));
        let name = match event {
            FromClient::Call(call) => call.stream,
            FromClient::Message { stream, .. }
            | FromClient::HalfClosed { stream }
            | FromClient::Cancelled { stream }
            | FromClient::Writable { stream } => *stream,
        };
        // A call may have been answered after the event was made; it is not told anew.
        if matches!(event, FromClient::Cancelled { .. }) {
            assert!(self.names.slots.remove(&name.0).is_some(), "a call ends once: {event:?}");
        }
    }

    fn check_output(&mut self, mut output: &[u8]) {
        while let Some(head) = output.first_chunk::<HEAD>().map(Head::read) {
            assert!(output.len() >= HEAD + head.length, "the output is whole frames");
            if head.kind == Kind::Data {
                self.data_left -= head.length as i64;
            }
            output = &output[HEAD + head.length..];
        }
        assert!(output.is_empty(), "the output is whole frames");
        assert!(self.read_max == 1 || self.data_left >= 0, "DATA stays within the window");
    }
}

fn take<'a>(program: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = program.split_at(count.min(program.len()));
    *program = rest;
    taken
}

/// HEADERS of a good request; the third byte may spoil it a little.
fn headers(stream: u8, path: u8, flags: u8) -> Vec<u8> {
    let path = PATHS[usize::from(path) % PATHS.len()];
    let mut block = vec![0x83, 0x86, 0x44, path.len() as u8];
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x5f\x10application/grpc");
    if flags & 0x40 != 0 {
        block.extend_from_slice(b"\0\x0cgrpc-timeout\x04250m");
    }
    let mut out = Vec::new();
    let flags = if flags & 0x80 != 0 { flags } else { flags & END_STREAM | END_HEADERS };
    let length = block.len();
    frame::put_head(&mut out, Kind::Headers, flags & 0x25, (u32::from(stream), length));
    out.extend_from_slice(&block);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn any_program_keeps_the_laws(program in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_http2(&program);
        }

        #[test]
        fn any_calls_keep_the_laws(
            steps in proptest::collection::vec((0_u8..40, 0_u8..6, any::<[u8; 3]>()), 0..100),
        ) {
            let mut program = vec![0, 1, 0, 0];
            let mut next = 3_u8;
            for (op, stream, [a, b, c]) in steps {
                // One of the last streams: those before them are mostly over.
                let stream = next - 2 - 2 * (stream % (next / 2).min(6));
                match op {
                    0..8 if next < 250 => {
                        program.extend([0, next, a, c & 0x41]);
                        next += 2;
                    }
                    8..16 => program.extend([1, stream, b, c]),
                    16..28 => program.extend([4 + op % 2, a, b]),
                    28..30 => program.extend([6, a % 8]),
                    30..36 => program.extend([7, a.max(1), b]),
                    36..39 => program.extend([2, 3, 0, stream, 4, 0, 0, 0, c]),
                    _ => program.extend([2, a % 11, b, stream, 4, 0, 0, 0, c]),
                }
            }
            fuzz_http2(&program);
        }
    }
}
