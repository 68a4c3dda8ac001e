//! Alarms and the bytes that are stored, as the oracle counts them: from all versions, each time anew.

use std::collections::BTreeSet;

use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::Revision;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Op, Txn, TxnOp};
use holdfast_core::response::{Alarm, AlarmKind};

use super::{Model, Version};

/// What a version counts for beside key and value.
const AROUND: u64 = 64;

impl Model {
    /// Does what is asked of alarms.
    pub(super) fn alarm(&mut self, op: AlarmOp) -> Vec<Alarm> {
        match op {
            AlarmOp::Nothing => Vec::new(),
            AlarmOp::List(kind) => {
                self.alarms.iter().filter(|alarm| alarm.kind == kind).copied().collect()
            }
            AlarmOp::Raise { member, kind, .. } => {
                self.alarms.insert(Alarm { member, kind });
                vec![Alarm { member, kind }]
            }
            AlarmOp::Clear { member, kind } => {
                let gone = self.alarms.remove(&Alarm { member, kind });
                if gone { vec![Alarm { member, kind }] } else { Vec::new() }
            }
        }
    }

    /// Counts what changed: since the changes before `from`, or all anew after a compaction.
    pub(super) fn count(&mut self, from: usize, compacted: bool) {
        if compacted {
            self.stored = self.readable_bytes();
        }
        for change in &self.changes[from..] {
            let version = self.keys[&change.key].iter().find(|version| version.at == change.at);
            self.stored += version.map_or(0, |version| version_bytes(&change.key, version));
        }
    }

    /// Bytes of every version that can still be read at some revision from the compacted one on.
    fn readable_bytes(&self) -> u64 {
        let of_key = |(key, versions): (&bytes::Bytes, &Vec<Version>)| -> u64 {
            let mut bytes = 0;
            for (at, version) in versions.iter().enumerate() {
                let next = versions.get(at + 1);
                let over = |at: Revision| at <= self.compacted;
                let superseded = next.is_some_and(|next| over(next.at.main));
                let buried = version.value.is_none() && over(version.at.main);
                if !superseded && !buried {
                    bytes += version_bytes(key, version);
                }
            }
            bytes
        };
        self.keys.iter().map(of_key).sum()
    }
}

/// What a version counts for.
fn version_bytes(key: &[u8], version: &Version) -> u64 {
    let value = version.value.as_ref().map_or(0, |value| value.len());
    (key.len() + value) as u64 + AROUND
}

/// How far above the oracle's the system's count may be: it frees in steps.
pub fn slack(stored: u64) -> u64 {
    // A step, and as much again of a step that was taken when more was stored.
    (stored >> 11) + (8 << 10)
}

/// What a request costs, as the quota counts it.
pub fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => 256 + (put.key.len() + put.value.len()) as u64,
        Op::LeaseGrant { .. } => 64,
        Op::Txn(txn) => cost_of_txn(txn),
        _ => 0,
    }
}

fn cost_of_txn(txn: &Txn) -> u64 {
    let sum = |ops: &[TxnOp]| {
        let mut sum = 0;
        for op in ops {
            sum += match op {
                TxnOp::Put(put) => cost(&Op::Put(put.clone())),
                TxnOp::Txn(inner) => cost_of_txn(inner),
                _ => 0,
            };
        }
        sum
    };
    let (success, failure) = (sum(&txn.success), sum(&txn.failure));
    if success > failure { success } else { failure }
}

/// Why a command is refused while alarms are up.
pub(super) fn refusal(alarms: &BTreeSet<Alarm>, op: &Op) -> Option<Rejection> {
    let is_up = |kind| alarms.iter().any(|alarm| alarm.kind == kind);
    let of_keys = matches!(op, Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compact { .. });
    let of_keys_or_leases = of_keys || matches!(op, Op::LeaseGrant { .. } | Op::LeaseRevoke { .. });
    if of_keys_or_leases && is_up(AlarmKind::Corrupt) {
        return Some(Rejection::Corrupt);
    }
    (cost(op) > 0 && is_up(AlarmKind::NoSpace)).then_some(Rejection::NoSpace)
}
