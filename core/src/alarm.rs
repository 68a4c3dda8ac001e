//! Alarms and the quota: what can be asked of alarms, what a request costs, and what is refused while
//! an alarm is up.
//!
//! Costs and refusals are etcd's (surface 8.3): the 256 and 64 bytes stand for what its store needs
//! around a pair and for a lease. Leaves out who raises an alarm, and when (`node/space.rs`).
//!
//! Worked example: a put of "a" to "bcd" costs 260; with 1,000 bytes stored and a quota of 1,260 it
//! crosses the line, with one of 1,261 it does not.

use crate::id::MemberId;
use crate::rejection::Rejection;
use crate::request::{Op, Txn, TxnOp};
use crate::response::AlarmKind;

/// What can be asked of alarms, beside listing all of them ([`Op::AlarmList`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmOp {
    /// A kind that no alarm can have: decided in order like the others, and without effect. It needs root like the
    /// changes that it would be.
    Nothing,
    /// List the alarms of one kind.
    List(AlarmKind),
    /// Raise one; one that is up stays as it was.
    Raise {
        /// Whom it concerns.
        member: MemberId,
        /// Its kind.
        kind: AlarmKind,
        /// The member raised it itself, and will clear it itself.
        automatic: bool,
    },
    /// Clear one.
    Clear {
        /// Whom it concerns.
        member: MemberId,
        /// Its kind.
        kind: AlarmKind,
    },
}

/// What the quota counts for a pair beside its key and value, in bytes (etcd's number).
const PAIR_OVERHEAD: u64 = 256;

/// What the quota counts for a lease, in bytes (etcd's number).
const LEASE_OVERHEAD: u64 = 64;

/// What a request would add, as the quota counts it; 0 for what always passes. Of a transaction the
/// larger branch counts, nested ones included.
pub fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => PAIR_OVERHEAD + (put.key.len() + put.value.len()) as u64,
        Op::LeaseGrant { .. } => LEASE_OVERHEAD,
        Op::Txn(txn) => txn_cost(txn),
        _ => 0,
    }
}

fn txn_cost(txn: &Txn) -> u64 {
    let branch = |ops: &[TxnOp]| -> u64 {
        let costs = ops.iter().map(|op| match op {
            TxnOp::Put(put) => PAIR_OVERHEAD + (put.key.len() + put.value.len()) as u64,
            TxnOp::Txn(inner) => txn_cost(inner),
            TxnOp::Range(_) | TxnOp::DeleteRange(_) => 0,
        });
        costs.sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

/// Whether a request crosses the line when `stored` bytes are there.
pub fn crosses(op: &Op, stored: u64, quota: Option<u64>) -> bool {
    let Some(quota) = quota else { return false };
    let cost = cost(op);
    cost > 0 && stored.saturating_add(cost) >= quota
}

/// Which kinds of alarm are up, whoever they concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raised {
    /// Some member has no space.
    pub no_space: bool,
    /// Members disagree about the data.
    pub corrupt: bool,
}

impl Raised {
    /// Why apply refuses a request, if it does. With CORRUPT nothing of the key space or of leases may
    /// change; without space nothing may be added.
    pub fn refusal(self, op: &Op) -> Option<Rejection> {
        let concerned = matches!(
            op,
            Op::Put(_)
                | Op::DeleteRange(_)
                | Op::Txn(_)
                | Op::Compact { .. }
                | Op::LeaseGrant { .. }
                | Op::LeaseRevoke { .. }
        );
        if self.corrupt && concerned {
            return Some(Rejection::Corrupt);
        }
        (self.no_space && cost(op) > 0).then_some(Rejection::NoSpace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LeaseId, Revision};
    use crate::request::{DeleteRange, KeyRange, Put};

    fn put(value: &'static str) -> Put {
        Put {
            key: "a".into(),
            value: value.into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    fn delete() -> DeleteRange {
        DeleteRange { keys: KeyRange::single("a"), prev_kv: false }
    }

    #[test]
    fn the_worked_example_and_the_larger_branch() {
        let op = Op::Put(put("bcd"));
        assert!(crosses(&op, 1000, Some(1260)) && !crosses(&op, 1000, Some(1261)));
        assert!(!crosses(&op, u64::MAX, None));
        let inner = Txn { failure: vec![TxnOp::Put(put("xyz"))], ..Txn::default() };
        let txn = Txn {
            success: vec![TxnOp::Put(put("")), TxnOp::DeleteRange(delete())],
            failure: vec![TxnOp::Txn(Box::new(inner)), TxnOp::Put(put("1"))],
            ..Txn::default()
        };
        assert_eq!(cost(&Op::Txn(txn)), 260 + 258);
        assert_eq!(cost(&Op::LeaseGrant { id: LeaseId(1), ttl: 9 }), 64);
    }

    #[test]
    fn without_space_only_what_adds_is_refused_and_with_corrupt_data_all() {
        let no_space = Raised { no_space: true, corrupt: false };
        let corrupt = Raised { no_space: true, corrupt: true };
        let reads = Op::Txn(Txn { success: vec![TxnOp::DeleteRange(delete())], ..Txn::default() });
        let free = [
            Op::DeleteRange(delete()),
            Op::Compact { revision: Revision(2) },
            Op::LeaseRevoke { id: LeaseId(1) },
            reads,
        ];
        for op in free {
            assert_eq!(no_space.refusal(&op), None, "{op:?}");
            assert_eq!(corrupt.refusal(&op), Some(Rejection::Corrupt), "{op:?}");
        }
        assert_eq!(no_space.refusal(&Op::Put(put(""))), Some(Rejection::NoSpace));
        assert_eq!(corrupt.refusal(&Op::Put(put(""))), Some(Rejection::Corrupt));
        assert_eq!(corrupt.refusal(&Op::AlarmList), None);
    }
}
