//! Users, roles, tokens and rights through gRPC, over real processes.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::client;
use crate::member::{Layout, Member};
use crate::proto::{authpb, etcdserverpb as pb};
use crate::rig::{Scratch, Server, binary, get, http_get, put, refused};
use pb::auth_client::AuthClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// The cheapest hashes that there are.
const CHEAP: &[&str] = &["--bcrypt-cost=4"];

const DENIED: &str = "etcdserver: permission denied";

pub fn with<T>(token: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    let token = token.parse::<MetadataValue<_>>().expect("tokens are text");
    request.metadata_mut().insert("authorization", token);
    request
}

async fn add_user(
    auth: &mut AuthClient<Channel>,
    name: &str,
    password: &str,
) -> Result<(), Status> {
    let (name, password) = (name.to_owned(), password.to_owned());
    let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
    auth.user_add(request).await.map(drop)
}

async fn grant_role(auth: &mut AuthClient<Channel>, user: &str, role: &str) -> Result<(), Status> {
    let (user, role) = (user.to_owned(), role.to_owned());
    auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await.map(drop)
}

pub async fn log_in(channel: &Channel, name: &str, password: &str) -> Result<String, Status> {
    let mut auth = AuthClient::new(channel.clone());
    let (name, password) = (name.to_owned(), password.to_owned());
    let answer = auth.authenticate(pb::AuthenticateRequest { name, password }).await?;
    Ok(answer.into_inner().token)
}

