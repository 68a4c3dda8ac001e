//! The messages and client stubs generated from `proto/*.proto` at build time, by package.
//!
//! Field names are the .proto files' in snake case, `bytes` fields are [`bytes::Bytes`]. The server
//! side is not generated: services answer a [`Call`](crate::call::Call).
//!
//! Worked example: `kv_client::KvClient::new(channel).put(PutRequest { .. })` of
//! [`etcdserverpb`] is the call `/etcdserverpb.KV/Put`.

/// All of `proto/*.proto` as an encoded `google.protobuf.FileDescriptorSet`, for whoever reads messages
/// without knowing their types.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $file:literal) => {
        $(#[$doc])*
        #[expect(missing_docs, reason = "generated: the .proto files describe the messages")]
        #[allow(
            clippy::all,
            clippy::allow_attributes_without_reason,
            reason = "generated: which lints it meets depends on the generator"
        )]
        pub mod $module {
            tonic::include_proto!($file);
        }
    };
}

package!(
    /// A stored pair and its changes.
    mvccpb,
    "mvccpb"
);
package!(
    /// Users, roles and permissions as they are stored.
    authpb,
    "authpb"
);
package!(
    /// KV, Watch, Lease, Cluster, Maintenance and Auth.
    etcdserverpb,
    "etcdserverpb"
);
package!(
    /// Lock.
    v3lockpb,
    "v3lockpb"
);
package!(
    /// Election.
    v3electionpb,
    "v3electionpb"
);
package!(
    /// gRPC's own health service (package `grpc.health.v1`).
    health,
    "grpc.health.v1"
);
