//! The body of the fuzz target for this module, also run by plain tests over random bytes.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;

use super::{WireLimits, decode_health_check, decode_query, decode_watch, read};
use crate::call::Method;
use crate::proto::etcdserverpb as pb;

const QUERIES: [Method; 30] = [
    Method::Range,
    Method::Put,
    Method::DeleteRange,
    Method::Txn,
    Method::Compact,
    Method::LeaseGrant,
    Method::LeaseRevoke,
    Method::LeaseKeepAlive,
    Method::LeaseTimeToLive,
    Method::LeaseLeases,
    Method::MemberList,
    Method::Status,
    Method::Alarm,
    Method::AuthEnable,
    Method::AuthDisable,
    Method::AuthStatus,
    Method::Authenticate,
    Method::UserAdd,
    Method::UserGet,
    Method::UserList,
    Method::UserDelete,
    Method::UserChangePassword,
    Method::UserGrantRole,
    Method::UserRevokeRole,
    Method::RoleAdd,
    Method::RoleGet,
    Method::RoleList,
    Method::RoleDelete,
    Method::RoleGrantPermission,
    Method::RoleRevokePermission,
];

/// Reads `data` as every kind of request. Panics only where a law of [`wire`](super) is broken: a
/// message that prost and the hand-written readers both accept must be the same to both.
pub fn fuzz_wire(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let limits = WireLimits { txn_ops_max: 8, request_bytes_max: 512 };
    for method in QUERIES {
        drop(decode_query(method, &message, &limits));
    }
    drop(decode_watch(&message));
    drop(decode_health_check(&message));
    agree(&message, read::range_request);
    agree(&message, read::put_request);
    agree(&message, read::delete_request);
    agree(&message, read::keep_alive_request);
    agree::<pb::TxnRequest, _>(&message, |reader, txn| {
        read::txn_request(reader, read::Scope::outermost(data.len()), txn)
    });
}

/// Law 2.
fn agree<M, E>(message: &Bytes, read: impl Fn(read::Reader, &mut M) -> Result<(), E>)
where
    M: Message + Default + PartialEq + Debug,
{
    let mut ours = M::default();
    if let (Ok(()), Ok(theirs)) =
        (read(read::Reader::new(message), &mut ours), M::decode(message.clone()))
    {
        assert_eq!(ours, theirs, "by hand and by prost");
    }
}
