//! An edge over an engine in memory; the driver is played by hand.

use std::collections::BTreeMap;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::command::Command;
use holdfast_core::id::{ClusterId, Position, Term};
use holdfast_core::machine::{self, Applied, Machine};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::query::{OpAnswer, RangeAnswer};
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, Range, RangeEnd, Txn, TxnOp,
};
use holdfast_core::response::{self, Member};
use holdfast_core::watch::{WatchCreate, WatchRequest};
use holdfast_storage::disk::MemoryDisk;
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};

use super::*;
use crate::auth::vault::InlineVault;

mod hashes;
mod memory;

const MEMBER: MemberId = MemberId(1);

struct Rig {
    engine: Engine,
    machine: Machine,
    edge: Edge,
    events: Vec<response::Event>,
    inbox: Vec<Event>,
    index: u64,
    now: Instant,
}

impl Rig {
    /// With this many keys, and this many to read in a turn.
    fn new(keys: usize, slice: usize) -> Rig {
        Rig::with_limits(keys, Limits { edge_slice_keys: slice, ..Limits::default() })
    }

    fn with_limits(keys: usize, limits: Limits) -> Rig {
        let mut rig = Rig::among(&[MEMBER], limits, HashChecks::default());
        for number in 0..keys {
            rig.apply(put(number));
        }
        rig.publish();
        rig
    }

    /// The first of some members.
    fn among(voters: &[MemberId], limits: Limits, hash_checks: HashChecks) -> Rig {
        let (disk, member) = (Arc::new(MemoryDisk::new()), voters[0]);
        let identity = EngineIdentity { cluster: ClusterId(1), member };
        let all: Vec<Member> =
            voters.iter().map(|id| Member { id: *id, ..Member::default() }).collect();
        let genesis = machine::genesis(&all);
        let meta =
            SnapshotMeta { at: Position::default(), voters: voters.to_vec(), learners: Vec::new() };
        let mut engine = Engine::create(disk, identity, EngineOptions::default(), genesis, meta)
            .expect("an empty disk takes an engine");
        let config = EdgeConfig {
            answers: AnswerMemory::new(limits.answer_bytes_max),
            member_id: |_| MemberId(9),
            member,
            incarnation: Incarnation(1),
            sequence_base: 0,
            limits,
            hub: HubOptions::default(),
            seed: 1,
            quota: 0,
            auto_compaction: None,
            hash_checks,
            compaction_hashes: CompactionHashes::default(),
            auth: AuthOptions::default(),
        };
        let (events, inbox, now) = (Vec::new(), Vec::new(), Instant(1_000_000_000));
        let machine = Machine::load(&config.limits, &engine);
        let edge = Edge::new(config, engine.publish(), Box::new(InlineVault::new(1)));
        Rig { engine, machine, edge, events, inbox, index: 0, now }
    }

    fn apply(&mut self, op: Op) -> Response {
        self.index += 1;
        let id = RequestId { member: MEMBER, incarnation: Incarnation(1), sequence: self.index };
        let command = Command { id, identity: Identity::default(), op };
        let mut applied = Applied::default();
        let at = Position::new(self.index, 1);
        self.machine.apply(at, &command, &mut self.engine, &mut applied).expect("memory works");
        self.events.extend(applied.events);
        let body = applied.result.expect("the tests' commands are not refused");
        Response { revision: applied.revision, term: Term(1), body }
    }

    fn publish(&mut self) {
        let events = std::mem::take(&mut self.events);
        let snapshot = self.engine.publish();
        let publication = Publication { snapshot, events, tokens: Vec::new(), restored: false };
        self.edge.published(self.now, publication);
    }

    fn ask(&mut self, call: u64, query: Query) {
        let asked = Asked { call: StreamId(call), query, by: Credential::None };
        self.edge.ask(self.now, asked, &mut self.inbox);
        self.edge.flush(self.now, &mut self.inbox);
    }

    /// The request that was asked for last.
    fn asked(&mut self) -> RequestId {
        match self.inbox.pop() {
            Some(Event::Request(request)) => request.id,
            other => panic!("no request but {other:?}"),
        }
    }

    /// Asks a write, applies it, publishes, replies.
    fn write(&mut self, call: u64, query: Query, op: Op) {
        self.ask(call, query);
        let id = self.asked();
        let response = self.apply(op);
        self.publish();
        self.edge.replied(id, Ok(response));
    }

