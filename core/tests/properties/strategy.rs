//! Random requests over few keys, values, leases and revisions, so that they meet.

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::audit::Audit;
use holdfast_core::auth::{AuthOp, Permission, PermissionType, Secret};
use holdfast_core::command::Command;
use holdfast_core::id::{Incarnation, Index, LeaseId, MemberId, RequestId, Revision};
use holdfast_core::membership::{MemberChange, Started, Version};
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Identity, KeyRange, LeaseNote, Op, Put,
    Range, RangeEnd, SortOrder, SortTarget, Txn, TxnOp,
};
use holdfast_core::response::AlarmKind;
use proptest::collection::vec;
use proptest::prelude::*;

/// What happens between two publications, and afterwards.
#[derive(Clone, Debug)]
pub struct Turn {
    pub ops: Vec<Op>,
    /// Slices of physical compaction after the publication.
    pub slices: usize,
    /// Drop dead records, and start again from the store.
    pub reclaim: bool,
    pub reads: Vec<Range>,
    pub read_txn: Txn,
}

pub fn turn() -> impl Strategy<Value = Turn> {
    let reads = (vec(range(), 3), read_only_txn());
    (vec(op(), 1..8), 0..5usize, any::<bool>(), reads).prop_map(
        |(ops, slices, reclaim, (reads, read_txn))| Turn { ops, slices, reclaim, reads, read_txn },
    )
}

pub fn op() -> impl Strategy<Value = Op> {
    let lease = || (0..3i64).prop_map(LeaseId);
    prop_oneof![
        6 => put().prop_map(Op::Put),
        3 => delete().prop_map(Op::DeleteRange),
        5 => txn().prop_map(Op::Txn),
        3 => (-1..30i64).prop_map(|revision| Op::Compact { revision: Revision(revision) }),
        3 => (lease(), 1..100i64).prop_map(|(id, ttl)| Op::LeaseGrant { id, ttl }),
        2 => lease().prop_map(|id| Op::LeaseRevoke { id }),
    ]
}

pub fn range() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        2 => Just(SortOrder::None),
        1 => Just(SortOrder::Ascend),
        1 => Just(SortOrder::Descend),
    ];
    let target = prop_oneof![
        3 => Just(SortTarget::Key),
        1 => Just(SortTarget::Version),
        1 => Just(SortTarget::Create),
        1 => Just(SortTarget::Mod),
        1 => Just(SortTarget::Value),
    ];
    let filter = || prop_oneof![5 => Just(0), 1 => -1..20i64];
    let filters = (filter(), filter(), filter(), filter());
    let revision = prop_oneof![2 => Just(0), 1 => -2..25i64];
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (keys(), -1..5i64, revision, (order, target), flags, filters).prop_map(
        |(keys, limit, revision, (order, target), flags, filters)| {
            let (serializable, keys_only, count_only) = flags;
            let (mod_min, mod_max, create_min, create_max) = filters;
            let plain = Range { limit, revision, order, target, ..Range::of(keys) };
            let shaped = Range { serializable, keys_only, count_only, ..plain };
            Range { mod_min, mod_max, create_min, create_max, ..shaped }
        },
    )
}

/// What stands in ordinary entries about members.
fn told() -> impl Strategy<Value = Op> {
    (any::<u64>(), any::<u64>(), any::<(u8, u8)>()).prop_map(|(id, birth, (major, minor))| {
        let version = Version { major, minor };
        match birth % 2 {
            0 => Op::ClusterVersion(version),
            _ => Op::Started { member: MemberId(id), started: Started { birth, version } },
        }
    })
}

/// Any change of members, for the codec.
pub fn change() -> impl Strategy<Value = MemberChange> {
    let urls = vec(".{0,8}", 0..3);
    (0..5, any::<u64>().prop_map(MemberId), urls, any::<bool>(), any::<u64>()).prop_map(
        |(kind, id, peer_urls, is_learner, learners_max)| match kind {
            0 => MemberChange::Add { id, peer_urls, is_learner, learners_max },
            1 => MemberChange::Promote { id },
            2 => MemberChange::Update { id, peer_urls },
            3 => MemberChange::Remove { id },
            _ => MemberChange::ForceNew { id },
        },
    )
}

