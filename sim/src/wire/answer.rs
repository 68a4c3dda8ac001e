//! Messages of the server to answers and watch responses, and statuses to refusals.
//!
//! Strict: a field that the message does not have is a breach, and the header must name the cluster and
//! the member that was asked. Pairs stay as they came; what is in them is for the checkers.
//!
//! Leaves out requests ([`super::request`]). Worked example: the status Unavailable `etcdserver: server
//! stopped` is [`Rejection::Stopped`]; one whose text is none of etcd's, such as that of a deadline,
//! says nothing of what became of the request.

use bytes::Bytes;
use holdfast_core::id::{ClusterId, LeaseId, MemberId, Revision, Term};
use holdfast_core::mvcc::hash::KvHash;
use holdfast_core::query::{
    Answer, AnswerBody, DeleteAnswer, Header, OpAnswer, Query, RangeAnswer, StatusAnswer, TxnAnswer,
};
use holdfast_core::rejection::Rejection;
use holdfast_core::response::{Alarm, AlarmKind, Member};
use holdfast_core::store::Pair;
use holdfast_core::watch::{WatchEvent, WatchResponse};

use super::Breach;
use super::protobuf::{Value, fields};

/// Who must have answered.
pub type Origin = (ClusterId, MemberId);

/// The refusal that a status tells of.
pub fn rejection(text: &str) -> Option<Rejection> {
    Rejection::ALL.iter().copied().find(|rejection| rejection.text() == text)
}

/// The answer to a query.
///
/// # Errors
/// The message is not an answer to it.
pub fn answer(query: &Query, origin: Origin, message: &[u8]) -> Result<Answer, Breach> {
    let (mut header, mut body) = (None, Body::new(query));
    fields(message, |field, value| {
        if field == 1 {
            header = Some(whole_header(origin, value)?);
            return Ok(());
        }
        body.field(field, value)
    })?;
    let header = match query {
        // etcd's has none.
        Query::MoveLeader { .. } => header.unwrap_or_default(),
        _ => header.ok_or("an answer without a header")?,
    };
    Ok(Answer { header, body: body.0 })
}

pub(super) fn odd<T>(field: u32) -> Result<T, Breach> {
    Err(format!("field {field}, which the message does not have"))
}

fn whole_header(origin: Origin, value: Value<'_>) -> Result<Header, Breach> {
    let (mut header, mut from) = (Header::default(), (ClusterId(0), MemberId(0)));
    fields(value.bytes()?, |field, value| {
        let number = value.int()?;
        match field {
            1 => from.0 = ClusterId(number as u64),
            2 => from.1 = MemberId(number as u64),
            3 => header.revision = Revision(number),
            4 => header.term = Term(number as u64),
            _ => return odd(field),
        }
        Ok(())
    })?;
    if from != origin {
        return Err(format!("an answer of {from:?} from {origin:?}"));
    }
    Ok(header)
}

/// The header of one operation of a transaction.
fn inner_header(value: Value<'_>) -> Result<Revision, Breach> {
    let mut revision = Revision(0);
    fields(value.bytes()?, |field, value| {
        let 3 = field else { return odd(field) };
        revision = Revision(value.int()?);
        Ok(())
    })?;
    Ok(revision)
}

fn copied(value: Value<'_>) -> Result<Bytes, Breach> {
    value.bytes().map(Bytes::copy_from_slice)
}

/// The body that grows with the fields behind the header.
struct Body(AnswerBody);

