//! How long a removal of very many keys holds its member up: the pieces of every turn, with slices of
//! several sizes, while two clients watch. The limits of `core/src/limits.rs` are chosen by this.
//!
//! `cargo bench -p holdfast-benches --bench slice [-- KEYS]`; a million keys unless said otherwise.

#[expect(dead_code, reason = "shared with another bench")]
mod rig;

use std::time::Instant;

use bytes::Bytes;
use holdfast_core::id::LeaseId;
use holdfast_core::limits::Limits;
use holdfast_core::query::{AnswerBody, Query};
use holdfast_core::request::{DeleteRange, KeyRange, Put};
use holdfast_core::watch::{WatchCreate, WatchRequest, WatchStreamId};

use rig::Rig;

/// Keys written in one turn.
const BATCH: u64 = 1000;

fn main() {
    let keys = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1_000_000);
    let slices = [1024, Limits::default().apply_slice_keys, 16_384];
    for apply_slice_keys in slices {
        let limits = Limits { apply_slice_keys, ..Limits::default() };
        println!("{keys} keys of 256 bytes, slices of {apply_slice_keys}");
        let mut rig = Rig::new("bench-slice", limits);
        watch(&mut rig, 1, KeyRange::from_wire("/bench/".into(), "/bench0".into()));
        watch(&mut rig, 2, KeyRange::single("/other"));
        fill(&mut rig, keys, LeaseId::NONE);
        rig.pieces.show("writing them");
        let deleted = remove(&mut rig);
        assert_eq!(deleted, keys as i64, "all of them");
        let lease = LeaseId(7);
        let grant = rig.ask(Query::LeaseGrant { id: lease, ttl: 9_000_000 });
        rig.wait(grant).expect("a lease");
        fill(&mut rig, keys, lease);
        timed(&mut rig, "revoking their lease", Query::LeaseRevoke { id: lease });
    }
}

fn fill(rig: &mut Rig, keys: u64, lease: LeaseId) {
    rig.pieces.clear();
    for from in (0..keys).step_by(BATCH as usize) {
        let mut last = None;
        for key in from..(from + BATCH).min(keys) {
            last = Some(rig.ask(Query::Put(Put {
                // Not in the order of the keys.
                key: format!("/bench/{:016x}", key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into(),
                value: vec![b'v'; 256].into(),
                lease,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            })));
        }
        rig.wait(last.expect("a batch")).expect("a put is not refused");
        rig.answers.clear();
    }
    settle(rig);
}

fn remove(rig: &mut Rig) -> i64 {
    let keys = KeyRange::from_wire(Bytes::from("/bench/"), Bytes::from("/bench0"));
    let query = Query::DeleteRange(DeleteRange { keys, prev_kv: false });
    match timed(rig, "deleting them", query) {
        AnswerBody::DeleteRange(done) => done.deleted,
        other => panic!("not the answer to a removal: {other:?}"),
    }
}

fn timed(rig: &mut Rig, what: &str, query: Query) -> AnswerBody {
    rig.pieces.clear();
    let begun = Instant::now();
    let call = rig.ask(query);
    let answer = rig.wait(call).expect("it is not refused");
    let took = begun.elapsed();
    settle(rig);
    rig.pieces.show(&format!("{what}, {took:.2?} until the answer"));
    answer.body
}

/// Turns until nobody has anything to do.
fn settle(rig: &mut Rig) {
    while rig.is_busy() || rig.edge.deadline() <= rig.now() {
        rig.turn();
    }
}

fn watch(rig: &mut Rig, stream: u64, keys: KeyRange) {
    let stream = WatchStreamId(stream);
    rig.open(stream);
    let create = WatchCreate {
        id: 0,
        keys,
        start: 0,
        progress_notify: false,
        no_put: false,
        no_delete: false,
        prev_kv: false,
        fragment: true,
    };
    let now = rig.now();
    let (hub, view) = rig.edge.watches();
    let view = view.clone();
    hub.request(now, stream, WatchRequest::Create(create), &view);
}
