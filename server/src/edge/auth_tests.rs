//! Logins, tokens and rights of an edge over an engine in memory; the driver is played by hand.

use std::collections::BTreeMap;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::auth::{AuthOp, AuthQuery, AuthReply, Permission, PermissionType, Secret};
use holdfast_core::command::Command;
use holdfast_core::id::{ClusterId, Position, Term};
use holdfast_core::machine::{self, Applied, Machine};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::request::{KeyRange, Put, Range, RangeEnd};
use holdfast_core::response::Member;
use holdfast_core::watch::{WatchCreate, WatchRequest};
use holdfast_storage::disk::MemoryDisk;
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};

use super::*;
use crate::auth::jwt::{JwtOptions, Signer};
use crate::auth::vault::{Done, InlineVault, Vault, Work};
use crate::auth::{Token, TokenOptions};

const MEMBER: MemberId = MemberId(1);

struct Rig {
    engine: Engine,
    machine: Machine,
    edge: Edge,
    inbox: Vec<Event>,
    index: u64,
    now: Instant,
    calls: u64,
    answered: BTreeMap<StreamId, Result<AnswerBody, Rejection>>,
    verified: Rc<Cell<usize>>,
}

/// Counts comparisons.
struct Counting(InlineVault, Rc<Cell<usize>>);

impl Vault for Counting {
    fn draw(&mut self, bytes: &mut [u8]) {
        self.0.draw(bytes);
    }

    fn unix_seconds(&self) -> u64 {
        self.0.unix_seconds()
    }

    fn submit(&mut self, now: Instant, number: u64, work: Work) {
        self.1.set(self.1.get() + usize::from(matches!(work, Work::Verify { .. })));
        self.0.submit(now, number, work);
    }

    fn reap(&mut self, now: Instant, done: &mut Vec<(u64, Done)>) {
        self.0.reap(now, done);
    }

    fn deadline(&self) -> Instant {
        self.0.deadline()
    }
}

impl Rig {
    fn with(auth: AuthOptions) -> Rig {
        let disk = Arc::new(MemoryDisk::new());
        let identity = EngineIdentity { cluster: ClusterId(1), member: MEMBER };
        let genesis = machine::genesis(&[Member { id: MEMBER, ..Member::default() }]);
        let meta =
            SnapshotMeta { at: Position::default(), voters: vec![MEMBER], learners: Vec::new() };
        let mut engine = Engine::create(disk, identity, EngineOptions::default(), genesis, meta)
            .expect("an empty disk takes an engine");
        let limits = Limits { edge_slice_keys: 16, ..Limits::default() };
        let config = EdgeConfig {
            answers: AnswerMemory::new(limits.answer_bytes_max),
            member_id: |_| MemberId(9),
            member: MEMBER,
            incarnation: Incarnation(1),
            sequence_base: 0,
            limits: limits.clone(),
            hub: HubOptions::default(),
            seed: 1,
            quota: 0,
            auto_compaction: None,
            hash_checks: HashChecks::default(),
            compaction_hashes: CompactionHashes::default(),
            auth,
        };
        let verified = Rc::new(Cell::new(0));
        let vault = Box::new(Counting(InlineVault::new(1), verified.clone()));
        Rig {
            machine: Machine::load(&limits, &engine),
            edge: Edge::new(config, engine.publish(), vault),
            inbox: Vec::new(),
            index: 0,
            now: Instant(1_000_000_000),
            calls: 0,
            answered: BTreeMap::new(),
            engine,
            verified,
        }
    }

    /// With root, whose password is "r", and bob, whose is "b" and who may read `[a, c)` and write
    /// `a`; authentication is on.
    fn populated(auth: AuthOptions) -> Rig {
        let mut rig = Rig::with(auth);
        let name = |name: &str| name.to_owned();
        for (user, password) in [("root", "r"), ("bob", "b")] {
            let (name, password) = (name(user), Secret::from(password));
            rig.done(Query::Auth(AuthQuery::UserAdd { name, password }));
        }
        rig.call(AuthOp::UserGrantRole { user: name("root"), role: name("root") });
        rig.call(AuthOp::RoleAdd { name: name("r") });
        for (key, range_end, kind) in
            [("a", "c", PermissionType::READ), ("a", "", PermissionType::WRITE)]
        {
            let permission =
                Some(Permission { key: key.into(), range_end: range_end.into(), kind });
            rig.call(AuthOp::RoleGrantPermission { role: name("r"), permission });
        }
        rig.call(AuthOp::UserGrantRole { user: name("bob"), role: name("r") });
        rig.call(AuthOp::Enable);
        rig
    }