    fn taken(&mut self) -> Vec<(StreamId, Answered)> {
        let mut answers = Vec::new();
        self.edge.take_answers(self.now, &mut answers);
        answers
    }

    fn answers(&mut self) -> Vec<(u64, Answer)> {
        let answers = self.taken().into_iter();
        answers.map(|(call, answer)| (call.0, answer.expect("not refused"))).collect()
    }

    /// Turns until nothing waits: in which turn each call was answered, and how.
    fn turn_until_idle(&mut self) -> BTreeMap<u64, (usize, Answer)> {
        let mut found = BTreeMap::new();
        for turn in 1.. {
            for (call, answer) in self.answers() {
                assert!(found.insert(call, (turn, answer)).is_none(), "{call} is answered twice");
            }
            if self.edge.deadline() > self.now {
                break;
            }
        }
        found
    }

    fn watch(&mut self, stream: u64, start: i64, prev_kv: bool) {
        let create = WatchCreate {
            id: 0,
            keys: all(),
            start,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            prev_kv,
            fragment: false,
        };
        let (hub, snapshot) = self.edge.watches();
        hub.open(WatchStreamId(stream), self.now);
        let request = WatchRequest::Create(create);
        hub.request(self.now, WatchStreamId(stream), request, snapshot);
    }

    /// One turn's polls: events by stream.
    fn poll(&mut self) -> BTreeMap<u64, usize> {
        let mut told = BTreeMap::new();
        self.answers();
        while let Some(stream) = self.edge.next_watch() {
            let mut out = Vec::new();
            self.edge.poll_watch(stream, &mut out).expect("memory works");
            *told.entry(stream.0).or_default() +=
                out.iter().map(|response| response.events.len()).sum::<usize>();
        }
        told
    }
}

fn key(number: usize) -> Bytes {
    format!("{number:05}").into()
}

