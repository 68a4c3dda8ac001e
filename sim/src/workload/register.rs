//! Requests on single registers, for the linearizability search: a fresh set of keys every few
//! seconds, so that each key's history is a small window that begins empty.

use bytes::Bytes;
use holdfast_core::id::LeaseId;
use holdfast_core::query::Query;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, Range, Txn, TxnOp,
};

use super::Client;
use crate::clock::Moment;

/// Keys of registers begin like this.
pub const PREFIX: &str = "reg/";

/// How long one set of registers is in use, in nanoseconds.
const EPOCH: u64 = 3_000_000_000;

/// Registers in use at a time.
const WIDTH: u64 = 2;

pub(super) fn draw(client: &mut Client, now: Moment) -> Query {
    let key = Bytes::from(format!("{PREFIX}{}/{}", now.0 / EPOCH, client.rng.below(WIDTH)));
    match client.rng.below(100) {
        0..=49 => Query::Range(Range::of(KeyRange::single(key))),
        50..=79 => Query::Put(put(client, key)),
        80..=94 => swap(client, key),
        _ => Query::DeleteRange(DeleteRange { keys: KeyRange::single(key), prev_kv: false }),
    }
}

fn put(client: &mut Client, key: Bytes) -> Put {
    client.values += 1;
    let number = client.number as u64 * 1_000_000 + client.values;
    Put {
        key,
        value: Bytes::from(number.to_string()),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

/// Sets the register if it is empty, or if it holds a value that one of the clients may have written
/// lately.
fn swap(client: &mut Client, key: Bytes) -> Query {
    let target = if client.rng.chance(50) {
        CompareTarget::Create(0)
    } else {
        let whose = client.rng.below(4) * 1_000_000;
        let value = whose + client.values.saturating_sub(client.rng.below(8));
        CompareTarget::Value(Bytes::from(value.to_string()))
    };
    let keys = KeyRange::single(key.clone());
    Query::Txn(Txn {
        compares: vec![Compare { keys: keys.clone(), result: CompareResult::Equal, target }],
        success: vec![TxnOp::Put(put(client, key))],
        failure: vec![TxnOp::Range(Range::of(keys))],
    })
}
