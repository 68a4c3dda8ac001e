//! The active segment: records that no sealed file holds yet, in memory, covered by the log.
//!
//! Records sit in chunks of write-once slots behind `Arc`s. The one writer fills slots; a reader
//! has a [`Run`], which is the chunks and a range of ordinals, all of whose slots were filled
//! before the run was handed out. Nobody takes a lock. A checkpoint seals the records of the run it
//! froze and then drops exactly these from the front, so an abandoned checkpoint leaves nothing to
//! undo.
//!
//! A revision is looked for among the first revisions of the chunks, which lie side by side, and then
//! at the ordinal that it has if each revision of the chunk made as many records as the next, then where the
//! record there says: a read of many keys in key order jumps about in the run, and what it costs is the cache
//! lines it touches. Pairs that
//! are read together are touched before the first of them is used, so that the lines come side by side.
//!
//! Price: a slot is 80 bytes beside the record's own bytes, and a new chunk copies the list of
//! chunks when a reader holds it: 32 bytes for each 1024 records of the run.
//!
//! Laws:
//!  1. Revisions ascend strictly in the order of ordinals.
//!  2. Every slot in `start..end` of a run is filled.
//!
//! Worked example: ordinals 0..40 are filled, a reader has `0..30`; the checkpoint of 0..30 is done
//! and the writer trims: it has `30..40`, the reader still all of its 30.

use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use holdfast_core::id::RevSub;
use holdfast_core::store::{Pair, Record, VisitPair};

/// The records with ordinals `start..end`, in order.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    chunks: Arc<Vec<Place>>,
    start: u64,
    end: u64,
}

/// A chunk with what it is looked for by.
#[derive(Clone, Debug)]
struct Place {
    /// Ordinal and revision of its first slot.
    base: u64,
    first: RevSub,
    /// Records of each of its revisions, if all have the same number; until the chunk is full that of the
    /// chunk before it.
    each: i64,
    chunk: Arc<Chunk>,
}

/// Write-once slots for consecutive ordinals.
#[derive(Debug)]
pub(crate) struct Chunk {
    slots: Box<[OnceLock<Record>]>,
}

/// Chunks grow with the run from the first to the second of these many records.
const CHUNK_RECORDS: (u64, u64) = (16, 1024);

impl Run {
    /// No records.
    pub(crate) fn new() -> Run {
        Run { chunks: Arc::default(), start: 0, end: 0 }
    }

    /// How many records.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Adds a record at the end. Only the engine's own run is ever pushed to: a slot takes one
    /// record, once.
    pub(crate) fn push(&mut self, record: Record) {
        if let Some(last) = self.last() {
            assert!(record.at > last, "records ascend: {} after {last}", record.at);
        }
        if self.chunks.last().is_none_or(|place| self.end == place.end()) {
            let (low, high) = CHUNK_RECORDS;
            let slots = (0..self.len().clamp(low, high)).map(|_| OnceLock::new()).collect();
            let chunk = Arc::new(Chunk { slots });
            let places = Arc::make_mut(&mut self.chunks);
            let each = places.last_mut().map_or(1, |full| full.learn(record.at));
            places.push(Place { base: self.end, first: record.at, each, chunk });
        }
        let place = self.chunks.last().expect("a chunk with room was made if there was none");
        let slot = &place.chunk.slots[(self.end - place.base) as usize];
        assert!(slot.set(record).is_ok(), "one writer fills each slot once");
        self.end += 1;
    }

    /// Drops the records before ordinal `start`, and gives their chunks to be freed at leisure.
    pub(crate) fn trim(&mut self, start: u64) -> Vec<Arc<Chunk>> {
        self.start = self.start.max(start);
        self.end = self.end.max(start);
        let first = self.chunks.partition_point(|place| place.end() <= self.start);
        let mut dropped = self.chunks.to_vec();
        self.chunks = Arc::new(dropped.split_off(first));
        dropped.into_iter().map(|place| place.chunk).collect()
    }

    /// The ordinal after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The ordinal of the first record.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The record with an ordinal, if the run has it.
    pub(crate) fn get(&self, ordinal: u64) -> Option<&Record> {
        (self.start..self.end).contains(&ordinal).then(|| self.slot(ordinal))
    }

    /// The revision of the first record.
    pub(crate) fn first(&self) -> Option<RevSub> {
        self.get(self.start).map(|record| record.at)
    }

    /// The revision of the last record.
    pub(crate) fn last(&self) -> Option<RevSub> {
        self.get(self.end.wrapping_sub(1)).map(|record| record.at)
    }

    /// The record at a revision, if the run has it.
    pub(crate) fn find(&self, at: RevSub) -> Option<&Record> {
        let place = self.place(at)?;
        let ordinals = self.ordinals(place);
        place.look(at, &ordinals).or_else(|| {
            let ordinal = place.lower_bound(at, ordinals.clone());
            ordinals.contains(&ordinal).then(|| place.get(ordinal)).filter(|found| found.at == at)
        })
    }

