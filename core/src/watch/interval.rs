//! Sets of targets behind ranges of keys, found by a key that lies in the range.
//!
//! A treap ordered by (start, end), each node holding the farthest end of its subtree: finding the k
//! ranges that contain one of n ranges costs O(log n + k) expected. Equal ranges share a node.
//!
//! Laws:
//!  1. Nodes are in order of (start, end), and a parent's priority is at least its children's.
//!  2. `reach` of a node is the largest end in its subtree.
//!  3. Every node has at least one target.
//!
//! Worked example: with `[a, c) → 1`, `[b, ∞) → 2` and `[x, z) → 3`, key `b` finds 1 and 2 and never
//! looks at the children of `[x, z)`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::rng::Rng;

/// Where a range stops; ordered, with `Open` behind every key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Below this key.
    Before(Bytes),
    /// Nowhere.
    Open,
}

impl Stop {
    fn admits(&self, key: &[u8]) -> bool {
        match self {
            Stop::Before(end) => key < &end[..],
            Stop::Open => true,
        }
    }
}

/// Ranges of keys, each with the targets that asked for it.
#[derive(Debug)]
pub(super) struct IntervalMap<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: Link,
    /// Priorities come from here, so no client can choose ranges that degrade the tree.
    rng: Rng,
}

type Link = Option<u32>;

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    stop: Stop,
    reach: Stop,
    targets: BTreeSet<T>,
    priority: u64,
    left: Link,
    right: Link,
}

impl<T: Ord + Copy> IntervalMap<T> {
    /// An empty map.
    pub fn new(rng: Rng) -> IntervalMap<T> {
        IntervalMap { nodes: Vec::new(), free: Vec::new(), root: None, rng }
    }

    /// Adds a target to a range.
    pub fn insert(&mut self, start: &Bytes, stop: &Stop, target: T) {
        if let Some(at) = self.find(start, stop) {
            self.nodes[at as usize].targets.insert(target);
            return;
        }
        let node = self.allocate(start.clone(), stop.clone(), target);
        let (left, right) = self.split(self.root, start, stop);
        let left = self.merge(left, Some(node));
        self.root = self.merge(left, right);
    }

    /// Takes a target off a range.
    pub fn remove(&mut self, start: &Bytes, stop: &Stop, target: T) {
        let Some(at) = self.find(start, stop) else { return };
        let targets = &mut self.nodes[at as usize].targets;
        targets.remove(&target);
        if targets.is_empty() {
            self.root = self.detach(self.root, at);
            let node = &mut self.nodes[at as usize];
            (node.start, node.stop, node.reach) = (Bytes::new(), Stop::Open, Stop::Open);
            (node.left, node.right) = (None, None);
            self.free.push(at);
        }
    }

    /// Calls `visit` for each target of each range that contains `key`.
    pub fn stab(&self, key: &[u8], visit: &mut dyn FnMut(T)) {
        self.stab_below(self.root, key, visit);
    }

    fn stab_below(&self, link: Link, key: &[u8], visit: &mut dyn FnMut(T)) {
        let Some(at) = link else { return };
        let node = &self.nodes[at as usize];
        if !node.reach.admits(key) {
            return;
        }
        self.stab_below(node.left, key, visit);
        if &node.start[..] <= key {
            if node.stop.admits(key) {
                node.targets.iter().for_each(|target| visit(*target));
            }
            self.stab_below(node.right, key, visit);
        }
    }

