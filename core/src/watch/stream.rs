//! One Watch stream: its watchers, their ids, and what it has still to say.
//!
//! Laws:
//!  1. What answers the client's requests leaves in their order, and before any event: a watcher's
//!     first message is `created`, and nothing follows its cancellation.
//!  2. A watcher is in the hub's routes exactly while it is synced, in `behind` and `behind_keys`
//!     exactly while it reads history, in neither once it is compacted.
//!  3. Every synced watcher with a queue is listed.
//!  4. Progress for a revision leaves only when every watcher it speaks for has been handed all of it.
//!
//! Worked example: the client creates watcher 0 on `a` from r5 while the store is at r9, then asks
//! for progress: nothing, since 0 reads history. Polled, the stream says `created` at r9, then the
//! events from r5 to r9 under header r9. Asked again, it answers with id -1 at r9.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::catchup::{self, Bounds};
use super::hub::{HubOptions, Target};
use super::index::KeyIndex;
use super::log::EventLog;
use super::send;
use super::watcher::{Phase, Queue, Watcher};
use super::{WatchCreate, WatchResponse, WatchStreamId};
use crate::id::Revision;
use crate::mutant;
use crate::rejection::Rejection;
use crate::response::Event;
use crate::rng::Rng;
use crate::store::{Fault, Mark, View};
use crate::time::Instant;

/// A stream's state.
#[derive(Debug)]
pub(super) struct Stream {
    id: WatchStreamId,
    watchers: BTreeMap<i64, Watcher>,
    /// The next id to choose for a client that leaves the choice to us.
    next_id: i64,
    /// Answers to requests and progress, in order.
    control: VecDeque<WatchResponse>,
    /// Synced watchers with a queue, the longest waiting first; may name some that no longer have one.
    listed: VecDeque<i64>,
    /// Watchers that read history, by the revision each wants next.
    behind: BTreeSet<(Revision, i64)>,
    behind_keys: KeyIndex<i64>,
    /// The client asked how far the stream is, and was not answered yet.
    progress_wanted: bool,
    /// When it reports progress next, and how often.
    pub tick: Instant,
    pub period: Duration,
}

/// What the hub lends a stream that is polled.
pub(super) struct Turn<'a> {
    /// Where the hub is, with the newest compaction known.
    pub mark: Mark,
    /// Recent events.
    pub log: &'a EventLog,
    /// Bounds.
    pub options: &'a HubOptions,
    /// For history and previous pairs.
    pub view: &'a dyn View,
    /// Where synced watchers stand.
    pub routes: &'a mut KeyIndex<Target>,
    /// Where responses go.
    pub out: &'a mut Vec<WatchResponse>,
    /// Fill `out` up to this length; the last revision or response may go over it.
    pub full: usize,
}

impl Turn<'_> {
    fn room(&self) -> usize {
        self.full.saturating_sub(self.out.len())
    }
}

impl Stream {
    /// A stream without watchers.
    pub fn new(id: WatchStreamId, tick: Instant, period: Duration, rng: Rng) -> Stream {
        Stream {
            id,
            watchers: BTreeMap::new(),
            next_id: 0,
            control: VecDeque::new(),
            listed: VecDeque::new(),
            behind: BTreeSet::new(),
            behind_keys: KeyIndex::new(rng),
            progress_wanted: false,
            tick,
            period,
        }
    }

    /// Starts a watcher, or refuses to.
    pub fn create(&mut self, create: WatchCreate, mark: Mark, routes: &mut KeyIndex<Target>) {
        let refused = if create.start < 0 {
            Some(Rejection::Compacted.text())
        } else if create.keys.is_empty() {
            Some(EMPTY_RANGE)
        } else if create.id != 0 && self.watchers.contains_key(&create.id) {
            Some(DUPLICATE_ID)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.control.push_back(send::refusal(mark.revision, reason));
            return;
        }
        let id = if create.id == 0 { self.choose_id() } else { create.id };
        let watcher = Watcher::new(create, mark.revision);
        match watcher.phase {
            Phase::Behind { next } => {
                self.behind.insert((next, id));
                self.behind_keys.insert(&watcher.keys, id);
            }
            Phase::Synced(_) => {
                routes.insert(&watcher.keys, Target { stream: self.id, watcher: id })
            }
            Phase::Compacted => {}
        }
        self.watchers.insert(id, watcher);
        let mut created = send::control(mark.revision, id);
        created.created = true;
        self.control.push_back(created);
    }

