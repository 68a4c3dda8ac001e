//! Random histories with crashes, against the twin.
//!
//! Each seed appends, replaces, votes, purges, seals, restarts behind snapshots and crashes with
//! orders in flight, torn at 512 bytes. Leaves out damage to what was durable.

use holdfast_core::id::{Index, Position};
use holdfast_core::rng::Rng;

use super::world::{State, World, entry, hard_state};
use crate::disk::MemoryDisk;
use crate::wal::Wal;

const SEEDS: u64 = 120;
const STEPS: u64 = 400;

struct Life {
    world: World,
    rng: Rng,
    term: u64,
    crashes: u64,
    cuts: u64,
    restarts: u64,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = Rng::new(seed);
        let segment_bytes = [64, 128, 256][rng.below(3) as usize] << 10;
        let world = World::new(segment_bytes, rng.between(1, 4) as usize);
        Life { world, rng, term: 1, crashes: 0, cuts: 0, restarts: 0 }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..45 => self.append(),
            45..85 => {
                let count = self.world.waiting.len() as u64;
                if count > 0 {
                    self.world.perform(self.rng.below(count) as usize);
                }
            }
            85..88 => {
                self.world.wal.seal(&mut self.world.waiting);
            }
            88..93 => self.checkpoint(),
            93..95 => self.restart(),
            95..97 => self.compare_entries(),
            _ => self.crash(),
        }
    }

    /// The highest index that every state from the synced one on has.
    fn safe_last(&self) -> u64 {
        let synced = self.world.wal.synced().0 as usize;
        self.world.states[synced..].iter().map(State::last).min().expect("there is one")
    }

    fn commit(&self) -> u64 {
        self.world.state().hard_state.commit.0
    }

    fn append(&mut self) {
        let (last, commit) = (self.world.state().last(), self.commit());
        let mut first = last + 1;
        if self.rng.chance(15) && last > commit {
            first = self.rng.between(commit + 1, last);
            self.term += 1;
        } else if self.rng.chance(5) {
            self.term += 1;
        }
        let count = self.rng.below(5);
        let (rng, term) = (&mut self.rng, self.term);
        let len = |rng: &mut Rng| match rng.below(40) {
            0 => rng.below(120_000) as usize,
            1..8 => rng.below(12_000) as usize,
            _ => rng.below(600) as usize,
        };
        let entries = (first..first + count).map(|index| entry(index, term, len(rng))).collect();
        let vote = rng.below(4);
        let commit = commit.max(self.safe_last().min(first - 1));
        let commit = if self.rng.chance(70) { commit } else { self.commit() };
        self.world.append(entries, hard_state(self.term, vote, commit));
    }

    fn checkpoint(&mut self) {
        let commit = self.world.states[self.world.wal.synced().0 as usize].hard_state.commit.0;
        let state = self.world.state();
        let entry = state.entries.get(&commit);
        let Some(entry) = entry.filter(|entry| entry.at.index > self.world.after.index) else {
            return;
        };
        self.world.after = entry.at;
        let keep = self.rng.below(30);
        self.world.wal.purge(Index(commit.saturating_sub(keep)), &mut self.world.waiting);
    }

    /// A snapshot is installed: restart, then checkpoint, with a crash before, between or after.
    fn restart(&mut self) {
        let low = self.commit() + 1;
        let high = self.world.state().last().max(low) + 20;
        self.term += 1;
        let at = Position::new(self.rng.between(low, high), self.term);
        let state = hard_state(self.term, 0, at.index.0);
        let ticket = self.world.wal.restart_at(at, state, &mut self.world.waiting);
        while self.world.wal.durable() < ticket {
            if self.rng.chance(5) {
                return self.crash_in_restart(at);
            }
            let next = self.rng.below(self.world.waiting.len() as u64) as usize;
            self.world.perform(next);
        }
        if self.rng.chance(20) {
            return self.crash_in_restart(at);
        }
        self.restarts += 1;
        self.world.after = at;
        let hard_state = state;
        let after = State { base: at.index.0, hard_state, ..State::default() };
        *self.world.states.last_mut().expect("there is one") = after;
        self.world.wal.purge(at.index, &mut self.world.waiting);
    }

    /// The snapshot did not come into use. The term of the restart may stay; its commit must not.
    fn crash_in_restart(&mut self, at: Position) {
        let image = self.world.torn_image(&mut self.rng);
        let mut probe = World::new(64 << 10, 1);
        probe.after = self.world.after;
        probe.options = self.world.options;
        probe.incarnation = self.world.incarnation + 1_000;
        let log = probe.restart(image.clone());
        let state = &mut self.world.states[log.last_seq.0 as usize];
        if log.hard_state.term == at.term {
            let commit = state.hard_state.commit.0;
            state.hard_state = hard_state(at.term.0, 0, commit);
        }
        self.world.restart_checked(image);
        self.crashes += 1;
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let image = self.world.torn_image(&mut self.rng);
        let log = self.world.restart_checked(image);
        self.cuts += u64::from(log.notes.iter().any(|note| note.to_string().contains("was cut")));
        // Recovering again, as after a crash at once, gives the same.
        let again = MemoryDisk::from_image(self.world.disk.image());
        let identity = super::world::identity(self.world.incarnation + 5_000);
        let (_, twice) = Wal::recover(&again, identity, self.world.options, self.world.after)
            .expect("what was recovered can be recovered");
        assert_eq!((twice.entries, twice.hard_state), (log.entries, log.hard_state));
    }

    fn compare_entries(&mut self) {
        let Some(from) = self.world.wal.first_index() else { return };
        let synced = &self.world.states[self.world.wal.synced().0 as usize];
        let below = Index(synced.last() + 1);
        let bytes_max = [0, 1_000, u64::MAX][self.rng.below(3) as usize];
        let from = Index(self.rng.between(from.0, below.0.max(from.0)));
        let read = self.world.wal.entries(&self.world.disk, from, below, bytes_max);
        let read = read.expect("the disk is whole");
        let twin: Vec<_> = synced.entries.range(from.0..below.0.max(from.0)).collect();
        let twin = twin.iter().map(|(_, entry)| (*entry).clone()).take(read.len());
        assert_eq!(read, twin.collect::<Vec<_>>());
        if bytes_max == u64::MAX {
            assert_eq!(from.0 + read.len() as u64, below.0.max(from.0), "it is all there");
        } else if from < below {
            assert!(!read.is_empty(), "at least one entry is read");
        }
    }
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (mut crashes, mut cuts, mut restarts) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
        }
        life.crash();
        crashes += life.crashes;
        cuts += life.cuts;
        restarts += life.restarts;
    }
    assert!(crashes > SEEDS * 5, "{crashes} crashes");
    assert!(cuts > SEEDS, "{cuts} cuts");
    assert!(restarts > SEEDS, "{restarts} restarts");
}
