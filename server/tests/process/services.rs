//! Alarms and the quota, hashes, snapshots, locks, elections and streamed ranges, through gRPC.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::proto::etcdserverpb as pb;
use crate::proto::{v3electionpb as epb, v3lockpb as lpb};
use crate::rig::{Server, delete, get, put, range, refused};
use pb::alarm_request::AlarmAction;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

const PATIENCE: Duration = Duration::from_secs(20);

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

async fn maintenance(server: &Server) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(server.channel().await).max_decoding_message_size(64 << 20)
}

async fn alarm(
    client: &mut MaintenanceClient<Channel>,
    action: AlarmAction,
    member: u64,
) -> Vec<pb::AlarmMember> {
    let alarm = if action == AlarmAction::Get { 0 } else { pb::AlarmType::Nospace.into() };
    let request = pb::AlarmRequest { action: action.into(), member_id: member, alarm };
    client.alarm(request).await.expect("is answered").into_inner().alarms
}

/// Puts 1,000 bytes under ever new keys until it is refused; says after how many.
async fn fill(kv: &mut KvClient<Channel>) -> (usize, Status) {
    for number in 0..1000 {
        if let Err(status) = kv.put(put(&format!("fill/{number}"), &"x".repeat(1000))).await {
            return (number, status);
        }
    }
    panic!("nothing is refused");
}

async fn until_put(kv: &mut KvClient<Channel>) {
    let start = Instant::now();
    while let Err(status) = kv.put(put("more", "1")).await {
        assert_eq!(status.message(), NO_SPACE);
        assert!(start.elapsed() < PATIENCE, "the alarm does not clear itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_member_refuses_what_adds_and_clears_its_alarm_when_there_is_room() {
    let mut server = Server::start("quota", &["--quota-backend-bytes=53248"]).await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    let (count, status) = fill(&mut kv).await;
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, NO_SPACE));
    assert!((45..50).contains(&count), "{count} puts of about 1,070 bytes fit");
    let alarms = alarm(&mut client, AlarmAction::Get, 0).await;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].alarm(), pb::AlarmType::Nospace);
    let said = client.status(pb::StatusRequest {}).await.expect("is answered").into_inner();
    assert_eq!(said.errors, [format!("memberID:{} alarm:NOSPACE", alarms[0].member_id)]);
    assert_eq!((said.db_size_quota, said.db_size), (53248, said.db_size_in_use));
    assert!((48_000..53_248).contains(&said.db_size), "{}", said.db_size);
    server.restart().await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    refused(kv.put(put("a", "1")).await, Code::ResourceExhausted, NO_SPACE);
    let mut lease = LeaseClient::new(server.channel().await);
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    refused(lease.lease_grant(grant).await, Code::ResourceExhausted, NO_SPACE);
    kv.range(range("fill/", "fill0")).await.expect("reads pass");
    let all = pb::DeleteRangeRequest { range_end: "fill0".into(), ..delete("fill/") };
    let deleted = kv.delete_range(all).await.expect("deletes pass").into_inner();
    let revision = deleted.header.expect("has one").revision;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.expect("passes");
    until_put(&mut kv).await;
    assert_eq!(alarm(&mut client, AlarmAction::Get, 0).await, []);
}

#[tokio::test]
async fn a_sticky_alarm_waits_for_its_operator() {
    let flags = ["--quota-backend-bytes=20000", "--experimental-sticky-nospace-alarm"];
    let server = Server::start("sticky", &flags).await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    fill(&mut kv).await;
    let all = pb::DeleteRangeRequest { range_end: "fill0".into(), ..delete("fill/") };
    let deleted = kv.delete_range(all).await.expect("deletes pass").into_inner();
    let revision = deleted.header.expect("has one").revision;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.expect("passes");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    refused(kv.put(put("a", "1")).await, Code::ResourceExhausted, NO_SPACE);
    let alarms = alarm(&mut client, AlarmAction::Get, 0).await;
    assert_eq!(alarm(&mut client, AlarmAction::Deactivate, 0).await, [], "names nobody");
    assert_eq!(alarm(&mut client, AlarmAction::Deactivate, alarms[0].member_id).await, alarms);
    kv.put(put("a", "1")).await.expect("is put");
    let other = alarm(&mut client, AlarmAction::Activate, 7).await;
    assert_eq!(other.len(), 1);
    refused(kv.put(put("a", "1")).await, Code::ResourceExhausted, NO_SPACE);
    let request = pb::AlarmRequest { action: 9, ..Default::default() };
    refused(client.alarm(request).await, Code::Unknown, "etcdserver: unknown method");
}

