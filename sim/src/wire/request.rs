//! Queries and watch requests to messages, and what calls them.
//!
//! Behind each message stands the number of its request in the run, in a field that etcd's messages do
//! not have: a server must skip it, and the tap in front of the services finds there whose request it
//! is. Leaves out answers ([`super::answer`]).
//!
//! Worked example: a put of `a` and `b` is `0a 01 61 12 01 62`, for `/etcdserverpb.KV/Put`.

use holdfast_core::alarm::AlarmOp;
use holdfast_core::membership::MemberChange;
use holdfast_core::query::Query;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put, Range, RangeEnd, SortOrder,
    SortTarget, Txn, TxnOp,
};
use holdfast_core::watch::{WatchCreate, WatchRequest};

use super::protobuf::{Value, Writer, fields};
use crate::history::OpId;

/// The field that etcd's messages do not have.
const TAG: u32 = 9_999;

/// The path of the method that answers a query.
pub fn path(query: &Query) -> &'static str {
    match query {
        Query::Range(_) => "/etcdserverpb.KV/Range",
        Query::Put(_) => "/etcdserverpb.KV/Put",
        Query::DeleteRange(_) => "/etcdserverpb.KV/DeleteRange",
        Query::Txn(_) => "/etcdserverpb.KV/Txn",
        Query::Compact { .. } => "/etcdserverpb.KV/Compact",
        Query::LeaseGrant { .. } => "/etcdserverpb.Lease/LeaseGrant",
        Query::LeaseRevoke { .. } => "/etcdserverpb.Lease/LeaseRevoke",
        Query::LeaseKeepAlive { .. } => "/etcdserverpb.Lease/LeaseKeepAlive",
        Query::LeaseTimeToLive { .. } => "/etcdserverpb.Lease/LeaseTimeToLive",
        Query::LeaseLeases => "/etcdserverpb.Lease/LeaseLeases",
        Query::MemberList { .. } => "/etcdserverpb.Cluster/MemberList",
        Query::Status => "/etcdserverpb.Maintenance/Status",
        Query::AlarmList | Query::Alarm(_) => "/etcdserverpb.Maintenance/Alarm",
        Query::Hash => "/etcdserverpb.Maintenance/Hash",
        Query::HashKv { .. } => "/etcdserverpb.Maintenance/HashKV",
        Query::Defragment => "/etcdserverpb.Maintenance/Defragment",
        Query::MoveLeader { .. } => "/etcdserverpb.Maintenance/MoveLeader",
        Query::Auth(query) => super::auth::path(query),
        Query::MemberAdd { .. } => "/etcdserverpb.Cluster/MemberAdd",
        Query::MemberChange(change) => match change {
            MemberChange::Promote { .. } => "/etcdserverpb.Cluster/MemberPromote",
            MemberChange::Update { .. } => "/etcdserverpb.Cluster/MemberUpdate",
            MemberChange::Remove { .. } => "/etcdserverpb.Cluster/MemberRemove",
            MemberChange::Add { .. } | MemberChange::ForceNew { .. } => {
                unreachable!("no client chooses an id, or gives the others up")
            }
        },
        Query::Downgrade(_) => unreachable!("no client asks for one"),
    }
}

/// The message that asks a query.
pub fn message(query: &Query, op: OpId) -> Vec<u8> {
    let mut out = match query {
        Query::Range(read) => range(read),
        Query::Put(write) => put(write),
        Query::DeleteRange(removal) => delete_range(removal),
        Query::Txn(all) => txn(all),
        Query::Auth(query) => super::auth::message(query),
        _ => Writer::default(),
    };
    match query {
        Query::Compact { revision, physical } => {
            out.int(1, *revision).flag(2, *physical);
        }
        Query::LeaseGrant { id, ttl } => {
            out.int(1, *ttl).int(2, id.0);
        }
        Query::LeaseRevoke { id } | Query::LeaseKeepAlive { id } => {
            out.int(1, id.0);
        }
        Query::LeaseTimeToLive { id, keys } => {
            out.int(1, id.0).flag(2, *keys);
        }
        Query::MemberList { linearizable } => {
            out.flag(1, *linearizable);
        }
        Query::HashKv { revision } => {
            out.int(1, *revision);
        }
        Query::MoveLeader { to } => {
            out.int(1, to.0 as i64);
        }
        Query::MemberAdd { peer_urls, is_learner } => {
            for url in peer_urls {
                out.present_bytes(1, url.as_bytes());
            }
            out.flag(2, *is_learner);
        }
        Query::MemberChange(change) => {
            out.int(1, change.id().0 as i64);
            if let MemberChange::Update { peer_urls, .. } = change {
                for url in peer_urls {
                    out.present_bytes(2, url.as_bytes());
                }
            }
        }
        Query::Alarm(op) => alarm(*op, &mut out),
        _ => {}
    }
    out.present_int(TAG, op.0 as i64);
    out.0
}

