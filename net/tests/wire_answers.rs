//! What clients get: answers encoded by `wire`, read back with prost.
//!
//! The dumb twin builds prost's structs from the same answer, field by field; the property is that
//! both say the same, and that our bytes are prost's to the last one.

use bytes::{Bytes, BytesMut};
use holdfast_core::id::{ClusterId, Index, LeaseId, MemberId, Position, Revision, Term};
use holdfast_core::query::{
    Answer, AnswerBody, DeleteAnswer, Header, OpAnswer, RangeAnswer, StatusAnswer, TxnAnswer,
};
use holdfast_core::response::{Alarm, AlarmKind, Member};
use holdfast_core::status::{Role, Status};
use holdfast_core::watch::{WatchEvent, WatchResponse};
use holdfast_net::payload::Payload;
use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::etcdserverpb::response_op::Response;
use holdfast_net::proto::health;
use holdfast_net::proto::mvccpb::{Event, KeyValue};
use holdfast_net::wire::{
    Origin, Serving, answer_payload, encode_answer, encode_health, encode_health_list,
    encode_watch_response, watch_payload,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

const ORIGIN: Origin = Origin { cluster: ClusterId(0xc1), member: MemberId(u64::MAX) };
const HEADER: Header = Header { revision: Revision(17), term: Term(4) };

fn encode(body: AnswerBody) -> Bytes {
    let mut out = BytesMut::new();
    let answer = Answer { header: HEADER, body };
    encode_answer(ORIGIN, &answer, &mut out);
    assert_eq!(
        gathered(&answer_payload(ORIGIN, &answer, &mut BytesMut::new())),
        out,
        "pieces have the same bytes"
    );
    out.freeze()
}

fn gathered(payload: &Payload) -> Vec<u8> {
    payload.pieces().flatten().copied().collect()
}

fn decode<M: Message + Default>(body: AnswerBody) -> M {
    M::decode(encode(body)).expect("it was just encoded")
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 0xc1, member_id: u64::MAX, revision, raft_term: 4 })
}

fn inner(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision: revision.0, ..Default::default() })
}

fn kv(bytes: impl AsRef<[u8]>) -> KeyValue {
    KeyValue::decode(bytes.as_ref()).expect("the strategies encoded it")
}

// The dumb twin.

fn range(header: Option<pb::ResponseHeader>, answer: &RangeAnswer) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: answer.kvs.iter().map(kv).collect(),
        more: answer.more,
        count: answer.count,
    }
}

fn put(header: Option<pb::ResponseHeader>, prev: &Option<Bytes>) -> pb::PutResponse {
    pb::PutResponse { header, prev_kv: prev.as_ref().map(kv) }
}

fn delete(header: Option<pb::ResponseHeader>, answer: &DeleteAnswer) -> pb::DeleteRangeResponse {
    let prev_kvs = answer.prev_kvs.iter().map(kv).collect();
    pb::DeleteRangeResponse { header, deleted: answer.deleted, prev_kvs }
}

fn txn(header: Option<pb::ResponseHeader>, answer: &TxnAnswer) -> pb::TxnResponse {
    let op = |op: &OpAnswer| match op {
        OpAnswer::Range(revision, answer) => {
            Response::ResponseRange(range(inner(*revision), answer))
        }
        OpAnswer::Put(revision, prev) => Response::ResponsePut(put(inner(*revision), prev)),
        OpAnswer::DeleteRange(revision, answer) => {
            Response::ResponseDeleteRange(delete(inner(*revision), answer))
        }
        OpAnswer::Txn(answer) => Response::ResponseTxn(txn(inner(Revision(0)), answer)),
    };
    let responses =
        answer.ops.iter().map(|one| pb::ResponseOp { response: Some(op(one)) }).collect();
    pb::TxnResponse { header, succeeded: answer.succeeded, responses }
}

fn watch(response: &WatchResponse) -> pb::WatchResponse {
    let event = |event: &WatchEvent| Event {
        r#type: event.delete.into(),
        kv: Some(kv(&event.kv)),
        prev_kv: event.prev_kv.as_ref().map(kv),
    };
    pb::WatchResponse {
        header: header(response.revision.0),
        watch_id: response.id,
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision.0,
        cancel_reason: response.cancel_reason.clone(),
        fragment: response.fragment,
        events: response.events.iter().map(event).collect(),
    }
}

// Answers of any kind.

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -2..300i64, any::<i64>()]
}

fn revision() -> impl Strategy<Value = Revision> {
    number().prop_map(Revision)
}

fn any_kv() -> impl Strategy<Value = Bytes> {
    // Large ones are shared, and make a message that has to be cut into pieces.
    let large = (3000..40_000usize).prop_map(|len| vec![7; len]);
    let value = prop_oneof![20 => vec(any::<u8>(), 0..300), 1 => large];
    (vec(any::<u8>(), 0..6), value, number(), number()).prop_map(
        |(key, value, lease, mod_revision)| {
            let key = Bytes::from(key);
            let value = Bytes::from(value);
            let kv = KeyValue { key, value, lease, mod_revision, ..Default::default() };
            kv.encode_to_vec().into()
        },
    )
}

