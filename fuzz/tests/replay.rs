//! Every target over its committed corpus and over mutations of it, in plain `cargo test`.
//! `UPDATE=1` writes the seeds that `holdfast_fuzz::seeds` makes; other files in a corpus, such as
//! inputs that once failed, stay and are run too.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_core::rng::Rng;
use holdfast_fuzz::{TARGETS, seeds};

/// Mutations of each seed.
const MUTATIONS: usize = 200;
/// And of those that are cheap to run and hard to get right.
const MUTATIONS_MANY: usize = 5000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn the_committed_seeds_are_what_our_code_writes() {
    for (target, _) in TARGETS {
        let made = seeds::corpus(target);
        assert!(made.len() >= 3, "{target} has a handful of seeds");
        for (name, bytes) in made {
            let path = folder(target).join(name);
            if std::env::var_os("UPDATE").is_some() {
                fs::create_dir_all(folder(target)).expect("the tree is writable under UPDATE");
                fs::write(&path, &bytes).expect("the tree is writable under UPDATE");
            }
            let committed = fs::read(&path).unwrap_or_default();
            assert!(committed == bytes, "{}: run with UPDATE=1 and look", path.display());
        }
    }
}

#[test]
fn good_bytes_are_accepted() {
    assert!(seeds::log(1).len() >= 2, "several segments");
    assert!(seeds::pages(1).len() >= 5, "a tree of several levels");
    assert!(seeds::checkpoint(1).len() >= 3, "superblock, values, pages, manifest");
}

#[test]
fn wal_replay_takes_anything() {
    mutate("wal_replay", MUTATIONS);
}

#[test]
fn checkpoint_takes_anything() {
    mutate("checkpoint", MUTATIONS);
}

#[test]
fn transfer_takes_anything() {
    mutate("transfer", MUTATIONS);
}

#[test]
fn node_inputs_takes_anything() {
    mutate("node_inputs", MUTATIONS_MANY);
}

#[test]
fn page_takes_anything() {
    mutate("page", MUTATIONS);
}

#[test]
fn decoders_of_messages_take_anything() {
    mutate("entry_codec", MUTATIONS);
    mutate("peer_frame", MUTATIONS);
    mutate("wire", MUTATIONS);
}

#[test]
fn connections_take_anything() {
    mutate("http2", MUTATIONS);
}

fn mutate(name: &str, mutations: usize) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let target = found.expect("a target of the table").1;
    let mut inputs: Vec<PathBuf> = fs::read_dir(folder(name))
        .expect("the corpus is committed")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 3, "the corpus is where it belongs");
    let mut rng = Rng::new(0xf022);
    for input in inputs {
        let bytes = fs::read(&input).expect("a readable input");
        target(&bytes);
        for _ in 0..mutations {
            target(&mutated(&bytes, &mut rng));
        }
    }
}

/// A few random edits: a byte changed, put in, taken out; a piece doubled; the end cut off.
fn mutated(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.between(1, 12) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 | 1 => bytes.insert(at, rng.next() as u8),
            2 if at < bytes.len() => bytes[at] = rng.next() as u8,
            3 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            5 if rng.chance(20) => bytes.truncate(at),
            _ => {
                let end = bytes.len().min(at + 6);
                bytes.extend_from_within(at..end);
            }
        }
    }
    bytes
}