fn put(number: usize) -> Op {
    Op::Put(Put {
        key: key(number),
        value: Bytes::from_static(b"value"),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

fn all() -> KeyRange {
    KeyRange { start: Bytes::from_static(b"0"), end: RangeEnd::Open }
}

fn range(keys: KeyRange) -> Range {
    Range { serializable: true, ..Range::of(keys) }
}

fn list() -> Query {
    Query::Range(range(all()))
}

fn get(number: usize) -> Query {
    Query::Range(range(KeyRange::single(key(number))))
}

fn kvs(answer: &Answer) -> &RangeAnswer {
    match &answer.body {
        AnswerBody::Range(answer) => answer,
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn a_small_read_is_answered_at_once_and_stands_in_no_queue() {
    let mut rig = Rig::new(10, 256);
    rig.ask(1, get(3));
    assert!(rig.edge.deadline() > rig.now);
    rig.ask(2, list());
    assert!(rig.edge.deadline() > rig.now);
    let lengths = rig.answers().into_iter().map(|(call, answer)| (call, kvs(&answer).kvs.len()));
    assert_eq!(lengths.collect::<BTreeMap<_, _>>(), [(1, 1), (2, 10)].into());
}

#[test]
fn many_lists_share_a_turn_and_a_get_does_not_wait_for_them() {
    let mut rig = Rig::new(300, 128);
    for call in 0..50 {
        rig.ask(call, list());
    }
    let mut found = BTreeMap::new();
    for turn in 1..=20 {
        found.extend(rig.answers().into_iter().map(|(call, _)| (call, turn)));
    }
    assert!(found.is_empty(), "50 lists are 30,000 looks, 20 turns only 2,560: {found:?}");
    rig.ask(99, get(7));
    assert_eq!(rig.answers()[0].0, 99, "a get is answered in its own turn");
    let found = rig.turn_until_idle();
    assert_eq!(found.len(), 50);
    assert!(found.values().all(|(_, answer)| kvs(answer).kvs.len() == 300));
    let turns = found.values().map(|(turn, _)| *turn);
    let (first, last) = (turns.clone().min().unwrap(), turns.max().unwrap());
    assert!((180..=320).contains(&last), "30,000 looks took {last} turns");
    assert!(last - first < 40, "they share: the first ends in turn {first}, the last in {last}");
}

#[test]
fn reads_that_wait_begin_in_order_and_on_the_newest_snapshot() {
    let mut rig = Rig::new(300, 64);
    for call in 0..100 {
        rig.ask(call, get(call as usize));
    }
    assert!(rig.edge.deadline() <= rig.now, "a hundred gets are more than a turn's share");
    let before = rig.edge.snapshot().mark().revision;
    rig.apply(put(0));
    rig.publish();
    let mut calls = Vec::new();
    while calls.len() < 100 {
        for (call, answer) in rig.answers() {
            let newest = answer.header.revision > before;
            assert_eq!(newest, calls.len() >= 16, "16 of them were read when they came");
            calls.push(call);
        }
    }
    // One whose share ended between its row and its value goes on in the next turn.
    let place = |call| calls.iter().position(|answered| *answered == call).expect("it is answered");
    assert!((0..100).all(|call| place(call).abs_diff(call as usize) < 20), "{calls:?}");
}

#[test]
fn the_pairs_before_a_removal_are_read_in_pieces_from_the_replys_snapshot() {
    let mut rig = Rig::new(300, 64);
    let delete = DeleteRange { keys: all(), prev_kv: true };
    rig.write(1, Query::DeleteRange(delete.clone()), Op::DeleteRange(delete));
    assert!(rig.answers().is_empty(), "300 values are more than a turn's share");
    let revision = rig.engine.mark().revision;
    rig.apply(put(1));
    rig.apply(Op::Compact { revision: Revision(revision.0 + 1) });
    while rig.machine.compaction_pending() {
        rig.machine.compact_slice(&mut rig.engine).expect("memory works");
    }
    rig.publish();
    let (turn, answer) = rig.turn_until_idle().remove(&1).expect("it is answered");
    assert!(turn >= 4, "300 values within {turn} turns of 64");
    assert_eq!(answer.header.revision, revision);
    let AnswerBody::DeleteRange(answer) = answer.body else { panic!("not a removal") };
    assert_eq!((answer.deleted, answer.prev_kvs.len()), (300, 300));
}

#[test]
fn transactions_go_step_by_step() {
    let mut rig = Rig::new(300, 64);
    let target = CompareTarget::Value(Bytes::from_static(b"value"));
    let compare = Compare { keys: all(), result: CompareResult::Equal, target };
    let reads = vec![TxnOp::Range(range(all())), TxnOp::Range(range(all()))];
    let txn = Txn { compares: vec![compare], success: reads.clone(), failure: Vec::new() };
    rig.ask(1, Query::Txn(txn.clone()));
    let mut writing = Txn { compares: Vec::new(), ..txn };
    let Op::Put(own) = put(500) else { unreachable!() };
    writing.success.insert(0, TxnOp::Put(own));
    rig.write(2, Query::Txn(writing.clone()), Op::Txn(writing));
    let found = rig.turn_until_idle();
    // 600 looks to compare, 600 for each list; the other one sees its own put.
    assert!(found[&1].0 >= 28 && found[&2].0 >= 18, "{} and {}", found[&1].0, found[&2].0);
    for (call, keys) in [(1, 300), (2, 301)] {
        let AnswerBody::Txn(answer) = &found[&call].1.body else { panic!("not a transaction") };
        assert!(answer.succeeded);
        let lists = answer.ops.iter().filter_map(|op| match op {
            OpAnswer::Range(_, list) => Some(list.kvs.len()),
            _ => None,
        });
        assert_eq!(lists.collect::<Vec<_>>(), [keys, keys]);
    }
}

#[test]
fn leases_and_their_keys_are_listed_in_pieces() {
    let mut rig = Rig::new(0, 16);
    for id in 1..=100 {
        rig.apply(Op::LeaseGrant { id: LeaseId(id), ttl: 60 });
    }
    for number in 0..100 {
        let Op::Put(put) = put(number) else { unreachable!() };
        rig.apply(Op::Put(Put { lease: LeaseId(7), ..put }));
    }
    rig.publish();
    rig.ask(1, Query::LeaseLeases);
    rig.ask(2, Query::LeaseTimeToLive { id: LeaseId(7), keys: true });
    let id = rig.asked();
    let body = Body::LeaseTimeToLive { ttl: 50, granted: 60, applied: Index(200) };
    rig.edge.replied(id, Ok(Response { revision: Revision(1), term: Term(1), body }));
    let mut found = rig.turn_until_idle();
    assert!(found[&1].0 >= 6 && found[&2].0 >= 6, "a hundred each, within 16 a turn");
    let AnswerBody::LeaseLeases(leases) = found.remove(&1).unwrap().1.body else { panic!() };
    assert_eq!(leases, (1..=100).map(LeaseId).collect::<Vec<_>>());
    let AnswerBody::LeaseTimeToLive { keys, .. } = found.remove(&2).unwrap().1.body else {
        panic!("not a lease")
    };
    assert_eq!(keys, (0..100).map(key).collect::<Vec<_>>());
}

#[test]
fn resuming_watchers_share_a_turn_and_none_starves() {
    let mut rig = Rig::new(300, 256);
    for stream in 1..=20 {
        rig.watch(stream, 2, stream % 2 == 0);
    }
    // Up to date, and behind all others in the order of names.
    rig.watch(21, 0, false);
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut turns = 0;
    while told.values().sum::<usize>() < 20 * 300 {
        turns += 1;
        let events = rig.poll();
        assert!(events.values().sum::<usize>() <= 150, "a turn's watch share is 256 at most");
        for (stream, events) in events {
            *told.entry(stream).or_default() += events;
            first.entry(stream).or_insert(turns);
        }
        assert!(turns < 1000, "{told:?}");
        rig.now = rig.now + Duration::from_millis(1);
    }
    assert!((40..=200).contains(&turns), "6,000 events took {turns} turns");
    assert!(first.values().all(|turn| *turn <= 21), "everybody begins soon: {first:?}");
    rig.poll();
    assert!(rig.edge.deadline() > rig.now, "nobody has more to say");
}

#[test]
fn the_keys_of_a_lease_wait_for_what_the_leader_has_applied() {
    let mut rig = Rig::new(0, 2048);
    let id = LeaseId(7);
    rig.apply(Op::LeaseGrant { id, ttl: 60 });
    rig.publish();
    // The leader has applied an attachment that this follower has not.
    let body = Body::LeaseTimeToLive { ttl: 50, granted: 60, applied: Index(3) };
    for call in [1, 2] {
        rig.ask(call, Query::LeaseTimeToLive { id, keys: true });
        let request = rig.asked();
        let body = body.clone();
        rig.edge.replied(request, Ok(Response { revision: Revision(1), term: Term(1), body }));
        assert!(rig.answers().is_empty(), "its snapshot has less than the leader's answer");
        rig.now = rig.now + Duration::from_secs(1);
    }
    rig.apply(put(1));
    rig.publish();
    assert!(rig.answers().is_empty(), "one entry is missing yet");
    // The first one's time is over.
    rig.now = rig.now + Limits::default().request_timeout - Duration::from_secs(2);
    let late = rig.taken();
    assert_eq!(late, [(StreamId(1), Err(Rejection::Timeout))]);
    let Op::Put(attached) = put(2) else { unreachable!() };
    rig.apply(Op::Put(Put { lease: id, ..attached }));
    rig.publish();
    let answers = rig.answers();
    let (call, Answer { header, body }) = &answers[0];
    assert_eq!((*call, header.revision), (2, rig.engine.mark().revision));
    let keys = vec![key(2)];
    assert_eq!(*body, AnswerBody::LeaseTimeToLive { id, ttl: 50, granted: 60, keys });
}

#[test]
fn a_lease_that_is_gone_by_the_time_its_keys_are_read_has_no_time_left() {
    let mut rig = Rig::new(0, 2048);
    let id = LeaseId(7);
    rig.apply(Op::LeaseGrant { id, ttl: 60 });
    rig.publish();
    rig.ask(1, Query::LeaseTimeToLive { id, keys: true });
    let request = rig.asked();
    rig.apply(Op::LeaseRevoke { id });
    rig.publish();
    let body = Body::LeaseTimeToLive { ttl: 50, granted: 60, applied: Index(1) };
    rig.edge.replied(request, Ok(Response { revision: Revision(1), term: Term(1), body }));
    let keys = Vec::new();
    let gone = AnswerBody::LeaseTimeToLive { id, ttl: -1, granted: 0, keys };
    assert_eq!(rig.answers()[0].1.body, gone);
}

fn put_query(number: usize) -> Query {
    match put(number) {
        Op::Put(put) => Query::Put(put),
        _ => unreachable!("it is a put"),
    }
}

fn linearizable_get(number: usize) -> Query {
    Query::Range(Range::of(KeyRange::single(key(number))))
}

#[test]
fn what_the_driver_never_answers_is_refused_late() {
    let mut rig = Rig::new(1, 2048);
    rig.ask(1, put_query(0));
    rig.ask(2, linearizable_get(0));
    rig.ask(3, Query::LeaseKeepAlive { id: LeaseId(7) });
    rig.ask(4, Query::LeaseTimeToLive { id: LeaseId(7), keys: true });
    rig.ask(5, Query::Compact { revision: 1, physical: true });
    let late = rig.asked();
    let limits = Limits::default();
    rig.now = rig.now + limits.request_timeout;
    assert!(rig.answers().is_empty(), "the driver may still say why");
    rig.now = rig.now + limits.election_timeout;
    let answers = rig.taken();
    let refused = |call| (StreamId(call), Err(Rejection::Timeout));
    assert_eq!(answers, (1..=5).map(refused).collect::<Vec<_>>());
    assert_eq!((rig.edge.waiting.len(), rig.edge.indexing), (0, 0));
    rig.edge.replied(late, Err(Rejection::Stopped));
    assert!(rig.answers().is_empty(), "one answer is enough");
}

#[test]
fn more_than_may_wait_is_refused() {
    let limits = Limits { pending_commands_max: 4, edge_slice_keys: 8, ..Limits::default() };
    let mut rig = Rig::with_limits(100, limits);
    let refused = |rig: &mut Rig| {
        let answers = rig.taken().into_iter();
        let refused = answers.filter(|(_, answer)| *answer == Err(Rejection::TooManyRequests));
        refused.map(|(call, _)| call.0).collect::<Vec<_>>()
    };
    (0..5).for_each(|call| rig.ask(call, put_query(0)));
    assert_eq!(refused(&mut rig), [4]);
    let id = rig.asked();
    rig.edge.replied(id, Err(Rejection::Timeout));
    (10..15).for_each(|call| rig.ask(call, linearizable_get(0)));
    assert_eq!(refused(&mut rig), [14], "reads have a bound of their own");
    (20..26).for_each(|call| rig.ask(call, list()));
    assert_eq!(refused(&mut rig), (20..26).collect::<Vec<_>>(), "whatever they wait for");
    for _ in 0..4 {
        let id = rig.asked();
        let response = Response { revision: Revision(1), term: Term(1), body: Body::ReadIndex };
        rig.edge.replied(id, Ok(response));
    }
    assert_eq!(rig.turn_until_idle().len(), 4);
    (30..36).for_each(|call| rig.ask(call, list()));
    assert_eq!(refused(&mut rig), [34, 35]);
    assert_eq!(rig.turn_until_idle().len(), 4);
}

#[test]
fn a_cancelled_call_is_not_answered_and_leaves_nothing() {
    let mut rig = Rig::new(300, 64);
    rig.ask(1, list());
    rig.ask(2, put_query(0));
    let write = rig.asked();
    let call = Asked { call: StreamId(3), query: linearizable_get(0), by: Credential::None };
    rig.edge.ask(rig.now, call, &mut rig.inbox);
    rig.edge.cancel(StreamId(3));
    rig.edge.flush(rig.now, &mut rig.inbox);
    assert!(rig.inbox.is_empty(), "nobody is left to ask a read index for");
    rig.ask(4, linearizable_get(0));
    let index = rig.asked();
    (5..60).for_each(|call| rig.ask(call, get(0)));
    for call in [1, 2, 4, 58] {
        rig.edge.cancel(StreamId(call));
    }
    rig.edge.replied(write, Err(Rejection::Timeout));
    let response = Response { revision: Revision(1), term: Term(1), body: Body::ReadIndex };
    rig.edge.replied(index, Ok(response));
    let answered = rig.turn_until_idle();
    assert_eq!(
        answered.into_keys().collect::<Vec<_>>(),
        (5..60).filter(|c| *c != 58).collect::<Vec<_>>()
    );
    assert!(rig.edge.cancelled.is_empty(), "{:?}", rig.edge.cancelled);
}