    /// Ends a watcher on the client's wish. Unknown ids are ignored.
    pub fn cancel(&mut self, id: i64, mark: Mark, routes: &mut KeyIndex<Target>) {
        let Some(watcher) = self.watchers.remove(&id) else { return };
        self.unplace(id, &watcher, routes);
        let mut canceled = send::control(mark.revision, id);
        canceled.canceled = true;
        self.control.push_back(canceled);
    }

    /// The client asks how far the stream is: answered once the queues are empty, and only if all
    /// watchers are synced and past their start now.
    pub fn request_progress(&mut self, revision: Revision) {
        if mutant::on(45) {
            self.control.push_back(send::control(revision, -1));
        } else if self.all(|watcher| watcher.is_current(revision)) {
            self.progress_wanted = true;
        }
    }

    /// Queues an event for a synced watcher that its keys concern. Says whether there is now
    /// something to hand out.
    pub fn offer(
        &mut self,
        id: i64,
        (seq, event): (u64, &Event),
        runs_max: usize,
        routes: &mut KeyIndex<Target>,
    ) -> bool {
        let watcher = self.watchers.get_mut(&id).expect("routes name existing watchers (law 2)");
        if !watcher.accepts(event.at.main, event.delete) {
            return false;
        }
        let Phase::Synced(queue) = &mut watcher.phase else {
            unreachable!("routes name synced watchers only (law 2)")
        };
        if !queue.push(seq, event.at.main, runs_max) {
            self.fall_behind(id, routes);
        } else if !watcher.listed {
            watcher.listed = true;
            self.listed.push_back(id);
        }
        true
    }

    /// The store jumped from `old` to `new` without events: whoever wants something in between
    /// reads it from the store.
    pub fn resynchronise(&mut self, old: Revision, new: Revision, routes: &mut KeyIndex<Target>) {
        let synced = self.watchers.iter().filter(|(_, w)| matches!(w.phase, Phase::Synced(_)));
        let gone: Vec<i64> =
            synced.filter(|(_, w)| w.next(old) <= new).map(|(id, _)| *id).collect();
        for id in gone {
            let watcher = self.watchers.get(&id).expect("just collected");
            let next = watcher.next(old);
            self.set_behind(id, next, routes);
        }
    }

    /// Periodic progress, for watchers that asked for it and had nothing else to say since the last
    /// tick.
    pub fn report_progress(&mut self, revision: Revision, control_max: usize) {
        for (id, watcher) in self.watchers.iter_mut().filter(|(_, w)| w.progress_notify) {
            let due = watcher.quiet && (watcher.is_drained(revision) || mutant::on(45));
            if due && self.control.len() < control_max {
                self.control.push_back(send::control(revision, *id));
            }
            watcher.quiet = true;
        }
    }

    /// Takes every watcher off the routes, before the stream goes.
    pub fn close(mut self, routes: &mut KeyIndex<Target>) {
        while let Some((id, watcher)) = self.watchers.pop_first() {
            self.unplace(id, &watcher, routes);
        }
    }

    /// Whether polling would bring something about.
    pub fn has_more(&self) -> bool {
        !self.control.is_empty()
            || !self.listed.is_empty()
            || !self.behind.is_empty()
            || self.progress_wanted
    }

    /// Answers that wait to be polled.
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Number of watchers, and how many of them read history.
    pub fn counts(&self) -> (usize, usize) {
        (self.watchers.len(), self.behind.len())
    }

