//! Every call against every shape of permission and identity, and random histories of Auth calls, beside
//! a model written from the specification (`auth_properties/model.rs`).

#[path = "auth_properties/model.rs"]
mod model;

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::auth::{AuthOp, AuthReply, Permission, PermissionType, Secret};
use holdfast_core::command::Command;
use holdfast_core::hash::state_hash;
use holdfast_core::id::{LeaseId, MemberId, Position, RequestId, Revision};
use holdfast_core::limits::Limits;
use holdfast_core::machine::guard::{Act, Guard};
use holdfast_core::machine::{Applied, Machine, lease_keys, leases};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Identity, KeyRange, Op, Put, Range,
    RangeEnd, Txn, TxnOp,
};
use holdfast_core::response::{AlarmKind, Body};
use holdfast_core::store::View;
use model::{Look, Model};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A machine and its model, fed the same.
#[derive(Clone)]
struct Pair {
    machine: Machine,
    store: MemoryStore,
    model: Model,
    index: u64,
}

impl Pair {
    fn new() -> Pair {
        let store = MemoryStore::default();
        let machine = Machine::load(&Limits::default(), &store);
        Pair { machine, store, model: Model::default(), index: 0 }
    }

    fn apply(&mut self, who: &Identity, op: &Op) -> Result<Body, Rejection> {
        self.index += 1;
        let command = Command { id: RequestId::default(), identity: who.clone(), op: op.clone() };
        let mut out = Applied::default();
        let at = Position::new(self.index, 1);
        self.machine.apply(at, &command, &mut self.store, &mut out).expect("memory works");
        out.result
    }

    /// Both, for an Auth call; asserts that they agree.
    fn call(&mut self, who: &Identity, op: AuthOp) {
        let ours = self.apply(who, &Op::Auth(op.clone()));
        let theirs = self.model.may(who, &Op::Auth(op.clone())).and_then(|()| self.model.call(&op));
        let ours = ours.map(|body| match body {
            Body::Auth(AuthReply::Authenticated { revision, .. }) => {
                AuthReply::Authenticated { token: Secret::default(), revision }
            }
            Body::Auth(reply) => reply,
            body => panic!("an Auth call answers {body:?}"),
        });
        assert_eq!(ours, theirs, "{op:?} of {who:?}");
        let state = holdfast_core::machine::auth_state(&self.store);
        assert_eq!((state.enabled, state.revision), (self.model.enabled, self.model.revision));
    }

    fn system(&mut self, op: Op) {
        self.apply(&Identity::SYSTEM, &op).expect("the cluster may do everything");
    }

    fn user(&self, name: &str, back: u64) -> Identity {
        let user = Bytes::copy_from_slice(name.as_bytes());
        Identity { user, auth_revision: self.model.revision - back }
    }

