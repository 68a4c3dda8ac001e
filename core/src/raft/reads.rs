//! Batched read indexes (thesis 6.4): whoever wants to read joins the next batch; a batch is one
//! round with the leader.
//!
//! The raft crate drops a request silently when the leader has not committed in its term yet, and
//! ignores a context it has seen, so every attempt has a context of its own (member, incarnation,
//! number) and a batch without an answer is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{Incarnation, Index, MemberId};
use crate::mutant;
use crate::time::Instant;

/// Batches under way at the same time; more would only split what can go together.
const BATCHES_MAX: usize = 4;

#[derive(Debug)]
struct Batch<T> {
    asked: Instant,
    readers: Vec<T>,
}

/// Readers that wait, of whatever kind `T` the node tells apart.
#[derive(Debug)]
pub struct Reads<T> {
    member: MemberId,
    incarnation: Incarnation,
    retry_after: Duration,
    next: u64,
    gathering: Vec<T>,
    asked: BTreeMap<u64, Batch<T>>,
    /// Batches whose index is known and not yet applied here, and how many of them were shown.
    indexed: Vec<(Index, Vec<T>)>,
    shown: usize,
}

impl<T> Reads<T> {
    /// Nobody waits.
    pub fn new(member: MemberId, incarnation: Incarnation, retry_after: Duration) -> Reads<T> {
        Reads {
            member,
            incarnation,
            retry_after,
            next: 0,
            gathering: Vec::new(),
            asked: BTreeMap::new(),
            indexed: Vec::new(),
            shown: 0,
        }
    }

    /// Joins the next batch.
    pub fn join(&mut self, reader: T) {
        self.gathering.push(reader);
    }

    /// The context to ask with now, if somebody waits and a round may start. Batches that got no answer
    /// in time are gathered again.
    pub fn ask(&mut self, now: Instant) -> Option<Vec<u8>> {
        let late: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, batch)| now.since(batch.asked) >= self.retry_after)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            let batch = self.asked.remove(&number).expect("the number was just listed");
            self.gathering.extend(batch.readers);
        }
        if self.gathering.is_empty() || self.asked.len() >= BATCHES_MAX {
            return None;
        }
        self.next += 1;
        let readers = std::mem::take(&mut self.gathering);
        self.asked.insert(self.next, Batch { asked: now, readers });
        Some(self.context(self.next))
    }

    /// Raft answered: a context, and the index that must be applied before reading. Earlier batches
    /// were asked earlier, so the index serves them too.
    pub fn answered(&mut self, context: &[u8], index: Index) {
        let Some(number) = self.number(context) else { return };
        if !self.asked.contains_key(&number) {
            return; // asked again meanwhile
        }
        let upto = if mutant::on(66) { u64::MAX } else { number + 1 };
        let later = self.asked.split_off(&upto);
        let done = std::mem::replace(&mut self.asked, later);
        let readers = done.into_values().flat_map(|batch| batch.readers).collect();
        self.indexed.push((index, readers));
    }

    /// Readers whose index is applied now.
    pub fn take_ready(&mut self, applied: Index) -> Vec<T> {
        let mut ready = Vec::new();
        self.indexed.retain_mut(|(index, readers)| {
            let due = *index <= applied;
            if due {
                ready.append(readers);
            }
            !due
        });
        self.shown = self.shown.min(self.indexed.len());
        ready
    }

    /// Readers whose index has become known and is not applied yet, each once or, after others were
    /// ready, again.
    pub fn confirmed(&mut self) -> impl Iterator<Item = &T> {
        let shown = std::mem::replace(&mut self.shown, self.indexed.len());
        self.indexed[shown..].iter().flat_map(|(_, readers)| readers)
    }

    /// Takes out everybody that waits, in whatever stage.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut all = std::mem::take(&mut self.gathering);
        all.extend(std::mem::take(&mut self.asked).into_values().flat_map(|batch| batch.readers));
        all.extend(std::mem::take(&mut self.indexed).into_iter().flat_map(|(_, readers)| readers));
        all
    }

    /// Drops the readers that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.gathering.retain(&mut keep);
        for batch in self.asked.values_mut() {
            batch.readers.retain(&mut keep);
        }
        for (_, readers) in &mut self.indexed {
            readers.retain(&mut keep);
        }
    }

    fn context(&self, number: u64) -> Vec<u8> {
        [self.member.0, self.incarnation.0, number].iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    fn number(&self, context: &[u8]) -> Option<u64> {
        let number = u64::from_be_bytes(context.get(16..24)?.try_into().ok()?);
        (context == self.context(number)).then_some(number)
    }
}
