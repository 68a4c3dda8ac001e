//! Watches, leases, and what operators ask of a member, through gRPC.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::proto::etcdserverpb as pb;
use crate::proto::health as hpb;
use crate::proto::mvccpb::event::EventType;
use crate::rig::{Server, delete, get, put, range, refused};
use pb::cluster_client::ClusterClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Watch stream.
pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    pub responses: Streaming<pb::WatchResponse>,
}

impl Watching {
    /// Opens a stream with its first watcher: as with etcd, the answer to the call begins with the first
    /// message, so that a client which waits for it must have asked for something.
    pub async fn open(
        channel: Channel,
        request: pb::WatchCreateRequest,
    ) -> (Watching, pb::WatchResponse) {
        let (requests, receiver) = mpsc::channel(16);
        let request = Some(RequestUnion::CreateRequest(request));
        let request = pb::WatchRequest { request_union: request };
        requests.send(request).await.expect("there is room");
        let stream = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await;
        let mut watching = Watching { requests, responses: stream.expect("opens").into_inner() };
        let created = watching.next().await;
        assert!(created.created, "{created:?}");
        (watching, created)
    }

    async fn ask(&self, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.expect("the stream is open");
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let response = self.next().await;
        assert!(response.created, "{response:?}");
        response
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        message.expect("in time").expect("no error").expect("the stream goes on")
    }

    /// The next events, as revision, kind, key, value and previous value.
    pub async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await;
            assert!(!response.canceled && !response.created, "{response:?}");
            events.extend(response.events.iter().map(|event| {
                let pair = event.kv.clone().unwrap_or_default();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let before = event.prev_kv.as_ref().map(|pair| text(&pair.value));
                let kind = if event.r#type() == EventType::Put { "put" } else { "del" };
                let before = before.map_or(String::new(), |value| format!(" was {value}"));
                let (key, value) = (text(&pair.key), text(&pair.value));
                format!("r{} {kind} {key}={value}{before}", pair.mod_revision)
            }));
        }
        events
    }
}

pub fn watch(key: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), start_revision, ..Default::default() }
}

#[tokio::test]
async fn a_watch_tells_history_then_the_present() {
    let server = Server::start("watch", &[]).await;
    let mut kv = server.kv().await;
    kv.put(put("a", "1")).await.expect("is put");
    kv.put(put("a", "2")).await.expect("is put");
    kv.delete_range(delete("a")).await.expect("is removed");
    let request = pb::WatchCreateRequest { prev_kv: true, range_end: "b".into(), ..watch("a", 2) };
    let (mut watching, created) = Watching::open(server.channel().await, request).await;
    assert_eq!(created.watch_id, 0);
    let history = ["r2 put a=1", "r3 put a=2 was 1", "r4 del a= was 2"];
    assert_eq!(watching.events(3).await, history);
    kv.put(put("aa", "3")).await.expect("is put");
    kv.put(put("c", "elsewhere")).await.expect("is put");
    kv.put(put("a", "4")).await.expect("is put");
    assert_eq!(watching.events(2).await, ["r5 put aa=3", "r7 put a=4"]);

    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let progress = watching.next().await;
    let at = progress.header.map_or(0, |header| header.revision);
    assert_eq!((progress.watch_id, progress.events.len(), at), (-1, 0, 7), "{progress:?}");

    let filters = vec![pb::watch_create_request::FilterType::Noput.into()];
    let request = pb::WatchCreateRequest { filters, watch_id: 9, ..watch("a", 2) };
    assert_eq!(watching.create(request).await.watch_id, 9);
    assert_eq!(watching.events(1).await, ["r4 del a="]);
}

#[tokio::test]
async fn watches_end_as_they_should() {
    let server = Server::start("watch-ends", &[]).await;
    let mut kv = server.kv().await;
    let chosen = |key| pb::WatchCreateRequest { watch_id: 5, ..watch(key, 0) };
    let (mut watching, created) = Watching::open(server.channel().await, chosen("a")).await;
    assert_eq!(created.watch_id, 5);
    let twice = watching.create(chosen("b")).await;
    assert!(twice.canceled, "{twice:?}");
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!((twice.watch_id, &*twice.cancel_reason), (-1, reason));
    let request = pb::WatchCreateRequest { range_end: "a".into(), ..watch("b", 0) };
    let empty = watching.create(request).await;
    assert_eq!((empty.canceled, &*empty.cancel_reason), (true, "mvcc: watcher range is empty"));

    let cancel = pb::WatchCancelRequest { watch_id: 5 };
    watching.ask(RequestUnion::CancelRequest(cancel)).await;
    let ended = watching.next().await;
    assert!(ended.canceled && ended.watch_id == 5, "{ended:?}");

    for value in 0..5 {
        kv.put(put("a", &value.to_string())).await.expect("is put");
    }
    let request = pb::CompactionRequest { revision: 5, physical: true };
    kv.compact(request).await.expect("is compacted");
    let created = watching.create(watch("a", 2)).await;
    assert!(!created.canceled, "{created:?}");
    let ended = watching.next().await;
    assert_eq!((ended.canceled, ended.compact_revision), (true, 5), "{ended:?}");
    assert_eq!(ended.watch_id, created.watch_id);
}

