//! Reads of the oracle: etcd's order of filter, sort and limit (surface 1.8), evaluated in full.

use std::cmp::Ordering;

use bytes::Bytes;
use holdfast_core::id::RevSub;
use holdfast_core::mvcc::Pairs;
use holdfast_core::query::RangeAnswer;
use holdfast_core::request::{Range, SortOrder, SortTarget};

use super::{Model, Version, encode};

/// What `range` answers from the versions strictly below a bound.
pub(super) fn evaluate(model: &Model, below: RevSub, range: &Range) -> RangeAnswer {
    let mut found = model.live(&range.keys, below);
    let count = found.len() as i64;
    if range.count_only {
        return RangeAnswer { kvs: Pairs::default(), more: false, count };
    }
    let limit = usize::try_from(range.limit).unwrap_or(0);
    // Without an order and without filters one more than the limit is taken in key order, before any
    // sorting; the limit itself is applied afterwards.
    if range.order == SortOrder::None && !is_filtered(range) && limit > 0 {
        found.truncate(limit + 1);
    }
    found.retain(|(_, version)| passes(range, version));
    sort(&mut found, range);
    let more = limit > 0 && found.len() > limit;
    if more {
        found.truncate(limit);
    }
    let kvs = found.iter().map(|(key, version)| show(range, key, version)).collect();
    RangeAnswer { kvs, more, count }
}

fn is_filtered(range: &Range) -> bool {
    [range.mod_min, range.mod_max, range.create_min, range.create_max].iter().any(|n| *n != 0)
}

fn passes(range: &Range, version: &Version) -> bool {
    let modified = version.at.main.0;
    (range.mod_max == 0 || modified <= range.mod_max)
        && (range.mod_min == 0 || modified >= range.mod_min)
        && (range.create_max == 0 || version.created <= range.create_max)
        && (range.create_min == 0 || version.created >= range.create_min)
}

fn sort(found: &mut [(&Bytes, &Version)], range: &Range) {
    if range.target == SortTarget::Key && range.order != SortOrder::Descend {
        return;
    }
    let order = |(key_a, a): &(&Bytes, &Version), (key_b, b): &(&Bytes, &Version)| -> Ordering {
        match range.target {
            SortTarget::Key => key_a.cmp(key_b),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.created.cmp(&b.created),
            SortTarget::Mod => a.at.main.cmp(&b.at.main),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match range.order {
        SortOrder::Descend => found.sort_by(|a, b| order(b, a)),
        SortOrder::None | SortOrder::Ascend => found.sort_by(order),
    }
}

fn show(range: &Range, key: &Bytes, version: &Version) -> Bytes {
    if !range.keys_only {
        return encode(key, version);
    }
    // Answered from the index unless sorted by value: then the lease is not known either.
    let lease = if range.target == SortTarget::Value { version.lease } else { 0 };
    encode(key, &Version { value: None, lease, ..version.clone() })
}
