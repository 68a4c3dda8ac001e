//! What clients tried, were told and saw, and the laws that must hold between these.
//!
//! All keys lie below one prefix, every write has values of its own, and nothing else changes keys,
//! so that the one watch over the prefix is the whole story: revision by revision, without a gap.
//!
//! Laws, each asserted where it can first break:
//!  1. *Watch*: revisions come in order, each exactly once, none left out, all events of a revision
//!     in one response; versions, creations and `prev_kv` fit what was before; a progress
//!     notification never speaks of a revision whose events have not come.
//!  2. *Writes*: an event's value was really tried, at one revision only; an acknowledged write is
//!     at the revision that was acknowledged, whole.
//!  3. *Reads*: a linearizable read shows at least what was acknowledged before it began, and
//!     exactly the state at the revision in its header.
//!  4. *Leases*: a lease ends no earlier than its time to live after the last renewal that was
//!     acknowledged was sent, by the fastest clock.
//!
//! Worked example: a put of `w0-7` is told "revision 12"; at the end event 12 must be `w0-7`, and
//! nothing else, though two leaders were lost in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use holdfast_net::proto::etcdserverpb::{RangeResponse, WatchResponse};
use holdfast_net::proto::mvccpb::{Event, KeyValue, event::EventType};
use holdfast_sim::clock::{Moment, RATE_TRUE};

/// All keys of a state, by key.
pub type State = BTreeMap<Bytes, KeyValue>;

/// A write that a client tried: puts that belong together.
struct Attempt {
    pairs: Vec<(Bytes, Bytes)>,
    acknowledged: Option<i64>,
    seen: Option<i64>,
    began: Moment,
}

/// A linearizable read of everything.
struct Read {
    revision: i64,
    pairs: Vec<KeyValue>,
}

/// A lease with one key.
struct Lease {
    id: i64,
    key: Bytes,
    ttl: Duration,
    lives_until: Moment,
    ended: Option<Moment>,
}

/// The story of one seed.
#[derive(Default)]
pub struct History {
    attempts: Vec<Attempt>,
    by_value: BTreeMap<Bytes, usize>,
    reads: Vec<Read>,
    leases: Vec<Lease>,
    events: Vec<Event>,
    state: State,
    /// The revision that everything before is known of; genesis is 1.
    seen: i64,
    /// The highest revision that any client was told.
    told: i64,
    /// When a member first applied up to each revision.
    applied: BTreeMap<i64, Moment>,
    /// The rate of the fastest clock.
    rate_max: u64,
}

impl History {
    /// Nothing happened; no member's clock is faster than `rate_max`.
    pub fn new(rate_max: u64) -> History {
        History { seen: 1, told: 1, rate_max, ..History::default() }
    }

    /// A client begins to write; names the attempt.
    pub fn begin(&mut self, pairs: Vec<(Bytes, Bytes)>, now: Moment) -> usize {
        let number = self.attempts.len();
        for (_, value) in &pairs {
            let twin = self.by_value.insert(value.clone(), number);
            assert!(twin.is_none(), "every write has values of its own");
        }
        self.attempts.push(Attempt { pairs, acknowledged: None, seen: None, began: now });
        number
    }

    /// The client was told that its write is at `revision`.
    pub fn acknowledge(&mut self, attempt: usize, revision: i64) {
        let attempt = &mut self.attempts[attempt];
        attempt.acknowledged = Some(revision);
        let seen = attempt.seen.unwrap_or(revision);
        assert_eq!(seen, revision, "law 2: the watch saw {:?} elsewhere", attempt.pairs);
        self.told = self.told.max(revision);
    }

    /// Whether some write that began at `since` or later was acknowledged.
    pub fn has_written_since(&self, since: Moment) -> bool {
        let tried = self.attempts.iter().rev();
        tried.take_while(|a| a.began >= since).any(|attempt| attempt.acknowledged.is_some())
    }

    /// The revision that a linearizable read which begins now must reach.
    pub fn floor(&self) -> i64 {
        self.told
    }

