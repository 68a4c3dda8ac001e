//! A map for keys that come in ascending order and go in about that order: requests by their number.
//!
//! A ring of places instead of a tree: adding, finding and removing cost no allocation and, while the
//! keys are consecutive, no search.
//!
//! Laws:
//!  1. Keys are added in strictly ascending order.
//!  2. The first place is in use: what was removed in the middle is kept, empty, until all before it
//!     are gone. So the ring is as long as the oldest entry is behind the newest; whoever adds must
//!     bound how long an entry stays.
//!
//! Worked example: 5, 6 and 9 are added; 6 is removed and leaves a hole; with 5 the hole goes too, and
//! 9 is the first.

use std::collections::VecDeque;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ascending<T> {
    places: VecDeque<(u64, Option<T>)>,
    used: usize,
}

impl<T> Default for Ascending<T> {
    fn default() -> Ascending<T> {
        Ascending { places: VecDeque::new(), used: 0 }
    }
}

impl<T> Ascending<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If `key` is not above all keys that are there (law 1).
    pub fn push(&mut self, key: u64, value: T) {
        let last = self.places.back().map(|(last, _)| *last);
        assert!(last.is_none_or(|last| last < key), "keys ascend: {key} after {last:?}");
        self.places.push_back((key, Some(value)));
        self.used += 1;
    }

    /// Whether there is an entry with this key.
    pub fn contains(&self, key: u64) -> bool {
        self.place(key).is_some_and(|place| self.places[place].1.is_some())
    }

    /// The entry with this key.
    pub fn get(&self, key: u64) -> Option<&T> {
        self.places[self.place(key)?].1.as_ref()
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let place = self.place(key)?;
        let value = self.places[place].1.take()?;
        self.used -= 1;
        while self.places.front().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop_front();
        }
        Some(value)
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Option<(u64, &T)> {
        let (key, value) = self.places.front()?;
        Some((*key, value.as_ref().expect("law 2: the first place is in use")))
    }

    fn place(&self, key: u64) -> Option<usize> {
        let (first, _) = self.places.front()?;
        // While keys are consecutive, a key's place is its distance from the first.
        let guess = usize::try_from(key.checked_sub(*first)?).ok()?;
        if self.places.get(guess).is_some_and(|(there, _)| *there == key) {
            return Some(guess);
        }
        self.places.binary_search_by_key(&key, |(there, _)| *there).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in vec((any::<bool>(), 1..4u64, any::<u16>()), 0..300)) {
            let (mut ring, mut twin) = (Ascending::default(), BTreeMap::new());
            let mut next = 0;
            for (add, gap, pick) in steps {
                if add {
                    // Mostly consecutive, sometimes not.
                    next += if gap == 3 { 1 + u64::from(pick) } else { 1 };
                    ring.push(next, pick);
                    twin.insert(next, pick);
                } else {
                    let key = next.saturating_sub(u64::from(pick) % (twin.len() as u64 * 2 + 1));
                    prop_assert_eq!(ring.contains(key), twin.contains_key(&key));
                    prop_assert_eq!(ring.get(key), twin.get(&key));
                    prop_assert_eq!(ring.remove(key), twin.remove(&key));
                }
                prop_assert_eq!(ring.len(), twin.len());
                prop_assert_eq!(ring.first().map(|(key, _)| key), twin.keys().next().copied());
            }
        }
    }
}
