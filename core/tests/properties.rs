//! The machine beside a naive model of etcd's semantics, and the codecs beside themselves.

mod properties {
    pub mod model;
    pub mod strategy;
}

use std::ops::ControlFlow;

use bytes::Bytes;
use holdfast_core::codec::{decode_change, decode_entry, encode_entry, encoded_len};
use holdfast_core::command::Command;
use holdfast_core::hash::state_hash;
use holdfast_core::id::{LeaseId, Position, RequestId, Revision};
use holdfast_core::kv::KeyValue;
use holdfast_core::limits::Limits;
use holdfast_core::machine::{self, Applied, Machine};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::mvcc::point;
use holdfast_core::mvcc::range::{RangeScan, range};
use holdfast_core::mvcc::resolve::{Resolution, Resolved, begin, read_txn, resolve};
use holdfast_core::mvcc::{Budget, ReadError};
use holdfast_core::query::AnswerBody;
use holdfast_core::request::{Identity, KeyRange, Op, Range, RangeEnd};
use holdfast_core::response::Body;
use holdfast_core::store::{Store, View};
use proptest::collection::vec;
use proptest::prelude::*;

use properties::model::{Change, Model, Work};
use properties::strategy::{self, Turn};

/// A machine on a store of its own.
struct Member {
    machine: Machine,
    store: MemoryStore,
    index: u64,
    limits: Limits,
}

impl Member {
    fn new() -> Member {
        let limits = Limits { compaction_batch: 2, ..Limits::default() };
        let store = MemoryStore::default();
        Member { machine: Machine::load(&limits, &store), store, index: 0, limits }
    }

    /// Of a cluster that was founded: there are digests.
    fn founded() -> Member {
        let mut member = Member::new();
        member.store.absorb(&mut machine::genesis(&[]));
        member.index = member.store.mark().applied.index.0;
        member.machine = Machine::load(&member.limits, &member.store);
        member
    }

    fn apply(&mut self, op: &Op) -> Applied {
        self.index += 1;
        let (id, identity) = (RequestId::default(), Identity::default());
        let command = Command { id, identity, op: op.clone() };
        let at = Position::new(self.index, 1);
        let mut out = Applied::default();
        let applied = self.machine.apply(at, &command, &mut self.store, &mut out);
        applied.expect("memory does not fail");
        assert_eq!(self.store.mark().applied, at);
        out
    }

    /// The same in slices, each of what `budget` says; and how many it took.
    fn apply_in_slices(&mut self, op: &Op, budget: Budget) -> (Applied, usize) {
        self.index += 1;
        let (id, identity) = (RequestId::default(), Identity::default());
        let command = Command { id, identity, op: op.clone() };
        let at = Position::new(self.index, 1);
        let (mut out, mut events, mut slices) = (Applied::default(), Vec::new(), 1);
        let mut slice = |machine: &mut Machine, out: &mut Applied| {
            let store = &mut self.store;
            let done = machine.advance((at, &command), store, out, &mut budget.clone());
            events.append(&mut out.events);
            done.expect("memory does not fail")
        };
        while !slice(&mut self.machine, &mut out) {
            slices += 1;
        }
        out.events = events;
        (out, slices)
    }

    fn end_entry(&mut self) {
        self.machine.end_entry(Position::new(self.index, 1), &mut self.store);
    }

    fn changes(&self, applied: &Applied) -> Vec<Change> {
        let pair = |at| self.store.record(at).expect("not reclaimed yet").kv;
        let events = applied.events.iter();
        events
            .map(|event| {
                assert_eq!(event.at.main, applied.revision, "events belong to the new revision");
                (event.key.clone(), event.kv.clone(), event.delete, event.prev.map(pair))
            })
            .collect()
    }

