//! The bytes of questions for hashes and of their answers, drawn in `net/PEER.md`. Only links of protocol 2
//! carry them: a member of protocol 1 would take them for damage.
//!
//! Worked example: an answer "compacted" is 17 bytes: its number, the newest revision, 02.

use bytes::{BufMut, BytesMut};
use holdfast_core::id::Revision;
use holdfast_core::message::{HashAnswer, HashAsk, HashOutcome};
use holdfast_core::mvcc::hash::KvHash;

use super::super::frame::FrameError;
use super::Fields;

pub(super) fn put_ask(ask: &HashAsk, out: &mut BytesMut) {
    out.put_u64_le(ask.number);
    out.put_i64_le(ask.revision.0);
    out.put_i64_le(ask.compacted.0);
}

pub(super) fn take_ask(fields: &mut Fields) -> Result<HashAsk, FrameError> {
    Ok(HashAsk {
        number: fields.u64()?,
        revision: Revision(fields.u64()? as i64),
        compacted: Revision(fields.u64()? as i64),
    })
}

pub(super) fn put_answer(answer: &HashAnswer, out: &mut BytesMut) {
    out.put_u64_le(answer.number);
    out.put_i64_le(answer.revision.0);
    match answer.outcome {
        HashOutcome::Hash(KvHash { hash, compacted, revision }) => {
            out.put_u8(1);
            out.put_u32_le(hash);
            out.put_i64_le(compacted.0);
            out.put_i64_le(revision.0);
        }
        HashOutcome::Compacted => out.put_u8(2),
        HashOutcome::Future => out.put_u8(3),
        HashOutcome::Unreadable => out.put_u8(4),
    }
}

pub(super) fn take_answer(fields: &mut Fields) -> Result<HashAnswer, FrameError> {
    let (number, revision) = (fields.u64()?, Revision(fields.u64()? as i64));
    let outcome = match fields.u8()? {
        1 => HashOutcome::Hash(KvHash {
            hash: fields.u32()?,
            compacted: Revision(fields.u64()? as i64),
            revision: Revision(fields.u64()? as i64),
        }),
        2 => HashOutcome::Compacted,
        3 => HashOutcome::Future,
        4 => HashOutcome::Unreadable,
        _ => return Err(fields.bad("hash outcome")),
    };
    Ok(HashAnswer { number, revision, outcome })
}
