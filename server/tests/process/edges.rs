//! A member whose clients are served by several threads is one member.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::proto::{etcdserverpb as pb, v3lockpb as lpb};
use crate::rig::{Server, get, http_get, put, refused};
use crate::streams::{Watching, watch};
use crate::users::{log_in, populate, with};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;

const TWO_MORE: &str = "--experimental-edge-threads=2";

/// Longest wait for what should happen soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that stay open: every third is of the same edge.
async fn channels(server: &Server, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        let channel = server.channel().await;
        // It is handed over when it has said that it speaks HTTP/2.
        KvClient::new(channel.clone()).range(get("x")).await.expect("is read");
        channels.push(channel);
    }
    channels
}

/// Nanoseconds that each of a member's edge threads has run.
fn worked(server: &Server) -> BTreeMap<String, u64> {
    let folder = server.layout.data_dir(0).display().to_string();
    let tasks = std::fs::read_dir("/proc").expect("there is /proc").flatten().filter(|process| {
        let command = std::fs::read_to_string(process.path().join("cmdline"));
        command.is_ok_and(|command| command.contains(&folder))
    });
    let tasks = tasks.filter_map(|process| std::fs::read_dir(process.path().join("task")).ok());
    let mut worked = BTreeMap::new();
    for task in tasks.flatten().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (name, ran) = (read("comm"), read("schedstat"));
        if name.starts_with("holdfast-edge") {
            let ran = ran.split(' ').next().and_then(|ran| ran.parse().ok());
            worked.insert(name.trim().to_owned(), ran.unwrap_or(0));
        }
    }
    worked
}

/// What is put on one connection is read on another, linearizably or not, as soon as it was answered.
async fn written_and_read(channels: &[Channel], rounds: std::ops::Range<usize>) -> Vec<String> {
    let mut events = Vec::new();
    for round in rounds {
        let mut kv = KvClient::new(channels[round % 6].clone());
        let written = kv.put(put("a", &round.to_string())).await.expect("is put").into_inner();
        let revision = written.header.unwrap_or_default().revision;
        events.push(format!("r{revision} put a={round}"));
        for serializable in [true, false] {
            let mut other = KvClient::new(channels[(round + 1 + round / 6 % 5) % 6].clone());
            let asked = pb::RangeRequest { serializable, ..get("a") };
            let found = other.range(asked).await.expect("is read").into_inner();
            let value = found.kvs.first().map(|pair| pair.value.clone()).unwrap_or_default();
            assert_eq!(value, round.to_string(), "serializable: {serializable}");
        }
    }
    events
}

