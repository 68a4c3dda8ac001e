//! The watch hub of one edge worker: takes each publication once, and knows which streams it concerns.
//!
//! Leaves out sockets and waiting: `next_ready` names the streams that have something to say, and whoever
//! owns the connection polls them when it can take more. A stream that is never polled costs others
//! nothing; when the shared log has moved past it, it reads the store at its own pace.
//!
//! Laws (W1 to W9 of the watch checkers; per watcher unless said otherwise):
//!  1. Events come in strictly increasing revisions, each change once, without a gap (W1, W2, W3).
//!  2. All wanted changes of a revision come in one response, or in pieces marked as such (W4).
//!  3. A response with header revision p and no events says that everything up to p has been handed
//!     out; with id -1, for all watchers of the stream (W6).
//!  4. `created` is the first message; nothing follows a cancellation the client asked for.
//!  5. A start before the compaction ends the watcher with the place where history begins (W8).
//!  6. Nothing from before the start, and no progress before the store has reached it (W9).
//!
//! Worked example: streams 1 and 2 watch `a` and `[b, c)`. `published` with a put of `a` at r7 makes
//! `next_ready` name stream 1 only; polling it gives one response with header r7. Stream 2 is at r7
//! without anything having been done for it: asked for progress, it says r7.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::time::Duration;

use super::index::KeyIndex;
use super::log::EventLog;
use super::stream::{Stream, Turn};
use super::{WatchRequest, WatchResponse, WatchStreamId};
use crate::id::{RevSub, Revision};
use crate::kv::KeyValue;
use crate::mutant;
use crate::mvcc::Budget;
use crate::response::Event;
use crate::rng::Rng;
use crate::store::{Fault, Mark, View};
use crate::time::Instant;

/// Bounds and periods of a hub; a bound of 0 counts as 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// How often progress is reported to watchers that want it
    /// (`--watch-progress-notify-interval`); each stream adds up to a tenth of its own.
    pub progress_interval: Duration,
    /// Responses of this size are split for watchers that agreed to it.
    pub fragment_bytes: usize,
    /// Revisions in one response, and looked at in one poll of a stream that reads history.
    pub catchup_revisions: usize,
    /// Bytes after which a response, or a poll that reads history, takes no further revision.
    pub catchup_bytes: usize,
    /// Watchers of a stream that read history together.
    pub catchup_watchers: usize,
    /// Recent events kept in memory for all watchers.
    pub log_bytes: usize,
    /// Responses made in one poll; also how many unsent answers make a stream congested.
    pub stream_responses_max: usize,
    /// Separate stretches of the log that an up-to-date watcher may be owed before it has to read
    /// history instead.
    pub queue_runs_max: usize,
    /// For the jitter of progress reports.
    pub seed: u64,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            progress_interval: Duration::from_secs(600),
            fragment_bytes: 1_572_864 + (512 << 10),
            catchup_revisions: 1000,
            catchup_bytes: 1 << 20,
            catchup_watchers: 512,
            log_bytes: 16 << 20,
            stream_responses_max: 128,
            queue_runs_max: 1024,
            seed: 0,
        }
    }
}

/// How much is watched; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Open streams.
    pub streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// Those that read history.
    pub behind: usize,
}

/// A watcher, anywhere in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub stream: WatchStreamId,
    pub watcher: i64,
}

/// All watch streams of one edge worker.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
    /// Watchers are told of everything up to here.
    mark: Mark,
    /// What was published last; further on only while something is being announced.
    told: Mark,
    /// The first change of what is being announced that was not looked at.
    announcing: Option<RevSub>,
    /// Changes that were published since the announcement last went on.
    arrived: usize,
    log: EventLog,
    streams: BTreeMap<WatchStreamId, Stream>,
    /// Synced watchers by their keys.
    routes: KeyIndex<Target>,
    ready: BTreeSet<WatchStreamId>,
    /// The stream that [`Hub::next_ready`] named last: those behind it come first.
    named: WatchStreamId,
    ticks: BTreeSet<(Instant, WatchStreamId)>,
    rng: Rng,
    /// Reused from event to event.
    targets: Vec<Target>,
}

