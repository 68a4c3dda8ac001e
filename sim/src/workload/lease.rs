//! Requests about leases: grants, renewals, keys attached, revocations, and leases left to expire.

use bytes::Bytes;
use holdfast_core::id::LeaseId;
use holdfast_core::query::Query;
use holdfast_core::request::Put;

use super::Client;
use crate::swarm::WorkMix;

/// Keys attached to leases begin like this.
pub const PREFIX: &str = "lease/";

pub(super) fn draw(client: &mut Client, mix: &WorkMix) -> Query {
    let newest = client.leases.len().saturating_sub(4);
    let held = client.leases[newest..].to_vec();
    let Some(id) = held.get(client.rng.below(held.len().max(1) as u64) as usize).copied() else {
        return grant(client, mix);
    };
    let id = LeaseId(id);
    match client.rng.below(100) {
        0..=14 => grant(client, mix),
        15..=44 => Query::LeaseKeepAlive { id },
        45..=79 => attach(client, mix, id),
        80..=86 => Query::LeaseTimeToLive { id, keys: client.rng.chance(50) },
        87..=90 => Query::LeaseLeases,
        91..=93 => Query::LeaseRevoke { id },
        // Blindly again, under an id that may be alive, about to expire, or just revoked.
        94 => Query::LeaseGrant { id, ttl: mix.lease_ttl.0 },
        _ => {
            // From here on nobody renews it: it must expire.
            client.lease_gone(id.0);
            Query::LeaseTimeToLive { id, keys: true }
        }
    }
}

fn grant(client: &mut Client, mix: &WorkMix) -> Query {
    client.grants += 1;
    let (low, high) = mix.lease_ttl;
    let ttl = client.rng.between(low as u64, high as u64) as i64;
    let own = (client.number as i64 + 1) * 1_000_000 + client.grants;
    let id = if client.rng.chance(20) { LeaseId::NONE } else { LeaseId(own) };
    Query::LeaseGrant { id, ttl }
}

fn attach(client: &mut Client, mix: &WorkMix, lease: LeaseId) -> Query {
    let key = format!("{PREFIX}{}/{}", lease.0, client.rng.below(4));
    Query::Put(Put {
        key: Bytes::from(key),
        value: client.value(mix.value_bytes_max.min(64)),
        lease,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}