fn any_range() -> impl Strategy<Value = RangeAnswer> {
    (vec(any_kv(), 0..4), any::<bool>(), number()).prop_map(|(kvs, more, count)| RangeAnswer {
        kvs: kvs.into_iter().collect(),
        more,
        count,
    })
}

fn any_delete() -> impl Strategy<Value = DeleteAnswer> {
    (number(), vec(any_kv(), 0..4))
        .prop_map(|(deleted, prev_kvs)| DeleteAnswer { deleted, prev_kvs })
}

fn any_txn() -> impl Strategy<Value = TxnAnswer> {
    let leaf = prop_oneof![
        (revision(), any_range()).prop_map(|(revision, range)| OpAnswer::Range(revision, range)),
        (revision(), option::of(any_kv())).prop_map(|(revision, kv)| OpAnswer::Put(revision, kv)),
        (revision(), any_delete()).prop_map(|(revision, d)| OpAnswer::DeleteRange(revision, d)),
    ];
    let op = leaf.prop_recursive(4, 16, 4, |inner| {
        (any::<bool>(), vec(inner, 0..4))
            .prop_map(|(succeeded, ops)| OpAnswer::Txn(TxnAnswer { succeeded, ops }))
    });
    (any::<bool>(), vec(op, 0..4)).prop_map(|(succeeded, ops)| TxnAnswer { succeeded, ops })
}

