//! Transactions: their checks, and their answers.
//!
//! The checks in etcd's order (surface 1.9 rows 1 to 4):
//!  1. Depth first, each transaction: the number of its operations, the keys of its compares, then
//!     the operations of `success` and of `failure`. The budget of a nested transaction is what the
//!     largest of its parent's three lists leaves over.
//!  2. Afterwards, in `success` and then in `failure`: two puts of one key, or a put inside a removed
//!     range, wherever in the branch they stand. The two branches of a nested transaction exclude each
//!     other, so that one key may be put in both. Removals may overlap removals.
//!
//! Two overlaps that law 2 refuses do pass etcd, by the order in which it looks and by not reading
//! `"\0"` as an open end: a put in a nested transaction before another one that removes its key, and a
//! put beside a removal of "all keys from here". Nobody can depend on them; that they are
//! refused keeps a key from changing twice at one revision.
//!
//! Worked example: with a budget of 3, a transaction of two operations leaves 1 for each transaction
//! nested in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::query::{Header, OpAnswer, Query, TxnAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, KeyRange, RangeEnd, Txn, TxnOp,
};

use super::header::{self, Origin};
use super::{WireLimits, kv, read, write};
use crate::call::GrpcStatus;
use crate::payload::Assembly;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;

pub(super) fn decode(message: &Bytes, limits: &WireLimits) -> Result<Query, GrpcStatus> {
    let mut request = pb::TxnRequest::default();
    let scope = read::Scope::outermost(limits.txn_ops_max);
    read::txn_request(read::Reader::new(message), scope, &mut request)?;
    let txn = txn(request, limits.txn_ops_max)?;
    for branch in [&txn.success, &txn.failure] {
        if may_overlap(branch) {
            writes(branch)?;
        }
    }
    if !txn.is_read_only() {
        limits.check_size(message)?;
    }
    Ok(Query::Txn(txn))
}

/// Law 1. `budget` is how many operations each list of this transaction may have.
fn txn(request: pb::TxnRequest, budget: usize) -> Result<Txn, Rejection> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = budget.checked_sub(used).ok_or(Rejection::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Rejection::EmptyKey);
    }
    let compares = request.compare.into_iter().map(compare).collect();
    Ok(Txn { compares, success: ops(request.success, left)?, failure: ops(request.failure, left)? })
}

fn ops(ops: Vec<pb::RequestOp>, budget: usize) -> Result<Vec<TxnOp>, Rejection> {
    ops.into_iter().map(|one| op(one, budget)).collect()
}

fn op(op: pb::RequestOp, budget: usize) -> Result<TxnOp, Rejection> {
    match op.request {
        Some(Request::RequestRange(range)) => kv::range(range).map(TxnOp::Range),
        Some(Request::RequestPut(put)) => kv::put(put).map(TxnOp::Put),
        Some(Request::RequestDeleteRange(delete)) => {
            kv::delete_range(delete).map(TxnOp::DeleteRange)
        }
        Some(Request::RequestTxn(nested)) => txn(nested, budget).map(Box::new).map(TxnOp::Txn),
        None => Err(Rejection::KeyNotFound),
    }
}

fn compare(request: pb::Compare) -> Compare {
    use pb::compare::CompareTarget as Wire;
    let union = request.target_union;
    let target = match Wire::try_from(request.target) {
        Ok(Wire::Version) => CompareTarget::Version(number(Wire::Version, union)),
        Ok(Wire::Create) => CompareTarget::Create(number(Wire::Create, union)),
        Ok(Wire::Mod) => CompareTarget::Mod(number(Wire::Mod, union)),
        Ok(Wire::Lease) => CompareTarget::Lease(number(Wire::Lease, union)),
        Ok(Wire::Value) => match union {
            Some(TargetUnion::Value(value)) => CompareTarget::Value(value),
            _ => CompareTarget::Value(Bytes::new()),
        },
        Err(_) => CompareTarget::Unknown,
    };
    let keys = KeyRange::from_wire(request.key, request.range_end);
    Compare { keys, result: compare_result(request.result), target }
}

