//! The bytes of each [`Message`], drawn in `net/PEER.md`: fixed-width little-endian fields, counts
//! and lengths as u32.
//!
//! Leaves out framing and checksums. Laws: one message has one encoding (an unknown flag, tag or
//! trailing byte is an error); a count is believed only if as many bytes are there; entries of an
//! Append are consecutive. Data of 16 KiB and more stays a slice of the received buffer, smaller
//! data is copied: a small entry that lives long in the log cache must not hold a large buffer.
//!
//! Worked example: `LeaseAsk{number: 7, id: l5, renew: true}` is 17 bytes: 7 as u64, 5 as i64, 01.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use holdfast_core::entry::{Entry, EntryKind};
use holdfast_core::id::{Incarnation, Index, LeaseId, MemberId, Position, Term};
use holdfast_core::message::{
    ChangeRefused, HashAnswer, HashOutcome, LeaseAnswer, LeaseAsk, LeaseOutcome, Message, RaftKind,
    RaftMessage, SnapshotMeta, Transfer,
};

use super::frame::{Frame, FrameError, HEADER, Kind, write_frame};

mod hash;

/// From this size on data is a slice of the received buffer.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// Bytes of an entry without its data.
const ENTRY_BYTES: usize = 8 + 8 + 1 + 4;

/// Fixed bytes of a raft message: kind, flags, ten 8-byte numbers, entry count, context length.
const RAFT_BYTES: usize = 2 + 10 * 8 + 4 + 4;

const FLAG_REJECT: u8 = 1;
const FLAG_SNAPSHOT: u8 = 2;

/// Appends one message as a whole frame.
pub fn encode_frame(message: &Message, out: &mut BytesMut) {
    out.reserve(frame_len(message));
    match message {
        Message::Raft(raft) => write_frame(Kind::Raft, out, |out| put_raft(raft, out)),
        Message::LeaseAsk(ask) => write_frame(Kind::LeaseAsk, out, |out| put_ask(*ask, out)),
        Message::LeaseAnswer(answer) => {
            write_frame(Kind::LeaseAnswer, out, |out| put_answer(*answer, out));
        }
        Message::Transfer(transfer) => {
            write_frame(Kind::Transfer, out, |out| put_transfer(transfer, out));
        }
        Message::ChangeRefused(refused) => {
            write_frame(Kind::ChangeRefused, out, |out| put_refused(*refused, out));
        }
        Message::HashAsk(ask) => write_frame(Kind::HashAsk, out, |out| hash::put_ask(ask, out)),
        Message::HashAnswer(answer) => {
            write_frame(Kind::HashAnswer, out, |out| hash::put_answer(answer, out));
        }
    }
}

/// How long the frame of a message will be.
pub fn frame_len(message: &Message) -> usize {
    let payload = match message {
        Message::Raft(raft) => {
            let entries = raft.entries.iter().map(|entry| ENTRY_BYTES + entry.data.len());
            let snapshot = raft.snapshot.as_ref().map_or(0, meta_len);
            RAFT_BYTES + entries.sum::<usize>() + raft.context.len() + snapshot
        }
        Message::LeaseAsk(_) | Message::ChangeRefused(_) => 17,
        Message::LeaseAnswer(LeaseAnswer { outcome: LeaseOutcome::Alive { .. }, .. }) => 33,
        Message::LeaseAnswer(_) => 9,
        Message::HashAsk(_) => 24,
        Message::HashAnswer(HashAnswer { outcome: HashOutcome::Hash(_), .. }) => 37,
        Message::HashAnswer(_) => 17,
        Message::Transfer(Transfer::Offer { meta, files, .. }) => {
            let names = files.iter().map(|(name, _)| 4 + name.len() + 8);
            1 + 8 + 8 + meta_len(meta) + 4 + names.sum::<usize>()
        }
        Message::Transfer(Transfer::Chunk { data, .. }) => 1 + 8 + 4 + 8 + 4 + data.len(),
        Message::Transfer(Transfer::Have { .. }) => 1 + 8 + 4 + 8,
        Message::Transfer(Transfer::Stop { .. }) => 1 + 8,
    };
    HEADER + payload
}

