//! What clients may send, rule by rule: each table names the rows of etcd's surface that it stands for.
//!
//! Messages are built with prost from the .proto files, as a client builds them.

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::{LeaseId, MemberId};
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    CompareResult, CompareTarget, KeyRange, RangeEnd, SortOrder, SortTarget, Txn,
};
use holdfast_core::response::AlarmKind;
use holdfast_core::watch::{WatchCreate, WatchRequest};
use holdfast_net::call::{Code, GrpcStatus, Method};
use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::etcdserverpb::compare::TargetUnion;
use holdfast_net::proto::etcdserverpb::request_op::Request;
use holdfast_net::proto::etcdserverpb::watch_request::RequestUnion;
use holdfast_net::proto::health;
use holdfast_net::wire::{
    WireLimits, decode_health_check, decode_query, decode_watch, fuzz_wire, status_of,
    unknown_health_service,
};
use proptest::prelude::*;
use prost::Message;

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn query(method: Method, message: &impl Message) -> Result<Query, GrpcStatus> {
    decode_query(method, &bytes(message), &WireLimits::default())
}

fn refused<T>(rejection: Rejection) -> Result<T, GrpcStatus> {
    Err(status_of(rejection))
}

fn range(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

fn put(key: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), ..Default::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put_op(key: &'static str) -> pb::RequestOp {
    op(Request::RequestPut(put(key)))
}

fn delete_op(key: &'static str, end: &'static str) -> pb::RequestOp {
    op(Request::RequestDeleteRange(delete(key, end)))
}

fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    op(Request::RequestTxn(pb::TxnRequest { compare: Vec::new(), success, failure }))
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

/// Surface 1.8 row 1 and RangeRequest.sort_order, sort_target: key, then order, then target.
#[test]
fn range_checks_its_key_before_its_sort_options() {
    let sorted = |key, sort_order, sort_target| {
        query(Method::Range, &pb::RangeRequest { sort_order, sort_target, ..range(key) })
    };
    assert_eq!(sorted("", 9, 9), refused(Rejection::EmptyKey));
    assert_eq!(sorted("k", 3, 0), refused(Rejection::InvalidSortOption));
    assert_eq!(sorted("k", -1, 0), refused(Rejection::InvalidSortOption));
    assert_eq!(sorted("k", 0, 5), refused(Rejection::InvalidSortOption));
    let Ok(Query::Range(found)) = sorted("k", 2, 4) else { panic!("DESCEND by VALUE is known") };
    assert_eq!((found.order, found.target), (SortOrder::Descend, SortTarget::Value));
}

/// Surface 1.6, RangeRequest: every option arrives where it belongs.
#[test]
fn range_options_arrive() {
    let sent = pb::RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        limit: -1,
        revision: -2,
        sort_order: 1,
        sort_target: 2,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 10,
        max_mod_revision: 11,
        min_create_revision: 12,
        max_create_revision: -13,
    };
    let Ok(Query::Range(found)) = query(Method::Range, &sent) else { panic!("it is valid") };
    assert_eq!(found.keys, KeyRange { start: "a".into(), end: RangeEnd::Before("z".into()) });
    assert_eq!((found.limit, found.revision), (-1, -2));
    assert_eq!((found.order, found.target), (SortOrder::Ascend, SortTarget::Create));
    assert!(found.serializable && found.keys_only && found.count_only);
    assert_eq!((found.mod_min, found.mod_max), (10, 11));
    assert_eq!((found.create_min, found.create_max), (12, -13));
}

/// Surface 1.4 "Range encoding".
#[test]
fn range_end_has_three_forms() {
    let end = |range_end: &'static str| {
        let sent = pb::RangeRequest { range_end: range_end.into(), ..range("k") };
        match query(Method::Range, &sent) {
            Ok(Query::Range(found)) => found.keys.end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end(""), RangeEnd::Single);
    assert_eq!(end("\0"), RangeEnd::Open);
    assert_eq!(end("a"), RangeEnd::Before("a".into()), "an empty range is no error");
}

