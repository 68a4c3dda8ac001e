//! The kill test, short: see `holdfast-jepsen kill` for the long one.

use std::time::Duration;

use crate::kill::{Options, Report, run};
use crate::rig::{Scratch, binary};

async fn survive(name: &str, members: usize, rounds: u64, edges: usize) -> Report {
    let scratch = Scratch::new(name);
    let edges = format!("--experimental-edge-threads={edges}");
    let options = Options {
        rounds,
        writes: rounds * 50,
        all_every: 10,
        time: Duration::from_secs(40),
        flags: [
            "--heartbeat-interval=20",
            "--election-timeout=200",
            "--snapshot-count=300",
            &edges,
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Options::new(binary().to_owned(), scratch.0.clone(), members)
    };
    let report = run(&options, &mut |line| println!("{line}")).await;
    let report = report.unwrap_or_else(|evidence| panic!("{evidence}"));
    println!("{report}");
    report
}

#[tokio::test]
async fn three_members_keep_what_they_acknowledged_through_kills() {
    let report = survive("kill-3", 3, 30, 0).await;
    assert!(report.rounds >= 10 && report.kills > report.rounds, "{report}");
    assert!(report.totals.acked() >= 500, "{report}");
    assert!(report.all_at_once >= 1, "{report}");
}

#[tokio::test]
async fn a_member_alone_keeps_what_it_acknowledged_through_kills() {
    let report = survive("kill-1", 1, 10, 0).await;
    assert!(report.rounds >= 5 && report.kills > report.rounds, "{report}");
    assert!(report.totals.acked() >= 200, "{report}");
}

#[tokio::test]
async fn members_with_edges_on_other_threads_keep_what_they_acknowledged_through_kills() {
    let report = survive("kill-edges", 3, 10, 2).await;
    assert!(report.rounds >= 5 && report.kills > report.rounds, "{report}");
    assert!(report.totals.acked() >= 200, "{report}");
}