impl Body {
    fn new(query: &Query) -> Body {
        Body(match query {
            Query::Range(_) => AnswerBody::Range(RangeAnswer::default()),
            Query::Put(_) => AnswerBody::Put(None),
            Query::DeleteRange(_) => AnswerBody::DeleteRange(DeleteAnswer::default()),
            Query::Txn(_) => AnswerBody::Txn(TxnAnswer::default()),
            Query::Compact { .. } => AnswerBody::Compact,
            Query::LeaseGrant { .. } => AnswerBody::LeaseGrant { id: LeaseId(0), ttl: 0 },
            Query::LeaseRevoke { .. } => AnswerBody::LeaseRevoke,
            Query::LeaseKeepAlive { .. } => AnswerBody::LeaseKeepAlive { id: LeaseId(0), ttl: 0 },
            Query::LeaseTimeToLive { .. } => {
                AnswerBody::LeaseTimeToLive { id: LeaseId(0), ttl: 0, granted: 0, keys: Vec::new() }
            }
            Query::LeaseLeases => AnswerBody::LeaseLeases(Vec::new()),
            Query::MemberList { .. } => AnswerBody::MemberList(Vec::new()),
            Query::Status => AnswerBody::Status(StatusAnswer::default()),
            Query::AlarmList | Query::Alarm(_) => AnswerBody::Alarms(Vec::new()),
            Query::Hash => AnswerBody::Hash(0),
            Query::HashKv { .. } => {
                let (compacted, revision) = (Revision(0), Revision(0));
                AnswerBody::HashKv(KvHash { hash: 0, compacted, revision })
            }
            Query::Defragment => AnswerBody::Defragment,
            Query::MoveLeader { .. } => AnswerBody::MoveLeader,
            Query::Auth(query) => AnswerBody::Auth(super::auth::reply(query)),
            Query::MemberAdd { .. } => {
                AnswerBody::MemberAdd { member: Member::default(), members: Vec::new() }
            }
            Query::MemberChange(_) => AnswerBody::Members(Vec::new()),
            Query::Downgrade(_) => unreachable!("no client asks for one"),
        })
    }

    fn field(&mut self, field: u32, value: Value<'_>) -> Result<(), Breach> {
        match &mut self.0 {
            AnswerBody::Range(range) => return range_field(range, field, value),
            AnswerBody::Put(prev) if field == 2 => *prev = Some(copied(value)?),
            AnswerBody::DeleteRange(delete) => return delete_field(delete, field, value),
            AnswerBody::Txn(txn) => return txn_field(txn, field, value),
            AnswerBody::LeaseGrant { id, ttl } | AnswerBody::LeaseKeepAlive { id, ttl } => {
                match field {
                    2 => *id = LeaseId(value.int()?),
                    3 => *ttl = value.int()?,
                    _ => return odd(field),
                }
            }
            AnswerBody::LeaseTimeToLive { id, ttl, granted, keys } => match field {
                2 => *id = LeaseId(value.int()?),
                3 => *ttl = value.int()?,
                4 => *granted = value.int()?,
                5 => keys.push(copied(value)?),
                _ => return odd(field),
            },
            AnswerBody::LeaseLeases(leases) if field == 2 => {
                let mut id = LeaseId(0);
                fields(value.bytes()?, |_, value| {
                    id = LeaseId(value.int()?);
                    Ok(())
                })?;
                leases.push(id);
            }
            AnswerBody::MemberList(members) | AnswerBody::Members(members) if field == 2 => {
                members.push(member(value)?);
            }
            AnswerBody::MemberAdd { member: added, members } => match field {
                2 => *added = member(value)?,
                3 => members.push(member(value)?),
                _ => return odd(field),
            },
            AnswerBody::Auth(reply) => return super::auth::field(reply, field, value),
            // What a member says of itself has no oracle; that it can be read is all.
            AnswerBody::Status(_) | AnswerBody::Hash(_) | AnswerBody::HashKv(_) => {}
            AnswerBody::Alarms(alarms) if field == 2 => alarms.push(alarm(value)?),
            _ => return odd(field),
        }
        Ok(())
    }
}

fn alarm(value: Value<'_>) -> Result<Alarm, Breach> {
    let mut alarm = Alarm { member: MemberId(0), kind: AlarmKind::NoSpace };
    fields(value.bytes()?, |field, value| {
        match (field, value.int()?) {
            (1, member) => alarm.member = MemberId(member as u64),
            (2, 1) => alarm.kind = AlarmKind::NoSpace,
            (2, 2) => alarm.kind = AlarmKind::Corrupt,
            _ => return odd(field),
        }
        Ok(())
    })?;
    Ok(alarm)
}