fn read_write(key: &str, range_end: &str) -> authpb::Permission {
    authpb::Permission {
        perm_type: authpb::permission::Type::Readwrite.into(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}

/// Root with password "r"; bob, with "b", may read and write `[a, c)`; then authentication is on.
pub async fn populate(channel: &Channel) {
    let mut auth = AuthClient::new(channel.clone());
    for (name, password) in [("root", "r"), ("bob", "b")] {
        add_user(&mut auth, name, password).await.expect("is added");
    }
    grant_role(&mut auth, "root", "root").await.expect("is granted");
    auth.role_add(pb::AuthRoleAddRequest { name: "ab".into() }).await.expect("is added");
    let (name, perm) = ("ab".to_owned(), Some(read_write("a", "c")));
    let grant = pb::AuthRoleGrantPermissionRequest { name, perm };
    auth.role_grant_permission(grant).await.expect("is granted");
    grant_role(&mut auth, "bob", "ab").await.expect("is granted");
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("is enabled");
}

#[tokio::test]
async fn a_login_is_needed_and_rights_are_looked_at() {
    let server = Server::start("users", CHEAP).await;
    let channel = server.channel().await;
    let mut kv = server.kv().await;
    refused(
        log_in(&channel, "root", "r").await,
        Code::FailedPrecondition,
        "etcdserver: authentication is not enabled",
    );
    populate(&channel).await;
    refused(kv.put(put("a", "1")).await, Code::InvalidArgument, "etcdserver: user name is empty");
    refused(kv.range(get("a")).await, Code::InvalidArgument, "etcdserver: user name is empty");
    for token in ["x", "abcdefghijklmnop.1", "Bearer abcdefghijklmnop.1"] {
        let text = "etcdserver: invalid auth token";
        refused(kv.range(with(token, get("a"))).await, Code::Unauthenticated, text);
        refused(kv.put(with(token, put("a", "1"))).await, Code::Unauthenticated, text);
    }
    refused(
        log_in(&channel, "bob", "x").await,
        Code::InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password",
    );
    let bob = log_in(&channel, "bob", "b").await.expect("the right password");
    let (letters, index) = bob.split_once('.').expect("a dot");
    assert!(letters.len() == 16 && letters.bytes().all(|byte| byte.is_ascii_alphabetic()), "{bob}");
    assert!(index.parse::<u64>().is_ok(), "{bob}");
    kv.put(with(&bob, put("a", "1"))).await.expect("bob may");
    kv.range(with(&format!("Bearer {bob}"), get("b"))).await.expect("bob may");
    refused(kv.put(with(&bob, put("c", "1"))).await, Code::PermissionDenied, DENIED);
    refused(kv.range(with(&bob, get("c"))).await, Code::PermissionDenied, DENIED);
    let mut maintenance = MaintenanceClient::new(channel.clone());
    maintenance.status(with(&bob, pb::StatusRequest {})).await.expect("anybody who says who");
    refused(
        maintenance.status(pb::StatusRequest {}).await,
        Code::InvalidArgument,
        "etcdserver: user name is empty",
    );
    let port = server.layout.ports[0].0;
    assert!(http_get(port, "/health").contains(r#""health":"true""#), "health asks as root");

    // A role that changes ends no simple token, and takes effect at once.
    let root = log_in(&channel, "root", "r").await.expect("the right password");
    let mut auth = AuthClient::new(channel.clone());
    let revoke = pb::AuthUserRevokeRoleRequest { name: "bob".into(), role: "ab".into() };
    refused(
        auth.user_revoke_role(with(&bob, revoke.clone())).await,
        Code::PermissionDenied,
        DENIED,
    );
    auth.user_revoke_role(with(&root, revoke)).await.expect("root may");
    refused(kv.range(with(&bob, get("a"))).await, Code::PermissionDenied, DENIED);
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.expect("is open").into_inner();
    assert!(status.enabled && status.auth_revision == 8, "{status:?}");
    auth.auth_disable(with(&root, pb::AuthDisableRequest {})).await.expect("root may");
    kv.put(put("z", "1")).await.expect("nobody asks any more");
}

#[tokio::test]
async fn streams_are_their_openers() {
    let server = Server::start("users_streams", CHEAP).await;
    let channel = server.channel().await;
    populate(&channel).await;
    let bob = log_in(&channel, "bob", "b").await.expect("the right password");
    let root = log_in(&channel, "root", "r").await.expect("the right password");
    let create = |key: &str| pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    };
    let requests = tokio_stream_of(vec![create("a"), create("z")]);
    let mut watch = WatchClient::new(channel.clone());
    let mut told = watch.watch(with(&bob, requests)).await.expect("opens").into_inner();
    let first = told.message().await.expect("goes on").expect("says something");
    assert!(first.created && !first.canceled, "{first:?}");
    let second = told.message().await.expect("goes on").expect("says something");
    assert!(second.created && second.canceled && second.watch_id == -1, "{second:?}");
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(second.cancel_reason, reason);

    let mut lease = LeaseClient::new(channel.clone());
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    lease.lease_grant(with(&bob, grant)).await.expect("anybody who says who");
    let mut kv = server.kv().await;
    let attached = |key: &str| pb::PutRequest { lease: 7, ..put(key, "1") };
    kv.put(with(&bob, attached("a"))).await.expect("bob may");
    let renew = || tokio_stream_of(vec![pb::LeaseKeepAliveRequest { id: 7 }]);
    let mut renewed =
        lease.lease_keep_alive(with(&bob, renew())).await.expect("opens").into_inner();
    assert_eq!(renewed.message().await.expect("goes on").expect("says something").ttl, 60);
    kv.put(with(&root, attached("z"))).await.expect("root may");
    let answer = lease.lease_keep_alive(with(&bob, renew())).await;
    let refusal = match answer {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(refusal, Code::PermissionDenied, DENIED);
    // What was asked before is answered before the stream ends.
    let renewals = [404, 7, 405].map(|id| pb::LeaseKeepAliveRequest { id });
    let both = lease.lease_keep_alive(with(&bob, tokio_stream_of(renewals.to_vec()))).await;
    let mut both = both.expect("opens").into_inner();
    let first = both.message().await.expect("goes on").expect("says something");
    assert_eq!((first.id, first.ttl), (404, 0));
    refused(both.message().await, Code::PermissionDenied, DENIED);
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    refused(lease.lease_revoke(with(&bob, revoke)).await, Code::PermissionDenied, DENIED);
    // What has begun goes on, whatever becomes of the right.
    let mut auth = AuthClient::new(channel.clone());
    let delete = pb::AuthRoleDeleteRequest { role: "ab".into() };
    auth.role_delete(with(&root, delete)).await.expect("root may");
    kv.put(with(&root, put("a", "2"))).await.expect("root may");
    let event = told.message().await.expect("goes on").expect("says something");
    assert_eq!(event.events.len(), 1);
}

fn tokio_stream_of<T>(items: Vec<T>) -> impl tonic::codegen::tokio_stream::Stream<Item = T>
where
    T: Send + 'static,
{
    // The stream must not end: a half-closed renewal stream ends with its last answer.
    let pending = tonic::codegen::tokio_stream::pending();
    use tonic::codegen::tokio_stream::StreamExt;
    tonic::codegen::tokio_stream::iter(items).chain(pending)
}

#[tokio::test]
async fn a_token_holds_on_every_member_and_ends_with_the_process() {
    let scratch = Scratch::new("users_three");
    let mut layout = Layout::local(binary(), &scratch.0, 3).expect("ports are free");
    layout.flags = CHEAP.iter().map(|flag| flag.to_string()).collect();
    let mut members = Vec::new();
    for at in 0..3 {
        members.push(Some(Member::start(&layout, at).expect("the binary runs")));
    }
    let mut channels = Vec::new();
    for at in 0..3 {
        crate::rig::says(&layout, at, "ready to serve client requests").await;
        channels.push(client::channel(&layout.client_url(at)).await.expect("it listens"));
    }
    populate(&channels[0]).await;
    // Logged in on one, used on all, at once.
    let bob = log_in(&channels[1], "bob", "b").await.expect("the right password");
    for channel in &channels {
        let mut kv = KvClient::new(channel.clone());
        kv.put(with(&bob, put("a", "1"))).await.expect("bob may");
        let local = pb::RangeRequest { serializable: true, ..get("a") };
        kv.range(with(&bob, local)).await.expect("bob may");
        refused(kv.range(with(&bob, get("z"))).await, Code::PermissionDenied, DENIED);
    }
    members[2].take().expect("it runs").kill();
    members[2] = Some(Member::start(&layout, 2).expect("the binary runs"));
    let patience = std::time::Instant::now();
    let channel = loop {
        if let Ok(channel) = client::channel(&layout.client_url(2)).await {
            break channel;
        }
        assert!(patience.elapsed() < Duration::from_secs(30), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut kv = KvClient::new(channel.clone());
    let text = "etcdserver: invalid auth token";
    let answer = loop {
        let answer = kv.range(with(&bob, get("a"))).await;
        // Until it has caught up with whether authentication is on, and knows a leader.
        match &answer {
            Err(status) if status.code() == Code::Unavailable => {}
            _ => break answer,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    refused(answer, Code::Unauthenticated, text);
    let again = log_in(&channel, "bob", "b").await.expect("the right password");
    kv.range(with(&again, get("a"))).await.expect("bob may");
    // The others still know the first one.
    KvClient::new(channels[0].clone()).range(with(&bob, get("a"))).await.expect("bob may");
}

#[tokio::test]
async fn signed_tokens_end_with_a_change_of_users() {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/jwt/testdata/p256.pem");
    let flag = format!("--auth-token=jwt,sign-method=ES256,priv-key={key},ttl=1h");
    let server = Server::start("users_jwt", &[&flag, "--bcrypt-cost=4"]).await;
    let channel = server.channel().await;
    populate(&channel).await;
    let mut kv = server.kv().await;
    let bob = log_in(&channel, "bob", "b").await.expect("the right password");
    assert_eq!(bob.split('.').count(), 3, "{bob}");
    kv.put(with(&bob, put("a", "1"))).await.expect("bob may");
    let root = log_in(&channel, "root", "r").await.expect("the right password");
    let mut auth = AuthClient::new(channel.clone());
    let add = pb::AuthRoleAddRequest { name: "other".into() };
    auth.role_add(with(&root, add)).await.expect("root may");
    let old = "etcdserver: revision of auth store is old";
    refused(kv.put(with(&bob, put("a", "1"))).await, Code::InvalidArgument, old);
    refused(kv.range(with(&bob, get("a"))).await, Code::InvalidArgument, old);
    let bob = log_in(&channel, "bob", "b").await.expect("the right password");
    kv.range(with(&bob, get("a"))).await.expect("bob may");
    let mut damaged = bob.into_bytes();
    let at = damaged.len() - 10;
    damaged[at] = if damaged[at] == b'x' { b'y' } else { b'x' };
    let damaged = String::from_utf8(damaged).expect("still text");
    let text = "etcdserver: invalid auth token";
    refused(kv.range(with(&damaged, get("a"))).await, Code::Unauthenticated, text);
}

#[tokio::test]
async fn no_password_and_no_token_is_written_down() {
    let mut server =
        Server::start("users_secrets", &["--bcrypt-cost=4", "--log-level=debug"]).await;
    let channel = server.channel().await;
    let mut auth = AuthClient::new(channel.clone());
    let password = "correct-horse-battery-staple";
    add_user(&mut auth, "root", password).await.expect("is added");
    let long = "x".repeat(73);
    let refusal = add_user(&mut auth, "bob", &long).await;
    refused(refusal, Code::Unknown, "bcrypt: password length exceeds 72 bytes");
    grant_role(&mut auth, "root", "root").await.expect("is granted");
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("is enabled");
    let token = log_in(&channel, "root", password).await.expect("the right password");
    let wrong = log_in(&channel, "root", "wrong-horse-battery-staple").await;
    assert!(wrong.is_err());
    let said = server.said();
    server.kill();
    let log: Vec<u8> =
        server.segments().iter().flat_map(|file| std::fs::read(file).expect("is read")).collect();
    let has =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    for secret in ["horse-battery", &token] {
        assert!(!has(said.as_bytes(), secret), "the member's log has {secret:?}");
    }
    assert!(!has(&log, "horse-battery"), "the write-ahead log has the password");
    assert!(has(&log, "$2a$04$"), "it has its hash");
    // Users outlive the process.
    let mut server_again = server;
    server_again.member = Some(Member::start(&server_again.layout, 0).expect("the binary runs"));
    let channel = loop {
        if let Ok(channel) = client::channel(&server_again.layout.client_url(0)).await {
            break channel;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    log_in(&channel, "root", password).await.expect("the right password");
}