#[tokio::test]
async fn a_lease_keeps_its_keys_for_as_long_as_it_is_kept_alive() {
    let flags = ["--heartbeat-interval=20", "--election-timeout=200"];
    let server = Server::start("lease", &flags).await;
    let (mut kv, mut lease) = (server.kv().await, LeaseClient::new(server.channel().await));
    let grant = |id, ttl| pb::LeaseGrantRequest { id, ttl };
    let granted = lease.lease_grant(grant(7, 2)).await.expect("is granted").into_inner();
    assert_eq!((granted.id, granted.ttl), (7, 2));
    let text = "etcdserver: lease already exists";
    refused(lease.lease_grant(grant(7, 2)).await, Code::FailedPrecondition, text);
    let text = "etcdserver: too large lease TTL";
    refused(lease.lease_grant(grant(8, 9_000_000_001)).await, Code::OutOfRange, text);
    let attached = pb::PutRequest { lease: 7, ..put("leased", "1") };
    kv.put(attached).await.expect("is put");

    let (requests, receiver) = mpsc::channel(4);
    requests.send(pb::LeaseKeepAliveRequest { id: 7 }).await.expect("there is room");
    let stream = lease.lease_keep_alive(ReceiverStream::new(receiver)).await;
    let mut stream = stream.expect("opens").into_inner();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_600) {
        let answer = stream.message().await.expect("no error").expect("goes on");
        assert_eq!((answer.id, answer.ttl), (7, 2));
        tokio::time::sleep(Duration::from_millis(400)).await;
        requests.send(pb::LeaseKeepAliveRequest { id: 7 }).await.expect("is open");
    }
    let answer = stream.message().await.expect("no error").expect("goes on");
    assert_eq!((answer.id, answer.ttl), (7, 2));
    let request = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let left = lease.lease_time_to_live(request).await.expect("is told").into_inner();
    assert!(left.granted_ttl == 2 && left.ttl >= 0, "{left:?}");
    assert_eq!(left.keys, ["leased"]);
    let leases = lease.lease_leases(pb::LeaseLeasesRequest {}).await.expect("is told");
    assert_eq!(leases.into_inner().leases, [pb::LeaseStatus { id: 7 }]);
    requests.send(pb::LeaseKeepAliveRequest { id: 99 }).await.expect("is open");
    let answer = stream.message().await.expect("no error").expect("goes on");
    assert_eq!((answer.id, answer.ttl), (99, 0), "there is no such lease");

    let kept = Instant::now();
    let found = async |kv: &mut pb::kv_client::KvClient<Channel>| {
        kv.range(get("leased")).await.expect("is read").into_inner().count
    };
    assert_eq!(found(&mut kv).await, 1);
    while found(&mut kv).await == 1 {
        assert!(kept.elapsed() < PATIENCE, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = "etcdserver: requested lease not found";
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    refused(lease.lease_revoke(revoke).await, Code::NotFound, text);
    let request = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let unknown = lease.lease_time_to_live(request).await.expect("is told").into_inner();
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (7, -1, 0), "as etcd says it");
}

#[tokio::test]
async fn revoking_a_lease_removes_its_keys_at_once() {
    let server = Server::start("revoke", &[]).await;
    let (mut kv, mut lease) = (server.kv().await, LeaseClient::new(server.channel().await));
    let granted = lease.lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 600 }).await;
    let granted = granted.expect("is granted").into_inner();
    assert!(granted.id > 0, "the server has chosen: {granted:?}");
    for key in ["a", "b"] {
        let attached = pb::PutRequest { lease: granted.id, ..put(key, "1") };
        kv.put(attached).await.expect("is put");
    }
    lease.lease_revoke(pb::LeaseRevokeRequest { id: granted.id }).await.expect("is revoked");
    let answer = kv.range(range("a", "\0")).await.expect("is read").into_inner();
    assert_eq!((answer.count, answer.header.unwrap_or_default().revision), (0, 4));
}

