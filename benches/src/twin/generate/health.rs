//! gRPC's health service; messages that no type can read; methods that nobody has.

use super::Draw;
use crate::twin::step::{Act, Step};

/// Bytes that end too early, or are no protobuf at all.
const GARBAGE: [&str; 6] = ["\\377", "\\012\\005a", "\\012", "\\007", "\\000", "\\010\\200"];

const METHODS: [&str; 14] = [
    "KV.Range",
    "KV.Put",
    "KV.Txn",
    "KV.DeleteRange",
    "KV.Compact",
    "Lease.LeaseGrant",
    "Lease.LeaseTimeToLive",
    "Cluster.MemberAdd",
    "Maintenance.Alarm",
    "Maintenance.HashKV",
    "Auth.UserAdd",
    "Auth.Authenticate",
    "Lock.Lock",
    "Election.Proclaim",
];

const NOWHERE: [&str; 5] = [
    "/etcdserverpb.KV/Nothing",
    "/etcdserverpb.Nothing/Range",
    "/Nothing/Nothing",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/etcdserverpb.Lease/LeaseCheckpoint",
];

/// At least one step.
pub fn steps(draw: &mut Draw) -> Vec<Step> {
    let service = draw.pick(&["", "etcd", "etcdserverpb.KV", "grpc.health.v1.Health"]);
    let named = format!("service:\"{service}\"");
    match draw.below(100) {
        0..25 => vec![Step::call("Health.Check", named)],
        25..35 => vec![Step::call("Health.List", "")],
        35..55 => vec![
            Step::open("h1", "Health.Watch", named),
            Act::Gather.into(),
            Act::Cancel("h1".to_owned()).into(),
        ],
        55..80 => {
            let text = format!("raw {}", draw.pick(&GARBAGE));
            vec![Step::call(draw.pick(&METHODS), text)]
        }
        80..90 => vec![Step::call(draw.pick(&NOWHERE), "")],
        _ => {
            let method = draw.pick(&["Watch.Watch", "Lease.LeaseKeepAlive"]);
            let text = format!("raw {}", draw.pick(&GARBAGE));
            vec![
                Step::open("g1", method, text),
                Act::Gather.into(),
                Act::Cancel("g1".to_owned()).into(),
            ]
        }
    }
}
