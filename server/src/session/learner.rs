//! What a member without a vote serves: its status, a snapshot, and reads of what it happens to have (surface 1.2).
//!
//! It is looked at before a request's own mistakes, as etcd's interceptor does, and after whether it can be read at all.
//!
//! Leaves out streams that are open: a call is looked at when it begins, as by etcd's interceptors. Nothing
//! takes a member's vote but its removal, and with that the process ends; a member that has just been added
//! is not listened to before it knows whether it has one (`server/src/member.rs` publishes it first).
//!
//! Worked example: a serializable Range is answered, a linearizable one is "rpc not supported for
//! learner" even without a key, and so is a transaction that only reads.

use bytes::Bytes;
use holdfast_core::query::Query;
use holdfast_net::call::Method;
use holdfast_net::proto::etcdserverpb::RangeRequest;
use holdfast_net::wire;

/// Whether a call is looked at at all.
pub fn may_serve(method: Method) -> bool {
    matches!(method, Method::Range | Method::Status | Method::Snapshot)
}

/// Whether a question is answered.
pub fn may_answer(query: &Query) -> bool {
    match query {
        Query::Range(range) => range.serializable,
        Query::Status => true,
        _ => false,
    }
}

/// The same of a question that is not checked yet; one that cannot be read is refused as such elsewhere.
pub fn may_check(method: Method, message: &Bytes) -> bool {
    match method {
        Method::Range => {
            let range = wire::decode_message::<RangeRequest>(message);
            range.map_or(true, |range| range.serializable)
        }
        Method::Status => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn only_what_need_not_be_fresh_is_answered() {
        let range = |serializable| {
            let range = RangeRequest { serializable, ..RangeRequest::default() };
            may_check(Method::Range, &range.encode_to_vec().into())
        };
        assert!(range(true) && !range(false));
        assert!(may_check(Method::Range, &Bytes::from_static(b"\xff")));
        assert!(may_check(Method::Status, &Bytes::new()));
        assert!(!may_check(Method::Txn, &Bytes::new()));
    }
}
