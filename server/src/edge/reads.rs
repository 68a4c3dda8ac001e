//! Reading for calls: at once while the turn's share lasts, else piece by piece in turn.
//!
//! Laws:
//!  1. A read that comes is answered at once if nothing came before it that still waits, and little
//!     enough is left to do; then it stands in no queue.
//!  2. Reads that wait begin in the order in which they came; long ones go on in turn, a bounded piece
//!     each, so that a short one does not wait for all of a long one.
//!  3. A read that has begun keeps its snapshot to its end. One that waits begins on the newest, which
//!     is at least as new as what allowed it; a reply's coordinates keep the reply's own.
//!
//!  4. A read whose answer cannot grow, for others hold the member's memory for answers, stands in a queue of
//!     its own, by the ticket of its hold. Its first is looked at in every turn and every [`LOOK`]; the others
//!     wait for it, so that the oldest of the member goes on as soon as it may, and nobody spins. Reads that
//!     need little do not come here, and pass.
//!  5. One that has stood there for a request's time is refused, and what it holds is given back. What was
//!     written before it was read is not refused but timed out: its caller must not take it for undone.
//!
//!  6. Reads of one key each are judged when they come and wait for their like: at most [`POINTS`], and never beyond
//!     the publication of another state or the end of the turn.
//!
//! Worked example: a list of a million keys takes its first 256 and goes on in later turns; a get that
//! comes meanwhile is answered before the list's next piece.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::LeaseId;
use holdfast_core::machine;
use holdfast_core::machine::guard::{Act, Reader};
use holdfast_core::memory::AnswerMemory;
use holdfast_core::mvcc::hash::{HashAll, HashKv, KvHash};
use holdfast_core::mvcc::point;
use holdfast_core::mvcc::range::{RangeScan, after};
use holdfast_core::mvcc::resolve::Resolution;
use holdfast_core::mvcc::{Budget, ReadError};
use holdfast_core::query::{Answer, AnswerBody, Answered, Downgrade, Header};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Range, Txn};
use holdfast_core::time::Instant;
use holdfast_net::call::StreamId;
use holdfast_storage::snapshot::Snapshot;

use super::access::Access;
use super::downgrade;
use super::login::Login;
use super::slice::Slice;
use crate::auth::Credential;

/// A call that wants to know something.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub call: StreamId,
    pub by: Credential,
    pub read: Read,
}

/// What a call wants to know.
#[derive(Clone, Debug)]
pub(super) enum Read {
    /// Whether a password is right: the edge's business, once there is a state to look at.
    Login(Login),
    Range(Range),
    Txn(Txn),
    Members,
    Downgrade(Downgrade),
    Leases,
    LeaseKeys(Lease),
    /// At this revision, which is remembered as that of a compaction, or is computed.
    HashKv(i64, Option<KvHash>),
    Hash,
}

/// What one look at a snapshot says of itself.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub header: Header,
    pub snapshot: Snapshot,
}

/// A read that has begun, or is bound to a snapshot.
#[derive(Debug)]
pub(super) struct Reading {
    pub call: StreamId,
    source: Source,
    work: Work,
    /// What it is told if it has waited too long for memory (law 5).
    late: Rejection,
    /// When that is, once it has waited.
    deadline: Option<Instant>,
}

/// What is left to do for an answer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost each get an allocation")]
pub(super) enum Work {
    Range(RangeScan),
    /// The coordinates of a reply, or a transaction of reads.
    Resolution(Box<Resolution>),
    HashKv(HashKv),
    Hash(HashAll),
    /// The leases from one on, after the attached keys from one on were found to be the caller's to
    /// read.
    Leases {
        attached: Option<(Reader, LeaseId, Bytes)>,
        from: Option<LeaseId>,
        found: Vec<LeaseId>,
    },
    /// The keys of a lease from one on.
    LeaseKeys {
        reader: Option<Reader>,
        lease: Lease,
        from: Option<Bytes>,
        found: Vec<Bytes>,
    },
}

/// What the leader has said of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub id: LeaseId,
    pub ttl: i64,
    pub granted: i64,
}

