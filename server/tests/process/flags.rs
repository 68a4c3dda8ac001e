//! etcd's flags, on the running binary: each has its effect, its variable, or its refusal.
//!
//! Leaves out the table of every spelling and every refusal (`server/src/config/tests.rs`). The size of
//! a compaction's slices cannot be seen from outside: `core/tests/scripts/compaction/physical` shows it.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::client;
use crate::member::{Layout, Member};
use crate::proto::etcdserverpb as pb;
use crate::rig::{Scratch, Server, binary, get, has_all, http_get, put, refused, says};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// Elections and leases at five times their default pace.
const FAST: [&str; 2] = ["--heartbeat-interval=20", "--election-timeout=200"];

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| flag.to_string()).collect()
}

fn puts(count: usize) -> pb::TxnRequest {
    let puts = (0..count).map(|at| Request::RequestPut(put(&format!("k{at}"), "1")));
    let success = puts.map(|put| pb::RequestOp { request: Some(put) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

async fn bounds(server: &Server, bytes: usize, ops: usize) {
    let mut kv = server.kv().await;
    let sized = |len| pb::PutRequest { value: vec![b'x'; len].into(), ..put("a", "") };
    kv.put(sized(bytes - 100)).await.expect("is within the bound");
    let text = "etcdserver: request is too large";
    refused(kv.put(sized(bytes + 1)).await, Code::InvalidArgument, text);
    kv.txn(puts(ops)).await.expect("is within the bound");
    let text = "etcdserver: too many operations in txn request";
    refused(kv.txn(puts(ops + 1)).await, Code::InvalidArgument, text);
}

#[tokio::test]
async fn requests_and_transactions_have_the_bounds_that_are_set() {
    let server = Server::start("bounds", &["--max-request-bytes=1000", "--max-txn-ops=3"]).await;
    bounds(&server, 1000, 3).await;
}

#[tokio::test]
async fn one_dash_or_two_an_equals_sign_or_a_space_and_the_last_value_wins() {
    let given = ["-max-request-bytes", "10", "--max-txn-ops=9", "-max-txn-ops=3"];
    let server =
        Server::start("syntax", &[&given[..], &["--max-request-bytes=1000"]].concat()).await;
    bounds(&server, 1000, 3).await;
}

#[tokio::test]
async fn variables_stand_for_flags_and_unknown_ones_are_told_of() {
    let mut server = Server::prepare("variables", &[]);
    let data = server.layout.dir.join("elsewhere");
    let peer = format!("http://127.0.0.1:{}", server.layout.ports[0].1);
    let client = server.layout.client_url(0);
    let mut command = Command::new(binary());
    let variables = [
        ("ETCD_NAME", "m9"),
        ("ETCD_DATA_DIR", data.to_str().expect("is text")),
        ("ETCD_LISTEN_CLIENT_URLS", &client),
        ("ETCD_ADVERTISE_CLIENT_URLS", &client),
        ("ETCD_LISTEN_PEER_URLS", &peer),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer),
        ("ETCD_MAX_REQUEST_BYTES", "1000"),
        ("ETCD_MAX_TXN_OPS", "3"),
        ("ETCD_QUOTA_BACKEND_BYTES", "4096"),
        ("ETCD_NO_SUCH_FLAG", "1"),
        ("ETCD_INITIAL_CLUSTER", ""),
    ];
    command.envs(variables);
    let member = Member::start_as(&server.layout, 0, &mut command).expect("the binary runs");
    server.member = Some(member);
    let said = server.says("ready to serve client requests").await;
    bounds(&server, 1000, 3).await;
    assert!(data.join("holdfast").exists());
    has_all(&said, &[r#""name":"m9""#, "unrecognized environment variable ETCD_NO_SUCH_FLAG"]);
}

#[tokio::test]
async fn flags_without_effect_are_accepted_with_one_warning_each() {
    let accepted = [("--pre-vote=false", "--pre-vote is accepted")];
    let server = Server::start("accepted", &accepted.map(|(flag, _)| flag)).await;
    let said = server.said();
    for (_, warning) in accepted {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(warning)).collect();
        assert_eq!(lines.len(), 1, "{warning}: {said}");
        has_all(lines[0], &[r#""level":"warn""#, "but not effective yet"]);
    }
}

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let scratch = Scratch::new("refused-flags");
    let mut command = Command::new(binary());
    command.args(args).envs(variables.iter().copied()).current_dir(&scratch.0);
    let output = command.output().expect("the binary runs");
    let left = fs::read_dir(&scratch.0).expect("is read").count();
    assert_eq!(left, 0, "nothing is made before the flags are understood");
    output
}

type Refusal =
    (&'static [&'static str], &'static [(&'static str, &'static str)], i32, &'static str);

const REFUSALS: &[Refusal] = &[
    (&["--nonsense"], &[], 2, "flag provided but not defined: -nonsense"),
    (&["--cert-file=x"], &[], 2, "-cert-file is known to etcd but not yet served by Holdfast"),
    (&[], &[("ETCD_CERT_FILE", "x")], 2, "ETCD_CERT_FILE is known to etcd but not yet served"),
    (&["--max-txn-ops=many"], &[], 2, "invalid value \"many\" for flag -max-txn-ops"),
    (&["--proxy=on"], &[], 2, "flag -proxy was removed from etcd in 3.6"),
    (&["--initial-cluster-state=old"], &[], 2, "invalid value, use new or existing"),
    (&["--name=a"], &[("ETCD_NAME", "b")], 1, "conflicting environment variable is shadowed"),
    (&["--heartbeat-interval=250"], &[], 1, "should be at least as 5 times as"),
    (&["--logger=slog"], &[], 1, "unknown logger option \"slog\": use zap"),
    (&["start"], &[], 1, "\"start\" is not a valid flag"),
];

#[test]
fn what_is_not_understood_ends_with_a_sentence_and_a_code() {
    for (args, variables, code, sentence) in REFUSALS {
        let output = run(args, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        assert!(said.contains(sentence), "{args:?}: {said}");
        assert!(output.stdout.is_empty() && !said.contains("panicked"), "{args:?}: {said}");
    }
    for (flag, first) in [("--version", "etcd Version: 3.7."), ("-h", "")] {
        let output = run(&[flag], &[]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(first), "{output:?}");
    }
}

#[tokio::test]
async fn the_token_is_part_of_who_a_member_is() {
    let mut server = Server::prepare("token", &[]);
    let mut seen = Vec::new();
    for token in ["one", "other", "one"] {
        server.layout.flags = vec![format!("--initial-cluster-token={token}")];
        server.restart().await;
        let answer = server.kv().await.range(get("a")).await.expect("is read").into_inner();
        let header = answer.header.expect("answers have one");
        seen.push((header.cluster_id, header.member_id));
        server.kill();
        fs::remove_dir_all(server.layout.data_dir(0)).expect("is removed");
    }
    assert_eq!(seen[0], seen[2]);
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
}

#[tokio::test]
async fn checkpoints_come_after_so_many_entries() {
    let server = Server::start("snapshot-count", &["--snapshot-count=10"]).await;
    let usual = Server::start("snapshot-usual", &[]).await;
    for server in [&server, &usual] {
        let mut kv = server.kv().await;
        for at in 0..40 {
            kv.put(put("a", &at.to_string())).await.expect("is put");
        }
    }
    server.says("saved snapshot").await;
    assert!(!usual.said().contains("saved snapshot"), "{}", usual.said());
}

#[tokio::test]
async fn idle_watches_report_progress_as_often_as_is_set() {
    let server = Server::start("progress", &["--watch-progress-notify-interval=100ms"]).await;
    let (requests, receiver) = mpsc::channel(1);
    let create =
        pb::WatchCreateRequest { key: "a".into(), progress_notify: true, ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.send(request).await.expect("there is room");
    let mut watch = WatchClient::new(server.channel().await);
    let stream = watch.watch(ReceiverStream::new(receiver)).await;
    let mut stream = stream.expect("opens").into_inner();
    assert!(stream.message().await.expect("no error").expect("goes on").created);
    let start = Instant::now();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let progress = message.expect("in time").expect("no error").expect("goes on");
        assert!(progress.events.is_empty() && !progress.canceled, "{progress:?}");
    }
    assert!(start.elapsed() >= Duration::from_millis(150), "not more often: {:?}", start.elapsed());
}

#[tokio::test]
async fn metrics_and_health_are_served_at_more_addresses() {
    // A port that the layout has found free, of a member that does not run.
    let spare = Server::prepare("metrics-port", &[]).layout.ports[0].0;
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{spare}");
    let server = Server::start("metrics", &[&flag]).await;
    let metrics = http_get(spare, "/metrics");
    has_all(&metrics, &["HTTP/1.1 200 OK", "\netcd_server_has_leader 1\n"]);
    has_all(&http_get(spare, "/health"), &["HTTP/1.1 200 OK", r#""health":"true""#]);
    has_all(&http_get(server.layout.ports[0].0, "/metrics"), &["\netcd_server_has_leader 1\n"]);
}

/// What is logged at a level while a lease expires, which is told at `debug`.
async fn logged(level: &str) -> String {
    let mut server = Server::prepare(&format!("log-{level}"), &FAST);
    let file = server.layout.dir.join("elsewhere.log");
    let level = format!("--log-level={level}");
    let output = format!("--log-outputs={}", file.display());
    server.layout.flags.extend([level, output, "--logger=zap".to_owned()]);
    server.layout.flags.push("--pre-vote=false".to_owned());
    server.restart().await;
    let mut lease = LeaseClient::new(server.channel().await);
    lease.lease_grant(pb::LeaseGrantRequest { id: 7, ttl: 1 }).await.expect("is granted");
    let start = Instant::now();
    while !lease
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .expect("is told")
        .into_inner()
        .leases
        .is_empty()
    {
        assert!(start.elapsed() < Duration::from_secs(20), "the lease does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.member.as_ref().expect("it runs").terminate();
    server.member.as_mut().expect("it runs").wait(Duration::from_secs(20)).expect("it stops");
    assert_eq!(server.said(), "", "nothing goes to the default output");
    fs::read_to_string(file).expect("is written")
}

#[tokio::test]
async fn the_log_goes_where_it_should_from_the_level_that_is_set() {
    let levels = ["debug", "info", "warn", "error"];
    for (at, shown) in levels.into_iter().enumerate() {
        let said = logged(shown).await;
        assert!(said.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{said}");
        // Something is said at each of the first three levels.
        for (other, level) in levels.into_iter().enumerate().take(3) {
            let found = said.contains(&format!(r#"{{"level":"{level}""#));
            assert_eq!(found, other >= at, "{level} under --log-level={shown}: {said}");
        }
    }
}

#[tokio::test]
async fn a_member_that_never_syncs_says_so() {
    let mut server = Server::start("no-fsync", &["--unsafe-no-fsync"]).await;
    let warning = "--unsafe-no-fsync: acknowledged writes are lost when the machine loses power";
    has_all(&server.said(), &[warning, "nothing is synced"]);
    server.kv().await.put(put("a", "1")).await.expect("is put");
    server.kill();
    server.restart().await;
    let answer = server.kv().await.range(get("a")).await.expect("is read").into_inner();
    assert_eq!(answer.count, 1, "the end of the process alone loses nothing");
}

/// How often a process has gone to sleep since it began.
fn sleeps(layout: &Layout) -> u64 {
    let data = layout.data_dir(0);
    let data = data.to_str().expect("is text").as_bytes();
    let processes = fs::read_dir("/proc").expect("Linux has it");
    for process in processes.filter_map(Result::ok) {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|argument| argument == data) {
            let status = fs::read_to_string(process.path().join("status")).expect("it runs");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            return line.expect("Linux tells it").trim().parse().expect("is a number");
        }
    }
    panic!("no process has this directory");
}

#[tokio::test]
async fn an_idle_member_wakes_for_every_heartbeat() {
    let mut woken = Vec::new();
    for (name, flag) in [("fast", "--heartbeat-interval=10"), ("slow", "--heartbeat-interval=500")]
    {
        let flags = [flag, "--election-timeout=5000"];
        let server = Server::start(&format!("heartbeat-{name}"), &flags).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = sleeps(&server.layout);
        tokio::time::sleep(Duration::from_secs(2)).await;
        woken.push(sleeps(&server.layout) - before);
    }
    assert!(woken[0] > 3 * woken[1], "{woken:?} times in two seconds");
}

/// Three members of one cluster.
struct Three {
    layout: Layout,
    members: Vec<Member>,
    _scratch: Scratch,
}

impl Three {
    fn start(name: &str, given: &[&str]) -> Three {
        let scratch = Scratch::new(name);
        let mut layout = Layout::local(binary(), &scratch.0, 3).expect("ports are free");
        layout.flags = flags(given);
        let members = (0..3).map(|at| Member::start(&layout, at).expect("the binary runs"));
        Three { members: members.collect(), layout, _scratch: scratch }
    }
}

/// How long three new members take to agree on a leader.
async fn elected(name: &str, flags: &[&str]) -> Duration {
    let start = Instant::now();
    let three = Three::start(name, flags);
    says(&three.layout, 0, "elected leader").await;
    start.elapsed()
}

#[tokio::test]
async fn elections_wait_for_the_timeout_that_is_set() {
    let fast = elected("elections-fast", &FAST).await;
    let slow = elected("elections-slow", &["--election-timeout=4000"]).await;
    assert!(slow >= Duration::from_secs(4), "nobody stands before the timeout: {slow:?}");
    assert!(fast < slow, "{fast:?} and {slow:?}");
}

/// What a member says that comes back after 100 entries and several checkpoints without it.
async fn caught_up(name: &str, catchup: &str) -> String {
    let given = [&FAST[..], &["--snapshot-count=20", catchup]].concat();
    let mut three = Three::start(name, &given);
    for at in 0..3 {
        says(&three.layout, at, "ready to serve").await;
    }
    three.members.pop().expect("there are three").kill();
    let channel = client::channel(&three.layout.client_url(0)).await.expect("it listens");
    let mut kv = KvClient::new(channel);
    let start = Instant::now();
    let mut acknowledged = 0;
    while acknowledged < 100 {
        // The killed one may have led.
        acknowledged += u32::from(kv.put(put("a", &acknowledged.to_string())).await.is_ok());
        assert!(start.elapsed() < Duration::from_secs(60), "two of three do not go on");
    }
    for at in 0..2 {
        says(&three.layout, at, "saved snapshot").await;
    }
    three.members.push(Member::start(&three.layout, 2).expect("the binary runs"));
    let channel = loop {
        if let Ok(channel) = client::channel(&three.layout.client_url(2)).await {
            break channel;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let read = pb::RangeRequest { serializable: false, ..get("a") };
    let answer = KvClient::new(channel).range(read).await.expect("is read").into_inner();
    assert_eq!(&answer.kvs[0].value[..], b"99");
    three.layout.last_lines(2, 10_000)
}

#[tokio::test]
async fn entries_are_kept_for_members_that_were_away() {
    let entries = caught_up("catchup-all", "--snapshot-catchup-entries=5000").await;
    assert!(!entries.contains("snapshot installed"), "{entries}");
    let snapshot = caught_up("catchup-none", "--snapshot-catchup-entries=1").await;
    assert!(snapshot.contains("snapshot installed"), "{snapshot}");
}