/// Surface 2.1 EmptyKey, ValueProvided, LeaseProvided, in this order.
#[test]
fn put_checks_key_then_value_then_lease() {
    let all = pb::PutRequest {
        value: "v".into(),
        lease: 7,
        ignore_value: true,
        ignore_lease: true,
        ..Default::default()
    };
    let with_key = pb::PutRequest { key: "k".into(), ..all.clone() };
    let no_value = pb::PutRequest { value: Bytes::new(), ..with_key.clone() };
    let no_lease = pb::PutRequest { lease: 0, ..no_value.clone() };
    assert_eq!(query(Method::Put, &all), refused(Rejection::EmptyKey));
    assert_eq!(query(Method::Put, &with_key), refused(Rejection::ValueProvided));
    assert_eq!(query(Method::Put, &no_value), refused(Rejection::LeaseProvided));
    let Ok(Query::Put(found)) = query(Method::Put, &no_lease) else { panic!("it is valid") };
    assert!(found.ignore_value && found.ignore_lease && found.lease == LeaseId::NONE);
}

/// Surface 1.4 "Empty-key defence".
#[test]
fn empty_keys_are_refused_everywhere_but_in_a_watch() {
    assert_eq!(query(Method::DeleteRange, &delete("", "z")), refused(Rejection::EmptyKey));
    let compare = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    assert_eq!(query(Method::Txn, &compare), refused(Rejection::EmptyKey));
    for op in [op(Request::RequestRange(range(""))), put_op(""), delete_op("", "z")] {
        assert_eq!(query(Method::Txn, &txn(vec![op])), refused(Rejection::EmptyKey));
    }
}

/// Surface 1.5 "Request bytes": the replicated form counts, which is 18 bytes longer.
#[test]
fn size_is_checked_last_and_only_of_what_is_replicated() {
    let limits = WireLimits { request_bytes_max: 1000, ..WireLimits::default() };
    let of = |method, message: Bytes| decode_query(method, &message, &limits);
    let put_of = |len: usize| {
        let put = pb::PutRequest { key: "k".into(), value: vec![0; len].into(), ..put("") };
        bytes(&put)
    };
    assert_eq!(put_of(976).len(), 982);
    assert!(of(Method::Put, put_of(976)).is_ok());
    assert_eq!(of(Method::Put, put_of(977)), refused(Rejection::RequestTooLarge));
    let no_key = pb::PutRequest { value: vec![0; 2000].into(), ..Default::default() };
    assert_eq!(of(Method::Put, bytes(&no_key)), refused(Rejection::EmptyKey));

    let key = Bytes::from(vec![b'k'; 2000]);
    let big = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let read_only = txn(vec![op(Request::RequestRange(big.clone()))]);
    let write = txn(vec![op(Request::RequestRange(big.clone())), put_op("a")]);
    let delete = pb::DeleteRangeRequest { key, ..Default::default() };
    assert!(of(Method::Range, bytes(&big)).is_ok());
    assert!(of(Method::Txn, bytes(&read_only)).is_ok());
    assert_eq!(of(Method::Txn, bytes(&write)), refused(Rejection::RequestTooLarge));
    assert_eq!(of(Method::DeleteRange, bytes(&delete)), refused(Rejection::RequestTooLarge));
}

/// Surface 1.5 "Ops per txn", 1.9 row 1: the longest of the three lists counts, and shrinks what is left
/// to the transactions nested in it.
#[test]
fn operations_are_budgeted_per_level() {
    let limits = WireLimits { txn_ops_max: 3, ..WireLimits::default() };
    let of = |txn: pb::TxnRequest| decode_query(Method::Txn, &bytes(&txn), &limits).map(drop);
    let ranges = |n: usize| vec![op(Request::RequestRange(range("k"))); n];
    let compares = |n: usize| vec![pb::Compare { key: "k".into(), ..Default::default() }; n];
    assert_eq!(of(txn(ranges(3))), Ok(()));
    assert_eq!(of(txn(ranges(4))), refused(Rejection::TooManyOps));
    let lists =
        |c, s, f| pb::TxnRequest { compare: compares(c), success: ranges(s), failure: ranges(f) };
    assert_eq!(of(lists(3, 3, 3)), Ok(()), "the lists are not added up");
    assert_eq!(of(lists(4, 0, 0)), refused(Rejection::TooManyOps));
    assert_eq!(of(lists(0, 0, 4)), refused(Rejection::TooManyOps));
    assert_eq!(of(txn(vec![txn_op(ranges(2), vec![])])), Ok(()));
    assert_eq!(of(txn(vec![txn_op(ranges(3), vec![])])), refused(Rejection::TooManyOps));
    let wide = pb::TxnRequest { compare: compares(2), ..txn(vec![txn_op(ranges(2), vec![])]) };
    assert_eq!(of(wide), refused(Rejection::TooManyOps), "the compares use the budget up too");
    let empty_at_the_bottom =
        txn(vec![txn_op(vec![txn_op(vec![txn_op(vec![], vec![])], vec![])], vec![])]);
    assert_eq!(of(empty_at_the_bottom), Ok(()));
}

