//! Answers as JSON, field by field as etcdctl's structures marshal.
//!
//! Leaves out the plain form (print.rs). Laws: 1. zero fields of protobuf messages are left out, those
//! of the client's own structures are not; 2. lease answers but `revoke` carry the header's fields
//! flat; 3. `--hex` touches member lists only.
//!
//! Worked example: `put a 1` answers
//! `{"header":{"cluster_id":7,"member_id":8,"revision":2,"raft_term":2}}`.

use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::mvccpb::{Event, KeyValue};

use super::cluster::{Health, Status};
use super::json::{Json, Object};
use super::maintenance::Hash;

/// A header's fields.
pub fn header(header: &pb::ResponseHeader) -> Object {
    Object::default()
        .opt("cluster_id", header.cluster_id)
        .opt("member_id", header.member_id)
        .opt("revision", header.revision)
        .opt("raft_term", header.raft_term)
}

/// The header alone, as the beginning of an answer.
pub fn headed(of: Option<&pb::ResponseHeader>) -> Object {
    Object::default().maybe("header", of.map(header))
}

fn flat(of: Option<&pb::ResponseHeader>) -> Object {
    of.map(header).unwrap_or_default()
}

fn kv(kv: &KeyValue) -> Object {
    Object::default()
        .opt("key", Json::bytes(&kv.key))
        .opt("create_revision", kv.create_revision)
        .opt("mod_revision", kv.mod_revision)
        .opt("version", kv.version)
        .opt("value", Json::bytes(&kv.value))
        .opt("lease", kv.lease)
}

fn kvs(kvs: &[KeyValue]) -> Json {
    Json::array(kvs, |pair| kv(pair).into())
}

/// The answer of a get.
pub fn get(answer: &pb::RangeResponse) -> Object {
    headed(answer.header.as_ref())
        .opt("kvs", kvs(&answer.kvs))
        .opt("more", answer.more)
        .opt("count", answer.count)
}

/// The answer of a put.
pub fn put(answer: &pb::PutResponse) -> Object {
    headed(answer.header.as_ref()).maybe("prev_kv", answer.prev_kv.as_ref().map(kv))
}

/// The answer of a delete.
pub fn del(answer: &pb::DeleteRangeResponse) -> Object {
    headed(answer.header.as_ref())
        .opt("deleted", answer.deleted)
        .opt("prev_kvs", kvs(&answer.prev_kvs))
}

/// The answer of a transaction.
pub fn txn(answer: &pb::TxnResponse) -> Object {
    headed(answer.header.as_ref())
        .opt("succeeded", answer.succeeded)
        .opt("responses", Json::array(&answer.responses, op))
}

fn op(answer: &pb::ResponseOp) -> Json {
    use pb::response_op::Response;
    let inner = Object::default();
    let inner = match &answer.response {
        Some(Response::ResponseRange(answer)) => inner.add("response_range", get(answer)),
        Some(Response::ResponsePut(answer)) => inner.add("response_put", put(answer)),
        Some(Response::ResponseDeleteRange(answer)) => {
            inner.add("response_delete_range", del(answer))
        }
        Some(Response::ResponseTxn(answer)) => inner.add("response_txn", txn(answer)),
        None => inner,
    };
    Object::default().add("Response", inner).into()
}

/// One answer of a watch stream. Its structure is the client's own: every field is there.
pub fn watch(answer: &pb::WatchResponse) -> Object {
    let events = match answer.events.as_slice() {
        [] => Json::Null,
        events => Json::array(events, event),
    };
    Object::default()
        .add("Header", answer.header.as_ref().map_or(Json::Null, |of| header(of).into()))
        .add("Events", events)
        .add("CompactRevision", answer.compact_revision)
        .add("Canceled", answer.canceled)
        .add("Created", answer.created)
        .add("CancelReason", answer.cancel_reason.as_str())
}

