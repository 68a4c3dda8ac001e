//! Published roots: what readers on other threads see, and what their going gives back.

use std::ops::ControlFlow;
use std::sync::mpsc;

use holdfast_storage::tree::{Root, Tree};

use super::assert_empty;

fn key(n: u64) -> Vec<u8> {
    format!("/registry/leases/ns-{:03}/name-{n:08}", n % 100).into_bytes()
}

/// Every row of a root says the round it was published in, and the count is exact.
fn assert_of_round(root: &Root, round: u64, keys: u64) {
    let mut rows = 0;
    root.scan(b"", None, &mut |_, value| {
        assert_eq!(value, round.to_le_bytes());
        rows += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((rows, root.count_live(b"", None)), (keys, keys));
    assert_eq!(root.get(&key(round % keys)).expect("present")[..], round.to_le_bytes());
}

#[test]
fn readers_see_their_round_while_the_writer_goes_on() {
    const KEYS: u64 = 700;
    const ROUNDS: u64 = 150;
    let mut tree = Tree::new();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver) = mpsc::sync_channel::<(Root, u64)>(4);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for (root, round) in receiver {
                        assert_of_round(&root, round, KEYS);
                        held.push((root, round));
                        if held.len() > 5 {
                            let (root, round) = held.swap_remove(round as usize % 5);
                            assert_of_round(&root, round, KEYS);
                        }
                    }
                });
                sender
            })
            .collect();
        for round in 0..ROUNDS {
            for n in 0..KEYS {
                tree.insert(&key(n), &round.to_le_bytes(), true);
            }
            let root = tree.publish();
            for reader in &readers {
                reader.send((root.clone(), round)).expect("readers outlive the writer");
            }
        }
    });
    for n in 0..KEYS {
        assert!(tree.remove(&key(n)));
    }
    assert_empty(tree);
}

#[test]
fn a_root_outlives_its_tree() {
    let mut tree = Tree::new();
    for n in 0..1000 {
        tree.insert(&key(n), b"x", true);
    }
    let root = tree.publish();
    drop(tree);
    assert_eq!(root.count_live(b"", None), 1000);
}

#[test]
fn without_roots_pages_change_in_place() {
    let mut tree = Tree::new();
    for n in 0..5000 {
        tree.insert(&key(n), b"12345678", true);
    }
    drop(tree.publish());
    let bytes = tree.stats().bytes;
    for n in 0..5000 {
        tree.insert(&key(n), b"87654321", true);
        drop(tree.publish());
    }
    assert_eq!(tree.stats().bytes, bytes);
}

/// An old snapshot keeps its own pages and not those of the versions after it.
#[test]
fn an_old_root_keeps_only_what_it_sees() {
    let mut tree = Tree::new();
    for n in 0..2000 {
        tree.insert(&key(n), b"12345678", true);
    }
    let old = tree.publish();
    let mut newest = tree.publish();
    for round in 0..50u64 {
        for n in 0..2000 {
            tree.insert(&key(n), &round.to_le_bytes(), true);
        }
        newest = tree.publish();
    }
    let pages = tree.stats().pages;
    assert!(tree.stats().bytes <= 3 * pages * 4096, "{:?}", tree.stats());
    drop(newest);
    drop(old);
    drop(tree.publish());
    drop(tree.publish());
    tree.check().expect("invariants hold");
    assert_eq!(tree.stats().bytes, pages * 4096);
}

#[test]
fn long_keys_that_differ_in_the_last_byte() {
    let mut tree = Tree::new();
    let long = |len: usize, last: u8| [&vec![b'k'; len - 1][..], &[last]].concat();
    let keys = [long(1 << 20, 1), long(1 << 20, 2), long(2 << 20, 1), long(513, 0), long(512, 0)];
    for (n, key) in keys.iter().enumerate() {
        tree.insert(key, &vec![n as u8; n * 3000], true);
    }
    tree.check().expect("invariants hold");
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(tree.get(key).expect("present")[..], vec![n as u8; n * 3000]);
    }
    assert_eq!(tree.count_live(&keys[0], Some(&keys[1])), 1);
    let root = tree.publish();
    // Enough short keys between the long ones to make separators of them.
    for n in 0..2000u32 {
        let (a, b) = (long(600, b'a'), n.to_be_bytes());
        tree.insert(&[&a[..], &b].concat(), &b, n % 2 == 0);
        if n % 50 == 0 {
            tree.insert(&[&keys[0][..], &b].concat(), &b, true);
        }
    }
    assert_eq!(tree.count_live(&keys[0], Some(&keys[1])), 41);
    tree.check().expect("invariants hold");
    assert_eq!(root.count_live(b"", None), 5);
    let mut all = Vec::new();
    tree.scan(b"", None, &mut |key, _| {
        all.push(key.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!(all.len(), 2045);
    for key in all {
        assert!(tree.remove(&key));
    }
    drop(root);
    assert_empty(tree);
}

/// Publishing copies nothing; the first change after it copies one page per level, whatever the size.
#[test]
fn a_change_after_publishing_copies_one_path() {
    for (keys, levels) in [(20, 1), (1000, 2), (100_000, 3)] {
        let mut tree = Tree::new();
        for n in 0..keys {
            tree.insert(&key(n), b"12345678", true);
        }
        let before = tree.stats();
        let root = tree.publish();
        assert_eq!(tree.stats(), before);
        tree.insert(&key(7), b"87654321", true);
        tree.insert(&key(7), b"00000000", true);
        assert_eq!(tree.stats().bytes, before.bytes + levels * 4096);
        assert_eq!(root.get(&key(7)).expect("present")[..], *b"12345678");
    }
}

/// Keys as Kubernetes has them, in random order, with rows of 30 bytes.
#[test]
fn a_key_costs_at_most_95_bytes() {
    const KEYS: u64 = 50_000;
    let mut tree = Tree::new();
    let mut bytes = 0;
    for n in 0..KEYS {
        let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let kind = ["pods", "configmaps", "secrets", "leases"][(hash >> 62) as usize];
        let (space, end) = (hash >> 40 & 127, hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8);
        let key =
            format!("/registry/{kind}/namespace-{space:03}/service-deployment-{end:014x}-abcde");
        bytes += key.len() as u64;
        tree.insert(key.as_bytes(), &[7; 30], true);
    }
    assert!((65 * KEYS..75 * KEYS).contains(&bytes), "{} per key", bytes / KEYS);
    let stats = tree.stats();
    assert_eq!(stats.keys, KEYS);
    assert!(stats.bytes <= 95 * KEYS, "{} bytes a key", stats.bytes / KEYS);
}
