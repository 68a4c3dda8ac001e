//! One watcher: what it wants and how far it is.
//!
//! A synced watcher has been handed everything up to the hub's revision except what its queue names,
//! so a revision that does not concern it costs it nothing. One that fell behind, or started in the
//! past, knows the next revision it wants and reads history from there.
//!
//! Laws:
//!  1. Everything below [`Watcher::next`] that the watcher wants has been handed out, nothing from
//!     there on has.
//!  2. A queue names whole revisions in order, and only events that the watcher accepts.
//!
//! Worked example: synced with an empty queue at r9; `r10` concerns it: queue `[10..11)`, owed r10.
//! The log drops r10 before the stream is polled: it catches up from r10.

use std::collections::VecDeque;
use std::ops::Range;

use super::WatchCreate;
use crate::id::Revision;
use crate::mutant;
use crate::request::KeyRange;

/// A watcher of a stream.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Which keys it wants.
    pub keys: KeyRange,
    /// Nothing earlier; 0 when it began at the present and the hub was there.
    pub start: Revision,
    /// No progress before the hub is here.
    begun: Revision,
    /// Wants periodic progress.
    pub progress_notify: bool,
    /// No event was sent since the last progress tick.
    pub quiet: bool,
    /// Wants the previous pairs.
    pub prev_kv: bool,
    /// Takes large responses in pieces.
    pub fragment: bool,
    /// Stands in its stream's list of watchers with queued events.
    pub listed: bool,
    /// How far it is.
    pub phase: Phase,
    no_put: bool,
    no_delete: bool,
}

/// How far a watcher is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Up to date, but for the queue.
    Synced(Queue),
    /// Reads history.
    Behind {
        /// The first revision it has not been handed.
        next: Revision,
    },
    /// Compaction took what it wanted. Keeps its id until the client cancels it.
    Compacted,
}

/// Events of the log that a synced watcher has still to be handed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Ascending runs of sequence numbers.
    runs: VecDeque<Range<u64>>,
    /// The revision of the first; meaningless when there is none.
    owed: Revision,
}

impl Watcher {
    /// As wanted by the client, at the revision that was published; `announcing` says that the hub has
    /// still to get there.
    pub fn new(create: WatchCreate, revision: Revision, announcing: bool) -> Watcher {
        let (start, begun) = match create.start {
            0 if announcing => (revision.next(), revision),
            start => (Revision(start), Revision(start)),
        };
        let past = create.start > 0 && start <= revision;
        Watcher {
            keys: create.keys,
            start,
            begun,
            progress_notify: create.progress_notify,
            quiet: true,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            listed: false,
            phase: if past {
                Phase::Behind { next: start }
            } else {
                Phase::Synced(Queue::default())
            },
            no_put: create.no_put,
            no_delete: create.no_delete,
        }
    }

    /// Whether its filters and its start admit a change of its keys.
    pub fn accepts(&self, at: Revision, delete: bool) -> bool {
        let filtered = if delete { self.no_delete } else { self.no_put };
        !filtered && (at >= self.start || mutant::on(47))
    }

    /// The first revision not handed out yet, when the hub is at `revision`.
    pub fn next(&self, revision: Revision) -> Revision {
        match &self.phase {
            Phase::Synced(queue) if !queue.is_empty() => queue.owed,
            Phase::Synced(_) => revision.next().max(self.start),
            Phase::Behind { next } => *next,
            Phase::Compacted => self.start,
        }
    }

    /// Whether progress can be reported for it at `revision`, now or once its queue is empty.
    pub fn is_current(&self, revision: Revision) -> bool {
        let started = self.begun <= revision || mutant::on(71);
        matches!(self.phase, Phase::Synced(_)) && started
    }

    /// Whether progress can be reported for it at `revision` right now.
    pub fn is_drained(&self, revision: Revision) -> bool {
        matches!(&self.phase, Phase::Synced(queue) if queue.is_empty()) && self.is_current(revision)
    }
}

impl Queue {
    /// Appends an event of `revision`. `false` when that would be more than `runs_max` runs.
    pub fn push(&mut self, seq: u64, revision: Revision, runs_max: usize) -> bool {
        if self.runs.is_empty() {
            self.owed = revision;
        }
        let count = self.runs.len();
        match self.runs.back_mut() {
            Some(run) if run.end == seq => run.end = seq + 1,
            _ if count >= runs_max => return false,
            _ => self.runs.push_back(seq..seq + 1),
        }
        true
    }

    /// The first event.
    pub fn front(&self) -> Option<u64> {
        self.runs.front().map(|run| run.start)
    }

    /// Removes the first event, which is of the same revision as the next one or the last of its
    /// revision; in the latter case [`Queue::owe`] follows.
    pub fn pop(&mut self) {
        let run = self.runs.front_mut().expect("the caller has seen a front");
        run.start += 1;
        if run.is_empty() {
            self.runs.pop_front();
        }
    }

    /// Says which revision the front is of.
    pub fn owe(&mut self, revision: Revision) {
        self.owed = revision;
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_joins_neighbours_and_is_bounded() {
        let mut queue = Queue::default();
        for seq in [3, 4, 5, 9] {
            assert!(queue.push(seq, Revision(seq as i64), 2));
        }
        assert!(!queue.push(11, Revision(11), 2));
        assert!(queue.push(10, Revision(10), 2));
        assert_eq!((queue.runs.len(), queue.owed), (2, Revision(3)));
        let mut seen = Vec::new();
        while let Some(seq) = queue.front() {
            seen.push(seq);
            queue.pop();
        }
        assert_eq!(seen, [3, 4, 5, 9, 10]);
    }
}