    fn begin(&mut self, by: &Credential, query: Query) -> StreamId {
        self.calls += 1;
        let call = StreamId(self.calls);
        let asked = Asked { call, query, by: by.clone() };
        self.edge.ask(self.now, asked, &mut self.inbox);
        call
    }

    /// Everything that has been handed over is applied, published and answered.
    fn turn(&mut self) {
        self.edge.flush(self.now, &mut self.inbox);
        let (mut tokens, mut replies) = (Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.inbox) {
            let Event::Request(Request { id, identity, ask, .. }) = event else { continue };
            let body = match ask {
                Ask::Propose(op) => {
                    self.index += 1;
                    let at = Position::new(self.index, 1);
                    let command = Command { id, identity, op };
                    let mut applied = Applied::default();
                    let engine = &mut self.engine;
                    self.machine.apply(at, &command, engine, &mut applied).expect("memory works");
                    tokens.append(&mut applied.tokens);
                    applied.result
                }
                Ask::LeaseKeepAlive { .. } => Ok(Body::LeaseKeepAlive { ttl: 60 }),
                Ask::LeaseTimeToLive { .. } => {
                    Ok(Body::LeaseTimeToLive { ttl: 50, granted: 60, applied: Index(0) })
                }
                _ => Ok(Body::ReadIndex),
            };
            replies.push((id, body));
        }
        let (snapshot, events) = (self.engine.publish(), Vec::new());
        let revision = snapshot.mark().revision;
        let publication = Publication { snapshot, events, tokens, restored: false };
        self.edge.published(self.now, publication);
        for (id, body) in replies {
            self.edge.replied(id, body.map(|body| Response { revision, term: Term(1), body }));
        }
        let mut answers = Vec::new();
        self.edge.take_answers(self.now, &mut answers);
        for (call, answer) in answers {
            let twice = self.answered.insert(call, answer.map(|answer| answer.body));
            assert_eq!(twice, None, "{call:?} is answered twice");
        }
    }

    /// Turns until the call is answered.
    fn finish(&mut self, call: StreamId) -> Result<AnswerBody, Rejection> {
        for _ in 0..100 {
            if let Some(answer) = self.answered.remove(&call) {
                return answer;
            }
            self.now = self.now + Duration::from_millis(50);
            self.turn();
        }
        panic!("{call:?} is not answered");
    }

    fn ask(&mut self, by: &Credential, query: Query) -> Result<AnswerBody, Rejection> {
        let call = self.begin(by, query);
        self.finish(call)
    }

    fn done(&mut self, query: Query) {
        let answer = self.ask(&Credential::System, query);
        assert_eq!(answer, Ok(AnswerBody::Auth(AuthReply::Done)));
    }

    fn call(&mut self, op: AuthOp) {
        self.done(Query::Auth(AuthQuery::Op(op)));
    }

    fn log_in(&mut self, name: &str, password: &str) -> Result<Credential, Rejection> {
        let answer = self.ask(&Credential::None, login(name, password))?;
        let AnswerBody::Auth(AuthReply::Authenticated { token, .. }) = answer else {
            panic!("a login answers {answer:?}")
        };
        Ok(Credential::of(Some(String::from_utf8(token.0.to_vec()).expect("tokens are text"))))
    }
}

fn login(name: &str, password: &str) -> Query {
    let (name, password) = (name.to_owned(), password.into());
    Query::Auth(AuthQuery::Authenticate { name, password })
}

fn get(keys: KeyRange) -> Query {
    Query::Range(Range::of(keys))
}

fn point(key: &'static str) -> KeyRange {
    KeyRange::single(Bytes::from_static(key.as_bytes()))
}

