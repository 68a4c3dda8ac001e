//! Reading an entry. Leaves out the version; see the head of `codec` for the format and its laws.
//!
//! Law: every item read takes at least one byte off the input, so a list's claimed count is believed
//! for an allocation only as far as the input goes at [`ITEM_BYTES`] each, and depth is counted down on
//! the way into each transaction.
//!
//! Worked example: given `05 61`, `bytes` fails with `Truncated` at byte 1 (five bytes promised, one
//! there).

use bytes::Bytes;

use super::{CodecError, Problem, TXN_DEPTH_MAX};
use crate::alarm::AlarmOp;
use crate::audit::Audit;
use crate::command::Command;
use crate::id::{Incarnation, Index, LeaseId, MemberId, RequestId, Revision};
use crate::kv::take_varint;
use crate::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Identity, KeyRange, LeaseNote, Op, Put,
    Range, RangeEnd, SortOrder, SortTarget, Txn, TxnOp,
};
use crate::response::AlarmKind;

/// What an item of a list usually takes at least. The allocation made on a count's word is a small
/// multiple of the input.
const ITEM_BYTES: usize = 16;

pub(super) type Read<T> = Result<T, CodecError>;

/// A position in an entry.
pub(super) struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
    depth_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a Bytes) -> Reader<'a> {
        Reader { data, at: 0, depth_left: TXN_DEPTH_MAX }
    }

    pub(super) fn finish(&self) -> Read<()> {
        if self.at == self.data.len() { Ok(()) } else { Err(self.error(Problem::Trailing)) }
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        let byte = self.data.get(self.at).ok_or(self.error(Problem::Truncated))?;
        self.at += 1;
        Ok(*byte)
    }

    pub(super) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.varint()?;
        let most = (self.data.len() - self.at) / ITEM_BYTES;
        let mut items = Vec::with_capacity(usize::try_from(count).unwrap_or(most).min(most));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn command(&mut self) -> Read<Command> {
        let member = MemberId(self.fixed()?);
        let incarnation = Incarnation(self.fixed()?);
        let id = RequestId { member, incarnation, sequence: self.varint()? };
        let auth_revision = self.varint()?;
        let identity = Identity { user: self.bytes()?, auth_revision };
        Ok(Command { id, identity, op: self.op()? })
    }

    fn op(&mut self) -> Read<Op> {
        Ok(match self.byte()? {
            1 => Op::Put(self.put()?),
            2 => Op::DeleteRange(self.delete()?),
            3 => Op::Txn(self.txn()?),
            4 => Op::Compact { revision: Revision(self.int()?) },
            5 => Op::LeaseGrant { id: self.lease()?, ttl: self.int()? },
            6 => Op::LeaseRevoke { id: self.lease()? },
            7 => Op::AlarmList,
            0x60 => Op::Alarm(self.alarm()?),
            0x61 => {
                Op::Audit(Audit { from: Index(self.varint()?), digests: self.list(Reader::short)? })
            }
            8 => Op::Publish {
                member: MemberId(self.fixed()?),
                name: self.text()?,
                client_urls: self.list(Reader::text)?,
            },
            9 => Op::LeaseCheckpoint(self.list(Reader::lease_note)?),
            0x50 => Op::Auth(self.auth()?),
            kind => return self.member_op(kind),
        })
    }

    fn lease_note(&mut self) -> Read<LeaseNote> {
        Ok(LeaseNote { id: self.lease()?, granted: Index(self.varint()?), left: self.int()? })
    }

    fn alarm(&mut self) -> Read<AlarmOp> {
        Ok(match self.byte()? {
            0 => AlarmOp::Nothing,
            1 => AlarmOp::List(self.alarm_kind()?),
            2 => AlarmOp::Raise {
                member: MemberId(self.fixed()?),
                kind: self.alarm_kind()?,
                automatic: match self.byte()? {
                    0 => false,
                    1 => true,
                    other => return Err(self.unknown(other)),
                },
            },
            3 => AlarmOp::Clear { member: MemberId(self.fixed()?), kind: self.alarm_kind()? },
            kind => return Err(self.unknown(kind)),
        })
    }

    fn alarm_kind(&mut self) -> Read<AlarmKind> {
        match self.byte()? {
            1 => Ok(AlarmKind::NoSpace),
            2 => Ok(AlarmKind::Corrupt),
            kind => Err(self.unknown(kind)),
        }
    }

    fn put(&mut self) -> Read<Put> {
        let [prev_kv, ignore_value, ignore_lease, leased] = self.flags()?;
        let key = self.bytes()?;
        let value = self.bytes()?;
        let lease = if leased { self.lease()? } else { LeaseId::NONE };
        Ok(Put { key, value, lease, prev_kv, ignore_value, ignore_lease })
    }

    fn delete(&mut self) -> Read<DeleteRange> {
        let [prev_kv, ..] = self.flags()?;
        Ok(DeleteRange { keys: self.keys()?, prev_kv })
    }

    fn range(&mut self) -> Read<Range> {
        let [serializable, keys_only, count_only, filtered] = self.flags()?;
        let order = match self.byte()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            kind => return Err(self.unknown(kind)),
        };
        let target = match self.byte()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            kind => return Err(self.unknown(kind)),
        };
        let plain = Range { order, target, serializable, ..Range::of(self.keys()?) };
        let limit = self.int()?;
        let revision = self.int()?;
        let mut filters = [0; 4];
        if filtered {
            for filter in &mut filters {
                *filter = self.int()?;
            }
        }
        let [mod_min, mod_max, create_min, create_max] = filters;
        let sized = Range { limit, revision, keys_only, count_only, ..plain };
        Ok(Range { mod_min, mod_max, create_min, create_max, ..sized })
    }

    fn txn(&mut self) -> Read<Txn> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(self.error(Problem::Depth))?;
        let txn = Txn {
            compares: self.list(Reader::compare)?,
            success: self.list(Reader::txn_op)?,
            failure: self.list(Reader::txn_op)?,
        };
        self.depth_left += 1;
        Ok(txn)
    }

    fn txn_op(&mut self) -> Read<TxnOp> {
        Ok(match self.byte()? {
            1 => TxnOp::Range(self.range()?),
            2 => TxnOp::Put(self.put()?),
            3 => TxnOp::DeleteRange(self.delete()?),
            4 => TxnOp::Txn(Box::new(self.txn()?)),
            kind => return Err(self.unknown(kind)),
        })
    }

    fn compare(&mut self) -> Read<Compare> {
        let keys = self.keys()?;
        let result = match self.byte()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            4 => CompareResult::Unknown,
            kind => return Err(self.unknown(kind)),
        };
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.int()?),
            1 => CompareTarget::Create(self.int()?),
            2 => CompareTarget::Mod(self.int()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.int()?),
            5 => CompareTarget::Unknown,
            kind => return Err(self.unknown(kind)),
        };
        Ok(Compare { keys, result, target })
    }

    fn keys(&mut self) -> Read<KeyRange> {
        let start = self.bytes()?;
        let end = match self.byte()? {
            0 => RangeEnd::Single,
            1 => RangeEnd::Before(self.bytes()?),
            2 => RangeEnd::Open,
            kind => return Err(self.unknown(kind)),
        };
        Ok(KeyRange { start, end })
    }

    pub(super) fn flags(&mut self) -> Read<[bool; 4]> {
        let bits = self.byte()?;
        if bits > 0b1111 {
            return Err(self.unknown(bits));
        }
        Ok(std::array::from_fn(|bit| bits >> bit & 1 == 1))
    }

    fn lease(&mut self) -> Read<LeaseId> {
        Ok(LeaseId(self.fixed()? as i64))
    }

    pub(super) fn text(&mut self) -> Read<String> {
        let at = self.at;
        let bytes = self.bytes()?;
        let text =
            str::from_utf8(&bytes).map_err(|_| CodecError { offset: at, problem: Problem::Text });
        text.map(str::to_owned)
    }

    /// A slice of the entry's buffer.
    pub(super) fn bytes(&mut self) -> Read<Bytes> {
        let len = self.varint()?;
        let left = self.data.len() - self.at;
        let len = usize::try_from(len).ok().filter(|len| *len <= left);
        let len = len.ok_or(self.error(Problem::Truncated))?;
        let bytes = self.data.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn int(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn varint(&mut self) -> Read<u64> {
        let mut rest = &self.data[self.at..];
        let value = take_varint(&mut rest).ok_or_else(|| {
            let whole = self.data[self.at..].iter().take(10).any(|byte| *byte < 0x80);
            let long = whole || self.data.len() - self.at >= 10;
            self.error(if long { Problem::Number } else { Problem::Truncated })
        })?;
        self.at = self.data.len() - rest.len();
        Ok(value)
    }

    pub(super) fn fixed(&mut self) -> Read<u64> {
        let bytes = self.data[self.at..].first_chunk().ok_or(self.error(Problem::Truncated))?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn short(&mut self) -> Read<u32> {
        let bytes = self.data[self.at..].first_chunk().ok_or(self.error(Problem::Truncated))?;
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }

    pub(super) fn unknown(&self, kind: u8) -> CodecError {
        CodecError { offset: self.at - 1, problem: Problem::Kind(kind) }
    }

    pub(super) fn error(&self, problem: Problem) -> CodecError {
        CodecError { offset: self.at, problem }
    }
}