#[derive(Debug)]
enum Coming {
    Read(Asking),
    Reading(Box<Reading>),
}

/// The reads of an edge.
#[derive(Debug)]
pub(super) struct Reads {
    slice: Slice,
    /// Reads of one key each, permitted on the present state (law 6).
    points: Vec<(StreamId, Range)>,
    /// Those that came when the turn's share was spent.
    coming: VecDeque<Coming>,
    /// Those that have begun and take longer.
    going: VecDeque<Reading>,
    /// Those that wait for memory, by the ticket of their hold (law 4).
    starved: BTreeMap<u64, Reading>,
    /// When these are looked at next.
    look_at: Instant,
    memory: AnswerMemory,
    /// How long one may wait for memory.
    patience: Duration,
    now: Instant,
    /// What is complete, in the order in which it became so.
    pub answers: Vec<(StreamId, Answered)>,
}

impl Reads {
    /// No reads, this much for each turn, and the member's memory for answers, for which a read waits no
    /// longer than its patience.
    pub(super) fn new(slice: Slice, memory: AnswerMemory, patience: Duration) -> Reads {
        Reads {
            slice,
            points: Vec::new(),
            coming: VecDeque::new(),
            going: VecDeque::new(),
            starved: BTreeMap::new(),
            look_at: Instant(0),
            memory,
            patience,
            now: Instant(0),
            answers: Vec::new(),
        }
    }

    /// It is as late as this.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// When to look at those that wait for memory.
    pub(super) fn deadline(&self) -> Instant {
        if self.starved.is_empty() { Instant::NEVER } else { self.look_at }
    }

    /// Whether reads wait for their next piece.
    pub(super) fn is_busy(&self) -> bool {
        !self.coming.is_empty() || !self.going.is_empty()
    }

    /// Reads that wait.
    pub(super) fn len(&self) -> usize {
        self.points.len() + self.coming.len() + self.going.len() + self.starved.len()
    }

    /// What watches may spend.
    pub(super) fn watches(&mut self) -> &mut Budget {
        self.slice.watches()
    }

    /// A read comes (law 1).
    pub(super) fn read(&mut self, asking: Asking, source: &Source, access: &mut Access) {
        if self.may_begin() {
            self.begin(asking, source, access);
        } else {
            self.coming.push_back(Coming::Read(asking));
        }
    }

    /// Likewise for the values of a reply, which are read from the snapshot published with it.
    pub(super) fn resolve(&mut self, call: StreamId, source: Source, resolution: Resolution) {
        let work = Work::Resolution(Box::new(resolution.with_memory(self.memory.hold())));
        let reading = Reading { call, source, work, late: Rejection::Timeout, deadline: None };
        if self.may_begin() {
            self.advance(reading);
        } else {
            self.coming.push_back(Coming::Reading(Box::new(reading)));
        }
    }

    /// The deferred part of a turn: what came and had to wait, then a piece of each read under way.
    /// What was asked by calls that are `cancelled` is dropped, and so is their mark.
    pub(super) fn work(
        &mut self,
        source: &Source,
        access: &mut Access,
        cancelled: &mut BTreeSet<StreamId>,
    ) {
        self.answer_points(source);
        self.begin_waiting(source, access, cancelled);
        self.slice.go_on();
        self.feed(cancelled);
        while !self.slice.reads().is_spent()
            && let Some(reading) = self.going.pop_front()
        {
            if !cancelled.remove(&reading.call) {
                self.advance(reading);
            }
        }
        self.begin_waiting(source, access, cancelled);
        self.answer_points(source);
        self.slice.end_reads();
    }

    /// Goes on with those that wait for memory, in order, up to the first for which there is still none.
    fn feed(&mut self, cancelled: &mut BTreeSet<StreamId>) {
        if self.starved.is_empty() {
            return;
        }
        if self.look_at <= self.now {
            self.look_at = self.now + LOOK;
            self.give_up(cancelled);
        }
        while !self.slice.reads().is_spent()
            && let Some((ticket, reading)) = self.starved.pop_first()
        {
            if !cancelled.remove(&reading.call) {
                self.advance(reading);
            }
            if self.starved.contains_key(&ticket) {
                break;
            }
        }
    }