/// Nesting has a bound of its own, whatever `--max-txn-ops` is raised to.
#[test]
fn nesting_is_bounded() {
    let limits = WireLimits { txn_ops_max: 1_000_000, ..WireLimits::default() };
    let nested = |levels: usize| {
        let innermost = txn(vec![put_op("k")]);
        (1..levels).fold(innermost, |inner, _| txn(vec![op(Request::RequestTxn(inner))]))
    };
    let of = |levels| decode_query(Method::Txn, &bytes(&nested(levels)), &limits).map(drop);
    assert_eq!(of(160), Ok(()));
    assert_eq!(of(161), refused(Rejection::TooManyOps));
    assert_eq!(of(400), refused(Rejection::TooManyOps));
}

/// Surface 1.9 rows 1 and 2: which error wins.
#[test]
fn txn_errors_have_an_order() {
    let empty = pb::RequestOp { request: None };
    let of = |success: Vec<_>, failure: Vec<_>| {
        let txn = pb::TxnRequest { success, failure, ..Default::default() };
        query(Method::Txn, &txn).map(drop)
    };
    let value_provided = op(Request::RequestPut(pb::PutRequest {
        ignore_value: true,
        value: "v".into(),
        ..put("k")
    }));
    let too_many = vec![put_op(""); 129];
    assert_eq!(of(too_many.clone(), vec![empty.clone()]), refused(Rejection::TooManyOps));
    assert_eq!(of(vec![empty.clone()], too_many), refused(Rejection::TooManyOps));
    assert_eq!(of(vec![empty.clone()], vec![put_op("")]), refused(Rejection::KeyNotFound));
    assert_eq!(of(vec![put_op("")], vec![empty.clone()]), refused(Rejection::EmptyKey));
    let duplicate = vec![put_op("a"), put_op("a")];
    assert_eq!(of(duplicate.clone(), vec![value_provided]), refused(Rejection::ValueProvided));
    assert_eq!(of(duplicate.clone(), vec![]), refused(Rejection::DuplicateKey));
    assert_eq!(of(vec![], duplicate), refused(Rejection::DuplicateKey));
}

/// Surface 1.9 rows 3 and 4.
#[test]
fn writes_of_one_branch_must_not_overlap() {
    let clash = |ops: Vec<pb::RequestOp>| query(Method::Txn, &txn(ops)).is_err();
    let child = |op: pb::RequestOp| txn_op(vec![op], vec![]);
    let other = |op: pb::RequestOp| txn_op(vec![], vec![op]);
    let rows = [
        (true, vec![put_op("a"), put_op("a")]),
        (false, vec![put_op("a"), put_op("b")]),
        (true, vec![put_op("b"), delete_op("a", "c")]),
        (true, vec![delete_op("a", "c"), put_op("b")]),
        (false, vec![put_op("c"), delete_op("a", "c")]),
        (true, vec![delete_op("a", ""), put_op("a")]),
        (false, vec![delete_op("a", ""), put_op("a\0")]),
        (true, vec![delete_op("a", "\0"), put_op("z")]),
        (false, vec![delete_op("b", "a"), put_op("b")]),
        (false, vec![delete_op("a", "z"), delete_op("b", "c"), delete_op("b", "")]),
        (true, vec![put_op("a"), child(put_op("a"))]),
        (true, vec![child(put_op("a")), child(put_op("a"))]),
        (true, vec![child(put_op("a")), other(put_op("a"))]),
        (false, vec![txn_op(vec![put_op("a")], vec![put_op("a")])]),
        (false, vec![txn_op(vec![put_op("a")], vec![delete_op("a", "b")])]),
        (true, vec![child(put_op("b")), delete_op("a", "c")]),
        (true, vec![child(delete_op("a", "c")), child(put_op("b"))]),
        (true, vec![child(delete_op("a", "c")), put_op("b")]),
        (true, vec![child(child(put_op("a"))), other(child(put_op("a")))]),
        (false, vec![put_op("a"), op(Request::RequestRange(range("a")))]),
    ];
    for (expected, ops) in rows {
        assert_eq!(clash(ops.clone()), expected, "{ops:#?}");
    }
    let apart = pb::TxnRequest { failure: vec![put_op("a")], ..txn(vec![put_op("a")]) };
    assert!(query(Method::Txn, &apart).is_ok(), "the two branches exclude each other");
}

