//! The watch hub against a dumb twin: clients that know the whole history of the store and check
//! every response against it.
//!
//! Streams are polled only when the hub named them ready, often late and with small bounds, while
//! the store is written, compacted, replaced by snapshots, and events fail to reach the hub. At the
//! end everything ready is polled, and whoever was not cancelled must have everything.

mod naive;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::mvcc::Budget;
use holdfast_core::request::KeyRange;
use holdfast_core::response::Event;
use holdfast_core::store::View;
use holdfast_core::time::Instant;
use holdfast_core::watch::{
    Hub, HubOptions, WatchCreate, WatchRequest, WatchResponse, WatchStreamId,
};
use naive::{NaiveStore, Write};
use proptest::prelude::*;

const STREAMS: u64 = 3;

/// What the client of a watcher knows.
struct Client {
    create: WatchCreate,
    /// Everything it wants before this was handed out; never more than is certain.
    next: Revision,
    /// How many of the events it wants it has got.
    got: usize,
    created: bool,
    compacted: bool,
    /// Pieces of a response whose last one has not come.
    pieces: Vec<WatchResponse>,
}

/// An answer that the hub owes, in order.
enum Owed {
    Created(i64, Revision),
    Refused(&'static str, Revision),
    Canceled(i64, Revision),
}

#[derive(Default)]
struct Twin {
    watchers: BTreeMap<i64, Client>,
    owed: VecDeque<Owed>,
    next_id: i64,
    progress_asked: usize,
    /// Asked when nothing was owed and all had begun: it must be answered.
    progress_due: bool,
}

impl Client {
    fn from(&self) -> Revision {
        Revision(self.create.start)
    }

    /// The events of history that this watcher wants, up to a revision.
    fn wanted<'a>(&'a self, store: &'a NaiveStore, upto: Revision) -> Vec<&'a Event> {
        let create = &self.create;
        let events = store.history.iter().map(|(_, event)| event);
        let events = events.filter(|event| {
            let filtered = if event.delete { create.no_delete } else { create.no_put };
            !filtered && create.keys.contains(&event.key)
        });
        events.filter(|e| e.at.main >= self.from() && e.at.main <= upto).collect()
    }

    /// W1 to W4 and W7: the events are the next ones it wants, whole revisions, rightly dressed.
    fn take(&mut self, response: WatchResponse, hub: Revision, store: &NaiveStore) {
        self.pieces.push(response);
        let pieces = &self.pieces;
        if pieces.last().expect("just pushed").fragment {
            assert!(self.create.fragment, "W4: pieces for a client that did not agree");
            return;
        }
        let pieces = std::mem::take(&mut self.pieces);
        let header = pieces[0].revision;
        assert!(pieces.iter().all(|piece| piece.revision == header), "pieces share a header");
        let sent: Vec<_> = pieces.into_iter().flat_map(|piece| piece.events).collect();
        let wanted = self.wanted(store, hub);
        let expected =
            wanted.get(self.got..self.got + sent.len()).expect("W2: more than there was");
        for (sent, event) in sent.iter().zip(expected) {
            assert_eq!((sent.delete, &sent.kv), (event.delete, &event.kv), "W1, W3: next event");
            let prev = event.prev.filter(|_| event.at.main > store.mark().compacted);
            let prev = prev.filter(|_| self.create.prev_kv);
            let prev = prev.map(|prev| store.record(prev).expect("not compacted").kv);
            // Of a large revision it may have been read before the compaction that takes it.
            let early = event.at.main <= store.mark().compacted && self.create.prev_kv;
            let as_wanted = sent.prev_kv == prev || (early && event.prev.is_some());
            assert!(as_wanted, "W7: previous pair of {}: {:?}", event.at, sent.prev_kv);
        }
        let last = expected.last().expect("an event response has events").at.main;
        let after = wanted.get(self.got + sent.len());
        assert!(after.is_none_or(|event| event.at.main > last), "W4: {last} is torn");
        // What was read in several polls leaves under the header of the last of them.
        assert!(last <= header && header <= hub, "header {header} is not within {last} and {hub}");
        self.next = self.next.max(last.next());
        self.got += sent.len();
    }