/// The operand in the union; a member other than the one that `target` names counts as zero.
fn number(target: pb::compare::CompareTarget, union: Option<TargetUnion>) -> i64 {
    use pb::compare::CompareTarget as Wire;
    match (target, union) {
        (Wire::Version, Some(TargetUnion::Version(v)))
        | (Wire::Create, Some(TargetUnion::CreateRevision(v)))
        | (Wire::Mod, Some(TargetUnion::ModRevision(v)))
        | (Wire::Lease, Some(TargetUnion::Lease(v))) => v,
        _ => 0,
    }
}

fn compare_result(number: i32) -> CompareResult {
    use pb::compare::CompareResult as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Equal) => CompareResult::Equal,
        Ok(Wire::Greater) => CompareResult::Greater,
        Ok(Wire::Less) => CompareResult::Less,
        Ok(Wire::NotEqual) => CompareResult::NotEqual,
        Err(_) => CompareResult::Unknown,
    }
}

/// Whether a branch has two writes or a nested transaction at all; most have not, and are spared the
/// sets below.
fn may_overlap(ops: &[TxnOp]) -> bool {
    let mut writes = ops.iter().filter(|op| !matches!(op, TxnOp::Range(_)));
    writes.next().is_some_and(|first| matches!(first, TxnOp::Txn(_)) || writes.next().is_some())
}

/// What the operations of a branch write, nested ones included; an error where two of them that may
/// both run overlap (law 2).
fn writes(ops: &[TxnOp]) -> Result<Writes<'_>, Rejection> {
    let mut all = Writes::default();
    for op in ops {
        let one = match op {
            TxnOp::Range(_) => continue,
            TxnOp::Put(put) => Writes { puts: [&put.key[..]].into(), ..Writes::default() },
            TxnOp::DeleteRange(delete) => Writes::removal(&delete.keys),
            TxnOp::Txn(txn) => writes(&txn.success)?.union(writes(&txn.failure)?),
        };
        if all.overlaps(&one) {
            return Err(Rejection::DuplicateKey);
        }
        all = all.union(one);
    }
    Ok(all)
}

/// Keys put, and ranges removed. Sets are joined smaller into larger, and compared by looking the
/// smaller one up in the larger, so that a deep transaction of 100,000 operations is no attack.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    removed: Removed<'a>,
}