fn put(key: &str, lease: i64) -> Query {
    Query::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: "v".into(),
        lease: LeaseId(lease),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

fn hmac(ttl: Duration) -> AuthOptions {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/jwt/testdata/shared");
    let options = JwtOptions {
        sign_method: "HS256".to_owned(),
        priv_key: file.to_owned(),
        ttl: Some(ttl),
        ..JwtOptions::default()
    };
    let signer = Signer::load(&options).expect("the key is there");
    AuthOptions { tokens: TokenOptions::Jwt(signer), ..AuthOptions::default() }
}

const DENIED: Rejection = Rejection::PermissionDenied;

#[test]
fn a_token_is_its_users_rights() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    assert!(rig.ask(&bob, get(point("b"))).is_ok());
    assert_eq!(rig.ask(&bob, get(point("c"))), Err(DENIED));
    assert!(rig.ask(&bob, put("a", 0)).is_ok());
    assert_eq!(rig.ask(&bob, put("b", 0)), Err(DENIED));
    let nobody = Credential::None;
    assert_eq!(rig.ask(&nobody, get(point("a"))), Err(Rejection::UserEmpty));
    assert_eq!(rig.ask(&nobody, put("a", 0)), Err(Rejection::UserEmpty));
    let wrong = Credential::Token(Token("abc.1".into()));
    for query in [get(point("a")), put("a", 0), Query::Status, Query::LeaseLeases] {
        assert_eq!(rig.ask(&wrong, query), Err(Rejection::InvalidAuthToken));
    }
    assert!(rig.ask(&Credential::System, get(point("z"))).is_ok());
    let root = rig.log_in("root", "r").expect("the right password");
    assert!(rig.ask(&root, put("z", 0)).is_ok());
    // A wrong token does not keep anybody from logging in.
    assert!(rig.ask(&wrong, login("bob", "b")).is_ok());
}

#[test]
fn a_wrong_password_is_no_login() {
    let mut rig = Rig::populated(AuthOptions::default());
    let name = "ann".to_owned();
    let password = Secret::default();
    rig.call(AuthOp::UserAdd { name, password, no_password: true });
    for (user, password, refusal) in [
        ("bob", "x", Rejection::AuthFailed),
        ("bob", "", Rejection::AuthFailed),
        ("eve", "b", Rejection::AuthFailed),
        ("", "", Rejection::AuthFailed),
        ("ann", "", Rejection::NoPasswordUser),
    ] {
        assert_eq!(rig.log_in(user, password), Err(refusal), "{user}");
    }
    // An emptied password matches nothing.
    let (name, password) = ("bob".to_owned(), Some(Secret::default()));
    rig.call(AuthOp::UserChangePassword { name, password });
    assert_eq!(rig.log_in("bob", ""), Err(Rejection::AuthFailed));
    rig.call(AuthOp::Disable);
    assert_eq!(rig.log_in("bob", "b"), Err(Rejection::AuthNotEnabled));
    let long = "x".repeat(73);
    let too_long =
        Query::Auth(AuthQuery::UserAdd { name: "new".to_owned(), password: long.as_str().into() });
    assert_eq!(rig.ask(&Credential::None, too_long), Err(Rejection::PasswordTooLong));
}

#[test]
fn what_ends_a_password_ends_its_tokens() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let root = rig.log_in("root", "r").expect("the right password");
    let change = AuthQuery::UserChangePassword { name: "bob".to_owned(), password: "c".into() };
    rig.done(Query::Auth(change));
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(Rejection::InvalidAuthToken));
    assert!(rig.ask(&root, get(point("a"))).is_ok());
    assert_eq!(rig.log_in("bob", "b"), Err(Rejection::AuthFailed));
    let bob = rig.log_in("bob", "c").expect("the new password");
    // Rights that shrink leave the token.
    rig.call(AuthOp::RoleDelete { name: "r".to_owned() });
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(DENIED));
    rig.now = rig.now + Duration::from_secs(301);
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(Rejection::InvalidAuthToken));
}

#[test]
fn a_snapshot_from_a_peer_ends_all_tokens() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let (snapshot, events, tokens) = (rig.engine.publish(), Vec::new(), Vec::new());
    let publication = Publication { snapshot, events, tokens, restored: true };
    rig.edge.published(rig.now, publication);
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(Rejection::InvalidAuthToken));
}

