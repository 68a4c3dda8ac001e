//! What a slot asks next, and what its answer must be.

use std::ops::Range;
use std::time::Instant;

use super::conn::{Answers, Call, Conn};
use super::pb::{self, Value, fields};
use super::report::Part;
use super::{Config, Kind};

/// Bytes at the head of a value that say from where in the pattern the rest is, in hexadecimal.
const HEAD: usize = 8;

/// Length of the pattern that values are cut from.
const PATTERN: usize = 1 << 20;

/// What waits in a slot.
#[derive(Clone, Copy)]
struct Waiting {
    begun: Instant,
    /// The highest revision seen when it was sent: a put's own must be above it.
    revision: i64,
}

/// One thread's workload.
pub(super) struct Work<'a> {
    config: &'a Config,
    measured: Range<Instant>,
    random: u64,
    pattern: Vec<u8>,
    key: Vec<u8>,
    /// By connection and slot.
    waiting: Vec<Option<Waiting>>,
    under_way: usize,
    part: Part,
}

impl<'a> Work<'a> {
    pub fn new(config: &'a Config, thread: u64, measured: Range<Instant>) -> Work<'a> {
        // The same pattern in every process, so that one can check what another wrote.
        let mut random = 42;
        let letter = |random: &mut u64| b'A' + (next(random) >> 59) as u8 % 26;
        let pattern = (0..PATTERN + config.val_size).map(|_| letter(&mut random)).collect();
        Work {
            config,
            measured,
            random: config.seed.wrapping_mul(1000).wrapping_add(thread),
            pattern,
            key: Vec::new(),
            waiting: vec![None; usize::from(config.conns) * usize::from(config.inflight)],
            under_way: 0,
            part: Part::default(),
        }
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Sends the slot's next call, unless the time is over.
    pub fn issue(&mut self, conn: &mut Conn, slot: usize) {
        let begun = Instant::now();
        if begun >= self.measured.end || conn.is_closed() {
            return;
        }
        self.choose_key();
        let from = next(&mut self.random) as usize % PATTERN;
        let kind = self.config.op;
        let call = match kind {
            Kind::Put => Call::Put,
            Kind::Range | Kind::RangeSerializable => Call::Range,
            Kind::Delete => Call::DeleteRange,
        };
        let place = self.place(conn, slot);
        self.waiting[place] = Some(Waiting { begun, revision: self.part.revision });
        self.under_way += 1;
        let (key, value, pattern) = (&self.key, self.config.val_size, &self.pattern);
        conn.call(slot, call, |message| {
            pb::put_bytes(message, 1, key);
            match kind {
                Kind::Put => put_value(message, pattern, from, value),
                Kind::RangeSerializable => pb::put_number(message, 7, 1),
                Kind::Range | Kind::Delete => {}
            }
        });
    }

    /// What came of it; calls that are still under way have been lost.
    pub fn finish(mut self) -> Part {
        let lost = self.under_way as u64;
        if lost > 0 {
            self.part.errors.insert("no answer until the end".to_owned(), lost);
        }
        self.part
    }

    fn place(&self, conn: &Conn, slot: usize) -> usize {
        conn.number() * usize::from(self.config.inflight) + slot
    }

    fn choose_key(&mut self) {
        let prefix = &self.config.prefix;
        let digits = self.config.key_size.saturating_sub(prefix.len()).clamp(8, 1000);
        let number = next(&mut self.random) % self.config.keys;
        self.key.clear();
        self.key.extend_from_slice(format!("{prefix}{number:0digits$}").as_bytes());
    }

    fn check(&mut self, message: &[u8], before: i64) -> Result<(), String> {
        let kind = self.config.op;
        let (mut revision, mut count) = (0, 0);
        let mut all = fields(message);
        for (field, value) in &mut all {
            match (field, value, kind) {
                (1, Value::Bytes(header), _) => revision = number_of(header, 3) as i64,
                (2, Value::Bytes(pair), Kind::Range | Kind::RangeSerializable) => {
                    count += 1;
                    self.check_value(pair)?;
                }
                (2, Value::Number(deleted), Kind::Delete) => count = deleted,
                _ => {}
            }
        }
        if all.malformed || revision == 0 {
            return Err("a malformed answer".to_owned());
        }
        if kind == Kind::Put && revision <= before {
            return Err("a put whose revision is not new".to_owned());
        }
        if kind != Kind::Put && count == 0 {
            self.part.misses += 1;
        }
        self.part.revision = self.part.revision.max(revision);
        Ok(())
    }

    fn check_value(&self, pair: &[u8]) -> Result<(), String> {
        let value = bytes_of(pair, 5);
        let Some((head, rest)) = value.split_at_checked(HEAD) else { return Ok(()) };
        let from = std::str::from_utf8(head).ok();
        let from = from.and_then(|head| usize::from_str_radix(head, 16).ok());
        let good = from.and_then(|from| self.pattern.get(from..from + rest.len()));
        if good == Some(rest) { Ok(()) } else { Err("a value that nobody wrote".to_owned()) }
    }
}

impl Answers for Work<'_> {
    fn answered(&mut self, conn: &mut Conn, slot: usize, answer: Result<&[u8], String>) {
        let place = self.place(conn, slot);
        let Some(waiting) = self.waiting[place].take() else { return };
        self.under_way -= 1;
        let checked = answer.and_then(|message| self.check(message, waiting.revision));
        let now = Instant::now();
        match checked {
            Err(what) => *self.part.errors.entry(what).or_default() += 1,
            Ok(()) if waiting.begun >= self.measured.start && now < self.measured.end => {
                let ns = now.duration_since(waiting.begun).as_nanos() as u64;
                self.part.latencies.saturating_record(ns);
            }
            Ok(()) => {}
        }
        self.issue(conn, slot);
    }
}

fn put_value(message: &mut Vec<u8>, pattern: &[u8], from: usize, length: usize) {
    pb::put_head(message, 2, length);
    if length < HEAD {
        message.extend_from_slice(&pattern[from..from + length]);
    } else {
        message.extend_from_slice(format!("{from:0HEAD$x}").as_bytes());
        message.extend_from_slice(&pattern[from..from + length - HEAD]);
    }
}

fn number_of(message: &[u8], wanted: u32) -> u64 {
    fields(message)
        .find_map(|field| match field {
            (number, Value::Number(value)) if number == wanted => Some(value),
            _ => None,
        })
        .unwrap_or(0)
}

fn bytes_of(message: &[u8], wanted: u32) -> &[u8] {
    fields(message)
        .find_map(|field| match field {
            (number, Value::Bytes(value)) if number == wanted => Some(value),
            _ => None,
        })
        .unwrap_or_default()
}

/// SplitMix64: small, seeded, good enough to choose keys.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
