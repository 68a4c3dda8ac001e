//! Reading history for the watchers of one stream that are behind, a bounded stretch at a time.
//!
//! One pass serves all of them: it starts at the smallest revision that one of them wants and asks
//! of every change which of them want it. Recent history comes from the shared log, older from the
//! records of the store.
//!
//! Laws:
//!  1. A stretch ends between two revisions, or within its first if that alone is too large: then it says
//!     where the next one goes on, and nobody is told of the revision before it is whole.
//!  2. It is bounded in revisions, in changes looked at and handed out, in their bytes, and in watchers
//!     served; only from the log, which has no large ones, the first revision is always taken whole.
//!
//! Worked example: at r90, watchers 1 and 2 want r10 and r40. With a bound of 50 revisions the first
//! pass reads r10 to r59 and leaves both wanting r60, the second brings both up to date.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::log::EventLog;
use crate::id::{RevSub, Revision};
use crate::kv::KeyValue;
use crate::mutant;
use crate::response::Event;
use crate::store::{Fault, Record, View};

/// How much one pass may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Revisions looked at.
    pub revisions: usize,
    /// Changes looked at, plus one for each watcher they may concern.
    pub changes: usize,
    /// Bytes read, plus bytes for each watcher they go to.
    pub bytes: usize,
    /// Watchers with something to be handed.
    pub watchers: usize,
}

/// What a pass found.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Everything up to here was looked at.
    pub upto: Revision,
    /// Where it stopped within its first revision.
    pub torn: Option<RevSub>,
    /// What each watcher is to be handed, in order.
    pub found: BTreeMap<i64, Vec<Event>>,
    /// What was spent, as [`Bounds`] counts it.
    pub changes: usize,
    /// Likewise.
    pub bytes: usize,
}

/// Says which watchers want a change: key, revision, whether it is a delete, where to put their ids.
/// Gives the number of those it has asked.
pub(super) type Wanted<'a> = dyn Fn(&[u8], Revision, bool, &mut Vec<i64>) -> usize + 'a;

/// Reads from `from` at most to `to`, the hub's revision, or the one that was torn before `from`.
pub(super) fn read(
    from: RevSub,
    to: Revision,
    source: (&EventLog, &dyn View),
    bounds: Bounds,
    wanted: &Wanted<'_>,
) -> Result<Stretch, Fault> {
    let mut pass = Pass::new(from, to, bounds);
    let (log, view) = source;
    if from.sub == 0 && from.main >= log.floor() {
        for seq in log.since(from.main) {
            let event = log.get(seq);
            if pass.current != Some(event.at.main) && !pass.admits(event.at) {
                break;
            }
            pass.take(&event.key, event.at.main, event.delete, wanted);
            pass.hand_out(event.kv.len(), || event.clone());
        }
        return Ok(pass.finish());
    }
    let mut fault = None;
    let skipped = mutant::on(42) && from.sub == 0 && from.main == view.mark().compacted;
    let first = if skipped { RevSub { main: from.main.next(), sub: 0 } } else { from };
    view.records(first, &mut |record| {
        if record.at.main > to || !pass.admits(record.at) {
            return ControlFlow::Break(());
        }
        let Some(kv) = KeyValue::decode(&record.kv) else {
            fault = Some(unreadable(record));
            return ControlFlow::Break(());
        };
        if mutant::on(41) && record.tombstone && view.row(kv.key).is_none() {
            return ControlFlow::Continue(());
        }
        pass.take(kv.key, record.at.main, record.tombstone, wanted);
        pass.hand_out(record.kv.len(), || event_of(record, &kv));
        ControlFlow::Continue(())
    })?;
    match fault {
        Some(fault) => Err(fault),
        None => Ok(pass.finish()),
    }
}

/// The bookkeeping of one pass.
struct Pass {
    stretch: Stretch,
    bounds: Bounds,
    /// The revision being read.
    current: Option<Revision>,
    to: Revision,
    stopped: bool,
    revisions: usize,
    /// Who wants the change being looked at.
    ids: Vec<i64>,
}

impl Pass {
    fn new(from: RevSub, to: Revision, bounds: Bounds) -> Pass {
        let upto = Revision(from.main.0 - 1);
        let stretch = Stretch { upto, torn: None, found: BTreeMap::new(), changes: 0, bytes: 0 };
        let goes_on = from.sub > 0;
        let current = goes_on.then_some(from.main);
        let revisions = usize::from(goes_on);
        Pass { stretch, bounds, current, to, stopped: false, revisions, ids: Vec::new() }
    }

    /// Whether a change still belongs to this stretch (laws 1 and 2).
    fn admits(&mut self, at: RevSub) -> bool {
        let (stretch, bounds) = (&self.stretch, &self.bounds);
        let spent = stretch.changes >= bounds.changes || stretch.bytes >= bounds.bytes;
        if self.current == Some(at.main) {
            self.stopped = spent && self.revisions == 1;
            self.stretch.torn = self.stopped.then_some(at);
            return !self.stopped;
        }
        let main = at.main;
        let over =
            spent || self.revisions >= bounds.revisions || stretch.found.len() >= bounds.watchers;
        self.stretch.upto = self.current.unwrap_or(self.stretch.upto);
        self.stopped = self.revisions > 0 && over;
        if !self.stopped {
            self.current = Some(main);
            self.revisions += 1;
        }
        !self.stopped
    }

    fn take(&mut self, key: &[u8], main: Revision, delete: bool, wanted: &Wanted<'_>) {
        self.ids.clear();
        self.stretch.changes += 1 + wanted(key, main, delete, &mut self.ids);
    }

    /// Gives the change just looked at to those who want it; it is only made if somebody does.
    fn hand_out(&mut self, len: usize, make: impl FnOnce() -> Event) {
        let bytes = len.saturating_mul(1 + self.ids.len());
        self.stretch.bytes = self.stretch.bytes.saturating_add(bytes);
        if self.ids.is_empty() {
            return;
        }
        let event = make();
        for id in &self.ids {
            self.stretch.found.entry(*id).or_default().push(event.clone());
        }
    }

    fn finish(mut self) -> Stretch {
        if !self.stopped {
            self.stretch.upto = self.to;
        }
        self.stretch
    }
}

/// The event a record stands for. A key's first version has no previous pair, even where the record
/// names a tombstone before it.
fn event_of(record: &Record, kv: &KeyValue<'_>) -> Event {
    let key = record.kv.slice_ref(kv.key);
    if record.tombstone {
        let sent = KeyValue { key: kv.key, mod_revision: record.at.main, ..KeyValue::default() };
        return Event { at: record.at, prev: record.prev, delete: true, key, kv: sent.encode() };
    }
    let prev = record.prev.filter(|_| kv.version != 1);
    Event { at: record.at, prev, delete: false, key, kv: record.kv.clone() }
}

fn unreadable(record: &Record) -> Fault {
    Fault::new(
        "cannot read history for a watcher",
        format!("record {}", record.at),
        "its bytes are not an encoded pair; restore this member from its peers",
    )
}