/// Any bytes, any lengths, for the codec.
pub fn command() -> impl Strategy<Value = Command> {
    let id = (any::<u64>(), any::<u64>(), any::<u64>());
    let identity = (vec(any::<u8>(), 0..5), any::<u64>());
    let publish = (any::<u64>(), ".{0,8}", vec(".{0,8}", 0..3)).prop_map(|(member, name, urls)| {
        Op::Publish { member: MemberId(member), name, client_urls: urls }
    });
    let wild = (vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..300), any::<i64>()).prop_map(
        |(key, value, lease)| {
            Op::Put(Put {
                key: key.into(),
                value: value.into(),
                lease: LeaseId(lease),
                prev_kv: lease % 2 == 0,
                ignore_value: lease % 3 == 0,
                ignore_lease: lease % 5 == 0,
            })
        },
    );
    let compact = any::<i64>().prop_map(|revision| Op::Compact { revision: Revision(revision) });
    let kind = prop_oneof![Just(AlarmKind::NoSpace), Just(AlarmKind::Corrupt)];
    let alarm = (any::<u64>(), kind, 0..5_u8).prop_map(|(member, kind, which)| {
        let member = MemberId(member);
        Op::Alarm(match which {
            0 => AlarmOp::Nothing,
            1 => AlarmOp::List(kind),
            2 => AlarmOp::Clear { member, kind },
            automatic => AlarmOp::Raise { member, kind, automatic: automatic == 3 },
        })
    });
    let audit = (any::<u64>(), vec(any::<u32>(), 0..4))
        .prop_map(|(from, digests)| Op::Audit(Audit { from: Index(from), digests }));
    let note = (any::<i64>(), any::<u64>(), any::<i64>()).prop_map(|(id, granted, left)| {
        LeaseNote { id: LeaseId(id), granted: Index(granted), left }
    });
    let notes = vec(note, 0..4).prop_map(Op::LeaseCheckpoint);
    let lists = prop_oneof![audit, notes];
    let small = prop_oneof![publish, compact, Just(Op::AlarmList), alarm, lists, auth(), told()];
    let op = prop_oneof![6 => op(), 7 => small, 2 => wild];
    (id, identity, op).prop_map(|((member, incarnation, sequence), (user, auth_revision), op)| {
        let (member, incarnation) = (MemberId(member), Incarnation(incarnation));
        let identity = Identity { user: user.into(), auth_revision };
        Command { id: RequestId { member, incarnation, sequence }, identity, op }
    })
}

fn auth() -> impl Strategy<Value = Op> {
    let some = || ".{0,8}".prop_map(String::from);
    let bytes = || vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let secret = move || bytes().prop_map(Secret);
    let permission = (bytes(), bytes(), any::<i32>()).prop_map(|(key, range_end, kind)| {
        Permission { key, range_end, kind: PermissionType(kind) }
    });
    let op = prop_oneof![
        Just(AuthOp::Enable),
        Just(AuthOp::Disable),
        Just(AuthOp::Status),
        Just(AuthOp::UserList),
        Just(AuthOp::RoleList),
        some().prop_map(|name| AuthOp::UserGet { name }),
        some().prop_map(|name| AuthOp::UserDelete { name }),
        some().prop_map(|name| AuthOp::RoleAdd { name }),
        some().prop_map(|name| AuthOp::RoleGet { name }),
        some().prop_map(|name| AuthOp::RoleDelete { name }),
        (some(), some()).prop_map(|(user, role)| AuthOp::UserGrantRole { user, role }),
        (some(), some()).prop_map(|(user, role)| AuthOp::UserRevokeRole { user, role }),
        (some(), secret(), any::<bool>()).prop_map(|(name, password, no_password)| {
            AuthOp::UserAdd { name, password, no_password }
        }),
        (some(), proptest::option::of(secret()))
            .prop_map(|(name, password)| AuthOp::UserChangePassword { name, password }),
        (some(), secret(), any::<u64>())
            .prop_map(|(user, token, checked)| { AuthOp::Authenticate { user, token, checked } }),
        (some(), proptest::option::of(permission))
            .prop_map(|(role, permission)| AuthOp::RoleGrantPermission { role, permission }),
        (some(), bytes(), bytes()).prop_map(|(role, key, range_end)| {
            AuthOp::RoleRevokePermission { role, key, range_end }
        }),
    ];
    op.prop_map(Op::Auth)
}

fn key() -> impl Strategy<Value = Bytes> {
    (0..5u8).prop_map(|key| Bytes::copy_from_slice(&[b'a' + key]))
}

fn keys() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        2 => Just(RangeEnd::Single),
        3 => key().prop_map(RangeEnd::Before),
        2 => Just(RangeEnd::Open),
    ];
    (key(), end).prop_map(|(start, end)| KeyRange { start, end })
}

fn value() -> impl Strategy<Value = Bytes> {
    (0..4u8).prop_map(|value| Bytes::copy_from_slice(&[b'0' + value]))
}

fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![1 => Just(0), 1 => 0..3i64];
    let ignore = || prop::bool::weighted(0.2);
    (key(), value(), lease, any::<bool>(), ignore(), ignore()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: LeaseId(if ignore_lease { 0 } else { lease }),
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..3i64).prop_map(CompareTarget::Version),
        (0..9i64).prop_map(CompareTarget::Create),
        (0..9i64).prop_map(CompareTarget::Mod),
        (0..3i64).prop_map(CompareTarget::Lease),
        value().prop_map(CompareTarget::Value),
        Just(CompareTarget::Unknown),
    ];
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual),
        Just(CompareResult::Unknown),
    ];
    (keys(), result, target).prop_map(|(keys, result, target)| Compare { keys, result, target })
}

/// Also what the wire would refuse: one key written twice, or written and deleted.
fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        range().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange),
    ];
    let op =
        leaf.prop_recursive(3, 12, 3, |op| txn_of(op).prop_map(|txn| TxnOp::Txn(Box::new(txn))));
    txn_of(op.boxed())
}

fn txn_of(op: BoxedStrategy<TxnOp>) -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..2), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
}

fn read_only_txn() -> impl Strategy<Value = Txn> {
    txn_of(range().prop_map(TxnOp::Range).boxed())
}
