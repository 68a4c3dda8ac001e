//! What each slot does next, and whether its answer was right.
//!
//! Laws:
//!  1. A slot asks one thing at a time; its next one starts when the answer has been judged.
//!  2. A change's revision is above every revision seen before it was asked.
//!  3. What a slot knows of a key's revision came from an answer: a swap that loses reads it again.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::answers::{self, Got};
use super::conn::{Answers, Conn};
use super::pb::{self, fields};
use super::requests::{PAGE, Request, Source};
use super::tally::{Kind, Tally};
use super::values::{Pattern, number_at_end};
use super::worker::Shared;
use super::{Config, Op, now_ns, share};

/// What waits in a slot.
#[derive(Clone, Debug)]
struct Asked {
    request: Request,
    /// When it should have been sent: latency counts from here.
    due: u64,
    /// The highest revision seen when it was sent.
    before: i64,
    answer: Option<Result<Got, String>>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    asked: Option<Asked>,
    lease: i64,
    /// The revision of the slot's own key in the Kubernetes mix; 0 while it is absent.
    own_key: i64,
}

/// One thread's workload.
pub(super) struct Work<'a> {
    config: &'a Config,
    shared: &'a Shared,
    pattern: &'a Pattern,
    source: Source<'a>,
    thread: (usize, usize),
    slots: Vec<Vec<Slot>>,
    /// Slots with nothing to do, for the loop to start.
    pub idle: Vec<(usize, usize)>,
    /// Nanoseconds of the clock; empty until the clock starts.
    pub measured: Range<u64>,
    pub over: bool,
    pub under_way: usize,
    issued: u64,
    /// The revisions of the keys that are swapped.
    known: Vec<i64>,
    learned: Learned,
    pub tally: Tally,
}

/// What a page of keys said, while revisions are learned.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    keys: u64,
    more: bool,
}

