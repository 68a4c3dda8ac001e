//! Writing an entry, or only counting what it would take: one pass over the types serves both, so a
//! computed length cannot disagree with the bytes. Leaves out the version; see the head of `codec`.
//!
//! Worked example: `Writer::counting()` given a put of "a" to "b" ends with `len() == 25`.

use crate::alarm::AlarmOp;
use crate::command::Command;
use crate::kv::{put_varint, varint_len};
use crate::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseNote, Op, Put, Range,
    RangeEnd, SortOrder, SortTarget, Txn, TxnOp,
};

/// Where the bytes go: into a buffer, or only into a sum.
pub(super) struct Writer {
    out: Option<Vec<u8>>,
    len: usize,
}

impl Writer {
    pub(super) fn counting() -> Writer {
        Writer { out: None, len: 0 }
    }

    /// Behind what is in `out`, which does not count.
    pub(super) fn appending(out: Vec<u8>) -> Writer {
        Writer { out: Some(out), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.unwrap_or_default()
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }

    pub(super) fn varint(&mut self, value: u64) {
        self.len += varint_len(value);
        if let Some(out) = &mut self.out {
            put_varint(out, value);
        }
    }

    pub(super) fn command(&mut self, command: &Command) {
        self.raw(&command.id.member.0.to_le_bytes());
        self.raw(&command.id.incarnation.0.to_le_bytes());
        self.varint(command.id.sequence);
        self.varint(command.identity.auth_revision);
        self.bytes(&command.identity.user);
        self.op(&command.op);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Put(put) => self.tagged(1, |w| w.put(put)),
            Op::DeleteRange(delete) => self.tagged(2, |w| w.delete(delete)),
            Op::Txn(txn) => self.tagged(3, |w| w.txn(txn)),
            Op::Compact { revision } => self.tagged(4, |w| w.int(revision.0)),
            Op::LeaseGrant { id, ttl } => self.tagged(5, |w| {
                w.raw(&id.0.to_le_bytes());
                w.int(*ttl);
            }),
            Op::LeaseRevoke { id } => self.tagged(6, |w| w.raw(&id.0.to_le_bytes())),
            Op::AlarmList => self.byte(7),
            Op::Alarm(op) => self.tagged(0x60, |w| w.alarm(*op)),
            Op::LeaseCheckpoint(notes) => self.tagged(9, |w| w.list(notes, Writer::lease_note)),
            Op::Audit(audit) => self.tagged(0x61, |w| {
                w.varint(audit.from.0);
                w.list(&audit.digests, |w, digest| w.raw(&digest.to_le_bytes()));
            }),
            Op::Publish { member, name, client_urls } => self.tagged(8, |w| {
                w.raw(&member.0.to_le_bytes());
                w.bytes(name.as_bytes());
                w.list(client_urls, |w, url| w.bytes(url.as_bytes()));
            }),
            Op::Auth(op) => self.tagged(0x50, |w| w.auth(op)),
            Op::Member(change) => self.change(change),
            Op::Started { member, started } => self.started(*member, *started),
            Op::ClusterVersion(version) => self.cluster_version(*version),
        }
    }

    fn lease_note(&mut self, note: &LeaseNote) {
        self.raw(&note.id.0.to_le_bytes());
        self.varint(note.granted.0);
        self.int(note.left);
    }

    fn alarm(&mut self, op: AlarmOp) {
        match op {
            AlarmOp::Nothing => self.byte(0),
            AlarmOp::List(kind) => self.tagged(1, |w| w.byte(kind as u8)),
            AlarmOp::Raise { member, kind, automatic } => self.tagged(2, |w| {
                w.raw(&member.0.to_le_bytes());
                w.byte(kind as u8);
                w.byte(u8::from(automatic));
            }),
            AlarmOp::Clear { member, kind } => self.tagged(3, |w| {
                w.raw(&member.0.to_le_bytes());
                w.byte(kind as u8);
            }),
        }
    }

    fn put(&mut self, put: &Put) {
        let leased = put.lease.0 != 0;
        self.flags([put.prev_kv, put.ignore_value, put.ignore_lease, leased]);
        self.bytes(&put.key);
        self.bytes(&put.value);
        if leased {
            self.raw(&put.lease.0.to_le_bytes());
        }
    }

    fn delete(&mut self, delete: &DeleteRange) {
        self.flags([delete.prev_kv, false, false, false]);
        self.keys(&delete.keys);
    }

    fn range(&mut self, range: &Range) {
        let filters = [range.mod_min, range.mod_max, range.create_min, range.create_max];
        let filtered = filters.iter().any(|filter| *filter != 0);
        self.flags([range.serializable, range.keys_only, range.count_only, filtered]);
        self.byte(match range.order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        });
        self.byte(match range.target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        });
        self.keys(&range.keys);
        self.int(range.limit);
        self.int(range.revision);
        if filtered {
            filters.into_iter().for_each(|filter| self.int(filter));
        }
    }

    fn txn(&mut self, txn: &Txn) {
        self.list(&txn.compares, Writer::compare);
        self.list(&txn.success, Writer::txn_op);
        self.list(&txn.failure, Writer::txn_op);
    }

    fn txn_op(&mut self, op: &TxnOp) {
        match op {
            TxnOp::Range(range) => self.tagged(1, |w| w.range(range)),
            TxnOp::Put(put) => self.tagged(2, |w| w.put(put)),
            TxnOp::DeleteRange(delete) => self.tagged(3, |w| w.delete(delete)),
            TxnOp::Txn(txn) => self.tagged(4, |w| w.txn(txn)),
        }
    }

    fn compare(&mut self, compare: &Compare) {
        self.keys(&compare.keys);
        self.byte(match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
            CompareResult::Unknown => 4,
        });
        match &compare.target {
            CompareTarget::Version(operand) => self.tagged(0, |w| w.int(*operand)),
            CompareTarget::Create(operand) => self.tagged(1, |w| w.int(*operand)),
            CompareTarget::Mod(operand) => self.tagged(2, |w| w.int(*operand)),
            CompareTarget::Value(operand) => self.tagged(3, |w| w.bytes(operand)),
            CompareTarget::Lease(operand) => self.tagged(4, |w| w.int(*operand)),
            CompareTarget::Unknown => self.byte(5),
        }
    }

    fn keys(&mut self, keys: &KeyRange) {
        self.bytes(&keys.start);
        match &keys.end {
            RangeEnd::Single => self.byte(0),
            RangeEnd::Before(end) => self.tagged(1, |w| w.bytes(end)),
            RangeEnd::Open => self.byte(2),
        }
    }

    pub(super) fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Writer, &T)) {
        self.varint(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }

    pub(super) fn tagged(&mut self, tag: u8, rest: impl FnOnce(&mut Writer)) {
        self.byte(tag);
        rest(self);
    }

    /// Up to four flags, the first in the lowest bit.
    pub(super) fn flags(&mut self, flags: [bool; 4]) {
        let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
        self.byte(bits);
    }

    pub(super) fn int(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }
}