    fn find(&self, start: &Bytes, stop: &Stop) -> Link {
        let mut link = self.root;
        while let Some(at) = link {
            let node = &self.nodes[at as usize];
            link = match (start, stop).cmp(&(&node.start, &node.stop)) {
                Ordering::Less => node.left,
                Ordering::Equal => return link,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    fn allocate(&mut self, start: Bytes, stop: Stop, target: T) -> u32 {
        let node = Node {
            start,
            reach: stop.clone(),
            stop,
            targets: BTreeSet::from([target]),
            priority: self.rng.next(),
            left: None,
            right: None,
        };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer ranges than 2^32 fit in memory")
            }
        }
    }

    /// The nodes below `link` as two trees: those before (start, stop) and the others.
    fn split(&mut self, link: Link, start: &Bytes, stop: &Stop) -> (Link, Link) {
        let Some(at) = link else { return (None, None) };
        let node = &self.nodes[at as usize];
        if (&node.start, &node.stop) < (start, stop) {
            let (left, right) = self.split(node.right, start, stop);
            self.nodes[at as usize].right = left;
            self.refresh(at);
            (link, right)
        } else {
            let (left, right) = self.split(node.left, start, stop);
            self.nodes[at as usize].left = right;
            self.refresh(at);
            (left, link)
        }
    }

    /// One tree of two, where everything in `left` is before everything in `right`.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        let (Some(l), Some(r)) = (left, right) else { return left.or(right) };
        if self.nodes[l as usize].priority >= self.nodes[r as usize].priority {
            let joined = self.merge(self.nodes[l as usize].right, right);
            self.nodes[l as usize].right = joined;
            self.refresh(l);
            left
        } else {
            let joined = self.merge(left, self.nodes[r as usize].left);
            self.nodes[r as usize].left = joined;
            self.refresh(r);
            right
        }
    }

    /// The tree below `link` without the node `gone`, which is in it.
    fn detach(&mut self, link: Link, gone: u32) -> Link {
        let at = link.expect("the node to detach was found in this tree");
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        if at == gone {
            return self.merge(left, right);
        }
        let wanted = &self.nodes[gone as usize];
        if (&wanted.start, &wanted.stop) < (&node.start, &node.stop) {
            let left = self.detach(left, gone);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.detach(right, gone);
            self.nodes[at as usize].right = right;
        }
        self.refresh(at);
        link
    }

    /// Restores law 2 at a node whose children are right.
    fn refresh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut reach = &node.stop;
        for child in [node.left, node.right].into_iter().flatten() {
            reach = reach.max(&self.nodes[child as usize].reach);
        }
        let reach = reach.clone();
        self.nodes[at as usize].reach = reach;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stop(byte: Option<u8>) -> Stop {
        byte.map_or(Stop::Open, |byte| Stop::Before(Bytes::copy_from_slice(&[byte])))
    }

    fn check(map: &IntervalMap<u8>, link: Link) -> (Stop, u64) {
        let Some(at) = link else { return (Stop::Before(Bytes::new()), 0) };
        let node = &map.nodes[at as usize];
        assert!(!node.targets.is_empty(), "law 3");
        let (left, right) = (check(map, node.left), check(map, node.right));
        assert!(node.priority >= left.1.max(right.1), "law 1");
        let reach = node.stop.clone().max(left.0).max(right.0);
        assert_eq!(node.reach, reach, "law 2");
        (reach, node.priority)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_key_finds_the_ranges_a_list_would(
            steps in prop::collection::vec((0..3u8, 0..9u8, prop::option::of(0..12u8), 0..4u8), 1..80)
        ) {
            let mut map = IntervalMap::new(crate::rng::Rng::new(7));
            let mut list = BTreeSet::new();
            for (kind, start, end, target) in steps {
                let (from, to) = (Bytes::copy_from_slice(&[start]), stop(end));
                if kind > 0 {
                    map.insert(&from, &to, target);
                    list.insert((start, to, target));
                } else {
                    map.remove(&from, &to, target);
                    list.remove(&(start, to, target));
                }
                check(&map, map.root);
                for key in 0..13u8 {
                    let mut found = Vec::new();
                    map.stab(&[key], &mut |target| found.push(target));
                    let wanted: Vec<u8> = list
                        .iter()
                        .filter(|(from, to, _)| *from <= key && to.admits(&[key]))
                        .map(|(_, _, target)| *target)
                        .collect();
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }
}