#[tokio::test]
async fn operators_learn_how_a_member_is() {
    let server = Server::start("operators", &[]).await;
    let channel = server.channel().await;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let status = maintenance.status(pb::StatusRequest {}).await.expect("is told").into_inner();
    let me = status.header.unwrap_or_default().member_id;
    assert_eq!(status.leader, me, "{status:?}");
    assert!(status.version.starts_with("3.7."), "{status:?}");
    assert!(status.raft_index >= status.raft_applied_index && status.raft_term > 0, "{status:?}");
    assert!(status.errors.is_empty() && !status.is_learner, "{status:?}");
    let get = pb::AlarmRequest::default();
    let alarms = maintenance.alarm(get).await.expect("is told").into_inner();
    assert_eq!(alarms.alarms, []);

    let mut cluster = ClusterClient::new(channel.clone());
    let request = pb::MemberListRequest { linearizable: true };
    let members = cluster.member_list(request).await.expect("is told").into_inner().members;
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!((members[0].id, &*members[0].name), (me, "m1"));
    assert_eq!(members[0].client_ur_ls, [server.layout.client_url(0)]);
    let peer = format!("http://127.0.0.1:{}", server.layout.ports[0].1);
    assert_eq!(members[0].peer_ur_ls, [peer]);

    let mut health = hpb::health_client::HealthClient::new(channel.clone());
    let answer = health.check(hpb::HealthCheckRequest::default()).await.expect("is told");
    let serving = hpb::health_check_response::ServingStatus::Serving;
    assert_eq!(answer.into_inner().status(), serving);
    let unknown = hpb::HealthCheckRequest { service: "no such".into() };
    assert_eq!(health.check(unknown).await.expect_err("is unknown").code(), Code::NotFound);
    let status = maintenance.downgrade(pb::DowngradeRequest::default()).await;
    assert_eq!(status.expect_err("names no version").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_member_that_stops_says_so_to_those_who_watch() {
    let mut server = Server::start("watch-stop", &[]).await;
    let (mut watching, _) = Watching::open(server.channel().await, watch("a", 0)).await;
    let mut health = hpb::health_client::HealthClient::new(server.channel().await);
    let mut told = Vec::new();
    for service in ["", "no such"] {
        let request = hpb::HealthCheckRequest { service: service.into() };
        let mut stream = health.watch(request).await.expect("opens").into_inner();
        told.push((stream.message().await.expect("goes on").expect("says something"), stream));
    }
    server.member.as_ref().expect("it runs").terminate();
    use hpb::health_check_response::ServingStatus::{NotServing, ServiceUnknown, Serving};
    for ((first, mut stream), expected) in told.into_iter().zip([Serving, ServiceUnknown]) {
        assert_eq!(first.status(), expected);
        if expected == Serving {
            let second = stream.message().await.expect("goes on").expect("says something");
            assert_eq!(second.status(), NotServing);
        }
        // What is not there does not stop serving.
        assert_eq!(stream.message().await.expect_err("ends").code(), Code::Unavailable);
    }
    let ended = tokio::time::timeout(PATIENCE, watching.responses.message()).await;
    let status = ended.expect("in time").expect_err("the stream ends with a status");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    drop(watching);
    let start = Instant::now();
    while server.member.as_mut().expect("it was started").ended().is_none() {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_revision_of_many_mebibytes_reaches_a_watcher_whole() {
    let server = Server::start("watch-large", &[]).await;
    let mut kv = server.kv().await;
    let value = "v".repeat(1 << 20);
    for at in 0..24 {
        kv.put(put(&format!("a{at:02}"), &value)).await.expect("is put");
    }
    let channel = server.channel().await;
    let request = pb::WatchCreateRequest { prev_kv: true, range_end: "b".into(), ..watch("a", 26) };
    let client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
    let (requests, receiver) = mpsc::channel(1);
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    requests.send(request).await.expect("there is room");
    let opened = client.clone().watch(ReceiverStream::new(receiver)).await;
    let mut responses = opened.expect("opens").into_inner();
    let all =
        pb::DeleteRangeRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
    kv.delete_range(all).await.expect("are removed");
    let mut events = 0;
    while events < 24 {
        let message = tokio::time::timeout(PATIENCE, responses.message()).await;
        let response = message.expect("in time").expect("no error").expect("the stream goes on");
        assert!(!response.canceled, "{}", response.cancel_reason);
        let whole = |event: &crate::proto::mvccpb::Event| {
            event.prev_kv.as_ref().is_some_and(|pair| pair.value.len() == 1 << 20)
        };
        assert!(response.events.iter().all(whole));
        events += response.events.len();
    }
}
