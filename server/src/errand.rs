//! Calls that take several requests: Lock, Election and RangeStream, made of the member's own KV, lease and
//! watch inside the process, as etcd makes them of its own client.
//!
//! An errand never waits: it is told what came of its last step and says what comes next. Who carries
//! the steps out is [`crate::session`]; nothing here knows connections.
//!
//! Laws:
//!  1. An errand has one step under way at a time, and ends with `Done` or `End`.
//!  2. What an inner request is refused with becomes the text of the call's error, with the code Unknown
//!     (surface 1.12, 2.2); only RangeStream keeps the code, and Observe ends without an error.
//!
//! Worked example, Lock of a name that somebody holds: grant a lease if none is given, write the own key
//! unless it is there, look for the next older key, watch it until it is deleted, look again, read the
//! own key, answer.

use bytes::{Bytes, BytesMut};
use holdfast_core::id::LeaseId;
use holdfast_core::kv::KeyValue;
use holdfast_core::query::{Answer, AnswerBody, Answered, OpAnswer, Query, RangeAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, Range, RangeEnd, SortOrder,
    SortTarget, Txn, TxnOp,
};
use holdfast_core::watch::WatchResponse;
use holdfast_net::call::{Code, GrpcStatus, Method};
use holdfast_net::payload::Payload;
use holdfast_net::wire::{Origin, WireLimits};
use prost::Message;

mod campaign;
mod lock;
mod observe;
mod range_stream;
mod turn;

use campaign::Campaign;
use lock::Lock;
use observe::Observe;
use range_stream::RangeStream;

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// Ask this; the answer is told by [`Errand::answered`].
    Ask(Query),
    /// Watch a range from a revision on; what it says is told by [`Errand::watched`], until the next
    /// step that is not `Wait`.
    Watch(KeyRange, i64),
    /// Nothing: the watch goes on.
    Wait,
    /// Send a message, then go on with [`Errand::sent`] once there is room for another.
    Send(Payload),
    /// Send these, whether there is room or not, then go on with that.
    Tell(Vec<Bytes>, Box<Step>),
    /// The last message.
    Done(Payload),
    /// The call ends like this.
    End(GrpcStatus),
}

/// A call under way.
#[derive(Debug)]
pub struct Errand {
    origin: Origin,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Lock(Lock),
    Campaign(Campaign),
    Observe(Observe),
    RangeStream(RangeStream),
    /// One request, whose answer is turned into the call's.
    Single(Single),
}

/// What a single request's answer is turned into.
#[derive(Debug)]
enum Single {
    Unlock,
    Resign,
    Proclaim(Proclaim),
    Leader,
}

/// A proclamation; without a lease it first gets one.
#[derive(Debug)]
struct Proclaim {
    key: Bytes,
    revision: i64,
    value: Bytes,
}

/// Whether a method is served as an errand.
pub fn is_errand(method: Method) -> bool {
    matches!(
        method,
        Method::RangeStream
            | Method::Lock
            | Method::Unlock
            | Method::Campaign
            | Method::Proclaim
            | Method::Leader
            | Method::Observe
            | Method::Resign
    )
}

impl Errand {
    /// Begins a call; gives its first step.
    ///
    /// # Errors
    /// A message that cannot be read or is refused before anything is asked.
    pub fn begin(
        (method, message): (Method, &Bytes),
        origin: Origin,
        limits: &WireLimits,
    ) -> Result<(Errand, Step), GrpcStatus> {
        let (kind, step) = match method {
            Method::RangeStream => {
                let (stream, step) = RangeStream::begin(message, limits)?;
                (Kind::RangeStream(stream), step)
            }
            Method::Lock => {
                let (lock, step) = Lock::begin(message)?;
                (Kind::Lock(lock), step)
            }
            Method::Campaign => {
                let (campaign, step) = Campaign::begin(message)?;
                (Kind::Campaign(campaign), step)
            }
            Method::Observe => {
                let (observe, step) = Observe::begin(message)?;
                (Kind::Observe(observe), step)
            }
            _ => {
                let (single, step) = Single::begin(method, message)?;
                (Kind::Single(single), step)
            }
        };
        Ok((Errand { origin, kind }, step))
    }

