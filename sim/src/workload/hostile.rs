//! Clients that wish the server no good, beside the honest ones, who must not notice.
//!
//! Each knows one thing to do and does it in steps. What they ask changes nothing that is stored: only
//! reads, watches and nonsense. Leaves out what they are answered, which nobody looks at.
//!
//! Worked example: the rapid resetter opens a stream and resets it, a hundred times a step, until the
//! server has had enough of it.

use holdfast_core::rng::Rng;

use crate::wire::frame::{self, END_HEADERS, END_STREAM};
use crate::wire::hpack::Encoder;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Bytes that mean nothing.
    Garbage,
    /// Frames that mean nothing.
    Frames,
    /// A header block that does not end.
    HeaderFlood,
    /// Streams that are opened and reset.
    RapidReset,
    /// Reads whose answers there is no window for, nor anybody who reads them.
    ZeroWindow,
    /// Pings.
    Pings,
    /// SETTINGS.
    Settings,
    /// Frames without bytes.
    Empty,
    /// Nothing at all.
    Silent,
}

const KINDS: [Kind; 9] = [
    Kind::Garbage,
    Kind::Frames,
    Kind::HeaderFlood,
    Kind::RapidReset,
    Kind::ZeroWindow,
    Kind::Pings,
    Kind::Settings,
    Kind::Empty,
    Kind::Silent,
];

/// One of them.
#[derive(Debug)]
pub struct Hostile {
    rng: Rng,
    kind: Kind,
    encoder: Encoder,
    next: u32,
    steps: u64,
}

impl Hostile {
    /// One with a generator of its own, which decides what it does.
    pub fn new(mut rng: Rng) -> Hostile {
        let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
        let steps = rng.between(2, 12);
        Hostile { rng, kind, encoder: Encoder::default(), next: 1, steps }
    }

    /// Whether it takes what it is sent.
    pub fn reads(&self) -> bool {
        !matches!(self.kind, Kind::ZeroWindow | Kind::Silent)
    }

    /// What it sends next; `None` when it has had enough.
    pub fn step(&mut self, first: bool) -> Option<Vec<u8>> {
        self.steps = self.steps.checked_sub(1)?;
        let mut out = Vec::new();
        if first && !matches!(self.kind, Kind::Garbage | Kind::Silent) {
            out.extend_from_slice(frame::PREFACE);
            let window = if self.kind == Kind::ZeroWindow { 0 } else { 65_535 };
            frame::put_settings(&mut out, &[(frame::SETTING_WINDOW, window)]);
        }
        let times = self.rng.between(1, 60);
        match self.kind {
            Kind::Garbage => self.noise(&mut out, 300),
            Kind::Silent => {}
            Kind::Frames => (0..times % 8).for_each(|_| self.frame(&mut out)),
            Kind::HeaderFlood => self.header_flood(&mut out, first),
            Kind::RapidReset => (0..times * 4).for_each(|_| self.rapid_reset(&mut out)),
            Kind::ZeroWindow => (0..times).for_each(|_| self.read(&mut out)),
            Kind::Pings => (0..times).for_each(|_| {
                frame::put(&mut out, frame::PING, 0, (0, &[7; 8]));
            }),
            Kind::Settings => (0..times * 4).for_each(|_| frame::put_settings(&mut out, &[])),
            Kind::Empty => self.empty(&mut out, times * 8),
        }
        Some(out)
    }

    fn noise(&mut self, out: &mut Vec<u8>, most: u64) {
        let count = self.rng.below(most);
        out.extend((0..count).map(|_| self.rng.next() as u8));
    }

    fn frame(&mut self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        self.noise(&mut payload, 40);
        let (kind, flags) = (self.rng.below(12) as u8, self.rng.next() as u8);
        let stream = self.rng.below(6) as u32;
        frame::put(out, kind, flags, (stream, &payload));
    }

    fn head(&mut self, path: &str) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        self.encoder.block(&mut self.rng, &fields)
    }

    fn open(&mut self, out: &mut Vec<u8>, path: &str) -> u32 {
        let (stream, block) = (self.next, self.head(path));
        self.next += 2;
        frame::put(out, frame::HEADERS, END_HEADERS, (stream, &block));
        stream
    }

    fn header_flood(&mut self, out: &mut Vec<u8>, first: bool) {
        if first {
            let block = self.head("/etcdserverpb.KV/Range");
            frame::put(out, frame::HEADERS, 0, (self.next, &block));
        }
        // `x: yyy…`, not indexed.
        let mut field = vec![0, 1, b'x', 0x7f, 0x80 | 1, 1];
        field.resize(6 + 127 + 129, b'y');
        for _ in 0..self.rng.between(1, 100) {
            frame::put(out, frame::CONTINUATION, 0, (self.next, &field));
        }
    }

    fn rapid_reset(&mut self, out: &mut Vec<u8>) {
        let paths = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/Range", "/no/such"];
        let path = paths[self.rng.below(3) as usize];
        let stream = self.open(out, path);
        frame::put(out, frame::RST_STREAM, 0, (stream, &frame::CANCEL.to_be_bytes()));
    }

    /// All keys, or a watch of them.
    fn read(&mut self, out: &mut Vec<u8>) {
        let everything = b"\x0a\x01\0\x12\x01\0";
        if self.rng.chance(80) {
            let stream = self.open(out, "/etcdserverpb.KV/Range");
            frame::put(out, frame::DATA, END_STREAM, (stream, &frame::framed(everything)));
        } else {
            let stream = self.open(out, "/etcdserverpb.Watch/Watch");
            let mut create = vec![0x0a, everything.len() as u8];
            create.extend_from_slice(everything);
            frame::put(out, frame::DATA, 0, (stream, &frame::framed(&create)));
        }
    }

    fn empty(&mut self, out: &mut Vec<u8>, times: u64) {
        if self.next == 1 {
            self.open(out, "/etcdserverpb.Lease/LeaseKeepAlive");
        }
        (0..times).for_each(|_| frame::put(out, frame::DATA, 0, (1, &[])));
    }
}
