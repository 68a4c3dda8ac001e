//! Leases: granted, refused, attached, kept alive, revoked, asked about.
//!
//! Nothing expires while a script runs, but for leases so short that they are revoked at once.

use super::{Draw, kv};
use crate::twin::step::{Act, Step};

/// Ids that scripts choose.
const IDS: [i64; 6] = [1, 2, 3, 7, -5, i64::MAX];

/// Seconds, all of them long.
const TTLS: [i64; 5] = [100, 300, 600, 10_000, 9_000_000_000];

/// At least one step.
pub fn steps(draw: &mut Draw) -> Vec<Step> {
    match draw.below(100) {
        0..22 => vec![grant(draw)],
        22..24 => short(draw),
        24..34 => vec![Step::call("Lease.LeaseRevoke", id(draw))],
        34..55 => vec![Step::call("KV.Put", attach(draw))],
        55..66 => {
            let text = id(draw) + &draw.maybe(60, |_| "keys:true".to_owned());
            vec![Step::call("Lease.LeaseTimeToLive", text)]
        }
        66..70 => vec![Step::call("Lease.LeaseLeases", "")],
        70..78 => keep_alive(draw),
        78..84 => vec![Step::call("KV.DeleteRange", kv::delete(draw))],
        84..88 => vec![Step::call("KV.Txn", txn(draw))],
        _ => vec![Step::call("KV.Range", draw.range())],
    }
}

/// Counts the leases that the server chose ids for.
pub fn learn(draw: &mut Draw, step: &Step, lines: &[String]) {
    let chosen = step.method() == Some("Lease.LeaseGrant") && !step.message().contains("ID:");
    if chosen && lines.first().is_some_and(|line| line.starts_with("ok")) {
        draw.known.leases += 1;
    }
}

fn grant(draw: &mut Draw) -> Step {
    let ttl =
        if draw.chance(90) { draw.pick(&TTLS) } else { draw.pick(&[9_000_000_001, i64::MAX]) };
    let id = if draw.chance(80) { format!(",ID:{}", draw.pick(&IDS)) } else { String::new() };
    Step::call("Lease.LeaseGrant", format!("TTL:{ttl}{id}"))
}

/// The shortest there are, gone again before they end.
fn short(draw: &mut Draw) -> Vec<Step> {
    let ttl = draw.pick(&[0, -1, 1, i64::MIN]);
    vec![
        Step::call("Lease.LeaseGrant", format!("TTL:{ttl},ID:99")),
        Step::call("Lease.LeaseRevoke", "ID:99"),
    ]
}

fn name(draw: &mut Draw) -> String {
    let leases = draw.known.leases;
    if leases > 0 && draw.chance(25) {
        // The newer ones are more likely to be there still.
        return format!("$lease{}", leases - draw.below(leases.min(3)));
    }
    match draw.below(12) {
        0 => "0".to_owned(),
        1 => "404".to_owned(),
        _ => draw.pick(&IDS).to_string(),
    }
}

fn id(draw: &mut Draw) -> String {
    format!("ID:{}", name(draw))
}

fn attach(draw: &mut Draw) -> String {
    let key = draw.key();
    let value = draw.value();
    let mut text = format!("key:\"{key}\",value:\"{value}\"");
    text += &draw.maybe(85, |draw| format!("lease:{}", name(draw)));
    text += &draw.maybe(10, |_| "ignore_lease:true".to_owned());
    text += &draw.maybe(20, |_| "prev_kv:true".to_owned());
    text
}

fn txn(draw: &mut Draw) -> String {
    let lease = draw.pick(&[0, 1, 2, 7]);
    let compare = format!("{{result:0,target:4,key:\"{}\",lease:{lease}}}", draw.key());
    let put = format!("{{request_put:{{{}}}}}", attach(draw));
    format!("compare:[{compare}],success:[{put}],failure:[{{request_range:{{{}}}}}]", draw.range())
}

fn keep_alive(draw: &mut Draw) -> Vec<Step> {
    let mut steps = vec![Step::open("k1", "Lease.LeaseKeepAlive", id(draw))];
    for _ in 0..draw.below(3) {
        steps.push(Step::send("k1", id(draw)));
    }
    steps.extend([Act::Gather.into(), Act::Cancel("k1".to_owned()).into()]);
    steps
}