fn range_field(range: &mut RangeAnswer, field: u32, value: Value<'_>) -> Result<(), Breach> {
    match field {
        2 => range.kvs.push(Pair::whole(&copied(value)?), 0),
        3 => range.more = value.int()? != 0,
        4 => range.count = value.int()?,
        _ => return odd(field),
    }
    Ok(())
}

fn delete_field(delete: &mut DeleteAnswer, field: u32, value: Value<'_>) -> Result<(), Breach> {
    match field {
        2 => delete.deleted = value.int()?,
        3 => delete.prev_kvs.push(copied(value)?),
        _ => return odd(field),
    }
    Ok(())
}

fn txn_field(txn: &mut TxnAnswer, field: u32, value: Value<'_>) -> Result<(), Breach> {
    match field {
        2 => txn.succeeded = value.int()? != 0,
        3 => {
            let before = txn.ops.len();
            fields(value.bytes()?, |kind, value| {
                txn.ops.push(op_answer(kind, value)?);
                Ok(())
            })?;
            if txn.ops.len() != before + 1 {
                return Err("an operation's answer is not one answer".into());
            }
        }
        _ => return odd(field),
    }
    Ok(())
}

fn op_answer(kind: u32, value: Value<'_>) -> Result<OpAnswer, Breach> {
    let mut revision = Revision(0);
    let (mut range, mut prev) = (RangeAnswer::default(), None);
    let (mut delete, mut txn) = (DeleteAnswer::default(), TxnAnswer::default());
    fields(value.bytes()?, |field, value| {
        if field == 1 {
            revision = inner_header(value)?;
            return Ok(());
        }
        match (kind, field) {
            (1, _) => range_field(&mut range, field, value),
            (2, 2) => {
                prev = Some(copied(value)?);
                Ok(())
            }
            (3, _) => delete_field(&mut delete, field, value),
            (4, _) => txn_field(&mut txn, field, value),
            _ => odd(field),
        }
    })?;
    match kind {
        1 => Ok(OpAnswer::Range(revision, range)),
        2 => Ok(OpAnswer::Put(revision, prev)),
        3 => Ok(OpAnswer::DeleteRange(revision, delete)),
        4 => Ok(OpAnswer::Txn(txn)),
        _ => odd(kind),
    }
}

fn member(value: Value<'_>) -> Result<Member, Breach> {
    let mut member = Member {
        id: MemberId(0),
        name: String::new(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        is_learner: false,
    };
    fields(value.bytes()?, |field, value| {
        match field {
            1 => member.id = MemberId(value.int()? as u64),
            2 => member.name = value.text()?,
            3 => member.peer_urls.push(value.text()?),
            4 => member.client_urls.push(value.text()?),
            5 => member.is_learner = value.int()? != 0,
            _ => return odd(field),
        }
        Ok(())
    })?;
    Ok(member)
}

/// A message of a watch stream.
///
/// # Errors
/// It is none.
pub fn watch(origin: Origin, message: &[u8]) -> Result<WatchResponse, Breach> {
    let (mut response, mut header) = (WatchResponse::default(), None);
    fields(message, |field, value| {
        match field {
            1 => header = Some(whole_header(origin, value)?),
            2 => response.id = value.int()?,
            3 => response.created = value.int()? != 0,
            4 => response.canceled = value.int()? != 0,
            5 => response.compact_revision = Revision(value.int()?),
            6 => response.cancel_reason = value.text()?,
            7 => response.fragment = value.int()? != 0,
            11 => response.events.push(event(value)?),
            _ => return odd(field),
        }
        Ok(())
    })?;
    response.revision = header.ok_or("a watch response without a header")?.revision;
    Ok(response)
}

fn event(value: Value<'_>) -> Result<WatchEvent, Breach> {
    let (mut delete, mut kv, mut prev_kv) = (false, None, None);
    fields(value.bytes()?, |field, value| {
        match field {
            1 => delete = value.int()? != 0,
            2 => kv = Some(copied(value)?),
            3 => prev_kv = Some(copied(value)?),
            _ => return odd(field),
        }
        Ok(())
    })?;
    Ok(WatchEvent { delete, kv: kv.ok_or("an event without its pair")?, prev_kv })
}