impl<'a> Writes<'a> {
    fn removal(keys: &'a KeyRange) -> Writes<'a> {
        let mut removed = Removed::default();
        if !keys.is_empty() {
            removed.insert(&keys.start, Limit::of(keys));
        }
        Writes { removed, ..Writes::default() }
    }

    fn overlaps(&self, other: &Writes) -> bool {
        let (small, large) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        small.puts.iter().any(|&key| large.puts.contains(key) || large.removed.contains(key))
            || small.removed.0.iter().any(|(&start, end)| large.puts_between(start, end))
    }

    fn union(mut self, mut other: Writes<'a>) -> Writes<'a> {
        if self.len() < other.len() {
            std::mem::swap(&mut self, &mut other);
        }
        self.puts.extend(other.puts);
        for (start, end) in other.removed.0 {
            self.removed.insert(start, end);
        }
        self
    }

    fn len(&self) -> usize {
        self.puts.len() + self.removed.0.len()
    }

    /// Whether a key from `start` up to `end` is put.
    fn puts_between(&self, start: &[u8], end: &Limit) -> bool {
        let from = (Bound::Included(start), Bound::Unbounded);
        self.puts.range::<[u8], _>(from).next().is_some_and(|&key| end.is_above(key))
    }
}

/// Removed ranges, disjoint: first key and end of each.
#[derive(Default)]
struct Removed<'a>(BTreeMap<&'a [u8], Limit<'a>>);

impl<'a> Removed<'a> {
    fn contains(&self, key: &[u8]) -> bool {
        self.at_or_before(key).is_some_and(|(_, end)| end.is_above(key))
    }

    /// Joins a range with those that it touches.
    fn insert(&mut self, mut start: &'a [u8], mut end: Limit<'a>) {
        if let Some((first, other)) = self.at_or_before(start)
            && other.is_above(start)
        {
            (start, end) = (first, end.max(other));
        }
        let from = (Bound::Included(start), Bound::Unbounded);
        while let Some((&next, &other)) = self.0.range::<[u8], _>(from).next()
            && end.is_above(next)
        {
            end = end.max(other);
            self.0.remove(next);
        }
        self.0.insert(start, end);
    }

    fn at_or_before(&self, key: &[u8]) -> Option<(&'a [u8], Limit<'a>)> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        self.0.range::<[u8], _>(upto).next_back().map(|(&start, &end)| (start, end))
    }
}

/// Where a removed range stops; the order is that of the last key below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limit<'a> {
    /// At this key; whether the key itself is still removed.
    Key(&'a [u8], bool),
    /// Nowhere.
    Open,
}

impl<'a> Limit<'a> {
    fn of(keys: &'a KeyRange) -> Limit<'a> {
        match &keys.end {
            RangeEnd::Single => Limit::Key(&keys.start, true),
            RangeEnd::Before(end) => Limit::Key(end, false),
            RangeEnd::Open => Limit::Open,
        }
    }

    /// Whether the range, if it began at or before `key`, has it.
    fn is_above(&self, key: &[u8]) -> bool {
        match self {
            Limit::Key(end, inclusive) => key < *end || (*inclusive && key == *end),
            Limit::Open => true,
        }
    }
}

// A TxnResponse is header = 1, succeeded = 2, responses = 3; a ResponseOp has the answer of a range
// as field 1, of a put as 2, of a removal as 3, of a nested transaction as 4.

const RESPONSES: u32 = 3;

pub(super) fn encode(origin: Origin, header: Header, answer: &TxnAnswer, out: &mut Assembly) {
    let mut sizes = Vec::new();
    let body = measure(answer, &mut sizes);
    out.reserve(origin.len(header) + body - shared(answer, out));
    origin.write(header, out);
    write_txn(answer, &mut sizes.into_iter(), out);
}

/// The length of what [`write_txn`] writes. Notes the length of each operation's answer, in the order
/// in which they are written, so that nesting does not make a length be computed again on each level.
fn measure(answer: &TxnAnswer, sizes: &mut Vec<usize>) -> usize {
    let mut len = write::flag_len(2, answer.succeeded);
    for op in &answer.ops {
        let at = sizes.len();
        sizes.push(0);
        let size = measure_op(op, sizes);
        sizes[at] = size;
        len += write::framed_len(RESPONSES, write::framed_len(op_field(op), size));
    }
    len
}

/// Bytes of it that are shared.
fn shared(answer: &TxnAnswer, out: &Assembly) -> usize {
    let of_op = |op: &OpAnswer| match op {
        OpAnswer::Range(_, range) => kv::range_shared(range, out),
        OpAnswer::Put(_, prev) => kv::put_shared(prev.as_ref(), out),
        OpAnswer::DeleteRange(_, delete) => kv::delete_shared(delete, out),
        OpAnswer::Txn(txn) => shared(txn, out),
    };
    answer.ops.iter().map(of_op).sum()
}

fn measure_op(op: &OpAnswer, sizes: &mut Vec<usize>) -> usize {
    match op {
        OpAnswer::Range(revision, range) => header::inner_len(*revision) + kv::range_len(range),
        OpAnswer::Put(revision, prev) => header::inner_len(*revision) + kv::put_len(prev.as_ref()),
        OpAnswer::DeleteRange(revision, delete) => {
            header::inner_len(*revision) + kv::delete_len(delete)
        }
        OpAnswer::Txn(txn) => header::inner_len(Revision(0)) + measure(txn, sizes),
    }
}

fn write_txn(answer: &TxnAnswer, sizes: &mut std::vec::IntoIter<usize>, out: &mut Assembly) {
    write::flag(out, 2, answer.succeeded);
    for op in &answer.ops {
        let size = sizes.next().expect("measure noted a size for each operation");
        write::open(out, RESPONSES, write::framed_len(op_field(op), size));
        write::open(out, op_field(op), size);
        write_op(op, sizes, out);
    }
}

fn write_op(op: &OpAnswer, sizes: &mut std::vec::IntoIter<usize>, out: &mut Assembly) {
    match op {
        OpAnswer::Range(revision, range) => {
            header::write_inner(*revision, out);
            kv::write_range(range, out);
        }
        OpAnswer::Put(revision, prev) => {
            header::write_inner(*revision, out);
            kv::write_put(prev.as_ref(), out);
        }
        OpAnswer::DeleteRange(revision, delete) => {
            header::write_inner(*revision, out);
            kv::write_delete(delete, out);
        }
        OpAnswer::Txn(txn) => {
            header::write_inner(Revision(0), out);
            write_txn(txn, sizes, out);
        }
    }
}

fn op_field(op: &OpAnswer) -> u32 {
    match op {
        OpAnswer::Range(..) => 1,
        OpAnswer::Put(..) => 2,
        OpAnswer::DeleteRange(..) => 3,
        OpAnswer::Txn(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use holdfast_core::id::LeaseId;
    use holdfast_core::request::{DeleteRange, Put};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn put(key: String) -> TxnOp {
        TxnOp::Put(Put {
            key: key.into(),
            value: Bytes::new(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        })
    }

    fn branch() -> impl Strategy<Value = Vec<TxnOp>> {
        let key = "[a-e]{1,2}";
        let end = prop_oneof![3 => Just(String::new()), 1 => Just("\0".into()), 3 => key];
        let leaf = prop_oneof![
            key.prop_map(put),
            (key, end).prop_map(|(key, end)| {
                let keys = KeyRange::from_wire(key.into(), end.into());
                TxnOp::DeleteRange(DeleteRange { keys, prev_kv: false })
            }),
        ];
        let op = leaf.prop_recursive(3, 12, 3, |inner| {
            let ops = || vec(inner.clone(), 0..3);
            (ops(), ops()).prop_map(|(success, failure)| {
                TxnOp::Txn(Box::new(Txn { compares: Vec::new(), success, failure }))
            })
        });
        vec(op, 0..4)
    }

    /// The dumb twin: every way in which the branch could run, as plain lists of writes.
    fn runs(ops: &[TxnOp]) -> Vec<Vec<&TxnOp>> {
        ops.iter().fold(vec![Vec::new()], |runs, op| {
            let one = match op {
                TxnOp::Txn(txn) => [self::runs(&txn.success), self::runs(&txn.failure)].concat(),
                write => vec![vec![write]],
            };
            runs.iter().flat_map(|run| one.iter().map(|o| [&run[..], o].concat())).collect()
        })
    }

    fn clash(a: &TxnOp, b: &TxnOp) -> bool {
        match (a, b) {
            (TxnOp::Put(a), TxnOp::Put(b)) => a.key == b.key,
            (TxnOp::Put(put), TxnOp::DeleteRange(delete))
            | (TxnOp::DeleteRange(delete), TxnOp::Put(put)) => delete.keys.contains(&put.key),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn overlap_is_found_exactly_where_some_run_has_it(ops in branch()) {
            let overlaps = runs(&ops).iter().any(|run| {
                (0..run.len()).any(|i| run[..i].iter().any(|earlier| clash(earlier, run[i])))
            });
            prop_assert_eq!(writes(&ops).is_err(), overlaps);
            prop_assert!(may_overlap(&ops) || !overlaps);
        }
    }

    #[test]
    fn many_writes_on_many_levels_are_joined_quickly() {
        let bottom: Vec<TxnOp> = (0..60_000).map(|i| put(format!("k{i:06}"))).collect();
        let deep = (0..120).fold(bottom, |ops, i| {
            let txn =
                Txn { success: ops, failure: vec![put(format!("k{i:06}"))], ..Txn::default() };
            vec![TxnOp::Txn(Box::new(txn)), put(format!("level {i}"))]
        });
        let joined = writes(&deep).expect("only the two branches of a transaction share keys");
        assert_eq!(joined.len(), 60_000 + 120);
    }
}