    /// Says what there is to say, up to the turn's bounds.
    pub fn poll(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let answers = self.control.len().min(turn.room());
        turn.out.extend(self.control.drain(..answers));
        if !self.control.is_empty() {
            return Ok(());
        }
        self.drop_compacted(turn);
        self.catch_up(turn)?;
        self.drain(turn)?;
        self.answer_progress(turn);
        Ok(())
    }

    /// Tells watchers whose history is gone.
    fn drop_compacted(&mut self, turn: &mut Turn<'_>) {
        let compacted = turn.mark.compacted;
        while turn.room() > 0 {
            let Some(&(next, id)) = self.behind.first().filter(|(next, _)| *next < compacted)
            else {
                return;
            };
            self.behind.remove(&(next, id));
            let watcher =
                self.watchers.get_mut(&id).expect("behind names existing watchers (law 2)");
            self.behind_keys.remove(&watcher.keys, id);
            watcher.phase = Phase::Compacted;
            turn.out.push(send::compacted(compacted, id));
        }
    }

    /// One stretch of history for those who are behind. It may use half of the room that is left:
    /// those who are up to date wait no longer because others are not.
    fn catch_up(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let Some(&(from, _)) = self.behind.first().filter(|_| turn.room() > 0) else {
            return Ok(());
        };
        let bounds = Bounds {
            revisions: turn.options.catchup_revisions,
            bytes: turn.options.catchup_bytes,
            watchers: turn.room().div_ceil(2),
        };
        let (watchers, keys) = (&self.watchers, &self.behind_keys);
        let to = turn.mark.revision;
        let mut stretch =
            catchup::read(from, to, (turn.log, turn.view), bounds, &|key, at, delete, ids| {
                keys.find(key, &mut |id| {
                    let watcher = &watchers[&id];
                    if watcher.next(to) <= at && watcher.accepts(at, delete) {
                        ids.push(id);
                    }
                });
            })?;
        while let Some(&(next, id)) = self.behind.first().filter(|(next, _)| *next <= stretch.upto)
        {
            self.behind.remove(&(next, id));
            if let Some(events) = stretch.found.remove(&id) {
                self.hand_out(id, turn.mark.revision, &mut events.iter(), turn)?;
            }
            if stretch.upto == turn.mark.revision {
                self.set_synced(id, turn.routes);
            } else {
                let next = stretch.upto.next();
                self.watcher(id).phase = Phase::Behind { next };
                self.behind.insert((next, id));
            }
        }
        Ok(())
    }

    /// Hands out queued events, one response for each watcher in turn.
    fn drain(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut bytes = turn.options.catchup_bytes;
        while turn.room() > 0 && bytes > 0 {
            let Some(id) = self.listed.pop_front() else { return Ok(()) };
            bytes = bytes.saturating_sub(self.drain_one(id, bytes, turn)?);
        }
        Ok(())
    }

    /// Hands a watcher the front of its queue, whole revisions of about `bytes` at most. Returns how
    /// many bytes that was.
    fn drain_one(&mut self, id: i64, bytes: usize, turn: &mut Turn<'_>) -> Result<usize, Fault> {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(0) };
        watcher.listed = false;
        let Phase::Synced(queue) = &mut watcher.phase else { return Ok(0) };
        let Some(front) = queue.front() else { return Ok(0) };
        if !turn.log.holds(front) {
            self.fall_behind(id, turn.routes);
            return Ok(0);
        }
        let (events, taken) = take_front(queue, turn.log, turn.options.catchup_revisions, bytes);
        if !queue.is_empty() {
            watcher.listed = true;
            self.listed.push_back(id);
        }
        let newest = events.last().expect("the queue had a front").at.main;
        self.hand_out(id, newest, &mut events.into_iter(), turn)?;
        Ok(taken)
    }

    fn hand_out(
        &mut self,
        id: i64,
        header: Revision,
        events: &mut dyn Iterator<Item = &Event>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let watcher = self.watcher(id);
        watcher.quiet = false;
        let response = send::response(watcher, send::control(header, id), events, turn.view)?;
        if watcher.fragment {
            send::fragments(response, turn.options.fragment_bytes, turn.out);
        } else {
            turn.out.push(response);
        }
        Ok(())
    }

