//! What is decided before a command writes anything: which branches a transaction takes, and whether
//! each operation on the way can be done.
//!
//! Leaves out: checks that do not depend on the state; the wire has made those.
//!
//! Laws:
//!  1. Everything here reads the state before the command, never what the command itself wrote. A
//!     put with ignore_value of a key that the same transaction creates is therefore refused.
//!  2. Operations are checked in order; the first refusal wins. Within a put of a transaction the
//!     missing key is noticed before the unknown lease; in a put of its own it is the other way round
//!     (as in etcd).
//!  3. A missing key, or a range without a key, compares as zeros; a value compare of it is false
//!     whatever the relation (surface 1.9 rows 7 and 8).
//!
//! Worked example: `if value(a) != "x"` is false while "a" does not exist, and `if mod(a) < 1` true.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::id::{LeaseId, RevSub, Revision};
use crate::machine::lease::lease_ttl;
use crate::mutant;
use crate::mvcc::range::after;
use crate::mvcc::{Budget, decode};
use crate::rejection::Rejection;
use crate::request::{
    Compare, CompareResult, CompareTarget, KeyRange, Put, Range, RangeEnd, Txn, TxnOp,
};
use crate::store::{Fault, Row, View};

/// The way through a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Whether all compares held.
    pub(crate) succeeded: bool,
    /// The way through each nested transaction of the branch taken, in order.
    pub(crate) nested: Vec<Path>,
}

impl Path {
    /// The branch it takes through `txn`.
    pub(crate) fn branch<'a>(&self, txn: &'a Txn) -> &'a [TxnOp] {
        if self.succeeded { &txn.success } else { &txn.failure }
    }
}

/// The compares of a transaction, and of the nested ones that it comes to, while they are evaluated: in
/// the order in which they stand, those that are known first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    known: Vec<bool>,
    /// The one after those.
    current: Option<Comparison>,
    /// How many this walk has passed.
    passed: usize,
}

impl Compared {
    /// Evaluates some more; gives the path once all are known. `txn` is the one it began with, and the
    /// state has not changed since.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub(crate) fn path(
        &mut self,
        view: &dyn View,
        txn: &Txn,
        budget: &mut Budget,
    ) -> Result<Option<Path>, Fault> {
        self.passed = 0;
        self.walk(view, txn, budget)
    }

    fn walk(
        &mut self,
        view: &dyn View,
        txn: &Txn,
        budget: &mut Budget,
    ) -> Result<Option<Path>, Fault> {
        let mut succeeded = true;
        for compare in &txn.compares {
            let Some(holds) = self.holds(view, compare, budget)? else { return Ok(None) };
            succeeded = holds;
            if !holds {
                break;
            }
        }
        let mut path = Path { succeeded, nested: Vec::new() };
        for op in path.branch(txn) {
            if let TxnOp::Txn(child) = op {
                let Some(child) = self.walk(view, child, budget)? else { return Ok(None) };
                path.nested.push(child);
            }
        }
        Ok(Some(path))
    }

    fn holds(
        &mut self,
        view: &dyn View,
        compare: &Compare,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Fault> {
        if let Some(holds) = self.known.get(self.passed).copied() {
            self.passed += 1;
            return Ok(Some(holds));
        }
        let mut comparison = self.current.take().unwrap_or_else(|| Comparison::new(compare));
        loop {
            if let Some(holds) = comparison.step(view, compare, budget)? {
                self.known.push(holds);
                self.passed += 1;
                return Ok(Some(holds));
            }
            if budget.is_spent() {
                self.current = Some(comparison);
                return Ok(None);
            }
        }
    }
}

/// Checks the operations along `path`.
pub(crate) fn check(view: &dyn View, txn: &Txn, path: &Path) -> Result<(), Rejection> {
    let mut nested = path.nested.iter();
    for op in path.branch(txn) {
        match op {
            TxnOp::Range(range) => check_range(view, range)?,
            TxnOp::Put(put) => {
                check_present(view, put)?;
                check_lease(view, put)?;
            }
            TxnOp::DeleteRange(_) => {}
            TxnOp::Txn(child) => {
                let path = nested.next().expect("a path has one child for each nested transaction");
                check(view, child, path)?;
            }
        }
    }
    Ok(())
}

/// Checks a put that is a command of its own.
pub(super) fn check_plain_put(view: &dyn View, put: &Put) -> Result<(), Rejection> {
    check_lease(view, put)?;
    check_present(view, put)
}

