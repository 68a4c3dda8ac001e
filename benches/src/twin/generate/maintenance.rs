//! Status, alarms and what they refuse, hashes, leadership, downgrades, snapshots.

use super::{Draw, kv, lease, txn};
use crate::twin::step::Step;

/// At least one step.
pub fn steps(draw: &mut Draw, members: usize) -> Vec<Step> {
    match draw.below(100) {
        0..8 => vec![Step::call("Maintenance.Status", "")],
        8..28 => vec![Step::call("Maintenance.Alarm", alarm(draw, members))],
        // Alarms go again, or everything would be refused for the rest of the run.
        28..36 => clear(members),
        36..40 => vec![Step::call("Maintenance.Defragment", "")],
        40..43 => vec![Step::call("Maintenance.Hash", "")],
        43..52 => vec![kv::hash(draw)],
        52..56 => vec![Step::call("Maintenance.MoveLeader", format!("targetID:{}", target(draw)))],
        56..66 => vec![Step::call("Maintenance.Downgrade", downgrade(draw))],
        66..68 => vec![Step::call("Maintenance.Snapshot", "")],
        68..72 => lease::steps(draw),
        72..76 => vec![Step::call("KV.Txn", txn::txn(draw, 1))],
        _ => vec![kv::step(draw)],
    }
}

fn alarm(draw: &mut Draw, members: usize) -> String {
    let member = match draw.below(6) {
        0 => "0".to_owned(),
        1 => "404".to_owned(),
        _ => format!("$m{}", draw.below(members) + 1),
    };
    format!("action:{},memberID:{member},alarm:{}", draw.below(3), draw.below(3))
}

fn clear(members: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let ids = (1..=members).map(|nth| format!("$m{nth}")).chain(["0".to_owned(), "404".to_owned()]);
    for member in ids {
        for alarm in [1, 2] {
            let text = format!("action:2,memberID:{member},alarm:{alarm}");
            steps.push(Step::call("Maintenance.Alarm", text));
        }
    }
    steps
}

/// Nobody who could take over.
fn target(draw: &mut Draw) -> &'static str {
    draw.pick(&["0", "404", "$m1", "18446744073709551615"])
}

fn downgrade(draw: &mut Draw) -> String {
    let action = draw.pick(&[0, 0, 0, 1, 2, 3]);
    let version = draw.pick(&[
        "3.6",
        "3.6.0",
        "3.5",
        "3.7",
        "3.8",
        "4.0",
        "",
        "x",
        "3",
        "3.6.1",
        "v3.6",
        "3.6.0-rc.1",
    ]);
    // Enabling a downgrade that is possible is not what Holdfast does.
    if action == 1 && version.starts_with("3.6") {
        return "action:0,version:\"3.6\"".to_owned();
    }
    format!("action:{action},version:\"{version}\"")
}