    fn hash(&self) -> u64 {
        state_hash(&self.store).expect("memory does not fail")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Every answer, every event, every readable revision and every lease are the model's, however
    /// the physical compaction is interleaved; and a member that never did any has the same hash.
    #[test]
    fn the_machine_does_what_the_model_does(turns in vec(strategy::turn(), 1..10)) {
        let mut model = Model::default();
        let (mut member, mut lazy) = (Member::new(), Member::new());
        for turn in &turns {
            apply_turn(turn, &mut model, &mut member)?;
            turn.ops.iter().for_each(|op| drop(lazy.apply(op)));
            prop_assert_eq!(member.hash(), lazy.hash());
            compact(turn, &mut member);
            prop_assert_eq!(member.hash(), lazy.hash());
            check_reads(turn, &model, &member.store)?;
            check_leases(&model, &member.store)?;
        }
    }

    /// Slices of any size make no difference: not to answers and events, to the state and its tables, nor
    /// to the digest (laws 1 and 2 of a task).
    #[test]
    fn slices_make_no_difference(
        turns in vec(strategy::turn(), 1..10),
        keys in 1..12_usize,
        bytes in prop_oneof![1..40_usize, Just(usize::MAX)],
    ) {
        let (mut whole, mut sliced) = (Member::founded(), Member::founded());
        for turn in &turns {
            for op in &turn.ops {
                let expected = whole.apply(op);
                let (applied, slices) = sliced.apply_in_slices(op, Budget::new(keys, bytes));
                prop_assert_eq!(&applied, &expected, "{:?}", op);
                let many = matches!(op, Op::DeleteRange(_) | Op::LeaseRevoke { .. })
                    && keys * 2 <= applied.events.len();
                prop_assert!(!many || slices > 1, "{:?} was not cut", op);
                whole.end_entry();
                sliced.end_entry();
                prop_assert_eq!(&sliced.store, &whole.store, "{:?}", op);
            }
            compact(turn, &mut whole);
            compact(turn, &mut sliced);
        }
        prop_assert!(whole.machine.digest().is_some());
        prop_assert_eq!(sliced.machine.digest(), whole.machine.digest());
    }

    #[test]
    fn entries_come_back_as_they_went(commands in vec(strategy::command(), 0..6)) {
        let data = encode_entry(&commands);
        let len: usize = commands.iter().map(encoded_len).sum();
        prop_assert_eq!(data.len(), len + 2);
        prop_assert_eq!(decode_entry(&data), Ok(commands));
    }

    /// A membership change comes back as it was, and is not taken for an ordinary entry.
    #[test]
    fn a_change_comes_back_alone(change in strategy::change(), other in strategy::command()) {
        let command = Command { op: Op::Member(change), ..other.clone() };
        let data = encode_entry(std::slice::from_ref(&command));
        prop_assert_eq!(data.len(), encoded_len(&command) + 2);
        prop_assert!(decode_entry(&data).is_err());
        prop_assert_eq!(decode_change(&data), Ok(command.clone()));
        prop_assert!(decode_change(&encode_entry(&[command, other.clone()])).is_err());
        prop_assert!(decode_change(&encode_entry(&[other])).is_err());
    }

    #[test]
    fn damaged_entries_never_panic(
        commands in vec(strategy::command(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut data = encode_entry(&commands).to_vec();
        for (index, byte) in &damage {
            let at = index.index(data.len());
            data[at] = *byte;
        }
        let data = Bytes::from(data);
        if let Ok(commands) = decode_entry(&data) {
            prop_assert_eq!(decode_entry(&encode_entry(&commands)), Ok(commands));
        }
    }

    #[test]
    fn any_bytes_decode_to_something_or_an_error(mut data in vec(any::<u8>(), 0..200)) {
        let _ = KeyValue::decode(&data);
        if let Some(first) = data.first_mut() {
            *first = 1;
        }
        let _ = decode_entry(&data.into());
    }

    #[test]
    fn pairs_come_back_as_they_went(
        key in vec(any::<u8>(), 0..200),
        value in vec(any::<u8>(), 0..200),
        numbers in any::<[i64; 4]>(),
    ) {
        let [create, modified, version, lease] = numbers;
        let kv = KeyValue {
            key: &key,
            create_revision: Revision(create),
            mod_revision: Revision(modified),
            version,
            value: &value,
            lease: LeaseId(lease),
        };
        let data = kv.encode();
        prop_assert_eq!(KeyValue::decode(&data), Some(kv));
    }
}

/// Applies all operations, publishes, and only then resolves the answers: later operations of the
/// turn, compactions included, must not change them.
fn apply_turn(turn: &Turn, model: &mut Model, member: &mut Member) -> Result<(), TestCaseError> {
    let mut answers = Vec::new();
    for op in &turn.ops {
        let (expected, revision, events) = model.apply(op);
        let before = member.hash();
        let applied = member.apply(op);
        let silent =
            matches!(op, Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_)) && events.is_empty();
        prop_assert_eq!(member.hash() == before, silent || expected.is_err(), "{:?}", op);
        prop_assert_eq!(applied.revision, Revision(revision), "{:?}", op);
        prop_assert_eq!(member.changes(&applied), events, "{:?}", op);
        answers.push((op, applied.result, expected));
    }
    for (op, result, expected) in answers {
        let answer = result.map(|body| {
            let sliced = resolve_in_steps(&member.store, body.clone());
            let answer = resolve(&member.store, body).expect("memory does not fail");
            assert_eq!(sliced, answer, "in steps");
            answer.expect("all of these are answers to clients")
        });
        prop_assert_eq!(answer, expected, "{:?}", op);
    }
    Ok(())
}

fn compact(turn: &Turn, member: &mut Member) {
    for _ in 0..turn.slices {
        let owed = member.machine.compaction_pending();
        let finished = member.machine.compact_slice(&mut member.store);
        let finished = finished.expect("memory does not fail");
        assert_eq!(finished.is_some(), owed && !member.machine.compaction_pending());
    }
    if turn.reclaim {
        member.store.reclaim();
        member.machine = Machine::load(&member.limits, &member.store);
    }
    if !member.machine.compaction_pending() {
        let compacted = member.store.mark().compacted;
        member.store.scan(&everything(), &mut |_, row| {
            assert!(!row.is_tombstone() || row.modified.main > compacted, "a tombstone was left");
            ControlFlow::Continue(())
        });
    }
}

fn check_reads(turn: &Turn, model: &Model, store: &MemoryStore) -> Result<(), TestCaseError> {
    let all = Range::of(everything());
    for revision in 0..=model.revision() + 1 {
        check_read(&Range { revision, ..all.clone() }, model, store)?;
    }
    for asked in &turn.reads {
        check_read(asked, model, store)?;
        for revision in model.compacted.max(1)..=model.revision() {
            check_read(&Range { revision, ..asked.clone() }, model, store)?;
        }
    }
    check_points(turn, model, store)?;
    let expected = model.txn(&turn.read_txn, &mut Work::on(model));
    let answer = read_txn(store, &turn.read_txn).map(AnswerBody::Txn).map_err(rejection);
    prop_assert_eq!(&answer, &expected);
    let sliced = in_steps(store, Resolution::of_reads(turn.read_txn.clone())).map_err(rejection);
    prop_assert_eq!(sliced, expected, "in steps");
    Ok(())
}

fn resolve_in_steps(store: &MemoryStore, body: Body) -> Option<AnswerBody> {
    match begin(body) {
        Resolved::Complete(body) => Some(body),
        Resolved::Reading(reading) => Some(in_steps(store, *reading).expect("never refuses")),
        Resolved::Nothing => None,
    }
}

fn in_steps(store: &MemoryStore, mut reading: Resolution) -> Result<AnswerBody, ReadError> {
    while !reading.step(store, &mut Budget::new(1, 1))? {}
    Ok(reading.into_answer())
}

fn check_read(asked: &Range, model: &Model, store: &MemoryStore) -> Result<(), TestCaseError> {
    let expected = model.range(asked);
    prop_assert_eq!(range(store, asked, None).map_err(rejection), expected.clone(), "{:?}", asked);
    let sliced = RangeScan::new(store, asked).map(|mut scan| {
        while !scan.step(store, &mut Budget::new(1, 1)).expect("memory does not fail") {}
        scan.into_answer()
    });
    prop_assert_eq!(sliced, expected, "in slices: {:?}", asked);
    Ok(())
}

/// Reads of one key each, together, the first of them twice.
fn check_points(turn: &Turn, model: &Model, store: &MemoryStore) -> Result<(), TestCaseError> {
    let starts = turn.reads.iter().map(|asked| asked.keys.start.clone());
    let mut keys: Vec<Bytes> = model.now().keys().cloned().chain(starts).collect();
    keys.extend(keys.first().cloned());
    let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut answers = vec![None; keys.len()];
    point::read(store, &asked, &mut |place, answer| {
        assert!(answers[place].is_none(), "one answer for each");
        answers[place] = answer;
    })
    .expect("memory does not fail");
    for (key, answer) in keys.iter().zip(answers) {
        let single = Range::of(KeyRange { start: key.clone(), end: RangeEnd::Single });
        prop_assert!(point::is_newest(&single));
        prop_assert_eq!(answer, Some(model.range(&single).expect("no revision is named")));
    }
    Ok(())
}

fn check_leases(model: &Model, store: &MemoryStore) -> Result<(), TestCaseError> {
    let expected: Vec<_> = model.leases.iter().map(|(id, ttl)| (LeaseId(*id), *ttl)).collect();
    prop_assert_eq!(machine::leases(store), expected);
    for id in 1..4 {
        let mut keys = Vec::new();
        machine::lease_keys(store, LeaseId(id), &mut |key| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        });
        let attached = model.now().iter().filter(|(_, pair)| pair.lease == id);
        let expected: Vec<Bytes> = attached.map(|(key, _)| key.clone()).collect();
        prop_assert_eq!(keys, expected);
    }
    Ok(())
}

fn everything() -> KeyRange {
    KeyRange { start: Bytes::new(), end: RangeEnd::Open }
}

fn rejection(error: ReadError) -> holdfast_core::rejection::Rejection {
    match error {
        ReadError::Rejection(rejection) => rejection,
        ReadError::Fault(fault) => panic!("{fault}"),
    }
}
