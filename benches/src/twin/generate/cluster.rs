//! Members: asked about, added as learners that never come, and everything that is refused.
//!
//! A voter is added nowhere: it would not come, and the cluster would wait for it.

use super::Draw;
use crate::twin::step::{Act, Step};

/// Peer URLs, most of them bad.
const URLS: [&str; 14] = [
    "\"http://127.0.0.1:1\"",
    "\"http://127.0.0.1:2\"",
    "\"http://127.0.0.1:1\",\"http://127.0.0.1:3\"",
    "\"http://127.0.0.1:3\",\"http://127.0.0.1:1\"",
    "\"$peer1\"",
    "",
    "\"\"",
    "\"127.0.0.1:1\"",
    "\"http://127.0.0.1\"",
    "\"http://127.0.0.1:1/path\"",
    "\"ftp://127.0.0.1:1\"",
    "\"http://:1\"",
    "\"http://127.0.0.1:x\"",
    "\"unix://a.sock\",\"http://127.0.0.1:1\"",
];

/// At least one step.
pub fn steps(draw: &mut Draw, members: usize) -> Vec<Step> {
    match draw.below(100) {
        0..25 => {
            let text = if draw.chance(70) { "linearizable:true" } else { "" };
            vec![Step::call("Cluster.MemberList", text)]
        }
        25..45 => {
            let text = format!("peerURLs:[{}],isLearner:true", draw.pick(&URLS));
            vec![Step::call("Cluster.MemberAdd", text)]
        }
        45..50 => {
            // A voter only where it is refused.
            let text = format!("peerURLs:[{}]", draw.pick(&URLS[5..11]));
            vec![Step::call("Cluster.MemberAdd", text)]
        }
        50..65 => {
            vec![Step::call("Cluster.MemberRemove", format!("ID:{}", removable(draw, members)))]
        }
        65..82 => {
            vec![Step::call("Cluster.MemberUpdate", update(draw, members))]
        }
        82..95 => vec![Step::call("Cluster.MemberPromote", format!("ID:{}", id(draw, members)))],
        95..97 => vec![Step::call("Maintenance.Status", "")],
        _ => vec![Step::call("KV.Put", "key:\"a\""), Act::Wait(20).into()],
    }
}

/// What is no URL is told to nobody's members: etcd takes it, and may end of it.
fn update(draw: &mut Draw, members: usize) -> String {
    match draw.below(10) {
        0 => format!("ID:404,peerURLs:[{}]", draw.pick(&URLS)),
        1 => "ID:$m1,peerURLs:[\"$peer1\"]".to_owned(),
        // Others would look for it there.
        2 if members == 1 => "ID:$m1,peerURLs:[\"http://127.0.0.1:1\"]".to_owned(),
        _ => format!("ID:$added,peerURLs:[{}]", draw.pick(&URLS[..5])),
    }
}

fn id(draw: &mut Draw, members: usize) -> String {
    match draw.below(10) {
        0 => "0".to_owned(),
        1 => "404".to_owned(),
        2 => u64::MAX.to_string(),
        3..5 => format!("$m{}", draw.below(members) + 1),
        // What has been added is there or is gone again.
        _ => "$added".to_owned(),
    }
}

/// One that may go: nobody that votes, but for the only one there is.
fn removable(draw: &mut Draw, members: usize) -> String {
    match draw.below(10) {
        0 => "0".to_owned(),
        1 => "404".to_owned(),
        2 if members == 1 => "$m1".to_owned(),
        _ => "$added".to_owned(),
    }
}
