//! What reads and apply cost, and what happens when they fail: a view that counts, and one that
//! breaks.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use holdfast_core::command::Command;
use holdfast_core::id::{LeaseId, Position, RequestId, RevSub, Revision};
use holdfast_core::kv::KeyValue;
use holdfast_core::limits::Limits;
use holdfast_core::machine::{Applied, Machine};
use holdfast_core::memory::AnswerMemory;
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::mvcc::range::{RangeScan, range};
use holdfast_core::mvcc::{Budget, ReadError};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, Identity, KeyRange, Op, Put, Range, RangeEnd, SortOrder,
    SortTarget, Txn, TxnOp,
};
use holdfast_core::store::{Batch, Fault, Mark, Record, Row, Store, Table, View, VisitTable};

/// Counts the rows and records that go through it, and breaks its disk on request.
#[derive(Default)]
struct Watched {
    inner: MemoryStore,
    rows: Cell<usize>,
    records: Cell<usize>,
    broken: bool,
}

impl View for Watched {
    fn mark(&self) -> Mark {
        self.inner.mark()
    }

    fn row(&self, key: &[u8]) -> Option<Row> {
        self.rows.set(self.rows.get() + 1);
        self.inner.row(key)
    }

    fn scan(&self, keys: &KeyRange, visit: &mut dyn FnMut(&[u8], &Row) -> ControlFlow<()>) {
        self.inner.scan(keys, &mut |key, row| {
            self.rows.set(self.rows.get() + 1);
            visit(key, row)
        });
    }

    fn count(&self, keys: &KeyRange) -> u64 {
        self.inner.count(keys)
    }

    fn record(&self, at: RevSub) -> Result<Record, Fault> {
        if self.broken {
            return Err(Fault::new("read a block", "segment 7 at 4096", "checksum"));
        }
        self.records.set(self.records.get() + 1);
        self.inner.record(at)
    }

    fn records(
        &self,
        from: RevSub,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.inner.records(from, visit)
    }

    fn table(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.inner.table(table, key)
    }

    fn table_scan(&self, table: Table, from: &[u8], visit: &mut VisitTable<'_>) {
        self.inner.table_scan(table, from, visit);
    }
}

impl Store for Watched {
    fn absorb(&mut self, batch: &mut Batch) {
        self.inner.absorb(batch);
    }

    fn index_bytes(&self) -> u64 {
        self.inner.index_bytes()
    }

    fn fault(&self) -> Option<Fault> {
        None
    }
}

struct World {
    machine: Machine,
    store: Watched,
}

impl World {
    /// `keys` keys "00000", "00001", …, each put once, at r2, r3, ….
    fn with_keys(keys: usize) -> World {
        let store = Watched::default();
        let mut world = World { machine: Machine::load(&Limits::default(), &store), store };
        for key in 0..keys {
            world.apply(Op::Put(put(key))).expect("memory does not fail");
        }
        world
    }

    fn apply(&mut self, op: Op) -> Result<Applied, Fault> {
        let (id, identity) = (RequestId::default(), Identity::default());
        let command = Command { id, identity, op };
        let at = Position::new(self.store.mark().applied.index.0 + 1, 1);
        let mut out = Applied::default();
        self.machine.apply(at, &command, &mut self.store, &mut out).map(|()| out)
    }

    /// Rows and records looked at by a read.
    fn cost(&self, asked: &Range) -> (usize, usize) {
        self.store.rows.set(0);
        self.store.records.set(0);
        range(&self.store, asked, None).expect("memory does not fail");
        (self.store.rows.get(), self.store.records.get())
    }
}

