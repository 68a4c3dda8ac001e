//! Transactions of the oracle: compare everything on the state before, check the taken path, run it.

use holdfast_core::id::{LeaseId, RevSub, Revision};
use holdfast_core::query::{AnswerBody, OpAnswer, TxnAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Compare, CompareResult, CompareTarget, Put, Range, Txn, TxnOp};

use super::{Model, Verdict, Version, range};

/// The branches taken, for a transaction and those nested in the taken branch, in order.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

/// Runs a transaction that goes through the log.
pub(super) fn perform(model: &mut Model, txn: &Txn) -> Verdict {
    let path = choose(model, txn);
    check(model, txn, &path)?;
    let mut at = RevSub { main: model.revision.next(), sub: 0 };
    let answer = run(model, txn, &path, &mut at);
    if at.sub > 0 {
        model.revision = at.main;
    }
    Ok((model.revision, AnswerBody::Txn(answer)))
}

/// What a read-only transaction answers when `current` is the newest revision.
impl Model {
    /// What a transaction of reads answers in the state of a revision. Its compares, too, look there.
    pub fn read_txn(&self, current: Revision, txn: &Txn) -> TxnAnswer {
        let holds = |compare: &Compare| holds(self, current.after(), compare);
        let succeeded = txn.compares.iter().all(holds);
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let ops = branch.iter().map(|op| match op {
            TxnOp::Range(range) => OpAnswer::Range(current, self.range(current, range)),
            other => unreachable!("{other:?} is not a read"),
        });
        TxnAnswer { succeeded, ops: ops.collect() }
    }
}

fn branch<'a>(txn: &'a Txn, path: &Path) -> &'a [TxnOp] {
    if path.succeeded { &txn.success } else { &txn.failure }
}

fn choose(model: &Model, txn: &Txn) -> Path {
    let below = model.revision.after();
    let succeeded = txn.compares.iter().all(|compare| holds(model, below, compare));
    let mut path = Path { succeeded, nested: Vec::new() };
    let nested = branch(txn, &path).iter().filter_map(|op| match op {
        TxnOp::Txn(inner) => Some(choose(model, inner)),
        _ => None,
    });
    path.nested = nested.collect();
    path
}

/// In the order of the operations, as etcd does since 3.6; before, all puts came first.
fn check(model: &Model, txn: &Txn, path: &Path) -> Result<(), Rejection> {
    let mut nested = path.nested.iter();
    for op in branch(txn, path) {
        match op {
            TxnOp::Txn(inner) => {
                let inner_path = nested.next().expect("each nested transaction has its path");
                check(model, inner, inner_path)?;
            }
            TxnOp::Put(put) => check_put(model, put)?,
            TxnOp::Range(range) => check_range(model, range)?,
            TxnOp::DeleteRange(_) => {}
        }
    }
    Ok(())
}

fn check_put(model: &Model, put: &Put) -> Result<(), Rejection> {
    let below = model.revision.after();
    if (put.ignore_value || put.ignore_lease) && model.current(&put.key, below).is_none() {
        return Err(Rejection::KeyNotFound);
    }
    if put.lease != LeaseId::NONE && !model.leases.contains_key(&put.lease.0) {
        return Err(Rejection::LeaseNotFound);
    }
    Ok(())
}

fn check_range(model: &Model, range: &Range) -> Result<(), Rejection> {
    if range.revision == 0 {
        return Ok(());
    }
    if range.revision > model.revision.0 {
        return Err(Rejection::FutureRevision);
    }
    if range.revision < model.compacted.0 {
        return Err(Rejection::Compacted);
    }
    Ok(())
}

/// `at` is the next change; its sub-revision is 0 while nothing has changed.
fn run(model: &mut Model, txn: &Txn, path: &Path, at: &mut RevSub) -> TxnAnswer {
    let mut nested = path.nested.iter();
    let mut ops = Vec::new();
    for op in branch(txn, path) {
        ops.push(match op {
            TxnOp::Range(range) => {
                let below = match range.revision {
                    revision if revision > 0 => Revision(revision).after(),
                    _ => *at,
                };
                OpAnswer::Range(shown(*at), range::evaluate(model, below, range))
            }
            TxnOp::Put(put) => {
                let prev = model.put(put, *at);
                at.sub += 1;
                OpAnswer::Put(at.main, prev)
            }
            TxnOp::DeleteRange(delete) => {
                let (answer, removed) = model.delete(&delete.keys, delete.prev_kv, *at);
                at.sub += removed;
                OpAnswer::DeleteRange(shown(*at), answer)
            }
            TxnOp::Txn(inner) => {
                let inner_path = nested.next().expect("each nested transaction has its path");
                OpAnswer::Txn(run(model, inner, inner_path, at))
            }
        });
    }
    TxnAnswer { succeeded: path.succeeded, ops }
}

/// The revision an inner header shows: the new one once something has changed.
fn shown(at: RevSub) -> Revision {
    if at.sub > 0 { at.main } else { Revision(at.main.0 - 1) }
}

fn holds(model: &Model, below: RevSub, compare: &Compare) -> bool {
    let found = model.live(&compare.keys, below);
    if found.is_empty() {
        // Like a missing key: zeros, but no value to compare with.
        return !matches!(compare.target, CompareTarget::Value(_)) && relates(compare, None);
    }
    found.iter().all(|(_, version)| relates(compare, Some(version)))
}

fn relates(compare: &Compare, version: Option<&Version>) -> bool {
    use std::cmp::Ordering;
    let number = |stored: Option<i64>, given: &i64| stored.unwrap_or(0).cmp(given);
    let ordering = match &compare.target {
        CompareTarget::Version(given) => number(version.map(|v| v.version), given),
        CompareTarget::Create(given) => number(version.map(|v| v.created), given),
        CompareTarget::Mod(given) => number(version.map(|v| v.at.main.0), given),
        CompareTarget::Lease(given) => number(version.map(|v| v.lease), given),
        CompareTarget::Value(given) => {
            version.and_then(|v| v.value.as_ref()).map_or(Ordering::Less, |value| value.cmp(given))
        }
        CompareTarget::Unknown => Ordering::Equal,
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Unknown => true,
    }
}
