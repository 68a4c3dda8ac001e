//! One Watch stream: its watchers, their ids, and what it has still to say.
//!
//! Laws:
//!  1. What answers the client's requests leaves in their order, and before any event: a watcher's
//!     first message is `created`, and nothing follows its cancellation.
//!  2. A watcher is in the hub's routes exactly while it is synced, and among those behind exactly
//!     while it reads history, in neither once it is compacted. Of those behind a bounded number reads
//!     together (`reading`, found by `reading_keys`); the others (`waiting`) follow as places get free.
//!  3. Every synced watcher with a queue is listed.
//!  4. A poll with a budget does some work of each kind, and stops between two watchers, or between
//!     two revisions of one, once the budget is spent. With a spent one only answers leave.
//!     A revision of history that is too large for a poll is read in several; then what was made of it
//!     leaves, and between the pieces of one response nothing else.
//!  5. Progress for a revision leaves only when every watcher it speaks for has been handed all of it.
//!
//! Worked example: the client creates watcher 0 on `a` from r5 while the store is at r9, then asks
//! for progress: nothing, since 0 reads history. Polled, the stream says `created` at r9, then the
//! events from r5 to r9 under header r9. Asked again, it answers with id -1 at r9.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use super::catchup::{self, Bounds, Stretch};
use super::hub::{HubOptions, Target};
use super::index::KeyIndex;
use super::log::EventLog;
use super::send;
use super::watcher::{Phase, Queue, Watcher};
use super::{WatchCreate, WatchEvent, WatchResponse, WatchStreamId};
use crate::id::{RevSub, Revision};
use crate::mutant;
use crate::mvcc::Budget;
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
    reading: BTreeSet<(Revision, i64)>,
    reading_keys: KeyIndex<i64>,
    /// Those that will, likewise.
    waiting: BTreeSet<(Revision, i64)>,
    /// A large revision that they are reading.
    torn: Option<Torn>,
    /// What was made of one, on its way.
    leaving: VecDeque<Leaving>,
    /// The client asked how far the stream is, and was not answered yet.
    progress_wanted: bool,
    /// When it reports progress next, and how often.
    pub tick: Instant,
    pub period: Duration,
}

/// A revision that is read in several polls.
#[derive(Debug)]
struct Torn {
    /// The first change that was not read.
    next: RevSub,
    /// What each watcher will get.
    made: BTreeMap<i64, Vec<WatchEvent>>,
}

/// The events of a large revision for one watcher that have not left.
#[derive(Debug)]
struct Leaving {
    watcher: i64,
    /// For the header of every piece.
    header: Revision,
    events: Peekable<IntoIter<WatchEvent>>,
}

/// What the hub lends a stream that is polled.
pub(super) struct Turn<'a> {
    /// Where the hub is, with the newest compaction known.
    pub mark: Mark,
    /// Whether it is announcing what comes behind that: who is up to date must still wait for it.
    pub announcing: bool,
    /// Recent events.
    pub log: &'a EventLog,
    /// Bounds.
    pub options: &'a HubOptions,
    /// For history and previous pairs.
    pub view: &'a dyn View,
    /// Where synced watchers stand.
    pub routes: &'a mut KeyIndex<Target>,
    /// How much may be done.
    pub budget: &'a mut Budget,
    /// Where responses go.
    pub out: &'a mut Vec<WatchResponse>,
    /// Fill `out` up to this length; the last revision or response may go over it.
    pub full: usize,
}