fn put(key: usize) -> Put {
    Put {
        key: format!("{key:05}").into(),
        value: Bytes::from_static(b"value"),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn all() -> Range {
    Range::of(KeyRange { start: Bytes::from_static(b"0"), end: RangeEnd::Open })
}

#[test]
fn a_read_costs_what_it_returns() {
    let world = World::with_keys(5000);
    assert_eq!(world.cost(&Range { limit: 10, ..all() }), (11, 10), "the limit, and one for more");
    assert_eq!(
        world.cost(&Range { count_only: true, ..all() }),
        (0, 0),
        "the index knows the count"
    );
    assert_eq!(
        world.cost(&Range { keys_only: true, ..all() }),
        (5000, 0),
        "keys come from the index"
    );
    let last = Range { order: SortOrder::Descend, limit: 1, ..all() };
    assert_eq!(world.cost(&last), (5000, 1), "an order looks at all keys, but at one value");
    let recent = Range { mod_min: 4999, ..all() };
    assert_eq!(world.cost(&recent), (5000, 3), "a filter likewise");
}

#[test]
fn a_slice_stays_within_its_budget() {
    let world = World::with_keys(100);
    let mut scan = RangeScan::new(&world.store, &all()).expect("a valid read");
    let mut slices = 0;
    loop {
        world.store.rows.set(0);
        world.store.records.set(0);
        slices += 1;
        let done = scan.step(&world.store, &mut Budget::new(7, usize::MAX));
        assert!(world.store.rows.get() + world.store.records.get() <= 7);
        if done.expect("memory does not fail") {
            break;
        }
    }
    assert!((28..32).contains(&slices), "200 looks, seven at a time, took {slices} slices");
    assert_eq!(scan.into_answer().kvs.len(), 100);
}

/// More keys than are read by revision together, written in another order than that of their keys.
#[test]
fn pairs_come_in_key_order_whatever_order_they_are_read_in() {
    const KEYS: usize = 20_011;
    let mut world = World::with_keys(0);
    for turn in 0..KEYS {
        world.apply(Op::Put(put(turn * 7919 % KEYS))).expect("memory does not fail");
    }
    for order in [SortOrder::None, SortOrder::Descend] {
        let asked = Range { order, ..all() };
        let mut scan = RangeScan::new(&world.store, &asked).expect("a valid read");
        while !scan.step(&world.store, &mut Budget::new(997, usize::MAX)).expect("readable") {}
        let kvs = scan.into_answer().kvs;
        let keys = kvs.iter().map(|kv| KeyValue::decode(kv).expect("a pair").key.to_vec());
        let mut expected: Vec<_> = (0..KEYS).map(|key| format!("{key:05}").into_bytes()).collect();
        if order == SortOrder::Descend {
            expected.reverse();
        }
        assert!(keys.eq(expected), "{order:?}");
    }
}

#[test]
fn a_compaction_may_pass_a_scan_that_goes_on_newer_views() {
    let mut world = World::with_keys(100);
    let mut scan =
        RangeScan::new(&world.store, &Range { revision: 50, ..all() }).expect("readable");
    assert_eq!(scan.step(&world.store, &mut Budget::new(7, 1000)), Ok(false));
    world.apply(Op::Compact { revision: Revision(50) }).expect("memory does not fail");
    assert_eq!(scan.step(&world.store, &mut Budget::new(7, 1000)), Ok(false));
    world.apply(Op::Compact { revision: Revision(51) }).expect("memory does not fail");
    let passed = scan.step(&world.store, &mut Budget::new(7, 1000));
    assert_eq!(passed, Err(ReadError::Rejection(Rejection::Compacted)));
}

#[test]
fn a_scan_that_goes_on_newer_views_keeps_its_revision() {
    let mut world = World::with_keys(20);
    let expected = range(&world.store, &all(), None);
    let mut scan = RangeScan::new(&world.store, &all()).expect("a valid read");
    let mut key = 0;
    while !scan.step(&world.store, &mut Budget::new(1, 1)).expect("readable") {
        key += 1;
        world.apply(Op::Put(put(key * 7 % 40))).expect("memory does not fail");
    }
    assert_eq!(Ok(scan.into_answer()), expected);
}

#[test]
fn a_point_read_looks_at_one_row_and_keeps_its_revision_on_newer_views() {
    let mut world = World::with_keys(20);
    let one = |key: usize| Range { keys: KeyRange::single(put(key).key), ..all() };
    assert_eq!((world.cost(&one(7)), world.cost(&one(99))), ((1, 1), (1, 0)));
    let begun = [7, 99].map(|key| {
        let scan = RangeScan::new(&world.store, &one(key)).expect("a valid read");
        (scan, range(&world.store, &one(key), None))
    });
    for key in [7, 99] {
        world.apply(Op::Put(put(key))).expect("memory does not fail");
    }
    for (mut scan, expected) in begun {
        while !scan.step(&world.store, &mut Budget::new(1, 1)).expect("readable") {}
        assert_eq!(Ok(scan.into_answer()), expected);
    }
}

#[test]
fn apply_reads_values_only_to_compare_or_keep_them() {
    let mut world = World::with_keys(3);
    world.store.records.set(0);
    let keep = Put { value: Bytes::new(), ignore_value: true, ..put(0) };
    world.apply(Op::Put(Put { prev_kv: true, ..put(1) })).expect("memory does not fail");
    world.apply(Op::Txn(if_mod_then(TxnOp::Put(put(2))))).expect("memory does not fail");
    assert_eq!(world.store.records.get(), 0);
    world.apply(Op::Put(keep)).expect("memory does not fail");
    assert_eq!(world.store.records.get(), 1);
}

#[test]
fn a_fault_during_apply_is_told_and_absorbs_nothing() {
    let mut world = World::with_keys(3);
    world.store.broken = true;
    let before = world.store.mark();
    let value = CompareTarget::Value(Bytes::from_static(b"value"));
    let (keys, result) = (KeyRange::single("00001"), CompareResult::Equal);
    let mut txn = if_mod_then(TxnOp::Put(put(2)));
    txn.compares.push(Compare { keys, result, target: value });
    let fault = world.apply(Op::Txn(txn)).expect_err("the compare needs the value");
    assert_eq!(fault.place, "segment 7 at 4096");
    assert_eq!(world.store.mark(), before);
    world.apply(Op::Put(put(2))).expect("a plain put reads no value");
}

fn if_mod_then(op: TxnOp) -> Txn {
    let keys = KeyRange { start: Bytes::from_static(b"0"), end: RangeEnd::Open };
    let compare = Compare { keys, result: CompareResult::Greater, target: CompareTarget::Mod(1) };
    Txn { compares: vec![compare], success: vec![op], failure: Vec::new() }
}

/// Reads of all kinds that share an account, a piece each in turn: every answer is what it is without one,
/// and all is given back when the answers are gone.
#[test]
fn any_budget_gives_the_same_answers_as_none() {
    let world = World::with_keys(3000);
    let reads = [
        all(),
        Range { keys_only: true, ..all() },
        Range { revision: 1500, ..all() },
        Range { order: SortOrder::Descend, limit: 900, ..all() },
        Range { target: SortTarget::Value, order: SortOrder::Ascend, limit: 700, ..all() },
        Range { target: SortTarget::Value, keys_only: true, order: SortOrder::Ascend, ..all() },
        Range { target: SortTarget::Mod, mod_min: 100, limit: 2000, ..all() },
        Range { count_only: true, ..all() },
    ];
    for max in [1, 3000, 64 << 10, 1 << 20, 1 << 30] {
        let memory = AnswerMemory::new(max);
        let mut going: VecDeque<_> = reads
            .iter()
            .map(|asked| {
                let scan = RangeScan::new(&world.store, asked).expect("a valid read");
                (asked, scan.with_memory(Some(memory.hold())))
            })
            .collect();
        let (mut starved, mut turns) = (0, 0);
        while let Some((asked, mut scan)) = going.pop_front() {
            turns += 1;
            assert!(turns < 100_000, "they wait for each other");
            if scan.step(&world.store, &mut Budget::new(50, usize::MAX)).expect("readable") {
                assert_eq!(Ok(scan.into_answer()), range(&world.store, asked, None), "{asked:?}");
            } else {
                starved += usize::from(scan.starved().is_some());
                going.push_back((asked, scan));
            }
        }
        assert_eq!(starved > 0, max < 1 << 30, "with {max}");
        assert_eq!(memory.used(), 0);
    }
}

#[test]
fn an_answer_holds_its_memory_until_its_chunks_are_gone() {
    let world = World::with_keys(20_000);
    let memory = AnswerMemory::new(8 << 20);
    let scan = RangeScan::new(&world.store, &all()).expect("a valid read");
    let mut scan = scan.with_memory(Some(memory.hold()));
    assert_eq!(scan.step(&world.store, &mut Budget::unbounded()), Ok(true));
    assert!(memory.used() >= 20_000 * 64, "what was found is counted too");
    let answer = scan.into_answer();
    let chunks = answer.kvs.chunks().to_vec();
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    assert!(chunks.len() > 4 && memory.used() == bytes);
    drop(answer);
    let (first, rest) = chunks.split_first().expect("there are some");
    let slice = first.slice(7..9);
    assert_eq!(memory.used(), bytes, "they are shared");
    let left = bytes - rest.iter().map(Bytes::len).sum::<usize>();
    drop(chunks);
    assert_eq!(memory.used(), left, "a slice holds its chunk");
    drop(slice);
    assert_eq!(memory.used(), 0);
}