    /// Law 5.
    fn give_up(&mut self, cancelled: &mut BTreeSet<StreamId>) {
        let (now, answers) = (self.now, &mut self.answers);
        self.starved.retain(|_, reading| {
            if cancelled.remove(&reading.call) {
                return false;
            }
            let late = reading.deadline.is_some_and(|deadline| deadline <= now);
            if late {
                answers.push((reading.call, Err(reading.late)));
            }
            !late
        });
    }

    fn may_begin(&mut self) -> bool {
        self.coming.is_empty() && !self.slice.reads().is_spent()
    }

    fn begin_waiting(
        &mut self,
        source: &Source,
        access: &mut Access,
        cancelled: &mut BTreeSet<StreamId>,
    ) {
        while !self.slice.reads().is_spent()
            && let Some(coming) = self.coming.pop_front()
        {
            let call = match &coming {
                Coming::Read(asking) => asking.call,
                Coming::Reading(reading) => reading.call,
            };
            if cancelled.remove(&call) {
                continue;
            }
            match coming {
                Coming::Read(asking) => self.begin(asking, source, access),
                Coming::Reading(reading) => self.advance(*reading),
            }
        }
    }

    /// The caller's rights are those of the state that it reads.
    fn begin(&mut self, asking: Asking, source: &Source, access: &mut Access) {
        let Asking { call, by, read } = asking;
        let reader = match permitted(&by, &read, (source, access)) {
            Ok(reader) => reader,
            Err(rejection) => {
                self.slice.reads().spend(1, 0);
                return self.answers.push((call, Err(rejection)));
            }
        };
        let work = match read {
            Read::Range(range) if point::is_newest(&range) => {
                // Its row and its pair.
                self.slice.reads().spend(2, 0);
                self.points.push((call, range));
                if self.points.len() >= POINTS {
                    self.answer_points(source);
                }
                return;
            }
            Read::Range(range) => return self.scan(call, &range, source),
            Read::HashKv(_, Some(hash)) => {
                self.slice.reads().spend(1, 0);
                let (header, body) = (source.header, AnswerBody::HashKv(hash));
                return self.answers.push((call, Ok(Answer { header, body })));
            }
            Read::HashKv(revision, None) => match HashKv::new(&source.snapshot, revision) {
                Ok(hash) => Work::HashKv(hash),
                Err(rejection) => return self.refuse(call, rejection),
            },
            Read::Hash => match HashAll::new(&source.snapshot) {
                Ok(hash) => Work::Hash(hash),
                Err(rejection) => return self.refuse(call, rejection),
            },
            Read::Txn(txn) => {
                let resolution = Resolution::of_reads(txn).with_memory(self.memory.hold());
                Work::Resolution(Box::new(resolution))
            }
            Read::LeaseKeys(lease) => {
                // It may be gone by now; then it has no time left either.
                let gone = machine::lease_ttl(&source.snapshot, lease.id).is_none();
                let lease = if gone { Lease { ttl: -1, granted: 0, ..lease } } else { lease };
                Work::LeaseKeys { reader, lease, from: None, found: Vec::new() }
            }
            Read::Leases => {
                let attached = reader.map(|reader| (reader, LeaseId(i64::MIN), Bytes::new()));
                Work::Leases { attached, from: None, found: Vec::new() }
            }
            Read::Login(_) => unreachable!("the edge has taken it"),
            Read::Downgrade(asked) => {
                self.slice.reads().spend(1, 0);
                let version = downgrade::answer(&asked, machine::cluster_version(&source.snapshot));
                let answer = |version| Answer {
                    header: source.header,
                    body: AnswerBody::Downgrade(version),
                };
                return self.answers.push((call, version.map(answer)));
            }
            Read::Members => {
                let members = machine::members(&source.snapshot);
                self.slice.reads().spend(members.len(), 0);
                let (header, body) = (source.header, AnswerBody::MemberList(members));
                return self.answers.push((call, Ok(Answer { header, body })));
            }
        };
        self.start(call, work, source);
    }