#[test]
fn a_password_is_compared_again_when_users_have_changed() {
    let mut rig = Rig::populated(AuthOptions::default());
    let change = |rig: &mut Rig, op: AuthOp| {
        rig.begin(&Credential::System, Query::Auth(AuthQuery::Op(op)));
        rig.turn();
    };
    // Until the login stands in the inbox, compared at the present revision.
    let until_proposed = |rig: &mut Rig, password: &str| {
        let call = rig.begin(&Credential::None, login("bob", password));
        loop {
            rig.edge.flush(rig.now, &mut rig.inbox);
            let login = |event: &Event| {
                matches!(
                    event,
                    Event::Request(Request {
                        ask: Ask::Propose(Op::Auth(AuthOp::Authenticate { .. })),
                        ..
                    })
                )
            };
            if rig.inbox.iter().any(login) {
                return (call, std::mem::take(&mut rig.inbox));
            }
            rig.turn();
            rig.now = rig.now + Duration::from_millis(10);
        }
    };
    let (call, held) = until_proposed(&mut rig, "b");
    change(&mut rig, AuthOp::RoleAdd { name: "new".to_owned() });
    rig.inbox.extend(held);
    assert!(rig.finish(call).is_ok());
    assert_eq!(rig.verified.get(), 1, "the hash is still the same");

    let (call, held) = until_proposed(&mut rig, "b");
    let change_it = AuthQuery::UserChangePassword { name: "bob".to_owned(), password: "c".into() };
    rig.done(Query::Auth(change_it));
    rig.inbox.extend(held);
    assert_eq!(rig.finish(call), Err(Rejection::AuthFailed));
    assert_eq!(rig.verified.get(), 3, "it was compared with the new one");

    let (call, held) = until_proposed(&mut rig, "c");
    change(&mut rig, AuthOp::RoleAdd { name: "newer".to_owned() });
    rig.now = rig.now + Duration::from_secs(60);
    rig.inbox.extend(held);
    assert_eq!(rig.finish(call), Err(Rejection::Timeout));
}

/// The secret part of a simple token, and the entry that assigned it.
fn parts(credential: &Credential) -> (&str, u64) {
    let Credential::Token(Token(text)) = credential else { panic!("a token") };
    let (prefix, index) = text.split_once('.').expect("a dot");
    (prefix, index.parse().expect("a number"))
}

#[test]
fn a_token_of_a_later_entry_waits_for_it() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let (prefix, index) = parts(&bob);
    // The same user's next token, assigned by the entry after the next.
    let later = Credential::of(Some(format!("{prefix}.{}", index + 2)));
    let calls = [get(point("a")), put("a", 0), Query::Status].map(|query| rig.begin(&later, query));
    rig.edge.watches().0.open(WatchStreamId(7), rig.now);
    let create = |start| WatchRequest::Create(watch_of("a", start));
    rig.edge.watch(rig.now, WatchStreamId(7), (create(0), &later));
    rig.edge.watch(rig.now, WatchStreamId(7), (WatchRequest::Progress, &Credential::None));
    rig.turn();
    assert_eq!(rig.answered, BTreeMap::new());
    assert_eq!(rig.edge.next_watch(), None, "what comes behind waits too");
    let op = |checked| {
        let (user, token) = ("bob".to_owned(), Secret::from(prefix));
        Query::Auth(AuthQuery::Op(AuthOp::Authenticate { user, token, checked }))
    };
    rig.begin(&Credential::System, put("x", 0));
    let revision = rig.edge.access.state().revision;
    rig.begin(&Credential::System, op(revision));
    for call in calls {
        assert!(rig.finish(call).is_ok(), "{call:?}");
    }
    assert!(rig.edge.parked.is_empty() && rig.edge.waiting.is_empty());
    let mut out = Vec::new();
    assert_eq!(rig.edge.next_watch(), Some(WatchStreamId(7)));
    rig.edge.poll_watch(WatchStreamId(7), &mut out).expect("memory works");
    assert!(out[0].created && !out[0].canceled, "{out:?}");
}