    /// Answers a progress request once nothing is owed (law 4). What appeared since it was asked, a
    /// watcher that waits for its start or one that was compacted, makes it go unanswered.
    fn answer_progress(&mut self, turn: &mut Turn<'_>) {
        let idle = self.listed.is_empty() && self.behind.is_empty();
        if !self.progress_wanted || !idle || turn.room() == 0 {
            return;
        }
        self.progress_wanted = false;
        let revision = turn.mark.revision;
        if self.all(|watcher| watcher.is_drained(revision)) {
            turn.out.push(send::control(revision, -1));
        }
    }

    /// Whether there is a watcher and all are as `good` says.
    fn all(&self, good: impl Fn(&Watcher) -> bool) -> bool {
        !self.watchers.is_empty() && self.watchers.values().all(good)
    }

    /// The smallest id not chosen before and not in use.
    fn choose_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    fn watcher(&mut self, id: i64) -> &mut Watcher {
        self.watchers.get_mut(&id).expect("named by this stream's own lists")
    }

    /// A synced watcher's queue is over its bound, or the log dropped its front: history from the
    /// first revision it is owed.
    fn fall_behind(&mut self, id: i64, routes: &mut KeyIndex<Target>) {
        let watcher = self.watcher(id);
        if mutant::on(44) {
            watcher.phase = Phase::Synced(Queue::default());
            return;
        }
        // A queue is never empty here, so the hub's revision does not matter.
        let next = watcher.next(Revision::EMPTY);
        self.set_behind(id, next, routes);
    }

    fn set_behind(&mut self, id: i64, next: Revision, routes: &mut KeyIndex<Target>) {
        let target = Target { stream: self.id, watcher: id };
        let watcher = self.watchers.get_mut(&id).expect("named by this stream's own lists");
        routes.remove(&watcher.keys, target);
        self.behind_keys.insert(&watcher.keys, id);
        self.behind.insert((next, id));
        watcher.phase = Phase::Behind { next };
    }

    /// A watcher that was taken out of `behind` is up to date.
    fn set_synced(&mut self, id: i64, routes: &mut KeyIndex<Target>) {
        let target = Target { stream: self.id, watcher: id };
        let watcher = self.watchers.get_mut(&id).expect("named by this stream's own lists");
        self.behind_keys.remove(&watcher.keys, id);
        routes.insert(&watcher.keys, target);
        watcher.phase = Phase::Synced(Queue::default());
    }

    /// Takes a watcher that is no longer in the table off the lists that law 2 speaks of.
    fn unplace(&mut self, id: i64, watcher: &Watcher, routes: &mut KeyIndex<Target>) {
        match watcher.phase {
            Phase::Synced(_) => {
                routes.remove(&watcher.keys, Target { stream: self.id, watcher: id });
            }
            Phase::Behind { next } => {
                self.behind.remove(&(next, id));
                self.behind_keys.remove(&watcher.keys, id);
            }
            Phase::Compacted => {}
        }
    }
}

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// Takes whole revisions off a queue whose front the log holds: at least one, at most `revisions`,
/// and none more once `bytes` are reached. Returns the events and their bytes.
fn take_front<'a>(
    queue: &mut Queue,
    log: &'a EventLog,
    revisions: usize,
    bytes: usize,
) -> (Vec<&'a Event>, usize) {
    let (mut events, mut taken, mut seen) = (Vec::<&Event>::new(), 0, 0);
    while let Some(seq) = queue.front() {
        let event = log.get(seq);
        if events.last().is_none_or(|last| last.at.main != event.at.main) {
            if seen > 0 && (seen >= revisions || taken >= bytes) {
                queue.owe(event.at.main);
                break;
            }
            seen += 1;
        }
        taken += event.kv.len();
        events.push(event);
        queue.pop();
    }
    (events, taken)
}