/// What is asked of alarms; `Nothing` is a listing of a kind that no alarm has.
fn alarm(op: AlarmOp, out: &mut Writer) {
    match op {
        AlarmOp::Nothing => out.int(3, 3),
        AlarmOp::List(kind) => out.int(3, kind as i64),
        AlarmOp::Raise { member, kind, .. } => {
            out.int(1, 1).int(2, member.0 as i64).int(3, kind as i64)
        }
        AlarmOp::Clear { member, kind } => {
            out.int(1, 2).int(2, member.0 as i64).int(3, kind as i64)
        }
    };
}

/// The number of the request that a message was made of.
pub fn op_of(message: &[u8]) -> Option<OpId> {
    let mut op = None;
    let read = fields(message, |field, value| {
        if let (TAG, Value::Int(number)) = (field, value) {
            op = Some(OpId(number as usize));
        }
        Ok(())
    });
    read.ok().and(op)
}

fn keys(out: &mut Writer, keys: &KeyRange, end: u32) {
    match &keys.end {
        RangeEnd::Single => out,
        RangeEnd::Before(before) => out.bytes(end, before),
        RangeEnd::Open => out.bytes(end, b"\0"),
    };
}

fn range(range: &Range) -> Writer {
    let mut out = Writer::default();
    out.bytes(1, &range.keys.start);
    keys(&mut out, &range.keys, 2);
    let order = match range.order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    };
    let target = match range.target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    };
    out.int(3, range.limit).int(4, range.revision).int(5, order).int(6, target);
    out.flag(7, range.serializable).flag(8, range.keys_only).flag(9, range.count_only);
    out.int(10, range.mod_min).int(11, range.mod_max);
    out.int(12, range.create_min).int(13, range.create_max);
    out
}

fn put(put: &Put) -> Writer {
    let mut out = Writer::default();
    out.bytes(1, &put.key).bytes(2, &put.value).int(3, put.lease.0);
    out.flag(4, put.prev_kv).flag(5, put.ignore_value).flag(6, put.ignore_lease);
    out
}

fn delete_range(delete: &DeleteRange) -> Writer {
    let mut out = Writer::default();
    out.bytes(1, &delete.keys.start);
    keys(&mut out, &delete.keys, 2);
    out.flag(3, delete.prev_kv);
    out
}

fn txn(txn: &Txn) -> Writer {
    let mut out = Writer::default();
    for one in &txn.compares {
        out.present_bytes(1, &compare(one).0);
    }
    for (field, branch) in [(2, &txn.success), (3, &txn.failure)] {
        for op in branch {
            let (kind, message) = match op {
                TxnOp::Range(read) => (1, range(read)),
                TxnOp::Put(write) => (2, put(write)),
                TxnOp::DeleteRange(removal) => (3, delete_range(removal)),
                TxnOp::Txn(nested) => (4, self::txn(nested)),
            };
            let mut wrapped = Writer::default();
            wrapped.present_bytes(kind, &message.0);
            out.present_bytes(field, &wrapped.0);
        }
    }
    out
}

fn compare(compare: &Compare) -> Writer {
    let mut out = Writer::default();
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
        CompareResult::Unknown => 99,
    };
    let target = match compare.target {
        CompareTarget::Version(_) => 0,
        CompareTarget::Create(_) => 1,
        CompareTarget::Mod(_) => 2,
        CompareTarget::Value(_) => 3,
        CompareTarget::Lease(_) => 4,
        CompareTarget::Unknown => 99,
    };
    out.int(1, result).int(2, target).bytes(3, &compare.keys.start);
    match &compare.target {
        CompareTarget::Version(number) => out.present_int(4, *number),
        CompareTarget::Create(number) => out.present_int(5, *number),
        CompareTarget::Mod(number) => out.present_int(6, *number),
        CompareTarget::Value(value) => out.present_bytes(7, value),
        CompareTarget::Lease(number) => out.present_int(8, *number),
        CompareTarget::Unknown => &mut out,
    };
    keys(&mut out, &compare.keys, 64);
    out
}

/// A message of a watch stream's client.
pub fn watch(request: &WatchRequest) -> Vec<u8> {
    let mut out = Writer::default();
    match request {
        WatchRequest::Create(create) => out.present_bytes(1, &watch_create(create).0),
        WatchRequest::Cancel { id } => {
            let mut cancel = Writer::default();
            cancel.int(1, *id);
            out.present_bytes(2, &cancel.0)
        }
        WatchRequest::Progress => out.present_bytes(3, b""),
    };
    out.0
}

fn watch_create(create: &WatchCreate) -> Writer {
    let mut out = Writer::default();
    out.bytes(1, &create.keys.start);
    keys(&mut out, &create.keys, 2);
    out.int(3, create.start).flag(4, create.progress_notify);
    // Packed, as proto3 does it.
    let filters = [(create.no_put, 0), (create.no_delete, 1)];
    let filters: Vec<u8> = filters.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind).collect();
    out.bytes(5, &filters).flag(6, create.prev_kv).int(7, create.id).flag(8, create.fragment);
    out
}