/// Unlike a read of its own, a range inside a transaction may not name a negative revision: only 0
/// is the newest, anything below the compaction marker (-1 before the first) is compacted.
fn check_range(view: &dyn View, range: &Range) -> Result<(), Rejection> {
    let mark = view.mark();
    match range.revision {
        0 => Ok(()),
        revision if revision > mark.revision.0 => Err(Rejection::FutureRevision),
        _ if mutant::on(48) => Ok(()),
        revision if revision < mark.compacted.0 => Err(Rejection::Compacted),
        _ => Ok(()),
    }
}

fn check_present(view: &dyn View, put: &Put) -> Result<(), Rejection> {
    let needed = put.ignore_value || put.ignore_lease;
    let missing = || view.row(&put.key).is_none_or(|row| row.is_tombstone());
    if needed && missing() { Err(Rejection::KeyNotFound) } else { Ok(()) }
}

fn check_lease(view: &dyn View, put: &Put) -> Result<(), Rejection> {
    let unknown = put.lease != LeaseId::NONE && lease_ttl(view, put.lease).is_none();
    if unknown { Err(Rejection::LeaseNotFound) } else { Ok(()) }
}

/// A compare under way.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// What has not been looked at.
    rest: KeyRange,
    /// Whether there was a key.
    seen: bool,
    /// Whether the last key was looked at.
    scanned: bool,
    /// Records of looked at keys whose values have not been compared.
    pending: VecDeque<RevSub>,
}

impl Comparison {
    /// Nothing was looked at.
    pub(crate) fn new(compare: &Compare) -> Comparison {
        let (rest, pending) = (compare.keys.clone(), VecDeque::new());
        Comparison { rest, seen: false, scanned: false, pending }
    }

    /// Looks at some keys more; says whether the compare holds once that is known. `compare` is the
    /// one it began with.
    pub(crate) fn step(
        &mut self,
        view: &dyn View,
        compare: &Compare,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Fault> {
        if !self.scanned && self.pending.is_empty() && !self.look(view, compare, budget) {
            return Ok(Some(false));
        }
        // Values are read after the scan, so that a view is never re-entered.
        while let (Some(at), CompareTarget::Value(operand)) =
            (self.pending.pop_front(), &compare.target)
        {
            let record = view.record(at)?;
            budget.spend(1, record.kv.len());
            if !relates(compare.result, decode(&record)?.value.cmp(operand)) {
                return Ok(Some(false));
            }
            if budget.is_spent() {
                break;
            }
        }
        Ok(match (self.scanned && self.pending.is_empty(), self.seen) {
            (false, _) => None,
            (true, true) => Some(true),
            (true, false) => {
                let zeros = ordering(&MISSING, &compare.target);
                Some(zeros.is_some_and(|ordering| relates(compare.result, ordering)))
            }
        })
    }

    /// Looks at some rows more; false once one of them says that the compare does not hold.
    fn look(&mut self, view: &dyn View, compare: &Compare, budget: &mut Budget) -> bool {
        let batch = budget.keys().min(BATCH);
        let (mut rows, mut bytes, mut all, mut next) = (0, 0, true, None);
        view.scan(&self.rest, &mut |key, row| {
            (rows, bytes) = (rows + 1, bytes + key.len());
            if !row.is_tombstone() {
                self.seen = true;
                match ordering(row, &compare.target) {
                    Some(ordering) => all = relates(compare.result, ordering),
                    None => self.pending.push_back(row.modified),
                }
            }
            let full = rows >= batch;
            if full && self.rest.end != RangeEnd::Single {
                next = Some(after(key));
            }
            if all && !full { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        budget.spend(rows.max(1), bytes);
        match next {
            Some(start) => self.rest.start = start,
            None => self.scanned = true,
        }
        all
    }
}

/// Rows looked at before their values are compared.
const BATCH: usize = 256;

/// What a key that does not exist compares as.
const MISSING: Row = Row {
    modified: RevSub::new(0, 0),
    created: Revision(0),
    version: 0,
    lease: LeaseId::NONE,
    value_len: 0,
};

/// How the row relates to the operand; `None` when that takes the value.
fn ordering(row: &Row, target: &CompareTarget) -> Option<Ordering> {
    Some(match target {
        CompareTarget::Version(operand) => row.version.cmp(operand),
        CompareTarget::Create(operand) => row.created.0.cmp(operand),
        CompareTarget::Mod(operand) => row.modified.main.0.cmp(operand),
        CompareTarget::Lease(operand) => row.lease.0.cmp(operand),
        CompareTarget::Unknown => Ordering::Equal,
        CompareTarget::Value(_) => return None,
    })
}

fn relates(result: CompareResult, ordering: Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Unknown => true,
    }
}
