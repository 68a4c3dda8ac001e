//! Reads, writes, transactions, compaction and their refusals, through gRPC.

use bytes::Bytes;
use tonic::Code;
use tonic::transport::Channel;

use crate::proto::etcdserverpb as pb;
use crate::rig::{Server, delete, get, put, range, refused};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::request_op::Request;
use pb::response_op::Response;

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn compact(revision: i64, physical: bool) -> pb::CompactionRequest {
    pb::CompactionRequest { revision, physical }
}

fn all<T>(request: T) -> pb::TxnRequest
where
    T: IntoIterator<Item = Request>,
{
    pb::TxnRequest { success: request.into_iter().map(op).collect(), ..Default::default() }
}

#[tokio::test]
async fn keys_are_written_read_and_removed() {
    let server = Server::start("keys", &[]).await;
    let mut kv = server.kv().await;
    for key in ["a", "b", "c"] {
        kv.put(put(key, "1")).await.expect("is put");
    }
    let request = pb::PutRequest { prev_kv: true, ..put("b", "2") };
    let answer = kv.put(request).await.expect("is put").into_inner();
    let before = answer.prev_kv.expect("it existed");
    assert_eq!((&before.value[..], before.mod_revision, before.version), (&b"1"[..], 3, 1));
    let header = answer.header.expect("answers have one");
    assert_eq!(header.revision, 5, "revisions start at 1");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);

    let answer = kv.range(range("a", "c")).await.expect("is read").into_inner();
    let found: Vec<_> = answer.kvs.iter().map(|pair| (&pair.key[..], &pair.value[..])).collect();
    assert_eq!(found, [(&b"a"[..], &b"1"[..]), (&b"b"[..], &b"2"[..])]);
    assert_eq!((answer.count, answer.more), (2, false));
    let limited = pb::RangeRequest { limit: 1, revision: 4, ..range("a", "\0") };
    let answer = kv.range(limited).await.expect("is read").into_inner();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (1, 3, true));
    let old = pb::RangeRequest { revision: 4, serializable: true, ..get("b") };
    let answer = kv.range(old).await.expect("is read").into_inner();
    assert_eq!(&answer.kvs[0].value[..], b"1");

    let request = pb::DeleteRangeRequest { range_end: "c".into(), prev_kv: true, ..delete("a") };
    let answer = kv.delete_range(request).await.expect("are removed").into_inner();
    let gone: Vec<_> = answer.prev_kvs.iter().map(|pair| &pair.key[..]).collect();
    assert_eq!((answer.deleted, gone), (2, vec![&b"a"[..], &b"b"[..]]));
    let answer = kv.range(range("a", "\0")).await.expect("is read").into_inner();
    assert_eq!(answer.count, 1);
}

#[tokio::test]
async fn transactions_take_one_branch_at_one_revision() {
    let server = Server::start("txn", &[]).await;
    let mut kv = server.kv().await;
    kv.put(put("a", "1")).await.expect("is put");
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Value.into(),
        key: "a".into(),
        target_union: Some(TargetUnion::Value("1".into())),
        ..Default::default()
    };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(Request::RequestPut(put("a", "2"))),
            op(Request::RequestPut(put("b", "2"))),
            op(Request::RequestRange(range("a", "c"))),
        ],
        failure: vec![op(Request::RequestDeleteRange(delete("a")))],
    };
    let answer = kv.txn(request.clone()).await.expect("is done").into_inner();
    assert!(answer.succeeded);
    let Some(Response::ResponseRange(read)) = &answer.responses[2].response else {
        panic!("{answer:?}");
    };
    assert!(read.kvs.iter().all(|pair| pair.mod_revision == 3), "{read:?}");
    assert_eq!(read.kvs.len(), 2);

    let answer = kv.txn(request).await.expect("is done").into_inner();
    assert!(!answer.succeeded, "a is 2 now");
    let answer = kv.range(range("a", "c")).await.expect("is read").into_inner();
    assert_eq!((answer.count, &answer.kvs[0].key[..]), (1, &b"b"[..]));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_etcds_words() {
    let server = Server::start("refused", &[]).await;
    let mut kv = server.kv().await;
    let invalid = Code::InvalidArgument;
    let empty = "etcdserver: key is not provided";
    refused(kv.put(put("", "1")).await, invalid, empty);
    refused(kv.range(get("")).await, invalid, empty);
    refused(kv.delete_range(delete("")).await, invalid, empty);
    refused(kv.txn(all([Request::RequestPut(put("", "1"))])).await, invalid, empty);

    let many = (0..129).map(|at| Request::RequestPut(put(&format!("k{at}"), "1")));
    let text = "etcdserver: too many operations in txn request";
    refused(kv.txn(all(many)).await, invalid, text);
    let twice = [Request::RequestPut(put("a", "1")), Request::RequestPut(put("a", "2"))];
    let text = "etcdserver: duplicate key given in txn request";
    refused(kv.txn(all(twice)).await, invalid, text);
    let both = [
        Request::RequestPut(put("b", "1")),
        Request::RequestDeleteRange(pb::DeleteRangeRequest {
            range_end: "c".into(),
            ..delete("a")
        }),
    ];
    refused(kv.txn(all(both)).await, invalid, text);

    let backwards = kv.range(range("b", "a")).await.expect("is empty, as with etcd").into_inner();
    assert_eq!((backwards.count, backwards.kvs.len()), (0, 0));
    let backwards = pb::DeleteRangeRequest { range_end: "a".into(), ..delete("b") };
    let answer = kv.delete_range(backwards).await.expect("is empty too").into_inner();
    assert_eq!(answer.deleted, 0);
    let sorted = pb::RangeRequest { sort_order: 9, ..get("a") };
    refused(kv.range(sorted).await, invalid, "etcdserver: invalid sort option");
    let ignoring = pb::PutRequest { ignore_value: true, ..put("a", "") };
    refused(kv.put(ignoring.clone()).await, invalid, "etcdserver: key not found");
    let ignoring = pb::PutRequest { value: "x".into(), ..ignoring };
    refused(kv.put(ignoring).await, invalid, "etcdserver: value is provided");
    let leased = pb::PutRequest { lease: 77, ..put("a", "1") };
    refused(kv.put(leased).await, Code::NotFound, "etcdserver: requested lease not found");
    let future = pb::RangeRequest { revision: 99, ..get("a") };
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(future).await, Code::OutOfRange, text);
    refused(kv.compact(compact(99, false)).await, Code::OutOfRange, text);

    let answer = kv.range(range("\0", "\0")).await.expect("is read").into_inner();
    assert_eq!((answer.count, answer.header.unwrap_or_default().revision), (0, 1), "no trace");
}