/// Surface 1.6, Compare: unknown numbers are kept as unknown, a mismatching union member is zero.
#[test]
fn compares_arrive() {
    let of = |compare: pb::Compare| {
        let compare = pb::Compare { key: "k".into(), ..compare };
        let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
        match query(Method::Txn, &txn) {
            Ok(Query::Txn(Txn { mut compares, .. })) => compares.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let rows = [
        (0, TargetUnion::Version(5), CompareTarget::Version(5)),
        (1, TargetUnion::CreateRevision(-5), CompareTarget::Create(-5)),
        (2, TargetUnion::ModRevision(5), CompareTarget::Mod(5)),
        (3, TargetUnion::Value("v".into()), CompareTarget::Value("v".into())),
        (4, TargetUnion::Lease(5), CompareTarget::Lease(5)),
        (5, TargetUnion::Lease(5), CompareTarget::Unknown),
        (-1, TargetUnion::Lease(5), CompareTarget::Unknown),
        (0, TargetUnion::ModRevision(5), CompareTarget::Version(0)),
        (3, TargetUnion::Version(5), CompareTarget::Value(Bytes::new())),
    ];
    for (target, union, expected) in rows {
        let found = of(pb::Compare { target, target_union: Some(union), ..Default::default() });
        assert_eq!(found.target, expected);
    }
    let results = [
        (0, CompareResult::Equal),
        (1, CompareResult::Greater),
        (2, CompareResult::Less),
        (3, CompareResult::NotEqual),
        (4, CompareResult::Unknown),
    ];
    for (result, expected) in results {
        let found = of(pb::Compare { result, range_end: "z".into(), ..Default::default() });
        assert_eq!(found.result, expected);
        assert_eq!(found.keys.end, RangeEnd::Before("z".into()));
    }
}

/// Surface 1.6, LeaseGrantRequest, and 1.5 "Lease TTL max".
#[test]
fn lease_requests_arrive() {
    let grant = |ttl, id| query(Method::LeaseGrant, &pb::LeaseGrantRequest { ttl, id });
    // Too large a TTL is refused in the log, behind alarms and identity.
    let large = Query::LeaseGrant { id: LeaseId(0), ttl: 9_000_000_001 };
    assert_eq!(grant(9_000_000_001, 0), Ok(large));
    let granted = Query::LeaseGrant { id: LeaseId(-7), ttl: 9_000_000_000 };
    assert_eq!(grant(9_000_000_000, -7), Ok(granted));
    assert_eq!(grant(-1, 0), Ok(Query::LeaseGrant { id: LeaseId(0), ttl: -1 }));
    let id = LeaseId(i64::MIN);
    let of = |method, message: &dyn Fn() -> Bytes| {
        decode_query(method, &message(), &WireLimits::default())
    };
    let revoke = || bytes(&pb::LeaseRevokeRequest { id: id.0 });
    let renew = || bytes(&pb::LeaseKeepAliveRequest { id: id.0 });
    let look = || bytes(&pb::LeaseTimeToLiveRequest { id: id.0, keys: true });
    assert_eq!(of(Method::LeaseRevoke, &revoke), Ok(Query::LeaseRevoke { id }));
    assert_eq!(of(Method::LeaseKeepAlive, &renew), Ok(Query::LeaseKeepAlive { id }));
    assert_eq!(of(Method::LeaseTimeToLive, &look), Ok(Query::LeaseTimeToLive { id, keys: true }));
    assert_eq!(of(Method::LeaseLeases, &Bytes::new), Ok(Query::LeaseLeases));
}

/// Surface 1.3: the requests of Compact, MemberList, Status and Alarm.
#[test]
fn the_other_requests_arrive() {
    let compact = pb::CompactionRequest { revision: -4, physical: true };
    let compacted = Query::Compact { revision: -4, physical: true };
    assert_eq!(query(Method::Compact, &compact), Ok(compacted));
    let list = pb::MemberListRequest { linearizable: true };
    assert_eq!(query(Method::MemberList, &list), Ok(Query::MemberList { linearizable: true }));
    assert_eq!(query(Method::Status, &pb::StatusRequest {}), Ok(Query::Status));
}

/// Surface 1.7, 8.3: what is asked of alarms; kinds that do not exist are no mistake.
#[test]
fn alarms_arrive() {
    let ask = |action, alarm| {
        let alarm = pb::AlarmRequest { action, member_id: 7, alarm };
        query(Method::Alarm, &alarm).map_err(|status| (status.code, status.message))
    };
    let (member, kind, automatic) = (MemberId(7), AlarmKind::Corrupt, false);
    assert_eq!(ask(0, 0), Ok(Query::AlarmList));
    assert_eq!(ask(0, 2), Ok(Query::Alarm(AlarmOp::List(kind))));
    assert_eq!(ask(1, 2), Ok(Query::Alarm(AlarmOp::Raise { member, kind, automatic })));
    assert_eq!(ask(2, 2), Ok(Query::Alarm(AlarmOp::Clear { member, kind })));
    for (action, alarm) in [(0, 3), (1, 0), (1, -1), (2, 0), (2, 9)] {
        assert_eq!(ask(action, alarm), Ok(Query::Alarm(AlarmOp::Nothing)));
    }
    let unknown = (Code::Unknown, "etcdserver: unknown method".to_owned());
    assert_eq!(ask(3, 1), Err(unknown));
}

/// Surface 1.6: the requests of hashes and of a hand-over.
#[test]
fn maintenance_requests_arrive() {
    let hash = pb::HashKvRequest { revision: -2 };
    assert_eq!(query(Method::HashKv, &hash), Ok(Query::HashKv { revision: -2 }));
    assert_eq!(query(Method::Hash, &pb::HashRequest {}), Ok(Query::Hash));
    assert_eq!(query(Method::Defragment, &pb::DefragmentRequest {}), Ok(Query::Defragment));
    let hand_over = pb::MoveLeaderRequest { target_id: 7 };
    let to = MemberId(7);
    assert_eq!(query(Method::MoveLeader, &hand_over), Ok(Query::MoveLeader { to }));
}

/// Surface 1.10 rows 5 and 26, WatchCreateRequest.key and filters.
#[test]
fn watch_requests_arrive() {
    let of = |union: Option<RequestUnion>| {
        decode_watch(&bytes(&pb::WatchRequest { request_union: union }))
    };
    let sent = pb::WatchCreateRequest {
        range_end: "\0".into(),
        start_revision: -3,
        filters: vec![1, 7],
        watch_id: 4,
        progress_notify: true,
        ..Default::default()
    };
    let create = WatchCreate {
        id: 4,
        keys: KeyRange { start: "\0".into(), end: RangeEnd::Open },
        start: -3,
        progress_notify: true,
        no_put: false,
        no_delete: true,
        prev_kv: false,
        fragment: false,
    };
    let created = Ok(Some(WatchRequest::Create(create)));
    assert_eq!(of(Some(RequestUnion::CreateRequest(sent))), created);
    let cancel = pb::WatchCancelRequest { watch_id: 9 };
    let cancelled = Ok(Some(WatchRequest::Cancel { id: 9 }));
    assert_eq!(of(Some(RequestUnion::CancelRequest(cancel))), cancelled);
    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    assert_eq!(of(Some(progress)), Ok(Some(WatchRequest::Progress)));
    assert_eq!(of(None), Ok(None));
    assert_eq!(decode_watch(&Bytes::from_static(b"\x22\x00")), Ok(None), "a kind of the future");
}

/// Surface 1.1, the health service.
#[test]
fn health_knows_only_the_whole_server() {
    let sent = health::HealthCheckRequest { service: "etcd".into() };
    assert_eq!(decode_health_check(&bytes(&sent)), Ok("etcd".into()));
    assert_eq!(unknown_health_service().code, Code::NotFound);
}

/// grpc-go's answers to bytes that are no message.
#[test]
fn garbage_is_an_internal_error() {
    let garbage = Bytes::from_static(b"\x0a\x05k");
    let text = |status: GrpcStatus| (status.code, status.message);
    let unary = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
    for method in [Method::Range, Method::Put, Method::DeleteRange, Method::Txn, Method::Compact] {
        let status = decode_query(method, &garbage, &WireLimits::default()).expect_err("garbage");
        assert_eq!(text(status), (Code::Internal, unary.into()));
    }
    let stream = "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data";
    let renewal = decode_query(Method::LeaseKeepAlive, &garbage, &WireLimits::default());
    assert_eq!(text(renewal.expect_err("garbage")), (Code::Internal, stream.into()));
    let watch = decode_watch(&garbage);
    assert_eq!(text(watch.expect_err("garbage")), (Code::Internal, stream.into()));
}

const BAD_ARGUMENTS: &[Rejection] = &[
    Rejection::EmptyKey,
    Rejection::KeyNotFound,
    Rejection::ValueProvided,
    Rejection::LeaseProvided,
    Rejection::TooManyOps,
    Rejection::DuplicateKey,
    Rejection::InvalidSortOption,
    Rejection::InvalidClientApiVersion,
    Rejection::RequestTooLarge,
    Rejection::UserEmpty,
    Rejection::RoleEmpty,
    Rejection::AuthFailed,
    Rejection::PermissionNotGiven,
    Rejection::InvalidAuthMgmt,
    Rejection::AuthOldRevision,
    Rejection::MemberBadUrls,
    Rejection::WrongDowngradeVersionFormat,
    Rejection::InvalidDowngradeTargetVersion,
];

const BAD_STATES: &[Rejection] = &[
    Rejection::LeaseExists,
    Rejection::AuthNotEnabled,
    Rejection::RootUserNotExist,
    Rejection::RootRoleNotExist,
    Rejection::UserAlreadyExists,
    Rejection::UserNotFound,
    Rejection::RoleAlreadyExists,
    Rejection::RoleNotFound,
    Rejection::RoleNotGranted,
    Rejection::PermissionNotGranted,
    Rejection::NotLeader,
    Rejection::BadLeaderTransferee,
    Rejection::NotCapable,
    Rejection::MemberExists,
    Rejection::PeerUrlExists,
    Rejection::MemberNotLearner,
    Rejection::LearnerNotReady,
    Rejection::TooManyLearners,
    Rejection::ClusterVersionUnavailable,
    Rejection::DowngradeUnsupported,
    Rejection::NotSupportedForLearner,
];

const UNAVAILABLE: &[Rejection] = &[
    Rejection::NoLeader,
    Rejection::LeaderChanged,
    Rejection::Stopped,
    Rejection::Unhealthy,
    Rejection::Timeout,
    Rejection::TimeoutLeaderFail,
    Rejection::TimeoutConnectionLost,
    Rejection::TimeoutWaitAppliedIndex,
];

/// Surface 2.1 and 2.2: every refusal's code, the odd ones included.
#[test]
fn codes_are_etcds() {
    use Rejection::*;
    let codes: &[(Code, &[Rejection])] = &[
        (Code::InvalidArgument, BAD_ARGUMENTS),
        (Code::OutOfRange, &[Compacted, FutureRevision, LeaseTtlTooLarge]),
        (Code::ResourceExhausted, &[NoSpace, NoAnswerMemory]),
        (Code::NotFound, &[LeaseNotFound, MemberNotFound]),
        (Code::FailedPrecondition, BAD_STATES),
        (Code::PermissionDenied, &[PermissionDenied]),
        (Code::Unauthenticated, &[InvalidAuthToken]),
        (Code::Unavailable, UNAVAILABLE),
        (Code::DataLoss, &[Corrupt]),
        (Code::Canceled, &[WatchCanceled]),
        (
            Code::Unknown,
            &[
                TimeoutLeaderTransfer,
                TooManyRequests,
                NotPrimaryLessor,
                NotEnoughStarted,
                NoPasswordUser,
                VerifyOnly,
                PasswordTooLong,
            ],
        ),
    ];
    let mut seen = Vec::new();
    for (code, rejections) in codes {
        for &rejection in *rejections {
            let status = status_of(rejection);
            assert_eq!((status.code, status.message), (*code, rejection.text().into()));
            seen.push(rejection);
        }
    }
    seen.sort();
    assert_eq!(seen, Rejection::ALL, "every refusal has its row");
}

/// Bytes that are nearly a transaction reach deeper than random ones.
fn nearly_a_txn() -> impl Strategy<Value = Vec<u8>> {
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare { key: "k".into(), target: 3, ..Default::default() }],
        success: vec![txn_op(vec![put_op("a"), delete_op("b", "c")], vec![put_op("d")])],
        failure: vec![op(Request::RequestRange(range("r")))],
    };
    let len = txn.encoded_len();
    proptest::collection::vec((0..len, any::<u8>()), 0..4).prop_map(move |changes| {
        let mut bytes = txn.encode_to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        fuzz_wire(&bytes);
    }

    #[test]
    fn damaged_messages_are_answered(bytes in nearly_a_txn()) {
        fuzz_wire(&bytes);
    }
}