    /// Answers the reads of one key each, all from the state that allowed them: to be called before there is
    /// another one.
    pub(super) fn answer_points(&mut self, source: &Source) {
        if self.points.is_empty() {
            return;
        }
        let points = std::mem::take(&mut self.points);
        let keys: Vec<&[u8]> = points.iter().map(|(_, range)| &range.keys.start[..]).collect();
        let (mut answered, mut large, mut bytes) = (vec![false; points.len()], Vec::new(), 0);
        let answers = &mut self.answers;
        let read = point::read(&source.snapshot, &keys, &mut |place, answer| {
            answered[place] = true;
            let Some(answer) = answer else { return large.push(place) };
            bytes += answer.kvs.encoded_len();
            let body = AnswerBody::Range(answer);
            answers.push((points[place].0, Ok(Answer { header: source.header, body })));
        });
        self.slice.reads().spend(0, bytes);
        if let Err(fault) = read {
            let left = points.iter().zip(answered).filter(|(_, answered)| !answered);
            let refusal = refusal(fault.into());
            self.answers.extend(left.map(|((call, _), _)| (*call, Err(refusal))));
        }
        for (call, range) in large.into_iter().map(|place| &points[place]) {
            self.scan(*call, range, source);
        }
        self.points = points;
        self.points.clear();
    }

    fn scan(&mut self, call: StreamId, range: &Range, source: &Source) {
        match RangeScan::new(&source.snapshot, range) {
            Ok(scan) => {
                let work = Work::Range(scan.with_memory(Some(self.memory.hold())));
                self.start(call, work, source);
            }
            Err(rejection) => self.refuse(call, rejection),
        }
    }

    fn start(&mut self, call: StreamId, work: Work, source: &Source) {
        let (source, late) = (source.clone(), Rejection::NoAnswerMemory);
        self.advance(Reading { call, source, work, late, deadline: None });
    }

    fn refuse(&mut self, call: StreamId, rejection: Rejection) {
        self.slice.reads().spend(1, 0);
        self.answers.push((call, Err(rejection)));
    }

    /// One piece; what is left waits for its next turn behind the others (law 2).
    fn advance(&mut self, mut reading: Reading) {
        let step = self.slice.step();
        let done = self.slice.reads().lend(step, |piece| {
            let whole = *piece;
            let done = reading.work.step(&reading.source.snapshot, piece);
            // Whatever it was, it was not free: the loops of a turn end.
            piece.spend((*piece == whole).into(), 0);
            done
        });
        match done {
            Ok(false) => match reading.work.starved() {
                Some(ticket) => self.starve(ticket, reading),
                None => self.going.push_back(reading),
            },
            Ok(true) => {
                let Reading { call, source, work, .. } = reading;
                let answer = Answer { header: source.header, body: work.into_answer() };
                self.answers.push((call, Ok(answer)));
            }
            Err(error) => self.answers.push((reading.call, Err(refusal(error)))),
        }
    }

    /// A read waits for memory. Its time runs from when it first did.
    fn starve(&mut self, ticket: u64, mut reading: Reading) {
        let deadline = self.now + self.patience;
        reading.deadline.get_or_insert(deadline);
        if self.starved.is_empty() {
            self.look_at = self.now + LOOK;
        }
        self.starved.insert(ticket, reading);
    }
}

/// Reads of one key that are answered together at most.
const POINTS: usize = 64;

/// How often reads that wait for memory are looked at when nothing else happens.
const LOOK: Duration = Duration::from_millis(10);

impl Work {
    /// The ticket of its hold if its last step stopped for want of memory.
    fn starved(&self) -> Option<u64> {
        match self {
            Work::Range(scan) => scan.starved(),
            Work::Resolution(resolution) => resolution.starved(),
            Work::HashKv(_) | Work::Hash(_) | Work::Leases { .. } | Work::LeaseKeys { .. } => None,
        }
    }