/// A request that has waited to be judged gets its number while the driver publishes; what comes then,
/// before the next turn, is younger and must not overtake it: the node takes numbers in ascending order.
#[test]
fn requests_are_handed_over_in_the_order_of_their_numbers() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let (prefix, index) = parts(&bob);
    let next = Credential::of(Some(format!("{prefix}.{}", index + 1)));
    let parked = rig.begin(&next, put("a", 0));
    let (user, token) = ("bob".to_owned(), Secret::from(prefix));
    let checked = rig.edge.access.state().revision;
    let assign = AuthOp::Authenticate { user, token, checked };
    rig.begin(&Credential::System, Query::Auth(AuthQuery::Op(assign)));
    rig.turn();
    rig.begin(&Credential::System, put("b", 0));
    rig.edge.flush(rig.now, &mut rig.inbox);
    let number = |event: &Event| match event {
        Event::Request(request) => request.id.sequence,
        _ => panic!("nothing but requests is handed over"),
    };
    let numbers: Vec<u64> = rig.inbox.iter().map(number).collect();
    assert!(numbers.len() == 2 && numbers.is_sorted(), "{numbers:?}");
    assert!(rig.finish(parked).is_ok());
}

#[test]
fn a_token_of_an_entry_that_never_comes_is_judged_in_the_end() {
    let mut rig = Rig::populated(AuthOptions::default());
    let never = Credential::of(Some("abc.18446744073709551615".to_owned()));
    let call = rig.begin(&never, get(point("a")));
    rig.turn();
    assert_eq!(rig.answered, BTreeMap::new());
    rig.now = rig.now + Limits::default().request_timeout;
    assert_eq!(rig.finish(call), Err(Rejection::InvalidAuthToken));
    // While authentication is off nobody looks at it.
    rig.call(AuthOp::Disable);
    assert!(rig.ask(&never, get(point("a"))).is_ok());
}

fn watch_of(key: &'static str, start: i64) -> WatchCreate {
    WatchCreate {
        id: 0,
        keys: point(key),
        start,
        progress_notify: false,
        no_put: false,
        no_delete: false,
        prev_kv: false,
        fragment: false,
    }
}

#[test]
fn a_watcher_needs_the_right_when_it_is_created() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    rig.edge.watches().0.open(WatchStreamId(1), rig.now);
    let wrong = Credential::of(Some("abc.1".to_owned()));
    for (key, start, by) in [
        ("a", 0, &bob),
        ("c", 0, &bob),
        ("c", -1, &bob),
        ("a", 0, &Credential::None),
        ("a", 0, &wrong),
    ] {
        let create = WatchRequest::Create(watch_of(key, start));
        rig.edge.watch(rig.now, WatchStreamId(1), (create, by));
    }
    let mut out = Vec::new();
    rig.edge.poll_watch(WatchStreamId(1), &mut out).expect("memory works");
    let told: Vec<(i64, bool, &str)> =
        out.iter().map(|said| (said.id, said.canceled, &said.cancel_reason[..])).collect();
    assert_eq!(
        told,
        [
            (0, false, ""),
            (-1, true, "rpc error: code = PermissionDenied desc = etcdserver: permission denied"),
            (-1, true, "etcdserver: mvcc: required revision has been compacted"),
            (-1, true, "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"),
            (-1, true, "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"),
        ]
    );
}

#[test]
fn lists_of_leases_are_looked_through_key_by_key() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let grant = |id| Query::LeaseGrant { id: LeaseId(id), ttl: 60 };
    for id in [7, 8] {
        assert!(rig.ask(&bob, grant(id)).is_ok());
    }
    assert_eq!(rig.ask(&Credential::None, grant(9)), Err(Rejection::UserEmpty));
    let leases = Ok(AnswerBody::LeaseLeases(vec![LeaseId(7), LeaseId(8)]));
    // More than a turn's share of keys that bob may read.
    for n in 0..100 {
        rig.ask(&Credential::System, put(&format!("a{n:02}"), 7)).expect("the cluster may");
    }
    assert_eq!(rig.ask(&bob, Query::LeaseLeases), leases);
    let keys = Query::LeaseTimeToLive { id: LeaseId(7), keys: true };
    let Ok(AnswerBody::LeaseTimeToLive { keys: listed, .. }) = rig.ask(&bob, keys.clone()) else {
        panic!("bob may read all of them")
    };
    assert_eq!(listed.len(), 100);
    rig.ask(&Credential::System, put("x", 7)).expect("the cluster may");
    assert_eq!(rig.ask(&bob, Query::LeaseLeases), Err(DENIED));
    assert_eq!(rig.ask(&bob, keys), Err(DENIED));
    let bare = Query::LeaseTimeToLive { id: LeaseId(7), keys: false };
    assert!(rig.ask(&bob, bare.clone()).is_ok());
    assert_eq!(rig.ask(&Credential::None, bare), Err(Rejection::UserEmpty));
    let root = rig.log_in("root", "r").expect("the right password");
    assert_eq!(rig.ask(&root, Query::LeaseLeases), leases);
    // Renewing takes the right to write.
    let renew = |id| Query::LeaseKeepAlive { id: LeaseId(id) };
    assert_eq!(rig.ask(&bob, renew(7)), Err(DENIED));
    assert!(rig.ask(&bob, renew(8)).is_ok() && rig.ask(&root, renew(7)).is_ok());
    for (query, by) in [(Query::MemberList { linearizable: true }, &bob), (Query::Status, &bob)] {
        assert!(rig.ask(by, query.clone()).is_ok());
        assert_eq!(rig.ask(&Credential::None, query), Err(Rejection::UserEmpty));
    }
}