fn event(event: &Event) -> Json {
    Object::default()
        .opt("type", i64::from(event.r#type))
        .maybe("kv", event.kv.as_ref().map(kv))
        .maybe("prev_kv", event.prev_kv.as_ref().map(kv))
        .into()
}

/// A lease that was granted.
pub fn grant(answer: &pb::LeaseGrantResponse) -> Object {
    flat(answer.header.as_ref())
        .add("ID", answer.id)
        .add("TTL", answer.ttl)
        .add("Error", answer.error.as_str())
}

/// A lease that was revoked.
pub fn revoke(answer: &pb::LeaseRevokeResponse) -> Object {
    headed(answer.header.as_ref())
}

/// A lease that was renewed.
pub fn keep_alive(answer: &pb::LeaseKeepAliveResponse) -> Object {
    flat(answer.header.as_ref()).add("ID", answer.id).add("TTL", answer.ttl)
}

/// A lease's time.
pub fn time_to_live(answer: &pb::LeaseTimeToLiveResponse) -> Object {
    let keys = match answer.keys.as_slice() {
        [] => Json::Null,
        keys => Json::array(keys, |key| Json::bytes(key)),
    };
    flat(answer.header.as_ref())
        .add("id", answer.id)
        .add("ttl", answer.ttl)
        .add("granted-ttl", answer.granted_ttl)
        .add("keys", keys)
}

/// All leases.
pub fn leases(answer: &pb::LeaseLeasesResponse) -> Object {
    let leases = Json::array(&answer.leases, |lease| Object::default().add("id", lease.id).into());
    flat(answer.header.as_ref()).add("leases", leases)
}

/// The members; ids as numbers, or as hexadecimal text.
pub fn members(answer: &pb::MemberListResponse, hex: bool) -> Object {
    if hex {
        let members = Json::array(&answer.members, |of| member(of, hex_id(of.id)).into());
        let header = answer.header.as_ref().map_or(Json::Null, |of| hex_header(of).into());
        return Object::default().add("header", header).add("members", members);
    }
    headed(answer.header.as_ref())
        .opt("members", Json::array(&answer.members, |of| member(of, of.id.into()).into()))
}

/// A new member, and all of them.
pub fn member_add(answer: &pb::MemberAddResponse) -> Object {
    let all = Json::array(&answer.members, |of| member(of, of.id.into()).into());
    let new = answer.member.as_ref().map_or(Json::Null, |of| member(of, of.id.into()).into());
    headed(answer.header.as_ref()).opt("member", new).opt("members", all)
}

/// All members, after a removal, an update or a promotion.
pub fn member_change(header: Option<&pb::ResponseHeader>, members: &[pb::Member]) -> Object {
    headed(header).opt("members", Json::array(members, |of| member(of, of.id.into()).into()))
}

fn hex_id(id: u64) -> Json {
    Json::Text(format!("{id:x}"))
}

fn hex_header(header: &pb::ResponseHeader) -> Object {
    Object::default()
        .add("cluster_id", hex_id(header.cluster_id))
        .add("member_id", hex_id(header.member_id))
        .opt("revision", header.revision)
        .opt("raft_term", header.raft_term)
}

fn member(member: &pb::Member, id: Json) -> Object {
    let texts = |texts: &[String]| Json::array(texts, |text| text.as_str().into());
    Object::default()
        .opt("ID", id)
        .opt("name", member.name.as_str())
        .opt("peerURLs", texts(&member.peer_ur_ls))
        .opt("clientURLs", texts(&member.client_ur_ls))
        .opt("isLearner", member.is_learner)
}

/// How the endpoints are.
pub fn health(endpoints: &[Health]) -> Json {
    Json::array(endpoints, |of| {
        Object::default()
            .add("endpoint", of.endpoint.as_str())
            .add("health", of.healthy)
            .add("took", of.took.as_str())
            .opt("error", of.error.as_str())
            .into()
    })
}

/// What the endpoints say of themselves. Nobody answered: null, as Go's empty list.
pub fn status(endpoints: &[Status]) -> Json {
    if endpoints.is_empty() {
        return Json::Null;
    }
    Json::array(endpoints, |of| {
        Object::default()
            .add("Endpoint", of.endpoint.as_str())
            .add("Status", one_status(&of.answer))
            .into()
    })
}

/// The answer to a question about alarms.
pub fn alarms(answer: &pb::AlarmResponse) -> Object {
    let alarm = |alarm: &pb::AlarmMember| {
        Json::from(
            Object::default().opt("memberID", alarm.member_id).opt("alarm", i64::from(alarm.alarm)),
        )
    };
    headed(answer.header.as_ref()).opt("alarms", Json::array(&answer.alarms, alarm))
}

/// All endpoints' hashes.
pub fn hashes(endpoints: &[Hash]) -> Json {
    Json::array(endpoints, |of| {
        let hash = headed(of.answer.header.as_ref())
            .opt("hash", u64::from(of.answer.hash))
            .opt("compact_revision", of.answer.compact_revision)
            .opt("hash_revision", of.answer.hash_revision);
        Object::default().add("Endpoint", of.endpoint.as_str()).add("HashKV", hash).into()
    })
}

fn one_status(answer: &pb::StatusResponse) -> Object {
    let downgrade = answer.downgrade_info.as_ref().map(|info| {
        Object::default()
            .opt("enabled", info.enabled)
            .opt("targetVersion", info.target_version.as_str())
    });
    headed(answer.header.as_ref())
        .opt("version", answer.version.as_str())
        .opt("dbSize", answer.db_size)
        .opt("leader", answer.leader)
        .opt("raftIndex", answer.raft_index)
        .opt("raftTerm", answer.raft_term)
        .opt("raftAppliedIndex", answer.raft_applied_index)
        .opt("errors", Json::array(&answer.errors, |text| text.as_str().into()))
        .opt("dbSizeInUse", answer.db_size_in_use)
        .opt("isLearner", answer.is_learner)
        .opt("storageVersion", answer.storage_version.as_str())
        .opt("dbSizeQuota", answer.db_size_quota)
        .maybe("downgradeInfo", downgrade)
}