#[tokio::test]
async fn connections_are_spread_and_what_one_was_told_another_reads() {
    let server = Server::start("edges", &[TWO_MORE]).await;
    let said = server.line("edge threads beside").await;
    assert!(said.contains(r#""threads":2"#), "{said}");
    let channels = channels(&server, 6).await;
    let before = worked(&server);
    assert_eq!(before.len(), 2, "{before:?}");
    // Nobody watches: an edge is not woken for what another has been asked.
    written_and_read(&channels, 0..30).await;
    let mut watching = Vec::new();
    for channel in &channels {
        watching.push(Watching::open(channel.clone(), watch("a", 0)).await.0);
    }
    let expected = written_and_read(&channels, 30..90).await;
    for watching in &mut watching {
        assert_eq!(watching.events(60).await, expected);
    }
    let after = worked(&server);
    for (name, ran) in &after {
        assert!(*ran > before[name], "{name} has done nothing: {before:?}, {after:?}");
    }
    let metrics = http_get(server.layout.ports[0].0, "/metrics");
    for line in ["watch_stream_total 6", "watcher_total 6"] {
        assert!(metrics.contains(&format!("etcd_debugging_mvcc_{line}\n")), "{line}: {metrics}");
    }
    assert!(http_get(server.layout.ports[0].0, "/health").contains(r#""health":"true""#));
}

async fn keep_alive(channel: &Channel, id: i64) -> (mpsc::Sender<pb::LeaseKeepAliveRequest>, i64) {
    let (requests, receiver) = mpsc::channel(4);
    requests.send(pb::LeaseKeepAliveRequest { id }).await.expect("there is room");
    let mut lease = LeaseClient::new(channel.clone());
    let stream = lease.lease_keep_alive(ReceiverStream::new(receiver)).await;
    let mut stream: Streaming<_> = stream.expect("opens").into_inner();
    (requests, stream.message().await.expect("no error").expect("goes on").ttl)
}

#[tokio::test]
async fn leases_locks_and_tokens_are_the_members() {
    let server = Server::start("edges-shared", &[TWO_MORE, "--bcrypt-cost=4"]).await;
    let channels = channels(&server, 4).await;
    let lease = |n: usize| LeaseClient::new(channels[n].clone());
    for (n, id) in [(0, 11), (1, 12), (2, 13)] {
        lease(n).lease_grant(pb::LeaseGrantRequest { id, ttl: 60 }).await.expect("is granted");
    }
    let attached = pb::PutRequest { lease: 12, ..put("leased", "1") };
    KvClient::new(channels[2].clone()).put(attached).await.expect("is put");
    assert_eq!(keep_alive(&channels[0], 12).await.1, 60);
    assert_eq!(keep_alive(&channels[2], 12).await.1, 60);
    let asked = pb::LeaseTimeToLiveRequest { id: 12, keys: true };
    let left = lease(1).lease_time_to_live(asked).await.expect("is told").into_inner();
    assert_eq!(left.keys, ["leased"]);

    let lock = |n: usize| lpb::lock_client::LockClient::new(channels[n].clone());
    let ask = |lease| lpb::LockRequest { name: "door".into(), lease };
    let held = lock(1).lock(ask(11)).await.expect("is free").into_inner();
    let mut waiter = lock(2);
    let waiting = tokio::spawn(async move { waiter.lock(ask(13)).await });
    let mut kv = KvClient::new(channels[0].clone());
    while kv.range(get("door/d")).await.expect("is read").into_inner().count < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!waiting.is_finished());
    lock(3).unlock(lpb::UnlockRequest { key: held.key }).await.expect("is unlocked");
    let held = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("no panic");
    assert_eq!(&held.expect("is its turn").into_inner().key[..], b"door/d");

    lease(3).lease_revoke(pb::LeaseRevokeRequest { id: 12 }).await.expect("is revoked");
    for channel in &channels {
        let mut kv = KvClient::new(channel.clone());
        let asked = pb::RangeRequest { serializable: true, ..get("leased") };
        assert_eq!(kv.range(asked).await.expect("is read").into_inner().count, 0);
    }

    populate(&channels[1]).await;
    for n in 0..4 {
        let bob = log_in(&channels[n], "bob", "b").await.expect("the right password");
        for channel in &channels {
            let mut kv = KvClient::new(channel.clone());
            kv.put(with(&bob, put("a", "1"))).await.expect("bob may");
            kv.range(with(&bob, get("a"))).await.expect("bob may");
            let denied = "etcdserver: permission denied";
            refused(kv.range(with(&bob, get("c"))).await, Code::PermissionDenied, denied);
        }
    }
}

#[tokio::test]
async fn all_threads_drain_when_the_member_stops() {
    let mut server = Server::start("edges-stop", &[TWO_MORE]).await;
    let channels = channels(&server, 3).await;
    let mut watching = Vec::new();
    for channel in &channels {
        watching.push(Watching::open(channel.clone(), watch("a", 0)).await.0);
    }
    server.member.as_ref().expect("it runs").terminate();
    for watching in &mut watching {
        let ended = tokio::time::timeout(PATIENCE, watching.responses.message()).await;
        let status = ended.expect("in time").expect_err("the stream ends with a status");
        let said = (status.code(), status.message());
        assert_eq!(said, (Code::Unavailable, "etcdserver: server stopped"));
    }
    drop((watching, channels));
    let start = Instant::now();
    let ended = loop {
        if let Some(status) = server.member.as_mut().expect("it was started").ended() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.signal(), Some(15), "{}", server.said());
    assert!(start.elapsed() < Duration::from_secs(5), "it waited for nobody");
    server.restart().await;
}