/// Reads a message back; `Hello` and `Refuse` are not messages.
pub fn decode(frame: &Frame) -> Result<Message, FrameError> {
    let mut fields = Fields::of(frame);
    let message = match frame.kind {
        Kind::Hello | Kind::Refuse | Kind::Inquire | Kind::Roster | Kind::Ping | Kind::Pong => {
            return Err(fields.bad("place: it belongs to the handshake"));
        }
        Kind::Raft => Message::Raft(take_raft(&mut fields)?),
        Kind::LeaseAsk => Message::LeaseAsk(take_ask(&mut fields)?),
        Kind::LeaseAnswer => Message::LeaseAnswer(take_answer(&mut fields)?),
        Kind::Transfer => Message::Transfer(take_transfer(&mut fields)?),
        Kind::ChangeRefused => Message::ChangeRefused(take_refused(&mut fields)?),
        Kind::HashAsk => Message::HashAsk(hash::take_ask(&mut fields)?),
        Kind::HashAnswer => Message::HashAnswer(hash::take_answer(&mut fields)?),
    };
    fields.end()?;
    Ok(message)
}

fn put_raft(raft: &RaftMessage, out: &mut BytesMut) {
    out.put_u8(raft.kind as u8);
    let reject = if raft.reject { FLAG_REJECT } else { 0 };
    out.put_u8(reject | if raft.snapshot.is_some() { FLAG_SNAPSHOT } else { 0 });
    out.put_u64_le(raft.from.0);
    out.put_u64_le(raft.to.0);
    out.put_u64_le(raft.term.0);
    put_position(raft.log, out);
    out.put_u64_le(raft.commit.0);
    out.put_u64_le(raft.commit_term.0);
    out.put_u64_le(raft.reject_hint.0);
    out.put_u64_le(raft.request_snapshot.0);
    out.put_i64_le(raft.priority);
    put_len(raft.entries.len(), out);
    for entry in &raft.entries {
        put_position(entry.at, out);
        out.put_u8(entry.kind as u8);
        put_bytes(&entry.data, out);
    }
    put_bytes(&raft.context, out);
    if let Some(meta) = &raft.snapshot {
        put_meta(meta, out);
    }
}

fn take_raft(fields: &mut Fields) -> Result<RaftMessage, FrameError> {
    let kind = RaftKind::from_wire(fields.u8()?).ok_or(fields.bad("raft kind"))?;
    let flags = fields.u8()?;
    if flags & !(FLAG_REJECT | FLAG_SNAPSHOT) != 0 {
        return Err(fields.bad("flag"));
    }
    let mut raft = RaftMessage {
        kind,
        from: MemberId(fields.u64()?),
        to: MemberId(fields.u64()?),
        term: Term(fields.u64()?),
        log: fields.position()?,
        entries: Vec::new(),
        commit: Index(fields.u64()?),
        commit_term: Term(fields.u64()?),
        reject: flags & FLAG_REJECT != 0,
        reject_hint: Index(fields.u64()?),
        request_snapshot: Index(fields.u64()?),
        snapshot: None,
        context: Bytes::new(),
        priority: fields.u64()? as i64,
    };
    raft.entries = take_entries(fields, &raft)?;
    raft.context = fields.bytes()?;
    if flags & FLAG_SNAPSHOT != 0 {
        raft.snapshot = Some(take_meta(fields)?);
    }
    Ok(raft)
}

