//! Requests about plain keys: puts, reads with every option, removals, transactions, compaction.

use std::collections::BTreeSet;

use bytes::Bytes;
use holdfast_core::id::LeaseId;
use holdfast_core::query::Query;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, Range, RangeEnd, SortOrder,
    SortTarget, Txn, TxnOp,
};
use holdfast_core::rng::Rng;

use super::{Client, Told};
use crate::swarm::WorkMix;

/// Plain keys begin like this.
pub const PREFIX: &str = "k/";

pub(super) fn draw(client: &mut Client, mix: &WorkMix, told: Told) -> Query {
    match client.rng.below(100) {
        0..=34 => Query::Put(put(client, mix)),
        35..=44 => Query::Range(Range::of(KeyRange::single(key(client, mix)))),
        45..=61 => Query::Range(range(client, mix, told)),
        62..=70 => {
            let prev_kv = client.rng.chance(50);
            Query::DeleteRange(DeleteRange { keys: doomed(client, mix), prev_kv })
        }
        71..=92 => Query::Txn(txn(client, mix, told)),
        93..=94 => Query::MemberList { linearizable: client.rng.chance(50) },
        95 => Query::Status,
        96 => Query::AlarmList,
        _ => read_txn(client, mix, told),
    }
}

pub(super) fn compact(client: &mut Client, told: Told) -> Query {
    let behind = client.rng.below(60) as i64;
    let revision = (told.revision - behind).max(told.compacted + 1).max(1);
    Query::Compact { revision, physical: client.rng.chance(20) }
}

fn key(client: &mut Client, mix: &WorkMix) -> Bytes {
    Bytes::from(format!("{PREFIX}{:02}", client.rng.below(mix.keys)))
}

fn put(client: &mut Client, mix: &WorkMix) -> Put {
    let key = key(client, mix);
    let ignore_value = client.rng.chance(4);
    let ignore_lease = client.rng.chance(4);
    let lease = match client.leases.last() {
        Some(lease) if !ignore_lease && client.rng.chance(10) => LeaseId(*lease),
        _ => LeaseId::NONE,
    };
    let value = if ignore_value { Bytes::new() } else { client.value(mix.value_bytes_max) };
    Put { key, value, lease, prev_kv: client.rng.chance(30), ignore_value, ignore_lease }
}

fn keys(client: &mut Client, mix: &WorkMix) -> KeyRange {
    let start = key(client, mix);
    match client.rng.below(10) {
        0 => KeyRange { start, end: RangeEnd::Open },
        1 => KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Open },
        2 | 3 => KeyRange { start, end: RangeEnd::Before(key(client, mix)) },
        4 => KeyRange::single(start),
        _ => KeyRange { start: PREFIX.into(), end: RangeEnd::Before("k0".into()) },
    }
}

fn doomed(client: &mut Client, mix: &WorkMix) -> KeyRange {
    let start = key(client, mix);
    if client.rng.chance(80) {
        return KeyRange::single(start);
    }
    let mut end = start.to_vec();
    end.push(b'~');
    end[start.len() - 1] = end[start.len() - 1].saturating_add(2);
    KeyRange { start, end: RangeEnd::Before(end.into()) }
}

fn range(client: &mut Client, mix: &WorkMix, told: Told) -> Range {
    let mut range = Range::of(keys(client, mix));
    let rng = &mut client.rng;
    if rng.chance(40) {
        range.limit = rng.between(1, 6) as i64;
    }
    if rng.chance(25) {
        // Mostly revisions that can be read, some that cannot.
        let back = rng.below(40) as i64;
        range.revision = (told.revision - back + i64::from(rng.chance(5)) * 100).max(1);
    }
    range.serializable = rng.chance(30);
    range.keys_only = rng.chance(20);
    range.count_only = rng.chance(10);
    arrange(rng, &mut range, told, Chances { sorted: 30, filtered: 15 });
    range
}

fn compare(client: &mut Client, mix: &WorkMix) -> Compare {
    let keys =
        if client.rng.chance(85) { KeyRange::single(key(client, mix)) } else { keys(client, mix) };
    let rng = &mut client.rng;
    let result = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ][rng.below(4) as usize];
    let target = match rng.below(5) {
        0 => CompareTarget::Version(rng.below(4) as i64),
        1 => CompareTarget::Create(rng.below(3) as i64 * rng.below(200) as i64),
        2 => CompareTarget::Mod(rng.below(300) as i64),
        3 => CompareTarget::Value(Bytes::from_static(b"c1")),
        _ => CompareTarget::Lease(0),
    };
    Compare { keys, result, target }
}

