//! What publishing costs at a thousand and at a million keys. A ratio of at most 2 is wanted.
//!
//! Three prices, each with its ratio between the two sizes. Only the first keeps to 2:
//!
//!  - `publish`: making the private root public and taking a snapshot of it.
//!  - `first write` after that, which copies the pages on one path because the published root holds
//!    them. The path of the larger tree is longer and colder.
//!  - a whole batch of 64 random writes with its publish: there nearly every write of the larger tree
//!    meets a page that is not in the processor's cache and not copied yet.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use holdfast_core::rng::Rng;
use holdfast_storage::tree::{Root, Tree};

/// Writes of one batch.
const BATCH: usize = 64;

/// Measurements from which the ratio's medians are taken.
const ROUNDS: usize = 5_001;

struct Rig {
    tree: Tree,
    held: Root,
    keys: u64,
    rng: Rng,
}

impl Rig {
    fn new(keys: u64) -> Rig {
        let mut tree = Tree::new();
        for number in 0..keys {
            tree.insert(&key(number), &[7; 28], true);
        }
        let held = tree.publish();
        Rig { tree, held, keys, rng: Rng::new(1) }
    }

    fn write(&mut self) {
        let key = key(self.rng.below(self.keys));
        self.tree.insert(&key, &[8; 28], true);
    }

    /// Publishes something new, takes a snapshot, and lets the one before go afterwards.
    fn publish(&mut self) -> Duration {
        self.write();
        let begun = Instant::now();
        let published = self.tree.publish();
        let snapshot = black_box(published.clone());
        let took = begun.elapsed();
        self.held = published;
        drop(snapshot);
        took
    }

    /// The first write of a tree whose every page is held by a snapshot.
    fn first_write(&mut self) -> Duration {
        self.publish();
        let key = key(self.rng.below(self.keys));
        let begun = Instant::now();
        self.tree.insert(&key, &[9; 28], true);
        begun.elapsed()
    }

    fn batch(&mut self) -> Duration {
        let begun = Instant::now();
        for _ in 0..BATCH {
            self.write();
        }
        self.held = self.tree.publish();
        begun.elapsed()
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("/registry/pods/namespace/{number:07}").into_bytes()
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_unstable();
    all[ROUNDS / 2]
}

fn publishing(criterion: &mut Criterion) {
    let mut medians = Vec::new();
    for (name, keys) in [("1k", 1_000), ("1M", 1_000_000)] {
        let mut rig = Rig::new(keys);
        let mut group = criterion.benchmark_group(format!("tree/{name}"));
        group.sample_size(20).measurement_time(Duration::from_secs(2));
        type Measure = fn(&mut Rig) -> Duration;
        let measures: [(&str, Measure); 3] = [
            ("publish", Rig::publish),
            ("first_write", Rig::first_write),
            ("batch_of_64", Rig::batch),
        ];
        for (what, measure) in measures {
            group.bench_function(what, |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| measure(&mut rig)).sum());
            });
        }
        group.finish();
        medians.push(measures.map(|(_, measure)| median(|| measure(&mut rig))));
    }
    let [small, large] = [&medians[0], &medians[1]];
    println!(
        "medians at 1k keys: publish {:?}, first write {:?}, batch {:?}",
        small[0], small[1], small[2]
    );
    println!(
        "medians at 1M keys: publish {:?}, first write {:?}, batch {:?}",
        large[0], large[1], large[2]
    );
    let ratio = |nth: usize| large[nth].as_secs_f64() / small[nth].as_secs_f64();
    println!(
        "1M to 1k: publish and snapshot {:.2}, first write {:.2}, whole batch {:.2}",
        ratio(0),
        ratio(1),
        ratio(2)
    );
}

criterion_group!(benches, publishing);
criterion_main!(benches);