fn take_entries(fields: &mut Fields, raft: &RaftMessage) -> Result<Vec<Entry>, FrameError> {
    let count = fields.count(ENTRY_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    let mut before = raft.log;
    for _ in 0..count {
        let at = fields.position()?;
        // Raft indexes its log by what an Append claims, so the claim is checked here (thesis 3.5).
        let follows = Some(at.index.0) == before.index.0.checked_add(1) && at.term >= before.term;
        if raft.kind == RaftKind::Append && !follows {
            return Err(fields.bad("sequence of entries"));
        }
        before = at;
        let kind = match fields.u8()? {
            0 => EntryKind::Normal,
            1 => EntryKind::ConfChange,
            2 => EntryKind::ConfChangeV2,
            _ => return Err(fields.bad("entry kind")),
        };
        entries.push(Entry { at, kind, data: fields.bytes()? });
    }
    Ok(entries)
}

fn put_ask(ask: LeaseAsk, out: &mut BytesMut) {
    out.put_u64_le(ask.number);
    out.put_i64_le(ask.id.0);
    out.put_u8(u8::from(ask.renew));
}

fn take_ask(fields: &mut Fields) -> Result<LeaseAsk, FrameError> {
    Ok(LeaseAsk {
        number: fields.u64()?,
        id: LeaseId(fields.u64()? as i64),
        renew: match fields.u8()? {
            0 => false,
            1 => true,
            _ => return Err(fields.bad("renew flag")),
        },
    })
}

fn put_answer(answer: LeaseAnswer, out: &mut BytesMut) {
    out.put_u64_le(answer.number);
    match answer.outcome {
        LeaseOutcome::Alive { ttl, granted, applied } => {
            out.put_u8(1);
            out.put_i64_le(ttl);
            out.put_i64_le(granted);
            out.put_u64_le(applied.0);
        }
        LeaseOutcome::Missing => out.put_u8(2),
        LeaseOutcome::NotLeader => out.put_u8(3),
    }
}

fn take_answer(fields: &mut Fields) -> Result<LeaseAnswer, FrameError> {
    let number = fields.u64()?;
    let outcome = match fields.u8()? {
        1 => LeaseOutcome::Alive {
            ttl: fields.u64()? as i64,
            granted: fields.u64()? as i64,
            applied: Index(fields.u64()?),
        },
        2 => LeaseOutcome::Missing,
        3 => LeaseOutcome::NotLeader,
        _ => return Err(fields.bad("lease outcome")),
    };
    Ok(LeaseAnswer { number, outcome })
}

fn put_refused(refused: ChangeRefused, out: &mut BytesMut) {
    let reason = ChangeRefused::REASONS.iter().position(|why| *why == refused.why);
    out.put_u64_le(refused.sequence);
    out.put_u64_le(refused.incarnation.0);
    out.put_u8(reason.map_or(0, |reason| reason as u8 + 1));
}

fn take_refused(fields: &mut Fields) -> Result<ChangeRefused, FrameError> {
    let (sequence, incarnation) = (fields.u64()?, Incarnation(fields.u64()?));
    let reason = usize::from(fields.u8()?).checked_sub(1);
    let why = reason.and_then(|reason| ChangeRefused::REASONS.get(reason));
    Ok(ChangeRefused { sequence, incarnation, why: *why.ok_or(fields.bad("reason"))? })
}

fn put_transfer(transfer: &Transfer, out: &mut BytesMut) {
    match transfer {
        Transfer::Offer { number, meta, term, files } => {
            out.put_u8(1);
            out.put_u64_le(*number);
            out.put_u64_le(term.0);
            put_meta(meta, out);
            put_len(files.len(), out);
            for (name, length) in files {
                put_bytes(name.as_bytes(), out);
                out.put_u64_le(*length);
            }
        }
        Transfer::Chunk { number, file, offset, data } => {
            out.put_u8(2);
            out.put_u64_le(*number);
            out.put_u32_le(*file);
            out.put_u64_le(*offset);
            put_bytes(data, out);
        }
        Transfer::Have { number, file, offset } => {
            out.put_u8(3);
            out.put_u64_le(*number);
            out.put_u32_le(*file);
            out.put_u64_le(*offset);
        }
        Transfer::Stop { number } => {
            out.put_u8(4);
            out.put_u64_le(*number);
        }
    }
}

fn take_transfer(fields: &mut Fields) -> Result<Transfer, FrameError> {
    let tag = fields.u8()?;
    let number = fields.u64()?;
    Ok(match tag {
        1 => {
            let term = Term(fields.u64()?);
            Transfer::Offer { number, meta: take_meta(fields)?, term, files: take_files(fields)? }
        }
        2 => {
            let (file, offset) = (fields.u32()?, fields.u64()?);
            Transfer::Chunk { number, file, offset, data: fields.bytes()? }
        }
        3 => Transfer::Have { number, file: fields.u32()?, offset: fields.u64()? },
        4 => Transfer::Stop { number },
        _ => return Err(fields.bad("transfer tag")),
    })
}

fn take_files(fields: &mut Fields) -> Result<Vec<(String, u64)>, FrameError> {
    let count = fields.count(4 + 8)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        let name = fields.bytes()?;
        let name = String::from_utf8(name.into()).map_err(|_| fields.bad("file name"))?;
        files.push((name, fields.u64()?));
    }
    Ok(files)
}