fn txn(client: &mut Client, mix: &WorkMix, told: Told) -> Txn {
    let compares = (0..client.rng.below(3)).map(|_| compare(client, mix)).collect();
    let depth = if client.extra.chance(10) { 3 } else { 1 };
    let success = branch(client, (mix, told), &mut BTreeSet::new(), depth);
    let failure = branch(client, (mix, told), &mut BTreeSet::new(), depth);
    Txn { compares, success, failure }
}

/// Operations no two of which write one key: `used` holds the keys written so far in this branch,
/// those of nested transactions included.
fn branch(
    client: &mut Client,
    (mix, told): (&WorkMix, Told),
    used: &mut BTreeSet<Bytes>,
    depth: u32,
) -> Vec<TxnOp> {
    let mut ops = Vec::new();
    for _ in 0..client.rng.below(5) {
        match client.rng.below(10) {
            0..=3 => {
                let put = put(client, mix);
                if used.insert(put.key.clone()) {
                    ops.push(TxnOp::Put(put));
                }
            }
            4 | 5 => {
                let key = key(client, mix);
                if used.insert(key.clone()) {
                    let prev_kv = client.rng.chance(50);
                    let keys = KeyRange::single(key);
                    ops.push(TxnOp::DeleteRange(DeleteRange { keys, prev_kv }));
                }
            }
            6 if depth > 0 => {
                let compares = vec![compare(client, mix)];
                let success = branch(client, (mix, told), used, depth - 1);
                let failure = branch(client, (mix, told), used, depth - 1);
                ops.push(TxnOp::Txn(Box::new(Txn { compares, success, failure })));
            }
            _ => {
                let mut range = Range::of(keys(client, mix));
                range.limit = client.rng.below(5) as i64;
                range.keys_only = client.rng.chance(20);
                ops.push(TxnOp::Range(embellished(client, range, told)));
            }
        }
    }
    ops
}

/// A range inside a transaction with options. One that names a revision which cannot be read has the whole
/// transaction refused, so most can be.
fn embellished(client: &mut Client, mut range: Range, told: Told) -> Range {
    let rng = &mut client.extra;
    if rng.chance(20) {
        let readable = (told.revision - told.compacted.max(1)).max(1) as u64;
        range.revision = match rng.below(12) {
            0 => told.revision + rng.below(30) as i64,
            1 => (told.compacted - rng.below(3) as i64).max(1),
            2 => -(rng.below(3) as i64),
            _ => told.revision - rng.below(readable) as i64,
        };
    }
    range.count_only = rng.chance(10);
    arrange(rng, &mut range, told, Chances { sorted: 40, filtered: 20 });
    range
}

/// In how many of a hundred ranges.
struct Chances {
    sorted: u64,
    filtered: u64,
}

/// Some ranges have an order, some a filter.
fn arrange(rng: &mut Rng, range: &mut Range, told: Told, chances: Chances) {
    if rng.chance(chances.sorted) {
        (range.order, range.target) = sorting(rng);
    }
    if rng.chance(chances.filtered) {
        filter(rng, range, told);
    }
}

fn sorting(rng: &mut Rng) -> (SortOrder, SortTarget) {
    let order = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][rng.below(3) as usize];
    let target = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ][rng.below(5) as usize];
    (order, target)
}

fn filter(rng: &mut Rng, range: &mut Range, told: Told) {
    let bound = (told.revision - rng.below(50) as i64).max(1);
    match rng.below(4) {
        0 => range.mod_min = bound,
        1 => range.mod_max = bound,
        2 => range.create_min = bound,
        _ => range.create_max = bound,
    }
}

fn read_txn(client: &mut Client, mix: &WorkMix, told: Told) -> Query {
    let serializable = client.rng.chance(20);
    let read = |client: &mut Client| {
        let range = Range { serializable, ..Range::of(keys(client, mix)) };
        TxnOp::Range(embellished(client, range, told))
    };
    let compares = vec![compare(client, mix)];
    let (success, failure) = (vec![read(client), read(client)], vec![read(client)]);
    Query::Txn(Txn { compares, success, failure })
}
