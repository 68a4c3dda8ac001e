//! Examples of the codec; the round trip over random commands is in `tests/properties.rs`.

use super::*;
use crate::id::{Incarnation, LeaseId, MemberId, RequestId};
use crate::request::{Identity, Put};

fn put(key: &'static [u8], value: &'static [u8]) -> Command {
    let id = RequestId { member: MemberId(1), incarnation: Incarnation(2), sequence: 5 };
    let put = Put {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    Command { id, identity: Identity::default(), op: Op::Put(put) }
}

fn nested(depth: usize) -> Command {
    let mut txn = Txn::default();
    for _ in 1..depth {
        txn = Txn { success: vec![TxnOp::Txn(Box::new(txn))], ..Txn::default() };
    }
    Command { op: Op::Txn(txn), ..put(b"", b"") }
}

#[test]
fn the_worked_example_of_the_head() {
    let command = put(b"a", b"b");
    let mut expected = vec![1, 1];
    expected.extend(1u64.to_le_bytes());
    expected.extend(2u64.to_le_bytes());
    expected.extend([5, 0, 0, 1, 0, 1, b'a', 1, b'b']);
    assert_eq!(encode_entry(std::slice::from_ref(&command)), expected);
    assert_eq!(encoded_len(&command), expected.len() - 2);
    assert_eq!(decode_entry(&expected.into()), Ok(vec![command]));
}

#[test]
fn keys_and_values_are_slices_of_the_entry() {
    let data = encode_entry(&[put(b"key", b"value")]);
    let Op::Put(put) = &decode_entry(&data).expect("just encoded")[0].op else {
        panic!("a put came back as something else");
    };
    assert!(data.as_ptr_range().contains(&put.value.as_ptr()));
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    let deepest = nested(TXN_DEPTH_MAX);
    let data = encode_entry(std::slice::from_ref(&deepest));
    assert_eq!(decode_entry(&data), Ok(vec![deepest]));
    assert_eq!(encoded_len(&nested(TXN_DEPTH_MAX + 1)), usize::MAX);

    // One level more, by hand: a transaction with no compares, one operation, which is a transaction.
    let mut deeper = data.to_vec();
    let op = 2 + 16 + 3;
    deeper.splice(op + 1..op + 1, [0, 1, 4]);
    deeper.push(0);
    let error = decode_entry(&deeper.into()).expect_err("one too deep");
    assert_eq!(error.problem, Problem::Depth);
}

#[test]
fn an_unknown_version_says_what_to_do() {
    let error = decode_entry(&Bytes::from_static(&[9, 0])).expect_err("no such version");
    assert_eq!(
        error.to_string(),
        "entry codec version 9 is newer than this program's 1: upgrade it"
    );
}

#[test]
fn every_prefix_of_an_entry_is_an_error() {
    let data = encode_entry(&[put(b"key", b"value"), nested(3)]);
    for len in 1..data.len() {
        let error = decode_entry(&data.slice(..len)).expect_err("cut off");
        assert!(error.offset <= len, "{error}");
    }
    let mut longer = data.to_vec();
    longer.push(0);
    let error = decode_entry(&longer.into()).expect_err("too long");
    assert_eq!(error, CodecError { offset: data.len(), problem: Problem::Trailing });
}