fn any_watch() -> impl Strategy<Value = WatchResponse> {
    let event = (any::<bool>(), any_kv(), option::of(any_kv()))
        .prop_map(|(delete, kv, prev_kv)| WatchEvent { delete, kv, prev_kv });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (revision(), number(), flags, revision(), "[a-z]{0,3}", vec(event, 0..4)).prop_map(
        |(revision, id, (created, canceled, fragment), compact_revision, cancel_reason, events)| {
            WatchResponse {
                revision,
                id,
                created,
                canceled,
                compact_revision,
                cancel_reason,
                fragment,
                events,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ranges_are_encoded_as_prost_does(answer in any_range()) {
        let expected = range(header(17), &answer);
        prop_assert_eq!(encode(AnswerBody::Range(answer)), expected.encode_to_vec());
    }

    #[test]
    fn puts_are_encoded_as_prost_does(answer in option::of(any_kv())) {
        let expected = put(header(17), &answer);
        prop_assert_eq!(encode(AnswerBody::Put(answer)), expected.encode_to_vec());
    }

    #[test]
    fn removals_are_encoded_as_prost_does(answer in any_delete()) {
        let expected = delete(header(17), &answer);
        prop_assert_eq!(encode(AnswerBody::DeleteRange(answer)), expected.encode_to_vec());
    }

    #[test]
    fn transactions_are_encoded_as_prost_does(answer in any_txn()) {
        let expected = txn(header(17), &answer);
        prop_assert_eq!(encode(AnswerBody::Txn(answer)), expected.encode_to_vec());
    }

    #[test]
    fn renewals_are_encoded_as_prost_does(id in any::<i64>(), ttl in number()) {
        let expected = pb::LeaseKeepAliveResponse { header: header(17), id, ttl };
        let body = AnswerBody::LeaseKeepAlive { id: LeaseId(id), ttl };
        prop_assert_eq!(encode(body), expected.encode_to_vec());
    }

    #[test]
    fn watch_responses_are_encoded_as_prost_does(response in any_watch()) {
        let mut out = BytesMut::new();
        encode_watch_response(ORIGIN, Term(4), &response, &mut out);
        prop_assert_eq!(&out[..], watch(&response).encode_to_vec());
        prop_assert_eq!(gathered(&watch_payload(ORIGIN, Term(4), &response, &mut BytesMut::new())), &out[..]);
    }
}

/// Surface 1.9 row 13: the inner headers have a revision only, that of a nested transaction is there
/// and empty.
#[test]
fn headers_inside_a_transaction() {
    let nested = TxnAnswer { succeeded: true, ops: vec![OpAnswer::Put(Revision(17), None)] };
    let answer = TxnAnswer { succeeded: true, ops: vec![OpAnswer::Txn(nested)] };
    let bytes = b"\x0a\x12\x08\xc1\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x11\x20\x04\
        \x10\x01\x1a\x0e\x22\x0c\x0a\x00\x10\x01\x1a\x06\x12\x04\x0a\x02\x18\x11";
    assert_eq!(&encode(AnswerBody::Txn(answer))[..], &bytes[..]);
}

/// An answer is appended: what stands in the buffer before it (a frame's head) stays.
#[test]
fn answers_are_appended() {
    let mut out = BytesMut::from(&b"head"[..]);
    let answer = Answer { header: HEADER, body: AnswerBody::Compact };
    encode_answer(ORIGIN, &answer, &mut out);
    encode_watch_response(ORIGIN, Term(4), &WatchResponse::default(), &mut out);
    assert!(out.starts_with(b"head\x0a"));
}

/// Surface 1.6, ResponseHeader: of the Lease service and Compact, with revision.
#[test]
fn lease_answers() {
    let compacted: pb::CompactionResponse = decode(AnswerBody::Compact);
    assert_eq!(compacted.header, header(17));
    let granted: pb::LeaseGrantResponse =
        decode(AnswerBody::LeaseGrant { id: LeaseId(-7), ttl: 5 });
    assert_eq!((granted.header, granted.id, granted.ttl), (header(17), -7, 5));
    assert_eq!(granted.error, "");
    let revoked: pb::LeaseRevokeResponse = decode(AnswerBody::LeaseRevoke);
    assert_eq!(revoked.header, header(17));
    let keys = vec![Bytes::from("a"), Bytes::from("b")];
    let body =
        AnswerBody::LeaseTimeToLive { id: LeaseId(7), ttl: -1, granted: 0, keys: keys.clone() };
    let left: pb::LeaseTimeToLiveResponse = decode(body);
    let expected =
        pb::LeaseTimeToLiveResponse { header: header(17), id: 7, ttl: -1, granted_ttl: 0, keys };
    assert_eq!(left, expected);
    let leases: pb::LeaseLeasesResponse =
        decode(AnswerBody::LeaseLeases(vec![LeaseId(2), LeaseId(1)]));
    let ids: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
    assert_eq!((leases.header, ids), (header(17), vec![2, 1]));
}

/// Surface 1.1: the Cluster service's headers carry no revision.
#[test]
fn member_list() {
    let member = Member {
        id: MemberId(0xabc),
        name: "infra1".into(),
        peer_urls: vec!["http://a:2380".into()],
        client_urls: vec!["http://a:2379".into(), "http://b:2379".into()],
        is_learner: true,
    };
    let list: pb::MemberListResponse = decode(AnswerBody::MemberList(vec![member]));
    let expected = pb::Member {
        id: 0xabc,
        name: "infra1".into(),
        peer_ur_ls: vec!["http://a:2380".into()],
        client_ur_ls: vec!["http://a:2379".into(), "http://b:2379".into()],
        is_learner: true,
    };
    assert_eq!((list.header, list.members), (header(0), vec![expected]));
}

/// Surface 1.6, StatusResponse: the versions, the quota, and a downgradeInfo that is always there.
#[test]
fn status() {
    let status = Status {
        term: Term(4),
        leader: Some(MemberId(9)),
        role: Role::Learner,
        commit: Index(12),
        applied: Position::new(11, 4),
        ..Status::default()
    };
    let answer = |quota| StatusAnswer {
        status,
        db_size: 100,
        db_size_in_use: 60,
        quota,
        errors: vec!["etcdserver: no leader".into()],
    };
    let found: pb::StatusResponse = decode(AnswerBody::Status(answer(-1)));
    let expected = pb::StatusResponse {
        header: header(17),
        version: "3.7.1".into(),
        db_size: 100,
        leader: 9,
        raft_index: 12,
        raft_term: 4,
        raft_applied_index: 11,
        errors: vec!["etcdserver: no leader".into()],
        db_size_in_use: 60,
        is_learner: true,
        storage_version: "3.7.0".into(),
        db_size_quota: -1,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    };
    assert_eq!(found, expected);
    let found: pb::StatusResponse = decode(AnswerBody::Status(answer(0)));
    assert_eq!(found.db_size_quota, 2_147_483_648);
}

/// Surface 1.6, AlarmMember.
#[test]
fn alarms() {
    let alarms = [AlarmKind::NoSpace, AlarmKind::Corrupt]
        .map(|kind| Alarm { member: MemberId(5), kind })
        .to_vec();
    let found: pb::AlarmResponse = decode(AnswerBody::Alarms(alarms));
    let kinds: Vec<(u64, i32)> = found.alarms.iter().map(|a| (a.member_id, a.alarm)).collect();
    assert_eq!((found.header, kinds), (header(17), vec![(5, 1), (5, 2)]));
}

/// grpc.health.v1: SERVING is 1, NOT_SERVING 2, SERVICE_UNKNOWN 3; the server's own name is empty.
#[test]
fn health_answers() {
    let rows = [(Serving::Serving, 1), (Serving::NotServing, 2), (Serving::ServiceUnknown, 3)];
    for (serving, status) in rows {
        let mut out = BytesMut::new();
        encode_health(serving, &mut out);
        let expected = health::HealthCheckResponse { status };
        assert_eq!(health::HealthCheckResponse::decode(&out[..]), Ok(expected));
        out.clear();
        encode_health_list(serving, &mut out);
        let list = health::HealthListResponse::decode(&out[..]).expect("it was just encoded");
        assert_eq!(list.statuses, [(String::new(), expected)].into());
    }
}