impl Turn<'_> {
    fn room(&self) -> usize {
        self.full.saturating_sub(self.out.len())
    }

    /// Lets `work` spend half of what is left.
    fn halve<T>(&mut self, work: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let mut whole = *self.budget;
        let result = whole.lend(whole.divided(2), |half| {
            *self.budget = *half;
            let result = work(self);
            *half = *self.budget;
            result
        });
        *self.budget = whole;
        result
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
            reading: BTreeSet::new(),
            reading_keys: KeyIndex::new(rng),
            waiting: BTreeSet::new(),
            torn: None,
            leaving: VecDeque::new(),
            progress_wanted: false,
            tick,
            period,
        }
    }

    /// Starts a watcher, or refuses to; `announcing` says that the hub has still to get to the mark.
    pub fn create(
        &mut self,
        create: WatchCreate,
        (mark, announcing): (Mark, bool),
        routes: &mut KeyIndex<Target>,
    ) {
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
            return self.refuse(reason, mark);
        }
        let id = if create.id == 0 { self.choose_id() } else { create.id };
        let watcher = Watcher::new(create, mark.revision, announcing);
        match watcher.phase {
            Phase::Behind { next } => {
                self.waiting.insert((next, id));
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

    /// Says that a watcher is not created, and why.
    pub fn refuse(&mut self, reason: &str, mark: Mark) {
        self.control.push_back(send::refusal(mark.revision, reason));
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

    /// A change that a synced watcher's keys concern is not in the log: it reads that from the store.
    /// Says whether it wants the change.
    pub fn miss(
        &mut self,
        id: i64,
        (main, delete): (Revision, bool),
        routes: &mut KeyIndex<Target>,
    ) -> bool {
        let watcher = self.watcher(id);
        if !watcher.accepts(main, delete) {
            return false;
        }
        let next = watcher.next(Revision(main.0 - 1));
        self.set_behind(id, next, routes);
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
            let next = if mutant::on(46) { Revision(next.0.max(9) - 8) } else { next };
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

    /// Whether polling would bring something about while the hub is at `at`.
    pub fn has_more(&self, at: Revision) -> bool {
        let firsts = self.reading.first().into_iter().chain(self.waiting.first());
        !self.control.is_empty()
            || !self.listed.is_empty()
            || !self.leaving.is_empty()
            || firsts.min().is_some_and(|(next, _)| *next <= at)
            || (self.progress_wanted && !self.is_behind())
    }

    fn is_behind(&self) -> bool {
        !self.reading.is_empty() || !self.waiting.is_empty()
    }

    /// Answers that wait to be polled.
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Number of watchers, and how many of them read history.
    pub fn counts(&self) -> (usize, usize) {
        (self.watchers.len(), self.reading.len() + self.waiting.len())
    }

    /// Says what there is to say, up to the turn's bounds (law 4).
    pub fn poll(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if self.leave(turn) {
            return Ok(());
        }
        let answers = self.control.len().min(turn.room());
        turn.out.extend(self.control.drain(..answers));
        if !self.control.is_empty() || turn.budget.is_spent() {
            return Ok(());
        }
        self.drop_compacted(turn);
        turn.halve(|turn| self.catch_up(turn))?;
        self.drain(turn)?;
        self.answer_progress(turn);
        Ok(())
    }

    /// Tells watchers whose history is gone.
    fn drop_compacted(&mut self, turn: &mut Turn<'_>) {
        let compacted = turn.mark.compacted;
        while turn.room() > 0 {
            let firsts = self.reading.first().into_iter().chain(self.waiting.first());
            let Some(&(next, id)) = firsts.min().filter(|(next, _)| *next < compacted) else {
                return;
            };
            self.leave_history(next, id);
            self.watcher(id).phase = Phase::Compacted;
            turn.out.push(send::compacted(compacted, id));
            turn.budget.spend(1, 0);
            if turn.budget.is_spent() {
                return;
            }
        }
    }

    /// One stretch of history for those who are behind. It may use half of the room that is left, and
    /// gets half of the budget: those who are up to date wait no longer because others are not.
    fn catch_up(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        // Those who were reading a large revision may all be gone.
        let first = self.reading.first().map(|(next, _)| *next);
        self.torn.take_if(|torn| first.is_none_or(|next| next > torn.next.main));
        if self.torn.is_none() {
            self.fill_reading(turn);
        }
        let Some(&(from, _)) = self.reading.first() else { return Ok(()) };
        // Those whose history is gone are told first, however many polls that takes.
        let is_to_come = from > turn.mark.revision;
        if turn.room() == 0 || from < turn.mark.compacted || is_to_come {
            return Ok(());
        }
        let half = turn.budget.divided(2);
        let bounds = Bounds {
            revisions: turn.options.catchup_revisions,
            changes: half.keys(),
            bytes: turn.options.catchup_bytes.min(half.bytes()),
            watchers: turn.room().div_ceil(2),
        };
        let (watchers, keys) = (&self.watchers, &self.reading_keys);
        let (from, to) = match &self.torn {
            Some(torn) => (torn.next, torn.next.main),
            None => (RevSub { main: from, sub: 0 }, turn.mark.revision),
        };
        let stretch =
            catchup::read(from, to, (turn.log, turn.view), bounds, &|key, at, delete, ids| {
                let mut asked = 0;
                keys.find(key, &mut |id| {
                    asked += 1;
                    let watcher = &watchers[&id];
                    if watcher.next(to) <= at && watcher.accepts(at, delete) {
                        ids.push(id);
                    }
                });
                asked
            })?;
        turn.budget.spend(stretch.changes, stretch.bytes);
        if self.torn.is_some() || stretch.torn.is_some() {
            return self.tear(stretch, turn);
        }
        self.hand_out_stretch(stretch, turn)
    }

    /// A part of a large revision was read. With the last one, what was made of it may leave.
    fn tear(&mut self, stretch: Stretch, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut made = self.torn.take().map_or(BTreeMap::new(), |torn| torn.made);
        for (id, events) in &stretch.found {
            let watcher = &self.watchers[id];
            let own: &mut Vec<WatchEvent> = made.entry(*id).or_default();
            for event in events {
                own.push(send::event(watcher, (event, None), turn.view, turn.budget)?);
            }
        }
        if let Some(next) = stretch.torn {
            self.torn = Some(Torn { next, made });
            return Ok(());
        }
        let next = stretch.upto.next();
        let done: Vec<(Revision, i64)> = self.reading.range(..(next, i64::MIN)).copied().collect();
        let is_whole = stretch.upto == turn.mark.revision && !turn.announcing;
        for (before, id) in done {
            self.reading.remove(&(before, id));
            if is_whole {
                self.reading_keys.remove(&self.watchers[&id].keys, id);
                self.set_synced(id, turn.routes);
            } else {
                self.watcher(id).phase = Phase::Behind { next };
                self.reading.insert((next, id));
            }
        }
        let header = turn.mark.revision;
        self.leaving.extend(made.into_iter().map(|(watcher, made)| Leaving {
            watcher,
            header,
            events: made.into_iter().peekable(),
        }));
        Ok(())
    }

    /// Lets go what was made of a large revision, as pieces where the watcher takes them. Says whether
    /// there is more: nothing else is said in between, since clients take pieces for neighbours.
    fn leave(&mut self, turn: &mut Turn<'_>) -> bool {
        while let Some(mut leaving) = self.leaving.pop_front() {
            if turn.room() == 0 || turn.budget.is_spent() {
                self.leaving.push_front(leaving);
                return true;
            }
            let id = leaving.watcher;
            let watcher = self.watcher(id);
            watcher.quiet = false;
            let limit = if watcher.fragment { turn.options.fragment_bytes } else { usize::MAX };
            let (events, bytes) = send::piece(&mut leaving.events, limit);
            turn.budget.spend(events.len(), bytes);
            let more = leaving.events.peek().is_some();
            let fragment = more && !mutant::on(49);
            let response = send::control(leaving.header, id);
            turn.out.push(WatchResponse { events, fragment, ..response });
            if more {
                self.leaving.push_front(leaving);
            }
        }
        false
    }

    /// Lets as many read history together as may. They stay until they are up to date: the others'
    /// history is read once for each such group, not again for each of them.
    fn fill_reading(&mut self, turn: &mut Turn<'_>) {
        while self.reading.len() < turn.options.catchup_watchers {
            let Some((next, id)) = self.waiting.pop_first() else { return };
            self.reading.insert((next, id));
            self.reading_keys.insert(&self.watchers[&id].keys, id);
            turn.budget.spend(1, 0);
            if turn.budget.is_spent() {
                return;
            }
        }
    }

    /// Gives each reader its part of a stretch. Who is not reached, or not given all, reads the rest
    /// again.
    fn hand_out_stretch(&mut self, mut stretch: Stretch, turn: &mut Turn<'_>) -> Result<(), Fault> {
        while let Some(&(next, id)) = self.reading.first().filter(|(next, _)| *next <= stretch.upto)
        {
            let events = stretch.found.remove(&id).unwrap_or_default();
            let cut = self.hand_out_history(id, &events, turn)?;
            self.reading.remove(&(next, id));
            let is_whole = stretch.upto == turn.mark.revision && !turn.announcing;
            if cut.is_none() && is_whole {
                self.reading_keys.remove(&self.watchers[&id].keys, id);
                self.set_synced(id, turn.routes);
            } else {
                let next = cut.unwrap_or(stretch.upto.next());
                self.watcher(id).phase = Phase::Behind { next };
                self.reading.insert((next, id));
            }
            turn.budget.spend(1, 0);
            if turn.budget.is_spent() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands a watcher what a stretch has found for it. Gives the revision before which it had to stop
    /// since reading the previous pairs has spent the budget.
    fn hand_out_history(
        &mut self,
        id: i64,
        events: &[Event],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Revision>, Fault> {
        let watcher = &self.watchers[&id];
        let (mut made, mut cut, mut last) = (Vec::new(), None, Revision::EMPTY);
        for event in events {
            let main = event.at.main;
            if !made.is_empty() && main != last && watcher.prev_kv && turn.budget.is_spent() {
                cut = Some(main);
                break;
            }
            last = main;
            made.push(send::event(watcher, (event, None), turn.view, turn.budget)?);
        }
        if !made.is_empty() {
            self.hand_out(id, turn.mark.revision, made, turn);
        }
        Ok(cut)
    }

    /// Hands out queued events, one response for each watcher in turn.
    fn drain(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut bytes = turn.options.catchup_bytes;
        while turn.room() > 0 && bytes > 0 {
            let Some(id) = self.listed.pop_front() else { return Ok(()) };
            turn.budget.spend(1, 0);
            bytes = bytes.saturating_sub(self.drain_one(id, bytes, turn)?);
            if turn.budget.is_spent() {
                return Ok(());
            }
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
        let mut queue = std::mem::take(queue);
        let (made, newest, taken) = take_front(&mut queue, watcher, bytes, turn)?;
        if !queue.is_empty() {
            watcher.listed = true;
            self.listed.push_back(id);
        }
        watcher.phase = Phase::Synced(queue);
        self.hand_out(id, newest, made, turn);
        Ok(taken)
    }

    fn hand_out(
        &mut self,
        id: i64,
        header: Revision,
        events: Vec<WatchEvent>,
        turn: &mut Turn<'_>,
    ) {
        let watcher = self.watcher(id);
        watcher.quiet = false;
        let response = WatchResponse { events, ..send::control(header, id) };
        if watcher.fragment {
            send::fragments(response, turn.options.fragment_bytes, turn.out);
        } else {
            turn.out.push(response);
        }
    }

    /// Answers a progress request once nothing is owed (law 5). What appeared since it was asked, a
    /// watcher that waits for its start or one that was compacted, makes it go unanswered.
    fn answer_progress(&mut self, turn: &mut Turn<'_>) {
        let idle = self.listed.is_empty() && self.leaving.is_empty() && !self.is_behind();
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
        self.waiting.insert((next, id));
        watcher.phase = Phase::Behind { next };
    }

    /// A watcher that is no longer among those behind is up to date.
    fn set_synced(&mut self, id: i64, routes: &mut KeyIndex<Target>) {
        let target = Target { stream: self.id, watcher: id };
        let watcher = self.watchers.get_mut(&id).expect("named by this stream's own lists");
        routes.insert(&watcher.keys, target);
        watcher.phase = Phase::Synced(Queue::default());
    }

    /// Takes a watcher that is no longer in the table off the lists that law 2 speaks of.
    fn unplace(&mut self, id: i64, watcher: &Watcher, routes: &mut KeyIndex<Target>) {
        self.forget_made(id);
        match watcher.phase {
            Phase::Synced(_) => {
                routes.remove(&watcher.keys, Target { stream: self.id, watcher: id });
            }
            Phase::Behind { next } => {
                if self.reading.remove(&(next, id)) {
                    self.reading_keys.remove(&watcher.keys, id);
                }
                self.waiting.remove(&(next, id));
            }
            Phase::Compacted => {}
        }
    }

    /// A watcher does not want what was made for it.
    fn forget_made(&mut self, id: i64) {
        if let Some(torn) = &mut self.torn {
            torn.made.remove(&id);
        }
        self.leaving.retain(|leaving| leaving.watcher != id);
    }

    /// Takes a watcher off those behind.
    fn leave_history(&mut self, next: Revision, id: i64) {
        self.forget_made(id);
        if self.reading.remove(&(next, id)) {
            self.reading_keys.remove(&self.watchers[&id].keys, id);
        }
        self.waiting.remove(&(next, id));
    }
}

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// Takes whole revisions off a queue whose front the log holds: at least one, at most as many as the
/// options say, and none more once `bytes` are reached or the budget is spent. Returns what the watcher
/// gets, the newest revision of it, and its bytes.
fn take_front(
    queue: &mut Queue,
    watcher: &Watcher,
    bytes: usize,
    turn: &mut Turn<'_>,
) -> Result<(Vec<WatchEvent>, Revision, usize), Fault> {
    let (mut made, mut newest, mut taken, mut seen) = (Vec::new(), Revision::EMPTY, 0, 0);
    while let Some(seq) = queue.front() {
        let event = turn.log.get(seq);
        if made.is_empty() || newest != event.at.main {
            let full = seen >= turn.options.catchup_revisions || taken >= bytes;
            if seen > 0 && (full || turn.budget.is_spent()) {
                queue.owe(event.at.main);
                break;
            }
            seen += 1;
            newest = event.at.main;
        }
        taken += event.kv.len();
        turn.budget.spend(1, event.kv.len());
        let logged = Some((turn.log, seq));
        made.push(send::event(watcher, (event, logged), turn.view, turn.budget)?);
        queue.pop();
    }
    Ok((made, newest, taken))
}
