//! Answers in the plain form: lines that scripts cut apart.
//!
//! Leaves out JSON (print_json.rs). Everything goes through one `Vec<u8>`, for keys and values are
//! bytes. Law: a key and its value are a line each, whatever they hold.
//!
//! Worked example: a put that asks for what was there prints `OK`, the key, the value before.

use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::mvccpb::KeyValue;
use holdfast_net::proto::mvccpb::event::EventType;

use super::cluster::Status;
use super::go;

/// How keys and values are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// As `\x61` instead of raw.
    pub hex: bool,
    /// Without the key.
    pub value_only: bool,
}

impl Pairs {
    fn kv(self, kv: &KeyValue, out: &mut Vec<u8>) {
        if !self.value_only {
            self.line(&kv.key, out);
        }
        self.line(&kv.value, out);
    }

    fn line(self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.hex {
            bytes.iter().for_each(|byte| text(out, &format!("\\x{byte:02x}")));
        } else {
            out.extend_from_slice(bytes);
        }
        out.push(b'\n');
    }

    /// The answer of a get.
    pub fn get(self, answer: &pb::RangeResponse, out: &mut Vec<u8>) {
        answer.kvs.iter().for_each(|kv| self.kv(kv, out));
    }

    /// The answer of a put.
    pub fn put(self, answer: &pb::PutResponse, out: &mut Vec<u8>) {
        text(out, "OK\n");
        answer.prev_kv.iter().for_each(|kv| self.kv(kv, out));
    }

    /// The answer of a delete.
    pub fn del(self, answer: &pb::DeleteRangeResponse, out: &mut Vec<u8>) {
        text(out, &format!("{}\n", answer.deleted));
        answer.prev_kvs.iter().for_each(|kv| self.kv(kv, out));
    }

    /// The answer of a transaction.
    pub fn txn(self, answer: &pb::TxnResponse, out: &mut Vec<u8>) {
        use pb::response_op::Response;
        text(out, if answer.succeeded { "SUCCESS\n" } else { "FAILURE\n" });
        for op in &answer.responses {
            out.push(b'\n');
            match &op.response {
                Some(Response::ResponseRange(answer)) => self.get(answer, out),
                Some(Response::ResponsePut(answer)) => self.put(answer, out),
                Some(Response::ResponseDeleteRange(answer)) => self.del(answer, out),
                Some(Response::ResponseTxn(answer)) => self.txn(answer, out),
                None => text(out, "unexpected response\n"),
            }
        }
    }

    /// One answer of a watch stream.
    pub fn watch(self, answer: &pb::WatchResponse, out: &mut Vec<u8>) {
        for event in &answer.events {
            let kind = EventType::try_from(event.r#type);
            let name =
                kind.map_or_else(|other| other.0.to_string(), |kind| kind.as_str_name().to_owned());
            text(out, &format!("{name}\n"));
            event.prev_kv.iter().for_each(|kv| self.kv(kv, out));
            self.kv(event.kv.as_ref().unwrap_or(&KeyValue::default()), out);
        }
    }
}

fn text(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(line.as_bytes());
}

/// A lease that was granted.
pub fn grant(answer: &pb::LeaseGrantResponse) -> String {
    format!("lease {:016x} granted with TTL({}s)\n", answer.id, answer.ttl)
}

/// A lease that was revoked.
pub fn revoke(id: i64) -> String {
    format!("lease {id:016x} revoked\n")
}

/// A lease that was renewed.
pub fn keep_alive(answer: &pb::LeaseKeepAliveResponse) -> String {
    format!("lease {:016x} keepalived with TTL({})\n", answer.id, answer.ttl)
}

/// A lease that cannot be renewed any more.
pub fn lost(id: i64) -> String {
    format!("lease {id:016x} expired or revoked.\n")
}

/// A lease's time, with its keys if they were asked for.
pub fn time_to_live(answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let (id, granted, ttl) = (answer.id, answer.granted_ttl, answer.ttl);
    if granted == 0 && ttl == -1 {
        text(&mut out, &format!("lease {id:016x} already expired\n"));
        return out;
    }
    text(&mut out, &format!("lease {id:016x} granted with TTL({granted}s), remaining({ttl}s)"));
    if keys {
        let keys: Vec<&[u8]> = answer.keys.iter().map(|key| key.as_ref()).collect();
        text(&mut out, ", attached keys([");
        out.extend_from_slice(&keys.join(&b' '));
        text(&mut out, "])");
    }
    out.push(b'\n');
    out
}

/// All leases.
pub fn leases(answer: &pb::LeaseLeasesResponse) -> String {
    let lines: String = answer.leases.iter().map(|of| format!("{:016x}\n", of.id)).collect();
    format!("found {} leases\n{lines}", answer.leases.len())
}

/// The members, a line each: id, status, name, peer and client addresses, learner or not.
pub fn members(answer: &pb::MemberListResponse) -> String {
    let line = |member: &pb::Member| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        format!(
            "{:x}, {status}, {}, {}, {}, {}\n",
            member.id,
            member.name,
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner
        )
    };
    answer.members.iter().map(line).collect()
}

/// What the endpoints say of themselves: sixteen columns each.
pub fn status(endpoints: &[Status]) -> String {
    endpoints.iter().map(|of| format!("{}\n", columns(of).join(", "))).collect()
}

fn columns(of: &Status) -> [String; 16] {
    let answer = &of.answer;
    let member = answer.header.as_ref().map_or(0, |header| header.member_id);
    let downgrade = answer.downgrade_info.clone().unwrap_or_default();
    [
        of.endpoint.clone(),
        format!("{member:x}"),
        answer.version.clone(),
        answer.storage_version.clone(),
        go::size(answer.db_size.unsigned_abs()),
        go::size(answer.db_size_in_use.unsigned_abs()),
        format!("{}%", unused(answer)),
        go::size(answer.db_size_quota.unsigned_abs()),
        (answer.leader == member).to_string(),
        answer.is_learner.to_string(),
        answer.raft_term.to_string(),
        answer.raft_index.to_string(),
        answer.raft_applied_index.to_string(),
        answer.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// How many percent of the database are not in use; nothing of nothing is in use.
fn unused(answer: &pb::StatusResponse) -> i64 {
    answer
        .db_size_in_use
        .saturating_mul(100)
        .checked_div(answer.db_size)
        .map_or(0, |in_use| 100 - in_use)
}