#[tokio::test]
async fn corrupt_stops_writes_and_not_local_reads() {
    let server = Server::start("corrupt", &[]).await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    kv.put(put("a", "1")).await.expect("is put");
    let corrupt = pb::AlarmType::Corrupt.into();
    let action = AlarmAction::Activate.into();
    let request = pb::AlarmRequest { action, member_id: 0, alarm: corrupt };
    client.alarm(request).await.expect("is raised");
    let text = "etcdserver: corrupt cluster";
    refused(kv.put(put("a", "2")).await, Code::DataLoss, text);
    refused(kv.delete_range(delete("a")).await, Code::DataLoss, text);
    let request = pb::RangeRequest { serializable: true, ..get("a") };
    assert_eq!(kv.range(request).await.expect("is read").into_inner().count, 1);
    let action = AlarmAction::Deactivate.into();
    let request = pb::AlarmRequest { action, member_id: 0, alarm: corrupt };
    assert_eq!(client.alarm(request).await.expect("is cleared").into_inner().alarms.len(), 1);
    kv.put(put("a", "2")).await.expect("is put");
}

/// The writes and the number of etcd's own test: 72 puts over nine keys.
#[tokio::test]
async fn hashes_are_etcds_and_space_is_given_back_at_once() {
    let server = Server::start("hashes", &[]).await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    let keys = ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"];
    for i in 0..=71_usize {
        let key = if i == 30 { "zenek" } else { keys[i % 7] };
        kv.put(put(key, &i.to_string())).await.expect("is put");
    }
    let hash = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.expect("is answered");
    let hash = hash.into_inner();
    assert_eq!((hash.hash, hash.compact_revision, hash.hash_revision), (1_913_897_190, -1, 73));
    assert_eq!(hash.header.expect("has one").revision, 73);
    let past = client.hash_kv(pb::HashKvRequest { revision: 35 }).await.expect("is answered");
    assert_eq!(past.into_inner().hash, 4_082_599_214);
    let future = client.hash_kv(pb::HashKvRequest { revision: 74 }).await;
    refused(future, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
    kv.compact(pb::CompactionRequest { revision: 40, physical: true }).await.expect("passes");
    let past = client.hash_kv(pb::HashKvRequest { revision: 35 }).await;
    refused(past, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
    let before = client.hash(pb::HashRequest {}).await.expect("is answered").into_inner();
    let answer = client.defragment(pb::DefragmentRequest {}).await.expect("is answered");
    assert_eq!(answer.into_inner().header, None);
    let after = client.hash(pb::HashRequest {}).await.expect("is answered").into_inner();
    assert_eq!((before.hash, before.header.is_some()), (after.hash, true));
}

#[tokio::test]
async fn leadership_goes_only_to_who_can_have_it() {
    let server = Server::start("move-leader", &[]).await;
    let mut client = maintenance(&server).await;
    let request = pb::MoveLeaderRequest { target_id: 1 };
    let text = "etcdserver: bad leader transferee";
    refused(client.move_leader(request).await, Code::FailedPrecondition, text);
    let status = client.status(pb::StatusRequest {}).await.expect("is answered").into_inner();
    let request = pb::MoveLeaderRequest { target_id: status.leader };
    let answer = client.move_leader(request).await.expect("leads already").into_inner();
    assert_eq!(answer.header, None);
}

#[tokio::test]
async fn a_snapshot_is_whole_padded_and_signed() {
    let server = Server::start("snapshot", &[]).await;
    let (mut kv, mut client) = (server.kv().await, maintenance(&server).await);
    for number in 0..300 {
        kv.put(put(&format!("k{number}"), &"v".repeat(500))).await.expect("is put");
    }
    let mut stream = client.snapshot(pb::SnapshotRequest {}).await.expect("opens").into_inner();
    let (mut all, mut hash) = (Vec::new(), Vec::new());
    while let Some(piece) = stream.message().await.expect("goes on") {
        assert_eq!((piece.version.as_str(), piece.header.is_none()), ("3.7.0", true));
        if piece.blob.len() == 32 && piece.remaining_bytes == 0 && !all.is_empty() {
            hash = piece.blob.to_vec();
            continue;
        }
        assert!(piece.blob.len() <= 32 << 10);
        all.extend_from_slice(&piece.blob);
        if let Some(total) = all.len().checked_add(piece.remaining_bytes as usize) {
            assert_eq!(total % 512, 0);
        }
    }
    assert!(all.len() > 150_000 && all.len() % 512 == 0, "{} bytes", all.len());
    assert_eq!(hash, Sha256::digest(&all).to_vec());
    assert_eq!(&all[..12], b"HOLDFAST\x01\0\0\0");
}

async fn stream_all(
    kv: &mut KvClient<Channel>,
    request: pb::RangeRequest,
) -> Result<(usize, pb::RangeResponse), Status> {
    let mut stream: Streaming<pb::RangeStreamResponse> =
        kv.range_stream(request).await?.into_inner();
    let (mut pieces, mut whole) = (0, pb::RangeResponse::default());
    while let Some(piece) = stream.message().await? {
        let piece = piece.range_response.expect("is there");
        assert!(whole.header.is_none(), "the header is in the last piece");
        (pieces, whole.more, whole.count) = (pieces + 1, piece.more, piece.count);
        whole.header = piece.header;
        whole.kvs.extend(piece.kvs);
    }
    Ok((pieces, whole))
}

#[tokio::test]
async fn the_pieces_of_a_streamed_range_are_the_range() {
    let server = Server::start("range-stream", &["--max-request-bytes=20000"]).await;
    let mut kv = server.kv().await;
    for number in 0..300 {
        kv.put(put(&format!("k{number:03}"), &"v".repeat(300))).await.expect("is put");
    }
    for limit in [0, -1, 5, 10, 11, 100, 300, 301] {
        let request = pb::RangeRequest { limit, ..range("k", "l") };
        let (pieces, streamed) = stream_all(&mut kv, request.clone()).await.expect("is streamed");
        assert_eq!(streamed, kv.range(request).await.expect("is read").into_inner(), "{limit}");
        assert_eq!(pieces == 1, (1..=10).contains(&limit), "{limit}: {pieces} pieces");
    }
    let old = pb::RangeRequest { revision: 100, keys_only: true, ..range("k", "l") };
    let (_, streamed) = stream_all(&mut kv, old.clone()).await.expect("is streamed");
    assert_eq!(streamed, kv.range(old).await.expect("is read").into_inner());
    let counted = pb::RangeRequest { count_only: true, ..range("k", "l") };
    let (pieces, counted) = stream_all(&mut kv, counted).await.expect("is streamed");
    assert_eq!((pieces, counted.count, counted.kvs.len()), (1, 300, 0));
    let (pieces, none) = stream_all(&mut kv, range("x", "y")).await.expect("is streamed");
    assert_eq!((pieces, none.header.is_some(), none.count), (1, true, 0));
    let sorted = pb::RangeRequest { sort_order: 2, ..range("k", "l") };
    let text = "RangeStream does not support custom sort orders";
    refused(stream_all(&mut kv, sorted).await, Code::Unimplemented, text);
    let filtered = pb::RangeRequest { min_mod_revision: 1, ..range("k", "l") };
    let text = "RangeStream does not support revision filters";
    refused(stream_all(&mut kv, filtered).await, Code::Unimplemented, text);
    let text = "etcdserver: key is not provided";
    refused(stream_all(&mut kv, get("")).await, Code::InvalidArgument, text);
}

async fn lease(server: &Server, id: i64) -> i64 {
    let mut client = LeaseClient::new(server.channel().await);
    let request = pb::LeaseGrantRequest { ttl: 60, id };
    client.lease_grant(request).await.expect("is granted").into_inner().id
}

#[tokio::test]
async fn a_lock_is_held_by_one_and_then_by_the_next() {
    let server = Server::start("lock", &[]).await;
    let mut kv = server.kv().await;
    let mut locks = lpb::lock_client::LockClient::new(server.channel().await);
    let ask = |lease| lpb::LockRequest { name: "door".into(), lease };
    let (one, two, three) =
        (lease(&server, 0x1a).await, lease(&server, 2).await, lease(&server, 3).await);
    let held = locks.lock(ask(one)).await.expect("is free").into_inner();
    assert_eq!(&held.key[..], b"door/1a");
    assert_eq!(locks.lock(ask(one)).await.expect("is its own").into_inner().key, held.key);
    let waiter = locks.clone();
    let waiting = |lease| {
        let mut locks = waiter.clone();
        tokio::spawn(async move { locks.lock(ask(lease)).await })
    };
    let second = waiting(two);
    while kv.range(range("door/", "door0")).await.expect("is read").into_inner().count < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = waiting(three);
    while kv.range(range("door/", "door0")).await.expect("is read").into_inner().count < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!second.is_finished() && !third.is_finished());
    // Whoever waits no more leaves no key behind.
    third.abort();
    while kv.range(range("door/", "door0")).await.expect("is read").into_inner().count > 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    locks.unlock(lpb::UnlockRequest { key: held.key }).await.expect("is unlocked");
    let held = tokio::time::timeout(PATIENCE, second).await.expect("in time").expect("no panic");
    assert_eq!(&held.expect("is its turn").into_inner().key[..], b"door/2");
    // A key that goes while its owner waits is an expired session.
    let fourth = waiting(one);
    while kv.range(get("door/1a")).await.expect("is read").into_inner().count < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kv.delete_range(delete("door/1a")).await.expect("is deleted");
    kv.delete_range(delete("door/2")).await.expect("is deleted");
    let lost = tokio::time::timeout(PATIENCE, fourth).await.expect("in time").expect("no panic");
    refused(lost, Code::Unknown, "mutex: session is expired");
    refused(locks.lock(ask(99)).await, Code::Unknown, "etcdserver: requested lease not found");
    let own = locks.lock(ask(0)).await.expect("gets a lease of its own").into_inner();
    let pairs = kv.range(range("door/", "door0")).await.expect("is read").into_inner().kvs;
    assert_eq!((pairs.len(), &pairs[0].key), (1, &own.key));
    assert_eq!(own.key, format!("door/{:x}", pairs[0].lease));
}

#[tokio::test]
async fn an_election_is_won_proclaimed_observed_and_resigned() {
    let server = Server::start("election", &[]).await;
    let mut kv = server.kv().await;
    let mut client = epb::election_client::ElectionClient::new(server.channel().await);
    let name = || epb::LeaderRequest { name: "post".into() };
    refused(client.leader(name()).await, Code::Unknown, "election: no leader");
    let observing = tokio::spawn(observe(client.clone()));
    let ask = |lease, value: &str| epb::CampaignRequest {
        name: "post".into(),
        lease,
        value: value.to_owned().into(),
    };
    let (one, two) = (lease(&server, 1).await, lease(&server, 2).await);
    // The observer is there before the first leader, or misses none of what follows.
    let won = client.campaign(ask(one, "a")).await.expect("is alone").into_inner();
    let leader = won.leader.expect("is there");
    assert_eq!(
        (&leader.key[..], &leader.name[..], leader.lease),
        (&b"post/1"[..], &b"post"[..], 1)
    );
    assert_eq!(won.header.expect("has one").revision, leader.rev);
    let again = client.campaign(ask(one, "b")).await.expect("leads already").into_inner();
    assert_eq!(again.leader.as_ref(), Some(&leader));
    let now = client.leader(name()).await.expect("there is one").into_inner();
    assert_eq!(&now.kv.expect("is there").value[..], b"b");
    let mut other = client.clone();
    let second = tokio::spawn(async move { other.campaign(ask(two, "z")).await });
    while kv.range(get("post/2")).await.expect("is read").into_inner().count < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let proclaim =
        |leader, value: &str| epb::ProclaimRequest { leader, value: value.to_owned().into() };
    client.proclaim(proclaim(Some(leader.clone()), "c")).await.expect("leads");
    let text = "\"leader\" field must be provided";
    refused(client.proclaim(proclaim(None, "c")).await, Code::Unknown, text);
    refused(client.resign(epb::ResignRequest { leader: None }).await, Code::Unknown, text);
    let nowhere = || Some(epb::LeaderKey::default());
    let text = "etcdserver: key is not provided";
    refused(client.proclaim(proclaim(nowhere(), "c")).await, Code::Unknown, text);
    refused(client.resign(epb::ResignRequest { leader: nowhere() }).await, Code::Unknown, text);
    client.resign(epb::ResignRequest { leader: Some(leader.clone()) }).await.expect("resigns");
    client.resign(epb::ResignRequest { leader: Some(leader.clone()) }).await.expect("twice, too");
    let lost = client.proclaim(proclaim(Some(leader), "d")).await;
    refused(lost, Code::Unknown, "election: not leader");
    let won = tokio::time::timeout(PATIENCE, second).await.expect("in time").expect("no panic");
    assert_eq!(
        &won.expect("is its turn").into_inner().leader.expect("is there").key[..],
        b"post/2"
    );
    let values = tokio::time::timeout(PATIENCE, observing).await.expect("in time");
    assert_eq!(values.expect("no panic"), ["a", "b", "c", "z"]);
}

/// What an observer is told until "z". The answer to its call begins with the first leader.
async fn observe(mut client: epb::election_client::ElectionClient<Channel>) -> Vec<String> {
    let request = epb::LeaderRequest { name: "post".into() };
    let mut stream = client.observe(request).await.expect("opens").into_inner();
    let mut values: Vec<String> = Vec::new();
    while values.last().is_none_or(|last| last != "z") {
        let told = stream.message().await.expect("goes on").expect("goes on");
        let kv = told.kv.expect("is there");
        values.push(String::from_utf8_lossy(&kv.value).into_owned());
    }
    values
}