    /// Calls `visit` with the pair of each revision, in the given order, until it breaks; the error is the
    /// first revision that the run does not have.
    pub(crate) fn each(&self, at: &[RevSub], visit: &mut VisitPair<'_>) -> Result<(), RevSub> {
        let mut near = 0;
        for group in at.chunks(TOGETHER) {
            let mut found = [None; TOGETHER];
            for (at, found) in group.iter().zip(&mut found) {
                let place = self.place_near(*at, &mut near);
                *found = place.and_then(|place| place.nearest(*at, &self.ordinals(place)));
            }
            // Nothing below depends on what these load, so that they are under way at the same time.
            let loaded = found.iter().flatten().filter_map(|slot| slot.get());
            black_box(
                loaded.fold(0, |sum, record| sum ^ record.at.main.0 ^ record.kv.len() as i64),
            );
            let mut records = [None; TOGETHER];
            for ((at, slot), record) in group.iter().zip(found).zip(&mut records) {
                let guessed = slot.and_then(|slot| slot.get()).filter(|record| record.at == *at);
                *record = guessed.or_else(|| self.find(*at));
            }
            records.iter().flatten().for_each(|record| touch(&record.kv));
            for (at, record) in group.iter().zip(records) {
                if visit(Pair::whole(&record.ok_or(*at)?.kv)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The ordinal of the first record at or after a revision.
    pub(crate) fn lower_bound(&self, at: RevSub) -> u64 {
        self.place(at).map_or(self.start, |place| place.lower_bound(at, self.ordinals(place)))
    }

    /// The last chunk that begins at or before a revision.
    fn place(&self, at: RevSub) -> Option<&Place> {
        let after = self.chunks.partition_point(|place| place.first <= at);
        Some(&self.chunks[after.checked_sub(1)?])
    }

    /// Likewise; what is read together is often in one chunk, so that of the one before is looked at first.
    fn place_near(&self, at: RevSub, near: &mut usize) -> Option<&Place> {
        let begins = |nth: usize| self.chunks.get(nth).is_some_and(|place| place.first <= at);
        if !begins(*near) || begins(*near + 1) {
            *near = self.chunks.partition_point(|place| place.first <= at).checked_sub(1)?;
        }
        self.chunks.get(*near)
    }

    /// Those of the chunk's ordinals that the run has.
    fn ordinals(&self, place: &Place) -> Range<u64> {
        place.base.max(self.start)..place.end().min(self.end)
    }

    fn slot(&self, ordinal: u64) -> &Record {
        let after = self.chunks.partition_point(|place| place.base <= ordinal);
        self.chunks[after - 1].get(ordinal)
    }
}

/// Pairs that are read together: about twice what a core waits for at a time.
pub(super) const TOGETHER: usize = 32;

/// Places that a revision is looked for at, after the first, before the chunk is halved again and again.
const GUESSES: usize = 4;

/// Loads the beginning of a pair into the cache. A load whose value nothing waits for does not hold up
/// those that follow.
pub(super) fn touch(pair: &[u8]) {
    let lines = pair.chunks(64).take(16);
    black_box(lines.fold(0, |sum, line| sum ^ line[0]));
}

impl Place {
    fn end(&self) -> u64 {
        self.base + self.chunk.slots.len() as u64
    }

    /// The record at `next` follows those of the chunk: how many each revision has made, if all made the
    /// same number.
    fn learn(&mut self, next: RevSub) -> i64 {
        let mains = next.main.0 - self.first.main.0;
        let records = self.chunk.slots.len() as i64;
        if mains > 0 {
            let whole = records + i64::from(self.first.sub) - i64::from(next.sub);
            self.each = (whole / mains).max(1);
        }
        self.each
    }

    /// The ordinal of a revision if each made as many records.
    fn guess(&self, at: RevSub) -> u64 {
        let mains = (at.main.0 - self.first.main.0).saturating_mul(self.each);
        let subs = i64::from(at.sub) - i64::from(self.first.sub);
        self.base.saturating_add_signed(mains.saturating_add(subs))
    }

    /// The slot where a revision is looked for first.
    fn nearest(&self, at: RevSub, ordinals: &Range<u64>) -> Option<&OnceLock<Record>> {
        let ordinal = self.guess(at).clamp(ordinals.start, ordinals.clone().next_back()?);
        self.chunk.slots.get((ordinal - self.base) as usize)
    }

    /// The record at a revision, if a few guesses find it: where it is if each revision made as many records,
    /// then, from there, if all made as many as the chunk's do on average.
    fn look(&self, at: RevSub, ordinals: &Range<u64>) -> Option<&Record> {
        let (first, last) = (self.base, ordinals.clone().next_back()?);
        let mut ordinal = self.guess(at);
        let mut seen = self.get(ordinal.clamp(ordinals.start, last));
        let mut guesses = 0..GUESSES;
        while seen.at != at && guesses.next().is_some() {
            let mains = (self.get(last).at.main.0 - self.first.main.0).max(1);
            let average = (last - first) as i64 / mains;
            let subs = i64::from(at.sub) - i64::from(seen.at.sub);
            let by = (at.main.0 - seen.at.main.0).saturating_mul(average).saturating_add(subs);
            ordinal = ordinal.clamp(ordinals.start, last).saturating_add_signed(by);
            seen = self.get(ordinal.clamp(ordinals.start, last));
        }
        (seen.at == at).then_some(seen)
    }

    /// The first of some ordinals that is at or after a revision.
    fn lower_bound(&self, at: RevSub, ordinals: Range<u64>) -> u64 {
        let Range { start: mut low, end: mut high } = ordinals;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).at < at {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn get(&self, ordinal: u64) -> &Record {
        let slot = &self.chunk.slots[(ordinal - self.base) as usize];
        slot.get().expect("law 2: the slot is filled")
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn record(main: i64) -> Record {
        Record { at: RevSub::new(main, 0), prev: None, tombstone: false, kv: Bytes::new() }
    }

    fn mains(run: &Run) -> Vec<i64> {
        (run.start()..run.end()).map(|ordinal| run.get(ordinal).unwrap().at.main.0).collect()
    }

    #[test]
    fn readers_keep_what_they_saw_while_the_writer_goes_on_and_trims() {
        let mut run = Run::new();
        let mut seen = Vec::new();
        for main in 0..5000 {
            run.push(record(main * 2));
            if main % 311 == 0 {
                seen.push((run.clone(), mains(&run)));
            }
            if main % 1000 == 999 {
                run.trim(run.start() + 700);
            }
        }
        assert_eq!(run.len(), 1500);
        for (reader, expected) in seen {
            assert_eq!(mains(&reader), expected);
        }
    }

    #[test]
    fn a_revision_finds_its_record() {
        let mut run = Run::new();
        (0..3000).for_each(|main| run.push(record(main * 2)));
        run.trim(100);
        assert_eq!(
            run.find(RevSub::new(4000, 0)).map(|record| record.at),
            Some(RevSub::new(4000, 0))
        );
        for absent in [RevSub::new(198, 0), RevSub::new(4001, 0), RevSub::new(6000, 0)] {
            assert_eq!(run.find(absent), None, "{absent}");
        }
        assert_eq!(
            (run.first(), run.last()),
            (Some(RevSub::new(200, 0)), Some(RevSub::new(5998, 0)))
        );
        run.trim(3000);
        assert_eq!((run.first(), run.last(), run.len()), (None, None, 0));
        run.push(record(9000));
        assert_eq!(mains(&run), [9000]);
    }

    proptest! {
        /// Several records a revision, gaps between revisions, and trims anywhere.
        #[test]
        fn every_look_finds_what_a_list_has(
            steps in vec((0..3i64, 0..3u32), 1..3000),
            trim in 0..3000u64,
        ) {
            let mut run = Run::new();
            let mut at = RevSub::new(1, 0);
            let mut list = Vec::new();
            for (mains, subs) in steps {
                at = match mains {
                    0 => RevSub::new(at.main.0, at.sub + 1 + subs),
                    more => RevSub::new(at.main.0 + more, 0),
                };
                run.push(Record { at, kv: at.to_string().into(), ..record(0) });
                list.push(at);
            }
            let trim = trim.min(list.len() as u64);
            run.trim(trim);
            for main in 0..=at.main.0 + 1 {
                for wanted in [RevSub::new(main, 0), RevSub::new(main, 1), RevSub::new(main, 4)] {
                    let bound = list.partition_point(|at| *at < wanted).max(trim as usize);
                    prop_assert_eq!(run.lower_bound(wanted), bound as u64, "{}", wanted);
                    let there = list[trim as usize..].contains(&wanted);
                    prop_assert_eq!(run.find(wanted).map(|found| found.at), there.then_some(wanted));
                }
            }
            let held = &list[trim as usize..];
            let scattered: Vec<_> = (0..held.len()).map(|n| held[n * 7919 % held.len()]).collect();
            let mut pairs = Vec::new();
            let all = run.each(&scattered, &mut |pair| {
                pairs.push(pair.share());
                ControlFlow::Continue(())
            });
            let pair = |at: &RevSub| Bytes::from(at.to_string());
            prop_assert_eq!((all, &pairs), (Ok(()), &scattered.iter().map(pair).collect()));
            let absent = RevSub::new(at.main.0 + 1, 0);
            let asked = [&scattered[..], &[absent]].concat();
            prop_assert_eq!(run.each(&asked, &mut |_| ControlFlow::Continue(())), Err(absent));
        }
    }
}
