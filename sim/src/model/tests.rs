//! Tests of the oracle, by hand-made histories.

use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Put, SortOrder, SortTarget, Txn, TxnOp,
};

use super::*;

fn put(key: &'static str, value: &'static str) -> Put {
    Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn all() -> KeyRange {
    KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Open }
}

#[test]
fn a_key_lives_again_with_a_new_creation_and_version() {
    let mut model = Model::default();
    model.apply(&Op::Put(put("a", "1")));
    model.apply(&Op::Put(put("a", "2")));
    model.apply(&Op::DeleteRange(DeleteRange { keys: all(), prev_kv: false }));
    model.apply(&Op::Put(put("a", "3")));
    let versions = &model.keys[&b"a"[..]];
    let shape: Vec<_> = versions.iter().map(|v| (v.at.main.0, v.created, v.version)).collect();
    assert_eq!(shape, [(2, 2, 1), (3, 2, 2), (4, 0, 0), (5, 5, 1)]);
    let nothing =
        model.apply(&Op::DeleteRange(DeleteRange { keys: KeyRange::single("zz"), prev_kv: false }));
    assert_eq!(nothing.revision, Revision(5), "a delete that finds nothing does not count");
}

#[test]
fn a_pair_is_encoded_as_etcd_stores_it() {
    let version = Version {
        at: RevSub::new(300, 0),
        created: 2,
        version: 1,
        lease: -1,
        value: Some(Bytes::from_static(b"v")),
    };
    let lease = [0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let mut expected = vec![0x0a, 1, b'k', 0x10, 2, 0x18, 0xac, 0x02, 0x20, 1, 0x2a, 1, b'v'];
    expected.extend(lease);
    assert_eq!(encode(b"k", &version), expected);
}

#[test]
fn a_transaction_compares_before_it_writes_and_counts_once() {
    let mut model = Model::default();
    model.apply(&Op::Put(put("a", "1")));
    let absent = Compare {
        keys: KeyRange::single("b"),
        result: CompareResult::Equal,
        target: CompareTarget::Version(0),
    };
    let inner = Txn {
        compares: vec![absent.clone()],
        success: vec![TxnOp::Put(put("c", "inner"))],
        failure: vec![],
    };
    let txn = Txn {
        compares: vec![absent],
        success: vec![
            TxnOp::Put(put("b", "2")),
            TxnOp::Txn(Box::new(inner)),
            TxnOp::Range(Range::of(all())),
        ],
        failure: vec![],
    };
    let step = model.apply(&Op::Txn(txn.clone()));
    assert_eq!(step.revision, Revision(3));
    let Ok((_, AnswerBody::Txn(answer))) = &step.verdict else { panic!("{:?}", step.verdict) };
    let OpAnswer::Range(revision, read) = &answer.ops[2] else { panic!("{:?}", answer.ops) };
    assert_eq!((revision.0, read.count), (3, 3));
    let again = model.apply(&Op::Txn(txn));
    assert_eq!(again.revision, Revision(3), "the failed branch is empty");
}

use holdfast_core::query::OpAnswer;

#[test]
fn the_value_of_a_missing_key_compares_false_even_with_not_equal() {
    let mut model = Model::default();
    let txn = Txn {
        compares: vec![Compare {
            keys: KeyRange::single("a"),
            result: CompareResult::NotEqual,
            target: CompareTarget::Value(Bytes::from_static(b"x")),
        }],
        success: vec![TxnOp::Put(put("a", "1"))],
        failure: vec![],
    };
    assert_eq!(model.apply(&Op::Txn(txn)).revision, Revision(1));
}

#[test]
fn a_revoked_lease_takes_its_keys_at_one_revision() {
    let mut model = Model::default();
    model.apply(&Op::LeaseGrant { id: LeaseId(7), ttl: 5 });
    for key in ["a", "b", "c"] {
        model.apply(&Op::Put(Put { lease: LeaseId(7), ..put(key, "v") }));
    }
    model.apply(&Op::Put(put("b", "detached")));
    model.apply(&Op::LeaseRevoke { id: LeaseId(7) });
    let deleted: Vec<_> = model.changes().iter().filter(|change| change.delete).collect();
    assert_eq!(deleted.len(), 2);
    assert_eq!(deleted[0].at, RevSub::new(6, 0));
    assert_eq!(deleted[1].at, RevSub::new(6, 1));
    assert_eq!(
        model.apply(&Op::LeaseRevoke { id: LeaseId(7) }).verdict,
        Err(Rejection::LeaseNotFound)
    );
}

#[test]
fn the_limit_cuts_before_sorting_without_an_order_and_after_it_with_one() {
    let mut model = Model::default();
    for key in ["c", "b", "a"] {
        model.apply(&Op::Put(put(key, key)));
    }
    let by_mod = Range { limit: 1, target: SortTarget::Mod, ..Range::of(all()) };
    let keys = |answer: RangeAnswer| answer.kvs.iter().map(|kv| kv[2]).collect::<Vec<_>>();
    assert_eq!(keys(model.range(Revision(4), &by_mod)), b"b", "of a and b, b is older");
    let ascending = Range { order: SortOrder::Ascend, ..by_mod.clone() };
    assert_eq!(keys(model.range(Revision(4), &ascending)), b"c");
    let answer = model.range(Revision(3), &by_mod);
    assert_eq!((answer.count, answer.more), (2, true));
}
