//! The recent events of the store, kept once for all watchers of a worker.
//!
//! Events have sequence numbers, counted from the hub's start; watchers keep ranges of them instead
//! of events. The oldest revisions go when the log is over its size, and whoever still wanted them
//! reads the store. The pair that an event replaced is kept beside it once somebody has asked for it: the
//! next watchers find it there.
//!
//! Laws:
//!  1. The log holds whole revisions, without a gap, from `floor()` to the hub's revision.
//!  2. Its events are at most `bytes_max` large together, each counted with its overhead, and so are the
//!     pairs beside them.
//!
//! Worked example: r5 and r6 with one event of 1 KiB each in a log of 2 KiB: when r7 comes, r5 goes,
//! `floor()` is r6, and a watcher that wanted r5 falls back to catching up.

use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::id::Revision;
use crate::response::Event;
use crate::store::Fault;

/// Recent events in order.
#[derive(Debug)]
pub(super) struct EventLog {
    events: VecDeque<Logged>,
    /// Sequence number of the first event held.
    first: u64,
    /// First revision held, or the next one to come.
    floor: Revision,
    bytes: usize,
    bytes_max: usize,
    /// Bytes of the pairs beside the events.
    previous_bytes: Cell<usize>,
}

#[derive(Debug)]
struct Logged {
    event: Event,
    previous: OnceCell<Bytes>,
}

impl EventLog {
    /// An empty log whose first revision will be `floor`.
    pub fn new(floor: Revision, bytes_max: usize) -> EventLog {
        let previous_bytes = Cell::new(0);
        EventLog { events: VecDeque::new(), first: 0, floor, bytes: 0, bytes_max, previous_bytes }
    }

    /// Takes the next event and gives its sequence number.
    pub fn push(&mut self, event: Event) -> u64 {
        self.bytes += event.size();
        self.events.push_back(Logged { event, previous: OnceCell::new() });
        self.first + self.events.len() as u64 - 1
    }

    /// Drops the oldest revisions until law 2 holds. Called between revisions only.
    pub fn trim(&mut self) {
        while self.bytes > self.bytes_max || self.previous_bytes.get() > self.bytes_max {
            let Some(oldest) = self.events.front().map(|logged| logged.event.at.main) else {
                return;
            };
            while self.events.front().is_some_and(|logged| logged.event.at.main == oldest) {
                let logged = self.events.pop_front().expect("the front was just looked at");
                self.bytes -= logged.event.size();
                let previous = logged.previous.get().map_or(0, Bytes::len);
                self.previous_bytes.update(|bytes| bytes - previous);
                self.first += 1;
            }
            self.floor = oldest.next();
        }
    }

    /// Forgets everything: the next revision to come is `floor`.
    pub fn restart(&mut self, floor: Revision) {
        self.first += self.events.len() as u64;
        self.events.clear();
        (self.floor, self.bytes) = (floor, 0);
        self.previous_bytes.set(0);
    }

    /// The first revision that the log can tell about.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// Whether an event, and so all after it, is still held.
    pub fn holds(&self, seq: u64) -> bool {
        seq >= self.first
    }

    /// An event that is held.
    pub fn get(&self, seq: u64) -> &Event {
        &self.events[(seq - self.first) as usize].event
    }

    /// The pair that an event replaced; `read` finds it unless that has been done before.
    pub fn previous(
        &self,
        seq: u64,
        read: impl FnOnce() -> Result<Bytes, Fault>,
    ) -> Result<Bytes, Fault> {
        let previous = &self.events[(seq - self.first) as usize].previous;
        if let Some(known) = previous.get() {
            return Ok(known.clone());
        }
        let read = read()?;
        self.previous_bytes.update(|bytes| bytes + read.len());
        Ok(previous.get_or_init(|| read).clone())
    }

    /// The sequence numbers of all events from a revision on; `from` is at least the floor.
    pub fn since(&self, from: Revision) -> Range<u64> {
        let skipped = self.events.partition_point(|logged| logged.event.at.main < from);
        self.first + skipped as u64..self.first + self.events.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RevSub;

    fn event(main: i64, sub: u32) -> Event {
        let kv = Bytes::from(vec![0; 1000 - 128 - 1]);
        Event { at: RevSub::new(main, sub), prev: None, delete: false, key: "a".into(), kv }
    }

    #[test]
    fn the_oldest_whole_revisions_go() {
        let mut log = EventLog::new(Revision(5), 3000);
        for (main, sub) in [(5, 0), (5, 1), (6, 0)] {
            log.push(event(main, sub));
        }
        log.trim();
        assert_eq!((log.floor(), log.since(Revision(6))), (Revision(5), 2..3));
        assert_eq!(log.push(event(7, 0)), 3);
        log.trim();
        assert_eq!((log.floor(), log.since(Revision(6))), (Revision(6), 2..4));
        assert!(!log.holds(1) && log.holds(2));
        assert_eq!(log.get(3).at, RevSub::new(7, 0));
        let previous = |log: &EventLog, seq, len| {
            let pair = || Ok(Bytes::from(vec![1; len]));
            log.previous(seq, pair).expect("it can be read").len()
        };
        assert_eq!((previous(&log, 2, 2000), previous(&log, 2, 7)), (2000, 2000), "read once");
        log.trim();
        assert!(log.holds(2));
        assert_eq!(previous(&log, 3, 1500), 1500);
        log.trim();
        assert!(!log.holds(2) && log.holds(3), "law 2");
        log.restart(Revision(20));
        assert!(!log.holds(3));
        assert_eq!((log.push(event(20, 0)), log.floor()), (4, Revision(20)));
    }
}