    /// Takes over which keys hang on which lease.
    fn note_leases(&mut self) {
        let mut attached = BTreeMap::new();
        for (id, _) in leases(&self.store) {
            let keys: &mut std::collections::BTreeSet<Bytes> = attached.entry(id.0).or_default();
            lease_keys(&self.store, id, &mut |key| {
                keys.insert(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            });
        }
        self.model.leases = attached;
    }

    /// The machine refuses what the model refuses, with the same words, and nothing else for want of
    /// a right.
    fn agree_on(&self, who: &Identity, op: &Op) -> bool {
        let decided = self.model.may(who, op);
        let mut guard = Guard::load(&self.store);
        assert_eq!(guard.permit(&self.store, who, Act::Op(op)), decided, "{op:?} of {who:?}");
        let mut after = self.clone();
        let result = after.apply(who, op);
        if let Err(refusal) = decided {
            assert_eq!(result, Err(refusal), "{op:?} of {who:?}");
            let hash = |store| state_hash(store).expect("memory works");
            assert_eq!(hash(&after.store), hash(&self.store), "a refusal changes nothing");
        } else {
            let login = matches!(op, Op::Auth(AuthOp::Authenticate { .. }));
            let old = result == Err(Rejection::AuthOldRevision) && !login;
            let denied = result == Err(Rejection::PermissionDenied);
            assert!(!old && !denied, "{op:?} of {who:?}");
        }
        decided.is_ok()
    }

    fn agree_on_look(&self, who: &Identity, look: &Look) -> bool {
        let decided = self.model.may_look(who, look);
        let mut guard = Guard::load(&self.store);
        let ours = match look {
            Look::Range(keys) => guard.permit(&self.store, who, Act::Range(keys)),
            Look::Txn(txn) => guard.permit(&self.store, who, Act::Txn(txn)),
            Look::Renew(id) => guard.permit(&self.store, who, Act::LeaseKeepAlive(LeaseId(*id))),
            Look::LeaseKeys(id) => self.read_leases(&mut guard, who, &[LeaseId(*id)]),
            Look::AllLeases => {
                let all: Vec<LeaseId> = leases(&self.store).iter().map(|(id, _)| *id).collect();
                self.read_leases(&mut guard, who, &all)
            }
            Look::Identified => guard.permit(&self.store, who, Act::Identified),
            Look::Admin => guard.permit(&self.store, who, Act::Admin),
        };
        assert_eq!(ours, decided, "{look:?} of {who:?}");
        decided.is_ok()
    }

    fn read_leases(
        &self,
        guard: &mut Guard,
        who: &Identity,
        ids: &[LeaseId],
    ) -> Result<(), Rejection> {
        guard.permit(&self.store, who, Act::Identified)?;
        let Some(reader) = guard.reader(&self.store, who) else { return Ok(()) };
        let mut decision = Ok(());
        for id in ids {
            lease_keys(&self.store, *id, &mut |key| {
                decision = decision.and_then(|()| reader.permit(key));
                ControlFlow::Continue(())
            });
        }
        decision
    }
}

/// What bob may be granted: each shape that a range of permissions can have around `[b, d)` and `c`.
fn shapes() -> Vec<(&'static str, Vec<Permission>)> {
    let one = |key: &'static str, end: &'static str, kind| Permission {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        kind,
    };
    let mut shapes = vec![("nothing", Vec::new())];
    for kind in
        [PermissionType::READ, PermissionType::WRITE, PermissionType::READ_WRITE, PermissionType(9)]
    {
        shapes.extend([
            ("a point", vec![one("c", "", kind)]),
            ("the range", vec![one("b", "d", kind)]),
            ("two halves", vec![one("b", "c", kind), one("c", "d", kind)]),
            ("point between", vec![one("b", "c", kind), one("c", "", kind), one("c\0", "d", kind)]),
            ("a gap", vec![one("b", "c", kind), one("c\0", "d", kind)]),
            ("overlapping", vec![one("a", "c\0", kind), one("b", "f", kind)]),
            ("inside", vec![one("a", "z", kind), one("b", "c", kind)]),
            ("from b on", vec![one("b", "\0", kind)]),
            ("everything", vec![one("\0", "\0", kind)]),
            ("elsewhere", vec![one("e", "f", kind)]),
        ]);
    }
    let (read, write) = (PermissionType::READ, PermissionType::WRITE);
    shapes.extend([
        ("one each", vec![one("b", "c", read), one("c", "d", write)]),
        ("crossed", vec![one("b", "d", read), one("c", "", write)]),
    ]);
    shapes
}

fn key_ranges() -> Vec<KeyRange> {
    let range = |start: &'static str, end: RangeEnd| KeyRange { start: start.into(), end };
    let before = |end: &'static str| RangeEnd::Before(end.into());
    vec![
        range("c", RangeEnd::Single),
        range("b", before("d")),
        range("b", before("d\0")),
        range("a", before("d")),
        range("c", before("b")),
        range("e", before("b")),
        range("b", RangeEnd::Open),
        range("\0", RangeEnd::Open),
    ]
}

fn put(key: &'static str, lease: i64, prev_kv: bool) -> Put {
    Put {
        key: key.into(),
        value: "v".into(),
        lease: LeaseId(lease),
        prev_kv,
        ignore_value: false,
        ignore_lease: false,
    }
}

/// Single operations of every kind; lease 1 has key c, lease 2 also f, lease 3 no key, 4 is unknown.
fn txn_ops() -> Vec<TxnOp> {
    let mut ops = Vec::new();
    for keys in key_ranges() {
        ops.push(TxnOp::Range(Range::of(keys.clone())));
        for prev_kv in [false, true] {
            ops.push(TxnOp::DeleteRange(DeleteRange { keys: keys.clone(), prev_kv }));
        }
    }
    for lease in 0..5 {
        for prev_kv in [false, true] {
            ops.push(TxnOp::Put(put("c", lease, prev_kv)));
        }
    }
    ops
}

/// The operation alone, and at each place of a transaction where it could hide.
fn placed(op: &TxnOp) -> Vec<Op> {
    let txn =
        |success: Vec<TxnOp>, failure: Vec<TxnOp>| Txn { compares: Vec::new(), success, failure };
    let nested = |txn: Txn| TxnOp::Txn(Box::new(txn));
    let alone = match op.clone() {
        TxnOp::Put(put) => Some(Op::Put(put)),
        TxnOp::DeleteRange(delete) => Some(Op::DeleteRange(delete)),
        TxnOp::Range(_) | TxnOp::Txn(_) => None,
    };
    let op = || vec![op.clone()];
    let places = [
        txn(op(), Vec::new()),
        txn(Vec::new(), op()),
        txn(vec![nested(txn(op(), Vec::new()))], Vec::new()),
        txn(vec![nested(txn(Vec::new(), op()))], Vec::new()),
        txn(Vec::new(), vec![nested(txn(vec![nested(txn(op(), Vec::new()))], Vec::new()))]),
    ];
    alone.into_iter().chain(places.map(Op::Txn)).collect()
}

fn compares() -> Vec<Op> {
    let compare = |keys: KeyRange| Compare {
        keys,
        result: CompareResult::Equal,
        target: CompareTarget::Version(0),
    };
    let txn = |keys: KeyRange| Txn { compares: vec![compare(keys)], ..Txn::default() };
    let ranges = key_ranges().into_iter();
    let both = ranges.flat_map(|keys| {
        let deep = Txn { failure: vec![TxnOp::Txn(Box::new(txn(keys.clone())))], ..Txn::default() };
        [Op::Txn(txn(keys)), Op::Txn(deep)]
    });
    both.collect()
}

fn auth_calls() -> Vec<AuthOp> {
    let name = |name: &str| name.to_owned();
    let mut calls = vec![
        AuthOp::Enable,
        AuthOp::Disable,
        AuthOp::Status,
        AuthOp::UserList,
        AuthOp::RoleList,
        AuthOp::UserAdd { name: name("new"), password: Secret::default(), no_password: false },
        AuthOp::RoleAdd { name: name("new") },
        AuthOp::Authenticate { user: name("bob"), token: "t".into(), checked: 1 },
        AuthOp::UserGrantRole { user: name("bob"), role: name("root") },
        AuthOp::UserRevokeRole { user: name("bob"), role: name("one") },
        AuthOp::UserDelete { name: name("bob") },
        AuthOp::RoleDelete { name: name("one") },
        AuthOp::RoleGrantPermission { role: name("one"), permission: None },
        AuthOp::RoleRevokePermission { role: name("one"), key: "c".into(), range_end: "".into() },
        AuthOp::UserChangePassword { name: name("bob"), password: Some(Secret::default()) },
    ];
    for asked in ["bob", "root", "gone", ""] {
        calls.push(AuthOp::UserGet { name: name(asked) });
    }
    for asked in ["one", "two", "root", "gone"] {
        calls.push(AuthOp::RoleGet { name: name(asked) });
    }
    calls
}

fn ops() -> Vec<Op> {
    let mut ops: Vec<Op> = txn_ops().iter().flat_map(placed).collect();
    ops.extend(compares());
    ops.push(Op::Compact { revision: Revision(2) });
    ops.push(Op::LeaseGrant { id: LeaseId(9), ttl: 60 });
    ops.extend((0..5).map(|id| Op::LeaseRevoke { id: LeaseId(id) }));
    ops.push(Op::AlarmList);
    let (member, kind) = (MemberId(1), AlarmKind::NoSpace);
    ops.push(Op::Alarm(AlarmOp::List(kind)));
    ops.push(Op::Alarm(AlarmOp::Clear { member, kind }));
    let member = MemberId(1);
    ops.push(Op::Publish { member, name: "m".into(), client_urls: Vec::new() });
    ops.extend(auth_calls().into_iter().map(Op::Auth));
    ops
}

fn looks() -> Vec<Look> {
    let mut looks: Vec<Look> = key_ranges().into_iter().map(Look::Range).collect();
    let reads = ops().into_iter().filter_map(|op| match op {
        Op::Txn(txn) if txn.is_read_only() => Some(Look::Txn(txn)),
        _ => None,
    });
    looks.extend(reads);
    for id in 0..5 {
        looks.extend([Look::Renew(id), Look::LeaseKeys(id)]);
    }
    looks.extend([Look::AllLeases, Look::Identified, Look::Admin]);
    looks
}

/// Root, bob with these permissions in two roles, a user without a role, and one that is gone.
fn world(permissions: &[Permission], leases: bool) -> Pair {
    let mut pair = Pair::new();
    let nobody = Identity::default();
    let name = |name: &str| name.to_owned();
    for user in ["root", "bob", "ann", "gone"] {
        let (name, password) = (name(user), Secret::default());
        pair.call(&nobody, AuthOp::UserAdd { name, password, no_password: false });
    }
    for role in ["one", "two"] {
        pair.call(&nobody, AuthOp::RoleAdd { name: name(role) });
        pair.call(&nobody, AuthOp::UserGrantRole { user: name("bob"), role: name(role) });
    }
    pair.call(&nobody, AuthOp::UserGrantRole { user: name("root"), role: name("root") });
    for (n, permission) in permissions.iter().enumerate() {
        let role = name(if n % 2 == 0 { "one" } else { "two" });
        let permission = Some(permission.clone());
        pair.call(&nobody, AuthOp::RoleGrantPermission { role, permission });
    }
    if leases {
        for id in 1..4 {
            pair.system(Op::LeaseGrant { id: LeaseId(id), ttl: 60 });
        }
        pair.system(Op::Put(put("c", 1, false)));
        pair.system(Op::Put(put("b", 2, false)));
        pair.system(Op::Put(put("f", 2, false)));
        pair.note_leases();
    }
    pair.call(&nobody, AuthOp::Enable);
    let root = pair.user("root", 0);
    pair.call(&root, AuthOp::UserDelete { name: name("gone") });
    pair
}

#[test]
fn every_call_is_decided_as_the_specification_says() {
    let (ops, looks) = (ops(), looks());
    let (mut allowed, mut refused) = (0, 0);
    for (shape, permissions) in shapes() {
        let pair = world(&permissions, true);
        let callers = [
            Identity::default(),
            Identity::SYSTEM,
            pair.user("bob", 0),
            pair.user("bob", 1),
            Identity { auth_revision: 99, ..pair.user("bob", 0) },
            Identity { auth_revision: 0, ..pair.user("bob", 0) },
            pair.user("ann", 0),
            pair.user("gone", 0),
            pair.user("root", 0),
            pair.user("root", 1),
            pair.user("", 0),
        ];
        for who in &callers {
            let decided = ops.iter().map(|op| pair.agree_on(who, op));
            let looked = looks.iter().map(|look| pair.agree_on_look(who, look));
            for may in decided.chain(looked) {
                *(if may { &mut allowed } else { &mut refused }) += 1;
            }
        }
        // Between two shapes nothing is left over.
        assert_eq!(pair.store.mark().revision, Revision(4), "{shape}");
    }
    assert!(allowed > 10_000 && refused > 10_000, "{allowed} allowed, {refused} refused");
}

#[test]
fn nothing_is_asked_while_authentication_is_off() {
    let mut pair = world(&[], true);
    let root = pair.user("root", 0);
    pair.call(&root, AuthOp::Disable);
    for who in [Identity::default(), pair.user("bob", 0), pair.user("gone", 0)] {
        assert!(ops().iter().all(|op| pair.agree_on(&who, op)));
        assert!(looks().iter().all(|look| pair.agree_on_look(&who, look)));
    }
}

fn name() -> impl Strategy<Value = String> {
    let names = ["root", "bob", "ann", "one", "two", ""];
    (0..names.len()).prop_map(move |at| names[at].to_owned())
}

fn permission() -> impl Strategy<Value = Permission> {
    let borders = ["a", "b", "c", "c\0", "d", "e", "\0", ""];
    let border =
        move || (0..borders.len()).prop_map(move |at| Bytes::from_static(borders[at].as_bytes()));
    (border(), border(), -1..4i32).prop_map(|(key, range_end, kind)| Permission {
        key,
        range_end,
        kind: PermissionType(kind),
    })
}

fn call() -> impl Strategy<Value = AuthOp> {
    let named = name().prop_flat_map(|name| {
        let each = name.clone();
        prop_oneof![
            4 => any::<bool>().prop_map(move |no_password| AuthOp::UserAdd {
                name: each.clone(), password: Secret::default(), no_password,
            }),
            1 => Just(AuthOp::UserGet { name: name.clone() }),
            1 => Just(AuthOp::UserDelete { name: name.clone() }),
            4 => Just(AuthOp::RoleAdd { name: name.clone() }),
            1 => Just(AuthOp::RoleGet { name: name.clone() }),
            1 => Just(AuthOp::RoleDelete { name: name.clone() }),
            1 => Just(AuthOp::UserChangePassword { name: name.clone(), password: None }),
            1 => Just(AuthOp::UserChangePassword { name, password: Some(Secret::default()) }),
        ]
    });
    let granted = (name(), name()).prop_map(|(user, role)| AuthOp::UserGrantRole { user, role });
    let revoked = (name(), name()).prop_map(|(user, role)| AuthOp::UserRevokeRole { user, role });
    let login = (name(), 1..12u64).prop_map(|(user, checked)| AuthOp::Authenticate {
        user,
        token: "t".into(),
        checked,
    });
    let grants = (name(), proptest::option::weighted(0.9, permission()))
        .prop_map(|(role, permission)| AuthOp::RoleGrantPermission { role, permission });
    let takes = (name(), permission()).prop_map(|(role, permission)| {
        let Permission { key, range_end, .. } = permission;
        AuthOp::RoleRevokePermission { role, key, range_end }
    });
    prop_oneof![
        10 => named,
        6 => granted,
        2 => revoked,
        2 => login,
        6 => grants,
        2 => takes,
        3 => Just(AuthOp::Enable),
        1 => Just(AuthOp::Disable),
        1 => Just(AuthOp::Status),
        1 => Just(AuthOp::UserList),
        1 => Just(AuthOp::RoleList),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random calls of random callers, each answered as the model answers it; and after them, reads
    /// and writes of every caller.
    #[test]
    fn histories_of_calls_end_where_the_models_do(
        calls in proptest::collection::vec((name(), 0..3u64, any::<bool>(), call()), 1..60),
        asked in permission(),
    ) {
        let mut pair = Pair::new();
        for (caller, back, system, op) in calls {
            let revision = pair.model.revision.saturating_sub(back / 2);
            let who = match system {
                true => Identity::SYSTEM,
                false => Identity { user: caller.into(), auth_revision: revision },
            };
            pair.call(&who, op);
        }
        let keys = KeyRange::from_wire(asked.key, asked.range_end);
        for caller in ["root", "bob", "ann", "one", ""] {
            let who = pair.user(caller, 0);
            pair.agree_on_look(&who, &Look::Range(keys.clone()));
            pair.agree_on(&who, &Op::DeleteRange(DeleteRange { keys: keys.clone(), prev_kv: true }));
        }
        // What the guard remembers is what it would read again.
        let loaded = Machine::load(&Limits::default(), &pair.store);
        let mut again = Pair { machine: loaded, ..pair.clone() };
        let who = pair.user("bob", 0);
        let op = Op::DeleteRange(DeleteRange { keys, prev_kv: false });
        prop_assert_eq!(pair.apply(&who, &op), again.apply(&who, &op));
    }
}
