//! This member's requests that are not answered yet, by their numbers.
//!
//! Each edge of a member counts its requests on its own, so there is a ring for each: the numbers of
//! one ascend, those of several come in any order. Which edge a request is of stands in its number
//! ([`RequestId::edge`]).
//!
//! Laws: (1) the numbers and the deadlines of one edge ascend; (2) there are no more rings than
//! [`EDGES_MAX`].
//!
//! Worked example: edge 1 asks 1·5 and 1·6, edge 0 then asks 0·9; 0·9 is answered, and 1·5 is the
//! first whose time may be over.

use crate::ascending::Ascending;
use crate::id::{EDGES_MAX, RequestId};
use crate::time::Instant;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub deadline: Instant,
    pub is_proposal: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    rings: Vec<Ascending<Waiting>>,
    len: usize,
}

impl Pending {
    /// How many requests wait, of all edges together.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a request in. Panics if its edge has asked it, or a later one, before (law 1).
    pub(super) fn push(&mut self, sequence: u64, waiting: Waiting) {
        let edge = RequestId::edge_of(sequence);
        assert!(edge < EDGES_MAX, "edge {edge} is none of this member's (law 2)");
        if self.rings.len() <= edge {
            self.rings.resize_with(edge + 1, Ascending::default);
        }
        self.rings[edge].push(sequence, waiting);
        self.len += 1;
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        let ring = self.rings.get(RequestId::edge_of(sequence));
        ring.is_some_and(|ring| ring.contains(sequence))
    }

    /// Takes a request out, if it waits.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Waiting> {
        let waiting = self.rings.get_mut(RequestId::edge_of(sequence))?.remove(sequence)?;
        self.len -= 1;
        Some(waiting)
    }

    /// The request whose time is over first, if it is over at `now`; the lower edge's of equals.
    pub(super) fn first_late(&self, now: Instant) -> Option<(u64, Waiting)> {
        let firsts = self.rings.iter().filter_map(Ascending::first);
        let first = firsts.min_by_key(|(_, waiting)| waiting.deadline);
        let late = first.filter(|(_, waiting)| waiting.deadline <= now);
        late.map(|(sequence, waiting)| (sequence, *waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// Its twin is one map of all requests.
        #[test]
        fn edges_do_not_disturb_each_other(
            steps in vec((0..4u64, 0..4u64, 0..40usize), 0..300),
        ) {
            let (mut pending, mut twin) = (Pending::default(), BTreeMap::new());
            let (mut asked, mut now) = ([0; 4], 0);
            for (kind, edge, pick) in steps {
                let count = &mut asked[edge as usize];
                match kind {
                    0 | 1 => {
                        *count += 1;
                        let sequence = RequestId::first_of(edge as usize) + *count;
                        let deadline = Instant(now + 20);
                        pending.push(sequence, Waiting { deadline, is_proposal: kind == 0 });
                        twin.insert(sequence, deadline);
                    }
                    2 => {
                        let known: Vec<u64> = twin.keys().copied().collect();
                        let sequence = *known.get(pick).unwrap_or(&(edge << 60));
                        prop_assert_eq!(pending.contains(sequence), twin.contains_key(&sequence));
                        let removed = pending.remove(sequence).map(|waiting| waiting.deadline);
                        prop_assert_eq!(removed, twin.remove(&sequence));
                    }
                    _ => now += pick as u64,
                }
                while let Some((sequence, waiting)) = pending.first_late(Instant(now)) {
                    let earliest = twin.values().min().copied();
                    prop_assert_eq!(Some(waiting.deadline), earliest);
                    pending.remove(sequence);
                    prop_assert_eq!(twin.remove(&sequence), earliest);
                }
                let late = twin.values().filter(|deadline| **deadline <= Instant(now)).count();
                prop_assert_eq!((pending.len(), late), (twin.len(), 0));
            }
        }
    }
}