fn meta_len(meta: &SnapshotMeta) -> usize {
    16 + 4 + 8 * meta.voters.len() + 4 + 8 * meta.learners.len()
}

fn put_meta(meta: &SnapshotMeta, out: &mut BytesMut) {
    put_position(meta.at, out);
    for members in [&meta.voters, &meta.learners] {
        put_len(members.len(), out);
        members.iter().for_each(|member| out.put_u64_le(member.0));
    }
}

fn take_meta(fields: &mut Fields) -> Result<SnapshotMeta, FrameError> {
    Ok(SnapshotMeta {
        at: fields.position()?,
        voters: take_members(fields)?,
        learners: take_members(fields)?,
    })
}

fn take_members(fields: &mut Fields) -> Result<Vec<MemberId>, FrameError> {
    let count = fields.count(8)?;
    (0..count).map(|_| fields.u64().map(MemberId)).collect()
}

/// Writes a position as term, then index.
pub(super) fn put_position(position: Position, out: &mut BytesMut) {
    out.put_u64_le(position.term.0);
    out.put_u64_le(position.index.0);
}

pub(super) fn put_len(length: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(length).expect("a frame, and so each part of it, is below 4 GiB"));
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_len(bytes.len(), out);
    out.put_slice(bytes);
}

/// The unread fields of a payload.
pub(super) struct Fields {
    kind: Kind,
    rest: Bytes,
}

impl Fields {
    /// All of a frame's.
    pub(super) fn of(frame: &Frame) -> Fields {
        Fields { kind: frame.kind, rest: frame.payload.clone() }
    }

    /// The error for a part that is wrong.
    pub(super) fn bad(&self, what: &'static str) -> FrameError {
        FrameError::Malformed { kind: self.kind, what }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad("end: bytes are left over")) }
    }

    fn short(&self) -> FrameError {
        self.bad("length: it ends too early")
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.rest.try_get_u8().map_err(|_| self.short())
    }

    /// A u16.
    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.rest.try_get_u16_le().map_err(|_| self.short())
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.rest.try_get_u32_le().map_err(|_| self.short())
    }

    /// A u64.
    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.rest.try_get_u64_le().map_err(|_| self.short())
    }

    /// Term, then index.
    pub(super) fn position(&mut self) -> Result<Position, FrameError> {
        let term = Term(self.u64()?);
        Ok(Position { term, index: Index(self.u64()?) })
    }

    /// A count of parts that take at least `each` bytes.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, FrameError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / each { Err(self.short()) } else { Ok(count) }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, FrameError> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(self.short());
        }
        let shared = self.rest.split_to(length);
        Ok(if length < SHARED_BYTES_MIN { Bytes::copy_from_slice(&shared) } else { shared })
    }
}

#[cfg(test)]
mod tests;
