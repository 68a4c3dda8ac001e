//! The tree against its dumb twin, a `BTreeMap`: same operations, same answers, at every published
//! root too, while the writer goes on.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use holdfast_storage::tree::{Root, Tree};
use proptest::prelude::*;

mod pages;
mod pins;

type Twin = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<u8>, Vec<u8>, bool),
    Remove(usize),
    RemoveRange(Vec<u8>, usize),
    Publish,
    Drop(usize),
}

/// Keys that share prefixes, differ in zero bytes, are empty, are long, or share all but the end.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let letters =
        prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), any::<u8>()], 0..6);
    prop_oneof![
        4 => letters.clone(),
        6 => (0u16..600).prop_map(|n| format!("/registry/pods/ns-{}/pod-{n:05}", n % 7).into_bytes()),
        3 => (0u8..40, letters.clone()).prop_map(|(n, end)| [&b"/registry/"[..], &[n; 3], &end].concat()),
        2 => (250usize..260, letters.clone()).prop_map(|(n, end)| [&vec![b'p'; n][..], &end].concat()),
        2 => (505usize..520, letters.clone()).prop_map(|(n, end)| [&vec![b'p'; n][..], &end].concat()),
        1 => (0usize..3, letters).prop_map(|(n, end)| [&vec![b'q'; 300 + n * 4056][..], &end].concat()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (240usize..520, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
        1 => (0usize..9000, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        60 => (key(), value(), any::<bool>()).prop_map(|(k, v, live)| Op::Insert(k, v, live)),
        20 => any::<usize>().prop_map(Op::Remove),
        1 => (key(), 0usize..200).prop_map(|(k, n)| Op::RemoveRange(k, n)),
        4 => Just(Op::Publish),
        4 => any::<usize>().prop_map(Op::Drop),
    ]
}

/// One interface over both kinds of root.
trait Read {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    fn rows(&self, from: &[u8], below: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)>;
    fn count(&self, from: &[u8], below: Option<&[u8]>) -> u64;
}

macro_rules! read {
    ($type:ty) => {
        impl Read for $type {
            fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
                self.get(key).map(|value| value.to_vec())
            }
            fn rows(&self, from: &[u8], below: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
                let mut rows = Vec::new();
                self.scan(from, below, &mut |key, value| {
                    rows.push((key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                });
                rows
            }
            fn count(&self, from: &[u8], below: Option<&[u8]>) -> u64 {
                self.count_live(from, below)
            }
        }
    };
}
read!(Tree);
read!(Root);

fn between(twin: &Twin, from: &[u8], below: Option<&[u8]>) -> Twin {
    let end = below.map_or(Bound::Unbounded, Bound::Excluded);
    if below.is_some_and(|below| below <= from) {
        return Twin::new();
    }
    twin.range::<[u8], _>((Bound::Included(from), end))
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect()
}

fn assert_same(read: &impl Read, twin: &Twin, probes: &[Vec<u8>]) {
    let all: Vec<_> = twin.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
    assert_eq!(read.rows(b"", None), all);
    for (index, from) in probes.iter().enumerate() {
        assert_eq!(read.get(from), twin.get(from).map(|(value, _)| value.clone()));
        let below = probes.get(index + 1).map(|below| &below[..]);
        let part = between(twin, from, below);
        let live = part.values().filter(|(_, live)| *live).count() as u64;
        assert_eq!(read.count(from, below), live);
        let rows: Vec<_> = part.into_iter().map(|(key, (value, _))| (key, value)).collect();
        assert_eq!(read.rows(from, below), rows);
    }
}

/// Looks at what is going to be changed, or at its neighbour, or not; the tree remembers the way.
fn look(tree: &mut Tree, twin: &Twin, key: &[u8], how: usize) {
    let seen = |tree: &Tree, key: &[u8]| tree.get(key).map(|value| value.into_vec());
    let there = |key: &[u8]| twin.get(key).map(|(value, _)| value.clone());
    if how.is_multiple_of(2) {
        assert_eq!(seen(tree, key), there(key));
    }
    if how.is_multiple_of(5) {
        drop(tree.publish());
    }
    if how.is_multiple_of(7) {
        let other = [key, &b"."[..]].concat();
        assert_eq!(seen(tree, &other), there(&other));
    }
}

/// Changes both; an operation that is no change changes nothing.
fn apply(op: Op, tree: &mut Tree, twin: &mut Twin) {
    match op {
        Op::Insert(key, value, live) => {
            look(tree, twin, &key, value.len());
            tree.insert(&key, &value, live);
            twin.insert(key, (value, live));
        }
        Op::Remove(at) if !twin.is_empty() => {
            let key = twin.keys().nth(at % twin.len()).expect("in range").clone();
            look(tree, twin, &key, at);
            assert!(tree.remove(&key));
            assert!(!tree.remove(&key));
            twin.remove(&key);
        }
        Op::RemoveRange(from, n) => {
            let keys: Vec<_> = twin.range(from..).take(n).map(|(key, _)| key.clone()).collect();
            for key in keys {
                assert!(tree.remove(&key));
                twin.remove(&key);
            }
        }
        Op::Remove(_) | Op::Publish | Op::Drop(_) => {}
    }
}

/// Runs `ops` on both; compares every root that is still held at its end, and empties the tree.
fn run(ops: Vec<Op>, probes: &[Vec<u8>]) {
    let (mut tree, mut twin) = (Tree::new(), Twin::new());
    let mut roots: Vec<(Root, Twin)> = Vec::new();
    for (index, op) in ops.into_iter().enumerate() {
        match op {
            Op::Publish => roots.push((tree.publish(), twin.clone())),
            Op::Drop(at) if !roots.is_empty() => {
                let (root, twin) = roots.swap_remove(at % roots.len());
                assert_same(&root, &twin, probes);
            }
            Op::Drop(_) => {}
            change => apply(change, &mut tree, &mut twin),
        }
        if index % 64 == 0 {
            tree.check().expect("invariants hold");
        }
    }
    tree.check().expect("invariants hold");
    assert_same(&tree, &twin, probes);
    for (root, twin) in &roots {
        assert_same(root, twin, probes);
    }
    let stats = tree.stats();
    assert_eq!(
        (stats.keys, stats.live),
        (twin.len() as u64, twin.values().filter(|(_, live)| *live).count() as u64)
    );
    drop(roots);
    for key in twin.keys() {
        assert!(tree.remove(key));
    }
    assert_empty(tree);
}

/// An empty tree whose roots are gone holds one frame.
fn assert_empty(mut tree: Tree) {
    tree.check().expect("invariants hold");
    drop(tree.publish());
    drop(tree.publish());
    let stats = tree.stats();
    assert_eq!((stats.keys, stats.live, stats.pages, stats.bytes), (0, 0, 1, 4096));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn same_as_a_map(
        ops in prop::collection::vec(op(), 1..1200),
        probes in prop::collection::vec(key(), 1..40),
    ) {
        run(ops, &probes);
    }

    #[test]
    fn same_as_a_map_when_all_entries_are_big(
        ops in prop::collection::vec((key(), 400usize..512, any::<bool>(), any::<bool>()), 1..400),
        probes in prop::collection::vec(key(), 1..20),
    ) {
        let ops = ops.into_iter().map(|(mut key, n, live, remove)| {
            key.extend(vec![b'z'; n - 300]);
            if remove { Op::Remove(n * 7919) } else { Op::Insert(key, vec![1; n], live) }
        });
        run(ops.collect(), &probes);
    }

    /// Separators of 400 bytes make branches of few children, so that whole branches empty, join
    /// and split again.
    #[test]
    fn same_as_a_map_when_ranges_come_and_go(
        ranges in prop::collection::vec((0usize..600, 1usize..300, any::<bool>()), 1..24),
        spacing in 1usize..4, filler in prop_oneof![Just(300usize), Just(600)],
    ) {
        let key = |n: usize| {
            let group = u16::try_from(n / 8).expect("small").to_be_bytes();
            [&group[..], &vec![b'x'; filler], &[n as u8 % 8]].concat()
        };
        let (mut tree, mut twin) = (Tree::new(), Twin::new());
        for n in 0..600 {
            tree.insert(&key(n), &[1; 400], true);
            twin.insert(key(n), (vec![1; 400], true));
        }
        for (start, len, insert) in ranges {
            for n in (start..start + len).step_by(spacing) {
                if insert {
                    tree.insert(&key(n), &[2; 400], n % 2 == 0);
                    twin.insert(key(n), (vec![2; 400], n % 2 == 0));
                } else {
                    assert_eq!(tree.remove(&key(n)), twin.remove(&key(n)).is_some());
                }
            }
            tree.check().expect("invariants hold");
        }
        let probes: Vec<_> = (0..900).step_by(7).map(key).collect();
        assert_same(&tree, &twin, &probes);
        for key in twin.keys() {
            assert!(tree.remove(key));
        }
        assert_empty(tree);
    }
}