    /// What came of the last request.
    pub fn answered(&mut self, answered: Answered) -> Step {
        if let Kind::RangeStream(stream) = &mut self.kind {
            return stream.answered(self.origin, answered);
        }
        let answer = match (answered, &mut self.kind) {
            (Ok(answer), _) => answer,
            (Err(rejection), Kind::Lock(lock)) => return lock.refused(rejection),
            (Err(rejection), Kind::Campaign(campaign)) => return campaign.refused(rejection),
            (Err(_), Kind::Observe(_)) => return over(),
            (Err(rejection), _) => return fail(rejection.text()),
        };
        match &mut self.kind {
            Kind::Lock(lock) => lock.answered(self.origin, &answer),
            Kind::Campaign(campaign) => campaign.answered(self.origin, &answer),
            Kind::Observe(observe) => observe.answered(self.origin, &answer),
            Kind::Single(single) => single.answered(self.origin, &answer),
            Kind::RangeStream(_) => unreachable!("told above"),
        }
    }

    /// What the watch says.
    pub fn watched(&mut self, response: &WatchResponse) -> Step {
        match &mut self.kind {
            Kind::Lock(lock) => lock.watched(response),
            Kind::Campaign(campaign) => campaign.watched(response),
            Kind::Observe(observe) => observe.watched(self.origin, response),
            Kind::RangeStream(_) | Kind::Single(_) => Step::Wait,
        }
    }

    /// The message sent last has left room for another.
    pub fn sent(&mut self) -> Step {
        match &mut self.kind {
            Kind::RangeStream(stream) => stream.next(),
            Kind::Observe(observe) => observe.next(),
            Kind::Lock(_) | Kind::Campaign(_) | Kind::Single(_) => Step::Wait,
        }
    }

    /// Nobody waits for the call any more: what it leaves behind is removed by this request.
    pub fn abandoned(&self) -> Option<Query> {
        match &self.kind {
            Kind::Lock(lock) => lock.abandoned(),
            Kind::Campaign(campaign) => campaign.abandoned(),
            Kind::Observe(_) | Kind::RangeStream(_) | Kind::Single(_) => None,
        }
    }
}

impl Single {
    fn begin(method: Method, message: &Bytes) -> Result<(Single, Step), GrpcStatus> {
        use holdfast_net::proto::{v3electionpb as election, v3lockpb as lock};
        Ok(match method {
            Method::Unlock => {
                let request: lock::UnlockRequest = read(message)?;
                check_key(&request.key)?;
                (Single::Unlock, Step::Ask(delete(request.key)))
            }
            Method::Leader => {
                let request: election::LeaderRequest = read(message)?;
                (Single::Leader, Step::Ask(oldest(&under(&request.name))))
            }
            Method::Resign => {
                let request: election::ResignRequest = read(message)?;
                let leader = request.leader.ok_or_else(missing_leader)?;
                check_key(&leader.key)?;
                (Single::Resign, Step::Ask(resign(leader.key, leader.rev)))
            }
            _ => {
                let request: election::ProclaimRequest = read(message)?;
                let leader = request.leader.ok_or_else(missing_leader)?;
                check_key(&leader.key)?;
                let proclaim =
                    Proclaim { key: leader.key, revision: leader.rev, value: request.value };
                let step = match leader.lease {
                    0 => grant(),
                    lease => proclaim.step(lease),
                };
                (Single::Proclaim(proclaim), step)
            }
        })
    }

    fn answered(&mut self, origin: Origin, answer: &Answer) -> Step {
        use holdfast_net::proto::{v3electionpb as election, v3lockpb as lock};
        let header = Some(origin.header(answer.header));
        match (self, &answer.body) {
            (Single::Proclaim(proclaim), AnswerBody::LeaseGrant { id, .. }) => proclaim.step(id.0),
            (Single::Proclaim(_), AnswerBody::Txn(txn)) if !txn.succeeded => {
                fail("election: not leader")
            }
            (Single::Proclaim(_), _) => done(&election::ProclaimResponse { header }),
            (Single::Unlock, _) => done(&lock::UnlockResponse { header }),
            (Single::Resign, _) => done(&election::ResignResponse { header }),
            (Single::Leader, AnswerBody::Range(range)) => match range.kvs.iter().next() {
                Some(kv) => done(&election::LeaderResponse { header, kv: pair(kv) }),
                None => fail("election: no leader"),
            },
            (Single::Leader, _) => fail(Rejection::Corrupt.text()),
        }
    }
}