    /// W6, W9: everything up to `revision` was handed out, and the watcher has begun.
    fn check_progress(&self, revision: Revision, store: &NaiveStore) {
        assert!(
            self.created && !self.compacted && self.pieces.is_empty(),
            "W6: not a live watcher"
        );
        assert!(self.from() <= revision, "W9: progress before the start");
        assert_eq!(self.wanted(store, revision).len(), self.got, "W6: progress is ahead");
    }
}

impl Twin {
    fn request(&mut self, request: &WatchRequest, (hub, told): (Revision, Revision), idle: bool) {
        // Other watchers, or none, may make the stream unable to answer.
        self.progress_due = false;
        match request {
            WatchRequest::Create(create) => self.create(create, told),
            WatchRequest::Cancel { id } => {
                if self.watchers.remove(id).is_some() {
                    self.owed.push_back(Owed::Canceled(*id, told));
                }
            }
            WatchRequest::Progress => {
                self.progress_asked += 1;
                let begun = |w: &Client| !w.compacted && Revision(w.create.start) <= hub;
                let all = !self.watchers.is_empty() && self.watchers.values().all(begun);
                self.progress_due = idle && all && hub == told;
            }
        }
    }

    fn create(&mut self, create: &WatchCreate, hub: Revision) {
        let reason = match create {
            _ if create.start < 0 => "etcdserver: mvcc: required revision has been compacted",
            _ if create.keys.is_empty() => "mvcc: watcher range is empty",
            _ if create.id != 0 && self.watchers.contains_key(&create.id) => {
                "mvcc: duplicate watch ID provided on the WatchStream"
            }
            _ => "",
        };
        if !reason.is_empty() {
            self.owed.push_back(Owed::Refused(reason, hub));
            return;
        }
        let mut create = create.clone();
        if create.id == 0 {
            while self.watchers.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            create.id = self.next_id;
            self.next_id += 1;
        }
        let next = Revision(if create.start == 0 { hub.0 + 1 } else { create.start });
        let id = create.id;
        self.owed.push_back(Owed::Created(id, hub));
        // A start at the present does not hold progress back: the next wanted is told by `got`.
        let got = 0;
        let (created, compacted, pieces) = (false, false, Vec::new());
        let mut client = Client { create, next, got, created, compacted, pieces };
        client.create.start = client.create.start.max(0);
        self.watchers.insert(id, client);
    }

    fn receive(&mut self, response: WatchResponse, hub: Revision, store: &NaiveStore) {
        let revision = response.revision;
        if response.created || response.canceled && response.compact_revision == Revision(0) {
            self.answer(&response, store);
        } else if response.canceled {
            let client = self.watchers.get_mut(&response.id).expect("W8: a known watcher");
            assert!(client.created && !client.compacted, "created first, cancelled once");
            assert_eq!((revision, &response.cancel_reason[..]), (Revision(0), ""), "W8: shape");
            assert_eq!(
                response.compact_revision,
                store.mark().compacted,
                "W8: where history begins"
            );
            assert!(client.next < store.mark().compacted, "W8: {} is still there", client.next);
            client.compacted = true;
            self.progress_due = false;
        } else if response.id == -1 {
            assert!(self.progress_asked > 0, "progress that nobody asked for");
            assert!(!self.watchers.is_empty() && self.owed.is_empty(), "W6: too early");
            self.watchers.values().for_each(|client| client.check_progress(revision, store));
            (self.progress_asked, self.progress_due) = (self.progress_asked - 1, false);
        } else if response.events.is_empty() && self.is_dying(response.id) {
            // Periodic progress that came up before the client cancelled.
        } else {
            let client = self.watchers.get_mut(&response.id).expect("nothing after a cancellation");
            assert!(client.created && !client.compacted, "created first, nothing after compaction");
            if response.events.is_empty() {
                assert!(client.create.progress_notify, "progress that nobody asked for");
                client.check_progress(revision, store);
                client.next = client.next.max(revision.next());
            } else {
                client.take(response, hub, store);
            }
        }
    }