impl<'a> Work<'a> {
    pub fn new(
        config: &'a Config,
        shared: &'a Shared,
        pattern: &'a Pattern,
        thread: (usize, usize),
    ) -> Work<'a> {
        let swaps = matches!(config.op, Op::Cas | Op::Kubernetes);
        Work {
            config,
            shared,
            pattern,
            source: Source::new(config, pattern, (thread.0 as u64, thread.1 as u64)),
            thread,
            slots: Vec::new(),
            idle: Vec::new(),
            measured: 0..0,
            over: false,
            under_way: 0,
            issued: 0,
            known: if swaps { vec![0; config.keys as usize] } else { Vec::new() },
            learned: Learned::default(),
            tally: Tally::default(),
        }
    }

    /// A new connection, before the clock starts: watches are made and revisions learned.
    pub fn prepare(&mut self, conn: &mut Conn) {
        let number = conn.number();
        if self.slots.len() <= number {
            self.slots.resize(number + 1, Vec::new());
        }
        self.slots[number] = vec![Slot::default(); conn.slots()];
        if self.is_watcher(number) {
            self.watch(conn);
        } else if number == 0 && !self.known.is_empty() {
            self.ask(conn, 0, Request::Learn, 0);
        }
    }

    /// A connection in place of one that was lost.
    pub fn resume(&mut self, conn: &mut Conn) {
        self.slots[conn.number()] = vec![Slot::default(); conn.slots()];
        if self.is_watcher(conn.number()) {
            self.watch(conn);
        } else {
            self.rest(conn);
        }
    }

    /// Every slot of the connection has nothing to do.
    pub fn rest(&mut self, conn: &Conn) {
        self.idle.extend((0..conn.slots()).map(|slot| (conn.number(), slot)));
    }

    pub fn is_watcher(&self, conn: usize) -> bool {
        conn >= share(usize::from(self.config.conns), self.thread)
    }

    /// Whether this thread has begun all that it was to do.
    pub fn is_exhausted(&self) -> bool {
        let total = self.config.total();
        total.is_some_and(|total| self.issued >= share(total as usize, self.thread) as u64)
    }

    fn watch(&mut self, conn: &mut Conn) {
        for slot in 0..conn.slots() {
            self.ask(conn, slot, Request::Watch, 0);
        }
    }

    /// Sends the slot's next request, which should have been sent when it was `due`.
    pub fn issue(&mut self, conn: &mut Conn, slot: usize, due: u64) {
        if self.over || self.is_exhausted() || conn.is_closed() {
            return;
        }
        let request = self.choose(conn.number(), slot);
        self.issued += 1;
        self.under_way += 1;
        self.ask(conn, slot, request, due);
    }

    fn ask(&mut self, conn: &mut Conn, slot: usize, request: Request, due: u64) {
        let before = self.tally.revision;
        let state = &mut self.slots[conn.number()][slot];
        let open = matches!(request, Request::KeepAlive { .. }) && state.lease != 0;
        if let Request::KeepAlive { lease } = request {
            state.lease = lease;
        }
        state.asked = Some(Asked { request, due, before, answer: None });
        let source = &mut self.source;
        let fill = |out: &mut Vec<u8>| source.write(out, request, now_ns());
        if open { conn.say(slot, fill) } else { conn.call(slot, request.call(), fill) }
    }

    fn choose(&mut self, conn: usize, slot: usize) -> Request {
        let key = self.choose_key();
        match self.config.op {
            Op::Put => Request::Put { key },
            Op::Range | Op::RangeSerializable => Request::Range { key },
            Op::Cas => self.swap(key),
            Op::Mixed if self.source.random.below(100) < self.config.read_percent => {
                Request::Range { key }
            }
            Op::Mixed => Request::Put { key },
            Op::Kubernetes => self.choose_of_mix(key, (conn, slot)),
            Op::Delete => Request::Delete { key },
            Op::Load => Request::Load { batch: self.issued },
            Op::LeaseGrant => Request::Grant,
            Op::LeaseKeepalive => match self.slots[conn][slot].lease {
                0 => Request::Grant,
                lease => Request::KeepAlive { lease },
            },
            Op::Compact => Request::Compact,
            Op::Defragment => Request::Defragment,
            Op::Snapshot => Request::Snapshot,
        }
    }

    fn choose_of_mix(&mut self, key: u64, (conn, slot): (usize, usize)) -> Request {
        let mix = self.config.mix();
        let mut random = self.source.random.below(mix.iter().sum::<u64>().max(1));
        let mut falls_into = |share: u64| {
            let inside = random < share;
            random = random.saturating_sub(share);
            inside
        };
        if falls_into(mix[0]) {
            self.swap(key)
        } else if falls_into(mix[1]) {
            Request::Range { key }
        } else if falls_into(mix[2]) {
            let revision = self.slots[conn][slot].own_key;
            let slot = (conn * usize::from(self.config.inflight) + slot) as u64;
            Request::Churn { slot, revision }
        } else {
            Request::Page { key }
        }
    }

    fn swap(&self, key: u64) -> Request {
        Request::Swap { key, revision: self.known[key as usize] }
    }

    fn choose_key(&mut self) -> u64 {
        let (thread, threads) = (self.thread.0 as u64, self.thread.1 as u64);
        let keys = self.config.keys;
        if self.config.sequential {
            return (self.issued * threads + thread) % keys;
        }
        let key = self.source.random.below(keys);
        if !self.known.is_empty() {
            // Each thread swaps its own part of the keys.
            return (key / threads * threads + thread).min(keys - 1);
        }
        if self.config.span > 1 { key.min(keys.saturating_sub(self.config.span)) } else { key }
    }

    /// Whether the answer is right for what was asked; if so, how many changes it made.
    fn judge(&mut self, asked: &Asked, got: Got, place: (usize, usize)) -> Result<u64, String> {
        self.tally.revision = self.tally.revision.max(got.revision);
        let kind = asked.request.kind();
        let changes = match asked.request {
            Request::Put { .. } => 1,
            Request::Swap { key, .. } => self.swapped(key, got),
            Request::Churn { revision, .. } => {
                self.tally.lost_swaps += u64::from(!got.succeeded);
                let created = if revision == 0 { got.revision } else { 0 };
                let own_key = if got.succeeded { created } else { got.found };
                self.slots[place.0][place.1].own_key = own_key;
                u64::from(got.succeeded)
            }
            Request::Range { .. } => {
                self.tally.misses += u64::from(got.pairs != self.config.span);
                0
            }
            Request::Page { .. } => {
                self.tally.misses += u64::from(got.pairs == 0 || got.pairs > PAGE);
                0
            }
            Request::Delete { .. } => {
                self.tally.misses += u64::from(got.pairs == 0);
                got.pairs
            }
            Request::Load { .. } if !got.succeeded => {
                return Err("a load that was not applied".to_owned());
            }
            Request::Load { batch } => self.source.batch(batch).count() as u64,
            Request::Grant if got.lease == 0 => return Err("a lease without an id".to_owned()),
            Request::KeepAlive { lease } if got.lease != lease || got.ttl == 0 => {
                return Err("a lease that is gone".to_owned());
            }
            _ => 0,
        };
        if changes > 0 && got.revision <= asked.before {
            return Err(format!("a {} whose revision is not new", kind.name()));
        }
        Ok(changes)
    }

    fn swapped(&mut self, key: u64, got: Got) -> u64 {
        self.known[key as usize] = if got.succeeded { got.revision } else { got.found };
        self.tally.lost_swaps += u64::from(!got.succeeded);
        u64::from(got.succeeded)
    }

    /// A call is over: counts it, and goes on.
    fn settle(&mut self, conn: &mut Conn, slot: usize, asked: &Asked, end: Result<Got, String>) {
        let now = now_ns();
        self.under_way -= 1;
        match end.and_then(|got| self.judge(asked, got, (conn.number(), slot))) {
            Ok(changes) => {
                self.tally.acknowledged += 1;
                if self.config.watchers > 0 && changes > 0 {
                    self.shared.changes.fetch_add(changes, Relaxed);
                }
                self.count(asked.request.kind(), asked.due, now);
            }
            Err(what) => self.tally.fail(what),
        }
        if conn.is_closed() {
            return; // `resume` starts the slot again
        }
        if self.config.rate > 0.0 {
            self.idle.push((conn.number(), slot));
        } else {
            self.issue(conn, slot, now);
        }
    }

    fn count(&mut self, kind: Kind, due: u64, now: u64) {
        if !self.measured.contains(&now) {
            return;
        }
        let ns = now.saturating_sub(due);
        self.tally.record(kind, ns);
        self.tally.counted += 1;
        self.tally.last = now;
        if self.config.timeline {
            self.tally.enter_cell(now - self.measured.start, ns);
        }
    }

    fn events(&mut self, message: &[u8]) {
        let now = now_ns();
        let mut count = 0;
        let mut all = fields(message);
        for (field, value) in all.by_ref() {
            match field {
                3 if value.number() != 0 => {
                    self.shared.watching.fetch_add(1, Relaxed);
                }
                4 if value.number() != 0 => self.tally.fail("a watch that the server canceled"),
                11 => {
                    count += 1;
                    self.event(value.bytes(), now);
                }
                _ => {}
            }
        }
        if all.malformed {
            self.tally.fail("malformed events");
        }
        if count > 0 {
            self.shared.events.fetch_add(count, Relaxed);
        }
    }

    fn event(&mut self, event: &[u8], now: u64) {
        let inside = self.measured.contains(&now);
        self.tally.events += u64::from(inside);
        if pb::number_of(event, 1) != 0 {
            return; // a deletion, which has no value
        }
        let value = pb::bytes_of(pb::bytes_of(event, 2), 5);
        match self.pattern.check(value) {
            None => self.tally.fail("an event with a value that nobody wrote"),
            Some(sent) if sent > 0 && inside => {
                self.tally.record(Kind::Watch, now.saturating_sub(sent));
            }
            Some(_) => {}
        }
    }

    fn learn(&mut self, message: &[u8]) {
        for (field, value) in fields(message) {
            match field {
                2 => {
                    let key = pb::bytes_of(value.bytes(), 1);
                    self.learned.keys += 1;
                    self.source.learn_from = [key, &[0]].concat();
                    let known = number_at_end(key).and_then(|number| self.known.get_mut(number));
                    if let Some(known) = known {
                        *known = pb::number_of(value.bytes(), 3) as i64;
                    }
                }
                3 => self.learned.more = value.number() != 0,
                _ => {}
            }
        }
    }

    /// A page of keys is over.
    fn learned(&mut self, conn: &mut Conn, end: Result<(), String>) {
        let learned = std::mem::take(&mut self.learned);
        match end {
            Ok(()) if learned.more && learned.keys > 0 => self.ask(conn, 0, Request::Learn, 0),
            Ok(()) => {
                self.shared.learned.fetch_add(1, Relaxed);
            }
            Err(what) => {
                self.tally.fail(format!("to learn the keys: {what}"));
                self.shared.broken.store(true, Relaxed);
            }
        }
    }
}