    /// A linearizable read of everything that had to reach `floor`.
    pub fn read(&mut self, floor: i64, response: RangeResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        assert!(revision >= floor, "law 3: a read at r{revision}, after r{floor} was told");
        self.told = self.told.max(revision);
        self.reads.push(Read { revision, pairs: response.kvs });
    }

    /// Where a watch that is opened now must start.
    pub fn watch_from(&self) -> i64 {
        self.seen + 1
    }

    /// The last revision that the watch has seen.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// How many events the watch saw.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// A response of the watch.
    pub fn watched(&mut self, response: &WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        self.told = self.told.max(revision);
        let last = response.events.last().map(mod_revision);
        if response.events.is_empty() && !response.created {
            let seen = self.seen;
            assert!(revision <= seen, "law 1: progress up to r{revision}, events up to r{seen}");
        }
        let mut current = None;
        for event in &response.events {
            let at = mod_revision(event);
            if current != Some(at) {
                let next = self.seen + 1;
                assert_eq!(at, next, "law 1: r{at} where r{next} had to come");
                current = Some(at);
                self.seen = at;
            }
            self.event(event, at);
        }
        if let Some(last) = last {
            assert!(revision >= last, "law 1: header r{revision} with an event at r{last}");
        }
    }

    fn event(&mut self, event: &Event, at: i64) {
        let kv = event.kv.as_ref().expect("law 1: every event has its pair");
        let before = self.state.get(&kv.key);
        assert_eq!(event.prev_kv.as_ref(), before, "law 1: prev_kv of {:?} at r{at}", kv.key);
        match event.r#type() {
            EventType::Put => {
                let version = before.map_or(1, |old| old.version + 1);
                let created = before.map_or(at, |old| old.create_revision);
                assert_eq!((kv.version, kv.create_revision), (version, created), "law 1: r{at}");
                self.saw_put(kv, at);
                self.state.insert(kv.key.clone(), kv.clone());
            }
            EventType::Delete => {
                self.saw_delete(kv, at);
                self.state.remove(&kv.key);
            }
        }
        self.events.push(event.clone());
    }

    fn saw_put(&mut self, kv: &KeyValue, at: i64) {
        let number = self.by_value.get(&kv.value);
        let number = *number.unwrap_or_else(|| panic!("law 2: nobody wrote {:?}", kv.value));
        let attempt = &mut self.attempts[number];
        let pair = (kv.key.clone(), kv.value.clone());
        assert!(attempt.pairs.contains(&pair), "law 2: {:?} under {:?}", kv.value, kv.key);
        let seen = *attempt.seen.get_or_insert(at);
        assert_eq!(seen, at, "law 2: {:?} twice", kv.value);
        let told = attempt.acknowledged.unwrap_or(at);
        assert_eq!(told, at, "law 2: {:?} was acknowledged elsewhere", kv.value);
    }

    /// Only the end of its lease deletes a key here.
    fn saw_delete(&mut self, kv: &KeyValue, at: i64) {
        let lease = self.leases.iter_mut().find(|lease| lease.key == kv.key);
        let lease = lease.unwrap_or_else(|| panic!("law 2: nobody deletes {:?}", kv.key));
        let when = *self.applied.get(&at).expect("a member applied what the watch sees");
        lease.ended = Some(when);
        lease.check();
    }

    /// A member applied up to `revision`.
    pub fn applied(&mut self, revision: i64, now: Moment) {
        self.applied.entry(revision).or_insert(now);
    }

    /// A lease was granted by a request sent at `sent`; `key` will be attached to it.
    pub fn granted(&mut self, id: i64, ttl: Duration, key: Bytes, sent: Moment) {
        let lives_until = sent.after(self.shortest(ttl));
        self.leases.push(Lease { id, key, ttl, lives_until, ended: None });
    }

    /// A renewal sent at `sent` was acknowledged.
    pub fn renewed(&mut self, id: i64, sent: Moment) {
        let place = self.leases.iter().position(|lease| lease.id == id);
        let place = place.expect("only granted leases are renewed");
        let lives_until = sent.after(self.shortest(self.leases[place].ttl));
        let lease = &mut self.leases[place];
        lease.lives_until = lease.lives_until.max(lives_until);
        lease.check();
    }

    /// The server said that a lease is gone.
    pub fn is_gone(&mut self, id: i64, now: Moment) {
        let lease = self.leases.iter_mut().find(|lease| lease.id == id);
        let lease = lease.expect("only granted leases are renewed");
        lease.ended.get_or_insert(now);
        lease.check();
    }

    /// Whether the watch saw the key of this lease vanish, or was told that it is gone.
    pub fn has_ended(&self, id: i64) -> bool {
        self.leases.iter().any(|lease| lease.id == id && lease.ended.is_some())
    }

    /// How long `ttl` lasts by the fastest clock.
    fn shortest(&self, ttl: Duration) -> Duration {
        let ns = ttl.as_nanos() * u128::from(RATE_TRUE) / u128::from(self.rate_max);
        Duration::from_nanos(u64::try_from(ns).expect("leases are short"))
    }

    /// Every acknowledged put: its key, its value, its revision.
    pub fn acknowledged(&self) -> Vec<(Bytes, Bytes, i64)> {
        let told = self.attempts.iter().filter_map(|a| a.acknowledged.map(|at| (at, &a.pairs)));
        told.flat_map(|(at, pairs)| pairs.iter().map(move |(k, v)| (k.clone(), v.clone(), at)))
            .collect()
    }

    /// How many writes were tried, and how many of them acknowledged.
    pub fn writes(&self) -> (usize, usize) {
        let told = self.attempts.iter().filter(|attempt| attempt.acknowledged.is_some());
        (self.attempts.len(), told.count())
    }

    /// How many reads of everything were answered.
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// What the watch says is the state at `revision`, which it must have seen.
    pub fn state_at(&self, revision: i64) -> State {
        assert!(revision <= self.seen, "the watch is not at r{revision} yet");
        let mut state = State::new();
        for event in self.events.iter().take_while(|event| mod_revision(event) <= revision) {
            apply(event, &mut state);
        }
        state
    }

    /// The laws that can only be judged once the watch has seen everything.
    pub fn finish(&self) {
        for attempt in &self.attempts {
            let Some(told) = attempt.acknowledged else { continue };
            let seen = attempt.seen;
            assert_eq!(seen, Some(told), "law 2: {:?} is lost", attempt.pairs);
        }
        let values = self.events.iter().filter_map(|event| event.kv.as_ref());
        let values: BTreeSet<&Bytes> = values.map(|kv| &kv.value).collect();
        for attempt in self.attempts.iter().filter(|attempt| attempt.seen.is_some()) {
            let is_whole = attempt.pairs.iter().all(|(_, value)| values.contains(value));
            assert!(is_whole, "law 2: {:?} in parts", attempt.pairs);
        }
        self.judge_reads();
    }

    fn judge_reads(&self) {
        let mut reads: Vec<&Read> = self.reads.iter().collect();
        reads.sort_by_key(|read| read.revision);
        let mut events = self.events.iter().peekable();
        let mut state = State::new();
        for read in reads {
            while let Some(event) = events.next_if(|event| mod_revision(event) <= read.revision) {
                apply(event, &mut state);
            }
            assert!(
                read.pairs.iter().eq(state.values()),
                "law 3: a read at r{} differs from the watch: {:?}, not {state:?}",
                read.revision,
                read.pairs
            );
        }
    }
}

impl Lease {
    fn check(&self) {
        let Some(ended) = self.ended else { return };
        let Lease { id, lives_until, .. } = self;
        assert!(
            ended >= *lives_until,
            "law 4: lease {id:x} ended at {ended}, before {lives_until}"
        );
    }
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn apply(event: &Event, state: &mut State) {
    let Some(kv) = &event.kv else { return };
    match event.r#type() {
        EventType::Put => drop(state.insert(kv.key.clone(), kv.clone())),
        EventType::Delete => drop(state.remove(&kv.key)),
    }
}
