//! What ran while something was wrong: a change of users during a crash, a snapshot's install during a
//! partition. A swarm in which two things never meet does not test that they may.
//!
//! Leaves out whether what came of it was right; that is for the checkers.
//!
//! Law: each kind of work is counted once for every kind of trouble that there is at that moment, and
//! not at all when there is none.
//!
//! Worked example: m1 is down and m2 paused when a compaction is first applied:
//! `compactions 1/0/1`.

use std::fmt;

/// Work that must be right whatever goes wrong meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Race {
    /// Users, roles or rights are others.
    Auth,
    /// A member comes, goes, or is known by other URLs.
    Members,
    /// A learner gets its vote.
    Promotion,
    /// A member is told to take leadership over.
    Transfer,
    /// An alarm is raised or cleared.
    Alarm,
    /// History is compacted.
    Compaction,
    /// A member installs a peer's snapshot.
    Snapshot,
}

impl Race {
    /// Every kind of work, in the order of the summary.
    pub const ALL: [Race; 7] = [
        Race::Auth,
        Race::Members,
        Race::Promotion,
        Race::Transfer,
        Race::Alarm,
        Race::Compaction,
        Race::Snapshot,
    ];

    /// Its name in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Race::Auth => "auth changes",
            Race::Members => "membership changes",
            Race::Promotion => "promotions",
            Race::Transfer => "transfers",
            Race::Alarm => "alarms",
            Race::Compaction => "compactions",
            Race::Snapshot => "snapshot installs",
        }
    }
}

/// What can be wrong at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// A member is down.
    pub crash: bool,
    /// A link between two members is cut.
    pub partition: bool,
    /// A member's process stands still.
    pub pause: bool,
}

/// How often each kind of work met each kind of trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Races([[u64; 3]; Race::ALL.len()]);

impl Races {
    /// Something ran at a moment with this trouble.
    pub fn note(&mut self, race: Race, trouble: Trouble) {
        let there = [trouble.crash, trouble.partition, trouble.pause];
        for (count, there) in self.0[race as usize].iter_mut().zip(there) {
            *count += u64::from(there);
        }
    }

    /// How often it ran during a crash, during a partition, during a pause.
    pub fn of(&self, race: Race) -> [u64; 3] {
        self.0[race as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Races) {
        let pairs = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        pairs.for_each(|(sum, more)| *sum += more);
    }
}

impl fmt::Display for Races {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Race::ALL.map(|race| {
            let [crash, partition, pause] = self.of(race);
            format!("{} {crash}/{partition}/{pause}", race.name())
        });
        write!(f, "{}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_for_each_trouble_it_meets() {
        let mut races = Races::default();
        races.note(Race::Compaction, Trouble::default());
        races.note(Race::Compaction, Trouble { crash: true, pause: true, ..Trouble::default() });
        races.note(Race::Snapshot, Trouble { partition: true, ..Trouble::default() });
        let mut sum = races.clone();
        sum.add(&races);
        assert_eq!(sum.of(Race::Compaction), [2, 0, 2]);
        assert_eq!(sum.of(Race::Snapshot), [0, 2, 0]);
        assert_eq!(sum.of(Race::Auth), [0, 0, 0]);
    }
}