impl Answers for Work<'_> {
    fn message(&mut self, conn: &mut Conn, slot: usize, message: &[u8]) {
        let state = &mut self.slots[conn.number()][slot];
        let Some(asked) = &mut state.asked else { return };
        let kind = asked.request.kind();
        match kind {
            Kind::Watch => return self.events(message),
            Kind::Learn => return self.learn(message),
            Kind::Snapshot => {
                self.tally.streamed += pb::bytes_of(message, 3).len() as u64;
                asked.answer = Some(Ok(Got::default()));
                return;
            }
            _ => {}
        }
        let got = answers::read(kind, message, self.config.count_only, self.pattern);
        if kind == Kind::KeepAlive {
            // One answer on a stream that stays open is the whole call.
            if let Some(asked) = state.asked.take() {
                self.settle(conn, slot, &asked, got);
            }
        } else if asked.answer.is_some() {
            asked.answer = Some(Err("two answers to one call".to_owned()));
        } else {
            asked.answer = Some(got);
        }
    }

    fn ended(&mut self, conn: &mut Conn, slot: usize, end: Result<(), String>) {
        let state = &mut self.slots[conn.number()][slot];
        let Some(asked) = state.asked.take() else {
            state.lease = 0;
            return;
        };
        match asked.request {
            Request::Watch => {
                return self
                    .tally
                    .fail(format!("a watch ended: {}", end.err().unwrap_or_default()));
            }
            Request::Learn => return self.learned(conn, end),
            Request::KeepAlive { .. } => state.lease = 0,
            _ => {}
        }
        let answer = asked.answer.clone().unwrap_or(Err("a call without an answer".to_owned()));
        let end = end.and(answer);
        match (self.config.op, &end) {
            (Op::LeaseKeepalive, Ok(Got { lease, .. })) if *lease != 0 => {
                // The lease was made; its life is what is measured.
                self.ask(conn, slot, Request::KeepAlive { lease: *lease }, now_ns());
            }
            _ => self.settle(conn, slot, &asked, end),
        }
    }
}