    fn is_dying(&self, id: i64) -> bool {
        self.owed.iter().any(|owed| matches!(owed, Owed::Canceled(dying, _) if *dying == id))
    }

    /// Answers to creations and cancellations come in order.
    fn answer(&mut self, response: &WatchResponse, store: &NaiveStore) {
        let revision = response.revision;
        let is = (response.created, response.canceled, response.id);
        match self.owed.pop_front().expect("an answer to a request") {
            Owed::Created(id, at) => {
                assert_eq!((is, revision), ((true, false, id), at), "created");
                // It may have been cancelled already.
                let Some(client) = self.watchers.get_mut(&id) else { return };
                client.created = true;
                if client.create.start == 0 {
                    client.got = client.wanted(store, at).len();
                }
            }
            Owed::Refused(reason, at) => {
                assert_eq!((is, revision), ((true, true, -1), at), "refused");
                assert_eq!(response.cancel_reason, reason);
            }
            Owed::Canceled(id, at) => {
                assert_eq!((is, revision), ((false, true, id), at), "canceled")
            }
        }
    }

    /// The hub says that the stream has nothing more to say.
    fn check_idle(&mut self, hub: Revision, store: &NaiveStore) {
        assert!(self.owed.is_empty(), "a request was not answered");
        assert!(!self.progress_due, "W12: progress was not answered");
        self.progress_asked = 0;
        for client in self.watchers.values_mut().filter(|client| !client.compacted) {
            assert_eq!(client.wanted(store, hub).len(), client.got, "W3, W12: events are missing");
            client.next = client.next.max(hub.next());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    Publish,
    Announce,
    Lose,
    Restore,
    Compact(u8),
    Create(u64, Box<WatchCreate>, i8),
    Cancel(u64, i64),
    Progress(u64),
    Poll(u64),
    Wait(u64),
    Reopen(u64),
}

fn watch_create() -> impl Strategy<Value = (WatchCreate, i8)> {
    let key = || 0..6u8;
    let keys = prop_oneof![
        3 => key().prop_map(|key| KeyRange::single(vec![key])),
        2 => (key(), key()).prop_map(|(a, b)| KeyRange::from_wire(vec![a].into(), vec![b + 1].into())),
        1 => key().prop_map(|key| KeyRange::from_wire(vec![key].into(), Bytes::from_static(b"\0"))),
    ];
    let flags = prop::array::uniform5(any::<bool>());
    let id = prop_oneof![4 => Just(0i64), 1 => 1..6i64];
    // Relative to the present: none, history, future, negative.
    let start = prop_oneof![3 => Just(i8::MAX), 4 => -12..4i8, 1 => Just(i8::MIN)];
    (keys, flags, id, start).prop_map(|(keys, flags, id, start)| {
        let [progress_notify, no_put, no_delete, prev_kv, fragment] = flags;
        let (no_put, no_delete) = (no_put && no_delete, no_delete && !prev_kv);
        let start_revision = 0;
        let create = WatchCreate {
            id,
            keys,
            start: start_revision,
            progress_notify,
            no_put,
            no_delete,
            prev_kv,
            fragment,
        };
        (create, start)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 1..=STREAMS;
    let write = prop::collection::vec((0..6u8, prop::option::weighted(0.7, any::<u8>())), 1..4);
    prop_oneof![
        8 => write.prop_map(Step::Write),
        8 => Just(Step::Publish),
        3 => Just(Step::Announce),
        2 => Just(Step::Lose),
        1 => Just(Step::Restore),
        1 => (0..6u8).prop_map(Step::Compact),
        4 => (stream(), watch_create())
            .prop_map(|(stream, (create, start))| Step::Create(stream, Box::new(create), start)),
        1 => (stream(), 0..6i64).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        2 => stream().prop_map(Step::Progress),
        6 => stream().prop_map(Step::Poll),
        1 => (1..400u64).prop_map(Step::Wait),
        1 => stream().prop_map(Step::Reopen),
    ]
}

/// Bounds of the hub, and the budget of each poll.
fn options() -> impl Strategy<Value = (HubOptions, Budget)> {
    let bounds = (1..5usize, 1..400usize, 0..2000usize, 1..6usize, 1..4usize, 20..200usize);
    let budget = (1..40usize, 1..800usize).prop_map(|(keys, bytes)| Budget::new(keys, bytes));
    (bounds.prop_map(hub_options), 1..4usize, budget).prop_map(|(options, together, budget)| {
        (HubOptions { catchup_watchers: together, ..options }, budget)
    })
}

fn hub_options(
    (revisions, bytes, log, responses, runs, fragment): (usize, usize, usize, usize, usize, usize),
) -> HubOptions {
    HubOptions {
        progress_interval: Duration::from_secs(300),
        fragment_bytes: 64 + fragment,
        catchup_revisions: revisions,
        catchup_bytes: bytes,
        log_bytes: log,
        stream_responses_max: responses,
        queue_runs_max: runs,
        seed: 1,
        ..HubOptions::default()
    }
}

struct World {
    store: NaiveStore,
    hub: Hub,
    /// Of each poll.
    budget: Budget,
    twins: BTreeMap<u64, Twin>,
    held: Vec<Event>,
    /// Streams that were named ready and not polled since.
    ready: BTreeSet<WatchStreamId>,
    now: Instant,
}

/// The streams that have something to say, each once, by id.
fn ready(hub: &mut Hub) -> BTreeSet<WatchStreamId> {
    std::iter::from_fn(|| hub.next_ready()).collect()
}

impl World {
    fn new((options, budget): (HubOptions, Budget)) -> World {
        let store = NaiveStore::new();
        let hub = Hub::new(options, store.mark());
        let (twins, held, ready) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let mut world = World { store, hub, budget, twins, held, ready, now: Instant(0) };
        (1..=STREAMS).for_each(|stream| world.reopen(stream));
        world
    }

    fn reopen(&mut self, stream: u64) {
        self.hub.close(WatchStreamId(stream));
        self.hub.open(WatchStreamId(stream), self.now);
        self.ready.remove(&WatchStreamId(stream));
        self.twins.insert(stream, Twin::default());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(changes) => self.write(&changes),
            Step::Publish => {
                let events = std::mem::take(&mut self.held);
                self.hub.published(self.now, events, self.store.mark());
            }
            Step::Announce => self.announce(),
            Step::Lose => self.held.clear(),
            Step::Restore => {
                self.held.clear();
                self.hub.restored(self.now, &self.store);
            }
            Step::Compact(behind) => {
                let at = Revision(self.store.mark().revision.0 - i64::from(behind));
                if at > self.store.mark().compacted && at > Revision(0) {
                    self.store.compact(at);
                }
            }
            Step::Create(stream, create, start) => {
                let mut create = *create;
                create.start = match start {
                    i8::MAX => 0,
                    i8::MIN => -3,
                    near => (self.hub.revision().0 + i64::from(near)).max(1),
                };
                self.request(stream, WatchRequest::Create(create));
            }
            Step::Cancel(stream, id) => self.request(stream, WatchRequest::Cancel { id }),
            Step::Progress(stream) => self.request(stream, WatchRequest::Progress),
            Step::Poll(stream) => self.poll(WatchStreamId(stream)),
            Step::Wait(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.hub.tick(self.now);
            }
            Step::Reopen(stream) => self.reopen(stream),
        }
        let (busy, announcing) = (self.hub.deadline() == Instant(0), self.hub.is_announcing());
        assert_eq!(busy, !self.ready_again().is_empty() || announcing);
        let idle = self.hub.deadline() > self.now;
        assert!(idle || announcing, "ticks are served and nobody is ready");
    }

    /// A part of what was published without its events.
    fn announce(&mut self) {
        let mut budget = self.budget;
        self.hub.announce(&self.store, &mut budget).expect("the store is healthy");
        self.ready_again();
    }

    /// What the hub names ready now, which is remembered.
    fn ready_again(&mut self) -> BTreeSet<WatchStreamId> {
        let named = ready(&mut self.hub);
        self.ready.extend(&named);
        named
    }

    fn write(&mut self, changes: &[(u8, Option<u8>)]) {
        let mut seen = BTreeSet::new();
        let changes = changes.iter().filter(|(key, _)| seen.insert(*key));
        let writes: Vec<Write> = changes
            .map(|&(key, value)| match value {
                Some(value) => Write::Put(vec![key], vec![value; usize::from(value) / 4]),
                None => Write::Delete(KeyRange::single(vec![key])),
            })
            .collect();
        self.held.extend(self.store.write(&writes));
    }

    fn request(&mut self, stream: u64, request: WatchRequest) {
        let id = WatchStreamId(stream);
        let idle = !self.ready.contains(&id);
        let twin = self.twins.get_mut(&stream).expect("all streams are open");
        twin.request(&request, (self.hub.revision(), self.hub.told()), idle);
        self.hub.request(self.now, id, request, &self.store);
    }

    fn poll(&mut self, stream: WatchStreamId) {
        if !self.ready.remove(&stream) {
            return;
        }
        let mut out = Vec::new();
        let hub = self.hub.revision();
        let mut budget = self.budget;
        self.hub.poll(stream, &self.store, &mut budget, &mut out).expect("the store is healthy");
        let twin = self.twins.get_mut(&stream.0).expect("all streams are open");
        out.into_iter().for_each(|response| twin.receive(response, hub, &self.store));
        self.ready.extend(ready(&mut self.hub));
        if !self.ready.contains(&stream) && !self.hub.is_announcing() {
            twin.check_idle(hub, &self.store);
        }
    }

    /// Polls what is ready until nothing is; then nobody may miss anything.
    fn settle(&mut self) {
        while self.hub.is_announcing() {
            self.announce();
        }
        let mut rounds = 0;
        while let Some(stream) = self.ready.first().copied() {
            self.poll(stream);
            rounds += 1;
            assert!(rounds < 100_000, "streams stay ready for ever");
        }
        let hub = self.hub.revision();
        self.twins.values_mut().for_each(|twin| twin.check_idle(hub, &self.store));
        let counts = self.hub.counts();
        assert_eq!((counts.streams, counts.behind), (STREAMS as usize, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn clients_of_the_hub_see_what_they_may_and_miss_nothing(
        options in options(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        live(options, steps);
    }
}

fn live(options: (HubOptions, Budget), steps: Vec<Step>) {
    let mut world = World::new(options);
    for step in steps {
        world.step(step);
    }
    world.settle();
    world.step(Step::Publish);
    world.settle();
}

#[cfg(feature = "mutants")]
#[test]
fn the_twin_notices_every_watch_mutant() {
    use holdfast_core::mutant;
    use proptest::test_runner::TestRunner;

    for number in [44, 45, 47, 71] {
        let config =
            ProptestConfig { max_shrink_iters: 0, failure_persistence: None, ..<_>::default() };
        let strategy = (options(), prop::collection::vec(step(), 1..150));
        let outcome = TestRunner::new(config).run(&strategy, |(options, steps)| {
            mutant::activate(number);
            live(options, steps);
            Ok(())
        });
        mutant::activate(0);
        assert!(outcome.is_err(), "mutant {number} went unnoticed");
    }
}
