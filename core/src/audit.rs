//! The apply digest on its way between members: who has applied the same log must have the same digest
//! after each entry, and where that is not so, the data have parted at that very entry.
//!
//! Whoever proposes an entry adds the digests of the entries that it has applied since it last did so.
//! All members compare them with their own when they apply the later entry. Leaves out how a digest is
//! made (`machine/ledger.rs`), and what happens when two differ (`node/audit.rs`).
//!
//! Laws:
//!  1. A trail remembers the digests of consecutive entries, at most as many as it may; the oldest go.
//!  2. A digest that this member does not remember, or never had, is not compared.
//!
//! Price: 32 of the digest's 64 bits travel, some 40 bytes an entry; one divergence in four thousand
//! million is noticed an entry late.
//!
//! Worked example: n1 proposes 9 when it has applied 7 and has told of 5: the entry says
//! `from 6: [d6, d7]`. A member whose digest after 7 is another, and after 6 the same, has parted
//! from n1 at entry 7.

use std::collections::VecDeque;

use crate::id::Index;

/// Digests of consecutive entries, as told in a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The entry of the first.
    pub from: Index,
    /// One for each entry from there on.
    pub digests: Vec<u32>,
}

/// The digests that a member remembers. See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    /// The entry of the first.
    from: Index,
    digests: VecDeque<u32>,
    /// Entries up to here were told of.
    told: Index,
}

impl Trail {
    /// An entry was applied; at most `max` are remembered.
    pub(crate) fn push(&mut self, at: Index, digest: u64, max: usize) {
        if self.from.0 + self.digests.len() as u64 != at.0 {
            self.digests.clear();
            self.from = at;
        }
        self.digests.push_back(digest as u32 ^ (digest >> 32) as u32);
        while self.digests.len() > max {
            self.digests.pop_front();
            self.from = self.from.next();
        }
    }

    /// The digests not told of yet, the newest [`TOLD_MAX`] if they are more.
    pub(crate) fn tell(&mut self) -> Option<Audit> {
        let end = self.from.0 + self.digests.len() as u64;
        let from = self.from.0.max(self.told.next().0).max(end.saturating_sub(TOLD_MAX));
        if from >= end {
            return None;
        }
        self.told = Index(end - 1);
        let digests = self.digests.range((from - self.from.0) as usize..).copied().collect();
        Some(Audit { from: Index(from), digests })
    }

    /// The first entry after which another member's digest is not this one's.
    pub(crate) fn parted(&self, audit: &Audit) -> Option<Index> {
        let mut known = audit.digests.iter().enumerate().filter_map(|(place, told)| {
            // A peer's word: the sum may be beyond any log.
            let at = audit.from.0.checked_add(place as u64)?;
            let place = usize::try_from(at.checked_sub(self.from.0)?).ok()?;
            self.digests.get(place).map(|own| (at, own == told))
        });
        known.find(|(_, same)| !same).map(|(at, _)| Index(at))
    }
}

/// Most digests told in one entry.
const TOLD_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(digests: &[(u64, u64)]) -> Trail {
        let mut trail = Trail::default();
        digests.iter().for_each(|(at, digest)| trail.push(Index(*at), *digest, 4));
        trail
    }

    #[test]
    fn the_worked_example() {
        let mut one = trail(&[(4, 14), (5, 15)]);
        assert_eq!(one.tell(), Some(Audit { from: Index(4), digests: vec![14, 15] }));
        one.push(Index(6), 16, 4);
        one.push(Index(7), 17, 4);
        let audit = one.tell().expect("there is news");
        assert_eq!(audit, Audit { from: Index(6), digests: vec![16, 17] });
        assert_eq!(one.tell(), None);
        assert_eq!(trail(&[(6, 16), (7, 99), (8, 98)]).parted(&audit), Some(Index(7)));
        assert_eq!(trail(&[(6, 16), (7, 17), (8, 98)]).parted(&audit), None);
    }

    #[test]
    fn only_what_both_know_is_compared_and_the_oldest_is_forgotten() {
        let trail = trail(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]);
        let audit = |from, digests: &[u32]| Audit { from: Index(from), digests: digests.to_vec() };
        assert_eq!(trail.parted(&audit(1, &[9, 9, 3])), None);
        assert_eq!(trail.parted(&audit(2, &[9, 9])), Some(Index(3)));
        assert_eq!(trail.parted(&audit(6, &[6, 9, 9])), None);
        assert_eq!(trail.parted(&audit(u64::MAX, &[9, 9])), None);
    }

    #[test]
    fn a_gap_starts_anew() {
        let mut trail = trail(&[(1, 1), (2, 2), (9, 9)]);
        assert_eq!(trail.tell(), Some(Audit { from: Index(9), digests: vec![9] }));
    }
}