impl Proclaim {
    fn step(&self, lease: i64) -> Step {
        Step::Ask(guarded(
            (self.key.clone(), self.revision),
            TxnOp::Put(put(self.key.clone(), self.value.clone(), lease)),
        ))
    }
}

fn read<M: Message + Default>(message: &Bytes) -> Result<M, GrpcStatus> {
    holdfast_net::wire::decode_message(message)
}

/// The inner request would be refused for its key before anything else.
fn check_key(key: &[u8]) -> Result<(), GrpcStatus> {
    if key.is_empty() {
        let message = Rejection::EmptyKey.text().into();
        return Err(GrpcStatus { code: Code::Unknown, message });
    }
    Ok(())
}

fn missing_leader() -> GrpcStatus {
    GrpcStatus { code: Code::Unknown, message: "\"leader\" field must be provided".into() }
}

fn fail(text: &str) -> Step {
    Step::End(GrpcStatus { code: Code::Unknown, message: text.into() })
}

/// etcd's Observe reads from a channel; whatever closes it ends the call without an error.
fn over() -> Step {
    Step::End(GrpcStatus { code: Code::Ok, message: String::new() })
}

fn encoded(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut out).expect("a BytesMut grows");
    out.freeze()
}

fn done(message: &impl Message) -> Step {
    Step::Done(encoded(message).into())
}

/// A pair as the messages of Election carry it.
fn pair(kv: &[u8]) -> Option<holdfast_net::proto::mvccpb::KeyValue> {
    holdfast_net::proto::mvccpb::KeyValue::decode(kv).ok()
}

/// The prefix that all keys of a lock or election have.
fn under(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// All keys with a prefix, as etcd's client asks for them.
fn prefixed(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return KeyRange { start: prefix.to_vec().into(), end: RangeEnd::Before(end.into()) };
        }
    }
    KeyRange { start: prefix.to_vec().into(), end: RangeEnd::Open }
}

/// The key of the longest standing candidate.
fn first_created(prefix: &[u8]) -> Range {
    let (order, target) = (SortOrder::Ascend, SortTarget::Create);
    Range { order, target, limit: 1, ..Range::of(prefixed(prefix)) }
}

fn oldest(prefix: &[u8]) -> Query {
    Query::Range(first_created(prefix))
}

fn grant() -> Step {
    Step::Ask(Query::LeaseGrant { id: LeaseId::NONE, ttl: SESSION_TTL })
}

/// Seconds that a lock or a candidacy without a lease of its own lives (etcd's value).
const SESSION_TTL: i64 = 60;

fn put(key: Bytes, value: Bytes, lease: i64) -> Put {
    let (prev_kv, ignore_value, ignore_lease) = (false, false, false);
    Put { key, value, lease: LeaseId(lease), prev_kv, ignore_value, ignore_lease }
}

fn delete(key: Bytes) -> Query {
    Query::DeleteRange(DeleteRange { keys: KeyRange::single(key), prev_kv: false })
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    let (result, target) = (CompareResult::Equal, CompareTarget::Create(revision));
    Compare { keys: KeyRange::single(key.clone()), result, target }
}

/// An operation that only takes place while the key is the one of that revision.
fn guarded((key, revision): (Bytes, i64), op: TxnOp) -> Query {
    let compares = vec![created_at(&key, revision)];
    Query::Txn(Txn { compares, success: vec![op], failure: Vec::new() })
}

fn resign(key: Bytes, revision: i64) -> Query {
    let keys = KeyRange::single(key.clone());
    guarded((key, revision), TxnOp::DeleteRange(DeleteRange { keys, prev_kv: false }))
}

/// The range of an operation's answer.
fn ranged(answer: &Answer, at: usize) -> Option<&RangeAnswer> {
    match &answer.body {
        AnswerBody::Range(range) => Some(range),
        AnswerBody::Txn(txn) => match txn.ops.get(at) {
            Some(OpAnswer::Range(_, range)) => Some(range),
            _ => None,
        },
        _ => None,
    }
}

fn first_pair(range: Option<&RangeAnswer>) -> Option<KeyValue<'_>> {
    range.and_then(|range| KeyValue::decode(range.kvs.iter().next()?))
}

/// Where a lock's or election's key of a lease is.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let hex = if lease < 0 { format!("-{:x}", lease.unsigned_abs()) } else { format!("{lease:x}") };
    [prefix, hex.as_bytes()].concat().into()
}