    /// Goes on until the budget is spent; true when the answer is complete.
    fn step(&mut self, snapshot: &Snapshot, budget: &mut Budget) -> Result<bool, ReadError> {
        match self {
            Work::Range(scan) => scan.step(snapshot, budget),
            Work::Resolution(resolution) => resolution.step(snapshot, budget),
            Work::HashKv(hash) => hash.step(snapshot, budget),
            Work::Hash(hash) => hash.step(snapshot, budget),
            Work::Leases { attached: Some(at), .. } => {
                if look_at_attached(snapshot, at, budget)?
                    && let Work::Leases { attached, .. } = self
                {
                    *attached = None;
                }
                Ok(false)
            }
            Work::Leases { attached: None, from, found } => {
                let start = from.unwrap_or(LeaseId(i64::MIN));
                *from = None;
                machine::leases_from(snapshot, start, &mut |id, _| {
                    if budget.is_spent() {
                        *from = Some(id);
                        return ControlFlow::Break(());
                    }
                    budget.spend(1, 0);
                    found.push(id);
                    ControlFlow::Continue(())
                });
                Ok(from.is_none())
            }
            Work::LeaseKeys { reader, lease, from, found } => {
                let start = from.take().unwrap_or_default();
                let mut refused = None;
                machine::lease_keys_from(snapshot, (lease.id, &start), &mut |key| {
                    refused = reader.as_ref().and_then(|reader| reader.permit(key).err());
                    if refused.is_some() {
                        return ControlFlow::Break(());
                    }
                    budget.spend(1, key.len());
                    found.push(Bytes::copy_from_slice(key));
                    if budget.is_spent() {
                        *from = Some(after(key));
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                });
                refused.map_or(Ok(from.is_none()), |refusal| Err(refusal.into()))
            }
        }
    }

    /// The answer, once a step has said that it is complete.
    fn into_answer(self) -> AnswerBody {
        match self {
            Work::Range(scan) => AnswerBody::Range(scan.into_answer()),
            Work::Resolution(resolution) => resolution.into_answer(),
            Work::HashKv(hash) => AnswerBody::HashKv(hash.finish()),
            Work::Hash(hash) => AnswerBody::Hash(hash.finish()),
            Work::Leases { found, .. } => AnswerBody::LeaseLeases(found),
            Work::LeaseKeys { lease: Lease { id, ttl, granted }, found, .. } => {
                AnswerBody::LeaseTimeToLive { id, ttl, granted, keys: found }
            }
        }
    }
}

/// Whether the caller may read this; also who must be asked of each key, where that takes a while.
fn permitted(
    by: &Credential,
    read: &Read,
    (source, access): (&Source, &mut Access),
) -> Result<Option<Reader>, Rejection> {
    let act = match read {
        Read::Range(range) => Act::Range(&range.keys),
        Read::Txn(txn) => Act::Txn(txn),
        Read::Members | Read::Login(_) => Act::Identified,
        Read::Downgrade(_) | Read::HashKv(..) | Read::Hash => Act::Admin,
        Read::Leases | Read::LeaseKeys(_) => return access.reader(&source.snapshot, by),
    };
    access.permit(&source.snapshot, by, act).map(|()| None)
}

/// Goes on asking for attached keys; true when all may be read.
fn look_at_attached(
    snapshot: &Snapshot,
    (reader, id, from): &mut (Reader, LeaseId, Bytes),
    budget: &mut Budget,
) -> Result<bool, Rejection> {
    let (mut decision, mut next) = (Ok(()), None);
    machine::attached_from(snapshot, (*id, from), &mut |id, key| {
        budget.spend(1, key.len());
        decision = reader.permit(key);
        if decision.is_ok() && !budget.is_spent() {
            return ControlFlow::Continue(());
        }
        next = Some((id, after(key)));
        ControlFlow::Break(())
    });
    decision?;
    let done = next.is_none();
    if let Some((at, key)) = next {
        (*id, *from) = (at, key);
    }
    Ok(done)
}

/// A member that cannot read its own data must not answer as if it had none.
fn refusal(error: ReadError) -> Rejection {
    match error {
        ReadError::Rejection(rejection) => rejection,
        ReadError::Fault(_) => Rejection::Corrupt,
    }
}