#[tokio::test]
async fn compaction_gives_up_history_for_good() {
    let mut server = Server::start("compaction", &[]).await;
    let mut kv = server.kv().await;
    for value in 0..5 {
        kv.put(put("a", &value.to_string())).await.expect("is put");
    }
    kv.compact(compact(4, true)).await.expect("is compacted");
    let text = "etcdserver: mvcc: required revision has been compacted";
    let old = |revision| pb::RangeRequest { revision, ..get("a") };
    refused(kv.range(old(3)).await, Code::OutOfRange, text);
    refused(kv.compact(compact(4, false)).await, Code::OutOfRange, text);
    let answer = kv.range(old(4)).await.expect("the compacted revision itself is kept");
    assert_eq!(&answer.into_inner().kvs[0].value[..], b"2");

    server.kill();
    server.restart().await;
    let mut kv = server.kv().await;
    refused(kv.range(old(3)).await, Code::OutOfRange, text);
    let answer = kv.range(get("a")).await.expect("is read").into_inner();
    assert_eq!((&answer.kvs[0].value[..], answer.kvs[0].version), (&b"4"[..], 5));
}

#[tokio::test]
async fn requests_are_bounded() {
    let server = Server::start("sizes", &[]).await;
    let mut kv = server.kv().await;
    let oversized = pb::PutRequest { value: vec![7; 1_600_000].into(), ..put("big", "") };
    let result = kv.put(oversized).await;
    refused(result, Code::InvalidArgument, "etcdserver: request is too large");
    let absurd = pb::PutRequest { value: vec![7; 3 << 20].into(), ..put("big", "") };
    let status = kv.put(absurd).await.expect_err("is refused by the transport");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("received message larger than max"), "{status:?}");
    let answer = server.kv().await.range(range("\0", "\0")).await.expect("is read");
    assert_eq!(answer.into_inner().count, 0, "no trace");
}

/// A key of 1 MiB that ends with `last`.
fn long(last: u8) -> Bytes {
    let mut key = vec![b'k'; 1 << 20];
    key[(1 << 20) - 1] = last;
    Bytes::from(key)
}

/// `a` and `c` are there, `b` between them is not.
async fn long_keys_are_told_apart(kv: &mut KvClient<Channel>) {
    for (last, found) in [(b'a', 1), (b'b', 0), (b'c', 1)] {
        let request = pb::RangeRequest { key: long(last), ..Default::default() };
        let answer = kv.range(request).await.expect("is read").into_inner();
        assert_eq!(answer.count, found, "{}", last as char);
        assert!(answer.kvs.iter().all(|pair| pair.value[..] == [last]));
    }
    let behind = pb::RangeRequest { key: long(b'b'), range_end: "l".into(), ..Default::default() };
    let answer = kv.range(behind).await.expect("is read").into_inner();
    assert_eq!((answer.count, answer.kvs[0].key == long(b'c')), (1, true));
}

#[tokio::test]
async fn keys_that_share_all_but_the_last_of_a_mebibyte_are_told_apart() {
    // A checkpoint every other entry, so that the keys are read back from pages too.
    let mut server = Server::start("long-keys", &["--snapshot-count=2"]).await;
    let mut kv = server.kv().await;
    for last in [b'a', b'c'] {
        let request = pb::PutRequest { key: long(last), value: vec![last].into(), ..put("", "") };
        kv.put(request).await.expect("a key may have 1 MiB");
    }
    long_keys_are_told_apart(&mut kv).await;
    server.says("saved snapshot").await;
    server.kill();
    server.restart().await;
    let mut kv = server.kv().await;
    long_keys_are_told_apart(&mut kv).await;
    let request = pb::DeleteRangeRequest { key: long(b'a'), ..Default::default() };
    assert_eq!(kv.delete_range(request).await.expect("is removed").into_inner().deleted, 1);
    let answer = kv.range(range("k", "l")).await.expect("is read").into_inner();
    assert_eq!((answer.count, &answer.kvs[0].value[..]), (1, &b"c"[..]));
}
