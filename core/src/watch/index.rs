//! Which watchers a key concerns: exact keys in an ordered map, ranges in an [`IntervalMap`].
//!
//! Most watchers of a service-discovery system watch one key, most of Kubernetes' watch a prefix;
//! neither kind slows the other down, and a key that nobody watches costs two searches.
//!
//! Law: a target is found once for each key range it was inserted with.
//!
//! Worked example: watcher 1 on `a` and watcher 2 on `[a, b)` are both found by `a`; by `aa` only 2.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::interval::{IntervalMap, Stop};
use crate::request::{KeyRange, RangeEnd};
use crate::rng::Rng;

/// Targets by the keys they want.
#[derive(Debug)]
pub(super) struct KeyIndex<T> {
    exact: BTreeMap<Bytes, BTreeSet<T>>,
    ranges: IntervalMap<T>,
}

impl<T: Ord + Copy> KeyIndex<T> {
    /// An empty index.
    pub fn new(rng: Rng) -> KeyIndex<T> {
        KeyIndex { exact: BTreeMap::new(), ranges: IntervalMap::new(rng) }
    }

    /// Adds a target.
    pub fn insert(&mut self, keys: &KeyRange, target: T) {
        match stop_of(keys) {
            Some(stop) => self.ranges.insert(&keys.start, &stop, target),
            None => {
                self.exact.entry(keys.start.clone()).or_default().insert(target);
            }
        }
    }

    /// Removes a target that was inserted with the same keys.
    pub fn remove(&mut self, keys: &KeyRange, target: T) {
        if let Some(stop) = stop_of(keys) {
            self.ranges.remove(&keys.start, &stop, target);
        } else if let Some(targets) = self.exact.get_mut(&keys.start) {
            targets.remove(&target);
            if targets.is_empty() {
                self.exact.remove(&keys.start);
            }
        }
    }

    /// Calls `visit` for each target that wants `key`.
    pub fn find(&self, key: &[u8], visit: &mut dyn FnMut(T)) {
        if let Some(targets) = self.exact.get(key) {
            targets.iter().for_each(|target| visit(*target));
        }
        self.ranges.stab(key, visit);
    }
}

fn stop_of(keys: &KeyRange) -> Option<Stop> {
    match &keys.end {
        RangeEnd::Single => None,
        RangeEnd::Before(end) => Some(Stop::Before(end.clone())),
        RangeEnd::Open => Some(Stop::Open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &KeyIndex<u8>, key: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        index.find(key, &mut |target| found.push(target));
        found
    }

    #[test]
    fn the_worked_example() {
        let mut index = KeyIndex::new(Rng::new(1));
        let range = KeyRange::from_wire(Bytes::from("a"), Bytes::from("b"));
        index.insert(&KeyRange::single("a"), 1);
        index.insert(&range, 2);
        assert_eq!(found(&index, b"a"), [1, 2]);
        assert_eq!(found(&index, b"aa"), [2]);
        assert_eq!(found(&index, b"b"), []);
        index.remove(&KeyRange::single("a"), 1);
        index.remove(&range, 2);
        assert_eq!(found(&index, b"a"), []);
        assert!(index.exact.is_empty());
    }
}