impl Hub {
    /// A hub without streams, for a store that is at `at`.
    pub fn new(options: HubOptions, at: Mark) -> Hub {
        let rng = Rng::new(options.seed);
        let options = HubOptions {
            catchup_revisions: options.catchup_revisions.max(1),
            catchup_bytes: options.catchup_bytes.max(1),
            catchup_watchers: options.catchup_watchers.max(1),
            stream_responses_max: options.stream_responses_max.max(1),
            queue_runs_max: options.queue_runs_max.max(1),
            ..options
        };
        Hub {
            log: EventLog::new(at.revision.next(), options.log_bytes),
            mark: at,
            told: at,
            announcing: None,
            arrived: 0,
            streams: BTreeMap::new(),
            routes: KeyIndex::new(rng.fork(1)),
            ready: BTreeSet::new(),
            named: WatchStreamId(0),
            ticks: BTreeSet::new(),
            rng,
            options,
            targets: Vec::new(),
        }
    }

    /// A client opened a stream. The name must be new.
    pub fn open(&mut self, stream: WatchStreamId, now: Instant) {
        self.close(stream);
        let interval = self.options.progress_interval;
        let jitter = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.rng.below(jitter.max(1)));
        let period = interval.saturating_add(jitter).max(Duration::from_nanos(1));
        let tick = now + period;
        let state = Stream::new(stream, tick, period, self.rng.fork(stream.0));
        self.ticks.insert((tick, stream));
        self.streams.insert(stream, state);
    }

    /// The client of a stream asks something. Unknown streams are ignored.
    pub fn request(
        &mut self,
        _now: Instant,
        stream: WatchStreamId,
        request: WatchRequest,
        view: &impl View,
    ) {
        self.learn(view.mark());
        let (told, routes) = (self.told, &mut self.routes);
        let Some(state) = self.streams.get_mut(&stream) else { return };
        match request {
            WatchRequest::Create(create) => {
                state.create(create, (told, self.announcing.is_some()), routes);
            }
            WatchRequest::Cancel { id } => state.cancel(id, told, routes),
            WatchRequest::Progress => state.request_progress(self.mark.revision),
        }
        if state.has_more(self.mark.revision) {
            self.ready.insert(stream);
        }
    }

    /// A creation that the client has no right to is refused, for this reason.
    pub fn refuse(&mut self, stream: WatchStreamId, reason: &str, view: &impl View) {
        self.learn(view.mark());
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.refuse(reason, self.told);
        self.ready.insert(stream);
    }

    /// Whether a stream has so many answers waiting that the session should not read further
    /// requests of its client until it was polled.
    pub fn is_congested(&self, stream: WatchStreamId) -> bool {
        let waiting = self.streams.get(&stream).map_or(0, Stream::control_len);
        waiting >= self.options.stream_responses_max
    }

    /// The store published a state: all events since the one before, in order, whole revisions. A
    /// mark may move alone (compaction). Called before anybody is shown the state. Events that the
    /// hub began after are skipped; if some are missing, since they were too many, they are announced from
    /// the store, if anybody watches: see [`Hub::announce`].
    pub fn published(&mut self, _now: Instant, mut events: Vec<Event>, mark: Mark) {
        let known = self.told.revision;
        events.drain(..events.partition_point(|event| event.at.main <= known));
        if mark.revision < known {
            return;
        }
        self.told = Mark { compacted: mark.compacted.max(self.told.compacted), ..mark };
        if self.announcing.is_some() || !continues(&events, known, mark.revision) {
            if self.streams.is_empty() {
                return self.resynchronise(self.told); // nobody wants it to be announced
            }
            let revisions = usize::try_from(mark.revision.0 - known.0).unwrap_or(0);
            match self.announcing {
                Some(_) => self.arrived += events.len().max(revisions),
                None => (self.announcing, self.arrived) = (Some(known.after()), 0),
            }
            return;
        }
        for event in events {
            if mutant::on(43) && event.at.sub == 1 {
                self.route(event.clone());
            }
            self.route(event);
        }
        self.log.trim();
        self.mark = self.told;
    }

    /// Goes on with what was published without its events: finds the watchers that each change concerns,
    /// as far as half of the budget goes, or twice as far as more was published meanwhile, though never more
    /// than eight times that half. Until all is announced, watchers are told of nothing that comes behind
    /// it; those concerned read it from the store. Without streams nobody is concerned: who comes later
    /// begins behind it, or reads the store.
    ///
    /// # Errors
    /// This member cannot read its own state.
    pub fn announce(&mut self, view: &impl View, budget: &mut Budget) -> Result<(), Fault> {
        let Some(from) = self.announcing else { return Ok(()) };
        self.learn(view.mark());
        if from.main < self.mark.compacted || self.streams.is_empty() {
            self.resynchronise(self.told);
            return Ok(());
        }
        let (mut share, mut looked, mut next) = (budget.divided(2), 0, None);
        let least = (2 * std::mem::take(&mut self.arrived)).min(share.keys().saturating_mul(8));
        view.records(from, &mut |record| {
            if record.at.main > self.told.revision {
                return ControlFlow::Break(());
            }
            if looked >= least && share.is_spent() {
                next = Some(record.at);
                return ControlFlow::Break(());
            }
            looked += 1;
            share.spend(1, record.kv.len());
            if let Some(kv) = KeyValue::decode(&record.kv) {
                self.routes.find(kv.key, &mut |target| self.targets.push(target));
            }
            for target in self.targets.drain(..) {
                let stream =
                    self.streams.get_mut(&target.stream).expect("routes name open streams");
                let change = (record.at.main, record.tombstone);
                if stream.miss(target.watcher, change, &mut self.routes) {
                    self.ready.insert(target.stream);
                }
            }
            ControlFlow::Continue(())
        })?;
        budget.spend(looked, 0);
        self.announcing = next;
        if next.is_none() {
            self.log.restart(self.told.revision.next());
            self.mark = self.told;
            self.name_those_behind();
        }
        Ok(())
    }

    /// The store was replaced by a snapshot: every watcher re-synchronises from the next revision it
    /// wants, which may turn out to be compacted.
    pub fn restored(&mut self, _now: Instant, view: &impl View) {
        let mark = view.mark();
        assert!(
            mark.revision >= self.mark.revision,
            "a snapshot never takes back what was published"
        );
        self.resynchronise(mark);
    }

    /// Appends to `out` what a stream has to say, up to a bound and until the budget is spent; if there
    /// is more, `next_ready` names the stream again. `view` is at least as new as the last publication. With
    /// a spent budget only answers to the client's requests leave. The last revision, which is whole,
    /// may overspend.
    pub fn poll(
        &mut self,
        stream: WatchStreamId,
        view: &impl View,
        budget: &mut Budget,
        out: &mut Vec<WatchResponse>,
    ) -> Result<(), Fault> {
        self.learn(view.mark());
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        let mut turn = Turn {
            mark: self.mark,
            announcing: self.announcing.is_some(),
            log: &self.log,
            options: &self.options,
            view,
            routes: &mut self.routes,
            budget,
            full: out.len() + self.options.stream_responses_max,
            out,
        };
        state.poll(&mut turn)?;
        turn.budget.spend(1, 0);
        if state.has_more(self.mark.revision) {
            self.ready.insert(stream);
        } else {
            self.ready.remove(&stream);
        }
        Ok(())
    }

    /// The next stream that came to have something to say, or had more after a poll. Each is named once:
    /// who cannot poll it now does so when its transport can take more. They are named in turn: whoever
    /// has more after a poll comes again behind all others, so that a bounded number of polls starves
    /// nobody.
    pub fn next_ready(&mut self) -> Option<WatchStreamId> {
        let behind = (Bound::Excluded(self.named), Bound::Unbounded);
        let next = self.ready.range(behind).next().or(self.ready.first()).copied()?;
        self.ready.remove(&next);
        self.named = next;
        Some(next)
    }

    /// A stream whose transport could take no more now can: it is named again if it has more to say.
    pub fn resume(&mut self, stream: WatchStreamId) {
        if self.streams.get(&stream).is_some_and(|state| state.has_more(self.mark.revision)) {
            self.ready.insert(stream);
        }
    }

    /// The client is gone.
    pub fn close(&mut self, stream: WatchStreamId) {
        if let Some(state) = self.streams.remove(&stream) {
            self.ticks.remove(&(state.tick, stream));
            self.ready.remove(&stream);
            state.close(&mut self.routes);
        }
    }

    /// When the hub has something to do: at once while [`Hub::next_ready`] would name a stream, since a
    /// poll that left more to say is followed by no other event, and while something is being announced;
    /// else when [`Hub::tick`] is due.
    pub fn deadline(&self) -> Instant {
        if !self.ready.is_empty() || self.announcing.is_some() {
            return Instant(0);
        }
        self.ticks.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    /// Reports progress on the streams whose period has passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&(at, stream)) = self.ticks.first().filter(|(at, _)| *at <= now) {
            self.ticks.remove(&(at, stream));
            let state = self.streams.get_mut(&stream).expect("a tick belongs to an open stream");
            state.report_progress(self.mark.revision, self.options.stream_responses_max);
            // From now on, not from `at`: after a pause one report is due, not one for each period.
            state.tick = now + state.period;
            self.ticks.insert((state.tick, stream));
            if state.has_more(self.mark.revision) {
                self.ready.insert(stream);
            }
        }
    }

    /// Whether there are streams.
    pub fn is_open(&self) -> bool {
        !self.streams.is_empty()
    }

    /// How much is watched.
    pub fn counts(&self) -> HubCounts {
        let mut counts = HubCounts { streams: self.streams.len(), ..HubCounts::default() };
        for (watchers, behind) in self.streams.values().map(Stream::counts) {
            counts.watchers += watchers;
            counts.behind += behind;
        }
        counts
    }

    /// The newest revision that watchers are told about.
    pub fn revision(&self) -> Revision {
        self.mark.revision
    }

    /// The newest revision that was published: new watchers begin behind it.
    pub fn told(&self) -> Revision {
        self.told.revision
    }

    /// Whether [`Hub::announce`] has something to do.
    pub fn is_announcing(&self) -> bool {
        self.announcing.is_some()
    }

    fn route(&mut self, event: Event) {
        let targets = &mut self.targets;
        self.routes.find(&event.key, &mut |target| targets.push(target));
        let seq = self.log.push(event);
        let event = self.log.get(seq);
        let runs_max = self.options.queue_runs_max;
        for target in self.targets.drain(..) {
            let stream = self.streams.get_mut(&target.stream).expect("routes name open streams");
            if stream.offer(target.watcher, (seq, event), runs_max, &mut self.routes) {
                self.ready.insert(target.stream);
            }
        }
    }

    fn resynchronise(&mut self, mark: Mark) {
        let old = self.mark.revision;
        for stream in self.streams.values_mut() {
            stream.resynchronise(old, mark.revision, &mut self.routes);
        }
        self.log.restart(mark.revision.next());
        (self.mark, self.told, self.announcing) = (mark, mark, None);
        self.name_those_behind();
    }

    /// Watchers that were behind may go on, and those whose queues name what the log had must.
    fn name_those_behind(&mut self) {
        for (id, stream) in &self.streams {
            if stream.has_more(self.mark.revision) {
                self.ready.insert(*id);
            }
        }
    }

    /// A view may know of a later compaction than the last publication said.
    fn learn(&mut self, seen: Mark) {
        assert!(
            seen.revision >= self.mark.revision,
            "a hub at {} is lent views that are at least as new, not {}",
            self.mark.revision,
            seen.revision
        );
        self.mark.compacted = self.mark.compacted.max(seen.compacted);
        self.told.compacted = self.mark.compacted;
    }
}

/// Whether `events` lead from one revision to another without a gap.
fn continues(events: &[Event], from: Revision, to: Revision) -> bool {
    let mut last = from;
    for event in events {
        if event.at.main != last && event.at.main != last.next() {
            return false;
        }
        last = event.at.main;
    }
    last == to
}