#[test]
fn a_signed_token_ends_with_the_next_change_of_users() {
    let mut rig = Rig::populated(hmac(Duration::from_secs(60)));
    let bob = rig.log_in("bob", "b").expect("the right password");
    let root = rig.log_in("root", "r").expect("the right password");
    assert!(rig.ask(&bob, get(point("a"))).is_ok());
    rig.call(AuthOp::RoleAdd { name: "other".to_owned() });
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(Rejection::AuthOldRevision));
    assert_eq!(rig.ask(&bob, put("a", 0)), Err(Rejection::AuthOldRevision));
    // What needs root does not look at the revision.
    assert!(rig.ask(&root, Query::Auth(AuthQuery::Op(AuthOp::UserList))).is_ok());
    let bob = rig.log_in("bob", "b").expect("the right password");
    assert!(rig.ask(&bob, get(point("a"))).is_ok());
    rig.now = rig.now + Duration::from_secs(61);
    assert_eq!(rig.ask(&bob, get(point("a"))), Err(Rejection::InvalidAuthToken));
}

#[test]
fn who_cannot_issue_tokens_says_so() {
    let nothing = AuthOptions { tokens: TokenOptions::Nothing, ..AuthOptions::default() };
    let mut rig = Rig::populated(nothing);
    assert_eq!(rig.log_in("bob", "b"), Err(Rejection::AuthFailed));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/jwt/testdata/ed25519.pub.pem");
    let options = JwtOptions {
        sign_method: "EdDSA".to_owned(),
        pub_key: file.to_owned(),
        ..JwtOptions::default()
    };
    let signer = Signer::load(&options).expect("the key is there");
    let verify = AuthOptions { tokens: TokenOptions::Jwt(signer), ..AuthOptions::default() };
    let mut rig = Rig::populated(verify);
    assert_eq!(rig.log_in("bob", "b"), Err(Rejection::VerifyOnly));
    assert_eq!(rig.log_in("bob", "x"), Err(Rejection::AuthFailed));
}

#[test]
fn hashing_is_bounded() {
    let mut rig = Rig::with(AuthOptions { hashes_max: 2, ..AuthOptions::default() });
    for n in 0..3 {
        let (name, password) = (format!("u{n}"), Secret::from("x"));
        rig.begin(&Credential::None, Query::Auth(AuthQuery::UserAdd { name, password }));
    }
    assert_eq!(rig.finish(StreamId(3)), Err(Rejection::TooManyRequests));
    assert!(rig.finish(StreamId(1)).is_ok());
    let (name, password) = ("u3".to_owned(), Secret::from("x"));
    assert!(rig.ask(&Credential::None, Query::Auth(AuthQuery::UserAdd { name, password })).is_ok());
}

#[test]
fn reading_everything_takes_the_right_to_everything() {
    let mut rig = Rig::populated(AuthOptions::default());
    let bob = rig.log_in("bob", "b").expect("the right password");
    let all = KeyRange { start: "\0".into(), end: RangeEnd::Open };
    assert_eq!(rig.ask(&bob, get(all.clone())), Err(DENIED));
    let root = rig.log_in("root", "r").expect("the right password");
    assert!(rig.ask(&root, get(all)).is_ok());
}
