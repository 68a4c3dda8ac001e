//! What happens when very many leases end at the same time, each with a key, while one client puts: how long
//! until all are revoked, and the slowest put. The disk's orders are carried out in between, so their time is in
//! both.
//!
//! `cargo bench -p holdfast-benches --bench lease [-- LEASES]`; a hundred thousand unless said otherwise. The goal is
//! 2 s, and no put slower than 50 ms, on a quiet machine.

#[expect(dead_code, reason = "shared with another bench")]
mod rig;

use std::time::{Duration, Instant};

use holdfast_core::fact::Fact;
use holdfast_core::id::LeaseId;
use holdfast_core::limits::Limits;
use holdfast_core::query::Query;
use holdfast_core::request::Put;
use holdfast_net::call::StreamId;

use rig::{Rig, Times};

/// Requests of one turn.
const BATCH: i64 = 500;

/// Seconds that the leases are granted for, and renewed for once all are there.
const TTL: i64 = 60;

fn main() {
    let leases = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(100_000);
    let mut rig = Rig::new("bench-lease", Limits::default());
    for from in (0..leases).step_by(BATCH as usize) {
        let ids = from + 1..=(from + BATCH).min(leases);
        batch(&mut rig, ids.clone().map(|id| Query::LeaseGrant { id: LeaseId(id), ttl: TTL }));
        batch(&mut rig, ids.map(|id| put(format!("/leased/{id}"), LeaseId(id))));
    }
    for from in (0..leases).step_by(BATCH as usize) {
        let ids = from + 1..=(from + BATCH).min(leases);
        batch(&mut rig, ids.map(|id| Query::LeaseKeepAlive { id: LeaseId(id) }));
    }
    println!("{leases} leases of {TTL} s with a key each, which end while the member stands still");
    std::thread::sleep(Duration::from_secs(TTL as u64 + 1));
    rig.pieces.clear();
    expire(&mut rig, leases as usize);
    rig.pieces.show("processor time of the turns");
}

/// Waits for the leases to end, and puts all the time.
fn expire(rig: &mut Rig, leases: usize) {
    rig.facts();
    let (mut puts, mut reported, mut began) = (Times::default(), 0, None);
    let mut under_way: Option<(StreamId, Instant)> = None;
    while reported < leases || left(rig) > 0 {
        let (call, since) = *under_way
            .get_or_insert_with(|| (rig.ask(put("/other".into(), LeaseId::NONE)), Instant::now()));
        rig.turn();
        if let Some(answered) = rig.answers.remove(&call) {
            answered.expect("a put is not refused");
            under_way = None;
            if began.is_some() {
                puts.push(since.elapsed());
            }
        }
        let expired =
            rig.facts().iter().filter(|fact| matches!(fact, Fact::LeaseExpired { .. })).count();
        if expired > 0 {
            began.get_or_insert_with(Instant::now);
        }
        reported += expired;
    }
    let took = began.map_or(Duration::ZERO, |began| began.elapsed());
    println!("  from the first expiry to the last revocation: {took:.2?}");
    println!("  puts meanwhile, median / p99 / longest: {}", puts.show());
}

/// Leases that are there, as readers see it; looked at only near the end.
fn left(rig: &Rig) -> usize {
    holdfast_core::machine::leases(rig.edge.snapshot()).len()
}

fn batch(rig: &mut Rig, queries: impl Iterator<Item = Query>) {
    let calls: Vec<StreamId> = queries.map(|query| rig.ask(query)).collect();
    for call in calls {
        rig.wait(call).expect("it is not refused");
    }
}

fn put(key: String, lease: LeaseId) -> Query {
    Query::Put(Put {
        key: key.into(),
        value: vec![b'v'; 64].into(),
        lease,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}
