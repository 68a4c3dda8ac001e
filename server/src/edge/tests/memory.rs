//! Lists that wait for the memory of others.

use super::*;

/// With keys enough for a list of half a megabyte, and memory for one.
fn rig() -> Rig {
    Rig::with_limits(20_000, Limits { answer_bytes_max: 2 << 20, ..Limits::default() })
}

impl Rig {
    /// Turns, at the same time, until the edge waits for time to pass: what was answered.
    fn settle(&mut self) -> BTreeMap<u64, Answered> {
        let mut found = BTreeMap::new();
        for _ in 0..500 {
            found.extend(self.taken().into_iter().map(|(call, answer)| (call.0, answer)));
            if self.edge.deadline() > self.now {
                return found;
            }
        }
        panic!("it spins: {:?}", found.keys());
    }

    fn pass(&mut self, time: Duration) -> BTreeMap<u64, Answered> {
        self.now = self.now + time;
        self.settle()
    }

    fn used(&self) -> usize {
        self.edge.config.answers.used()
    }

    /// Two lists of which the first is answered.
    fn answer_first(&mut self) -> Answer {
        self.ask(1, list());
        self.ask(2, list());
        let mut answers = self.settle();
        let first = answers.remove(&1).expect("the oldest goes on").expect("it is not refused");
        assert!(answers.is_empty(), "the second waits: {:?}", answers.keys());
        first
    }
}

const LOOK: Duration = Duration::from_millis(10);

#[test]
fn a_list_waits_until_another_has_been_sent_and_small_calls_pass() {
    let mut rig = rig();
    let first = rig.answer_first();
    assert_eq!(kvs(&first).kvs.len(), 20_000);
    let chunks: usize = kvs(&first).kvs.chunks().iter().map(Bytes::len).sum();
    assert!(rig.used() > chunks && rig.used() <= 2 << 20);
    assert!(rig.edge.deadline() <= rig.now + LOOK, "it is looked at again");
    rig.ask(3, get(7));
    let Op::Put(more) = put(20_001) else { unreachable!("put puts") };
    rig.write(4, Query::Put(more.clone()), Op::Put(more));
    rig.ask(5, Query::LeaseKeepAlive { id: LeaseId(7) });
    let renewal = rig.asked();
    let body = Body::LeaseKeepAlive { ttl: 9 };
    rig.edge.replied(renewal, Ok(Response { revision: Revision(9), term: Term(1), body }));
    let small = rig.settle();
    assert!(small.keys().eq(&[3, 4, 5]) && small.values().all(Result::is_ok), "{small:?}");
    for _ in 0..20 {
        assert!(rig.pass(LOOK).is_empty(), "the client of the first has taken nothing yet");
    }
    let part = kvs(&first).kvs.chunks()[0].slice(1..2);
    let copied: Vec<Bytes> = kvs(&first).kvs.iter().map(Bytes::copy_from_slice).collect();
    drop(first);
    assert!(
        rig.pass(LOOK).is_empty(),
        "a slice of a chunk is on its way, and this list needs it all"
    );
    drop(part);
    let second = rig.pass(LOOK).remove(&2).expect("its turn").expect("not refused");
    assert!(kvs(&second).kvs.iter().eq(copied.iter()), "its snapshot is the one that it began on");
    drop(second);
    assert_eq!(rig.used(), 0);
}

#[test]
fn who_waits_too_long_is_refused_and_gives_back_what_it_holds() {
    let mut rig = rig();
    let first = rig.answer_first();
    let held: usize = kvs(&first).kvs.chunks().iter().map(Bytes::len).sum();
    let branch = vec![
        TxnOp::Put(match put(20_002) {
            Op::Put(put) => put,
            _ => unreachable!("put puts"),
        }),
        TxnOp::Range(range(all())),
    ];
    let txn = Txn { compares: Vec::new(), success: branch, failure: Vec::new() };
    rig.write(3, Query::Txn(txn.clone()), Op::Txn(txn));
    rig.ask(4, list());
    assert!(rig.settle().is_empty());
    rig.edge.cancel(StreamId(4));
    let patience = Limits::default().request_timeout;
    assert!(rig.pass(patience - LOOK).is_empty());
    assert!(rig.used() > held);
    let late = rig.pass(LOOK);
    let expected = [(2, Err(Rejection::NoAnswerMemory)), (3, Err(Rejection::Timeout))];
    assert_eq!(late, BTreeMap::from(expected), "what was written is not said to be undone");
    assert_eq!((rig.used(), rig.edge.reads.len()), (held, 0));
    assert!(rig.edge.cancelled.is_empty());
    drop(first);
    rig.ask(5, list());
    assert!(rig.settle().contains_key(&5));
    assert_eq!(rig.used(), 0);
}
