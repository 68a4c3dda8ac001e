//! Who may do what: the one function that decides, for the log and for reads alike.
//!
//! Apply asks it about each command, with the identity that the command carries and the tables as they
//! are at that point of the log; the edge asks it about each read, with the tables of the snapshot that
//! is read. Nothing refuses earlier: a member that lags would refuse what has been allowed meanwhile.
//!
//! Leaves out: whose token it is (the edge's), and what it takes to merge ranges ([`super::rights`]).
//!
//! Laws (surface 7.3; every refusal is etcd's, and so is their order):
//!  1. While authentication is off everything is allowed, and the cluster itself always is.
//!  2. Keys are looked at under the present auth revision only: a request that was admitted under an
//!     older one is refused as such. What needs root, or only an identity, is not.
//!  3. Who has the role root may do everything.
//!  4. A transaction needs the rights of both its branches and of its compares, at every depth.
//!  5. Whoever attaches a key to a lease, renews or revokes it must be allowed to write all its keys.
//!
//! Worked example: bob may write `[a, c)`. `put b` at bob's revision 5 is allowed; once any role has
//! changed (revision 6) it is refused as old, and his client logs in again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;

use super::auth::{auth_state, role, user};
use super::lease::{lease_keys_from, lease_ttl};
use super::rights::{Need, Rights};
use crate::alarm::AlarmOp;
use crate::auth::{AuthOp, AuthState, Permission, ROOT};
use crate::id::LeaseId;
use crate::mutant;
use crate::rejection::Rejection;
use crate::request::{DeleteRange, Identity, KeyRange, Op, Put, Txn, TxnOp};
use crate::store::View;

/// Something that may be allowed or not.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// A replicated operation.
    Op(&'a Op),
    /// Reading a range, or watching it.
    Range(&'a KeyRange),
    /// A transaction of reads.
    Txn(&'a Txn),
    /// Renewing a lease.
    LeaseKeepAlive(LeaseId),
    /// What anybody may who says who it is. So is listing leases, or the keys of one; whether each
    /// attached key may be read, as etcd wants it, is asked of [`Guard::reader`]: there may be millions.
    Identified,
    /// What only root may.
    Admin,
}

/// Decides, and remembers what it takes to: what is known of a user holds for one auth revision.
#[derive(Clone, Debug)]
pub struct Guard {
    state: AuthState,
    known: BTreeMap<Bytes, Rc<Known>>,
}

/// What is known of a user.
#[derive(Debug, Default)]
struct Known {
    roles: Vec<String>,
    is_root: bool,
    rights: Rights,
}

/// How many users are remembered.
const REMEMBERED_MAX: usize = 1024;

type Decision = Result<(), Rejection>;

impl Guard {
    /// A guard over the tables of `view`.
    pub fn load(view: &dyn View) -> Guard {
        Guard { state: auth_state(view), known: BTreeMap::new() }
    }

    /// The tables may have changed to those of `view`.
    pub fn refresh(&mut self, view: &dyn View) {
        let state = auth_state(view);
        if state.revision != self.state.revision {
            self.known.clear();
        }
        self.state = state;
    }

    /// Whether authentication is on, and at which revision.
    pub fn state(&self) -> AuthState {
        self.state
    }

    /// Whether `who` may do `act` on the state of `view`, which is the one last loaded or refreshed.
    ///
    /// # Errors
    /// etcd's refusals: no identity, an old auth revision, an unknown user, no right.
    pub fn permit(&mut self, view: &dyn View, who: &Identity, act: Act<'_>) -> Decision {
        if !self.state.enabled || who.is_system() {
            return Ok(());
        }
        match act {
            Act::Op(op) => self.op(view, who, op),
            Act::Range(keys) => self.keys(view, who, Need::Read, keys),
            Act::Txn(txn) => self.txn(view, who, txn),
            Act::LeaseKeepAlive(id) => {
                self.identified(who)?;
                self.lease(view, who, id)
            }
            Act::Identified => self.identified(who),
            Act::Admin => self.admin(view, who),
        }
    }

    /// A question that [`Guard::permit`] leaves to be asked of many keys: `None` when `who` may read
    /// whatever there is.
    pub fn reader(&mut self, view: &dyn View, who: &Identity) -> Option<Reader> {
        let open = !self.state.enabled || who.is_system() || self.admin(view, who).is_ok();
        (!open).then(|| {
            let known = self.known(view, who).unwrap_or_default();
            Reader { known, refusal: self.current(who).err() }
        })
    }

    fn op(&mut self, view: &dyn View, who: &Identity, op: &Op) -> Decision {
        match op {
            Op::Put(put) => self.put(view, who, put),
            Op::DeleteRange(delete) => {
                self.keys(view, who, Need::Write, &delete.keys)?;
                self.previous(view, who, delete)
            }
            Op::Txn(txn) => self.txn(view, who, txn),
            Op::Compact { .. } | Op::Member(_) => self.admin(view, who),
            Op::LeaseGrant { .. } | Op::AlarmList | Op::Alarm(AlarmOp::List(_)) => {
                self.identified(who)
            }
            Op::Alarm(AlarmOp::Raise { .. } | AlarmOp::Clear { .. } | AlarmOp::Nothing) => {
                self.admin(view, who)
            }
            Op::LeaseRevoke { id } => {
                self.identified(who)?;
                self.lease(view, who, *id)
            }
            // No client can ask for these.
            Op::Publish { .. }
            | Op::Started { .. }
            | Op::ClusterVersion(_)
            | Op::Audit(_)
            | Op::LeaseCheckpoint(_) => Ok(()),
            Op::Auth(op) => self.auth(view, who, op),
        }
    }

    fn auth(&mut self, view: &dyn View, who: &Identity, op: &AuthOp) -> Decision {
        match op {
            AuthOp::Status | AuthOp::Authenticate { .. } => Ok(()),
            AuthOp::UserGet { name } if name.as_bytes() == who.user => Ok(()),
            AuthOp::RoleGet { name } if self.holds(view, who, name) => Ok(()),
            AuthOp::Enable
            | AuthOp::Disable
            | AuthOp::UserAdd { .. }
            | AuthOp::UserGet { .. }
            | AuthOp::UserList
            | AuthOp::UserDelete { .. }
            | AuthOp::UserChangePassword { .. }
            | AuthOp::UserGrantRole { .. }
            | AuthOp::UserRevokeRole { .. }
            | AuthOp::RoleAdd { .. }
            | AuthOp::RoleGet { .. }
            | AuthOp::RoleList
            | AuthOp::RoleDelete { .. }
            | AuthOp::RoleGrantPermission { .. }
            | AuthOp::RoleRevokePermission { .. } => self.admin(view, who),
        }
    }

    fn put(&mut self, view: &dyn View, who: &Identity, put: &Put) -> Decision {
        let keys = KeyRange::single(put.key.clone());
        self.keys(view, who, Need::Write, &keys)?;
        self.lease(view, who, put.lease)?;
        if put.prev_kv { self.keys(view, who, Need::Read, &keys) } else { Ok(()) }
    }

    fn previous(&mut self, view: &dyn View, who: &Identity, delete: &DeleteRange) -> Decision {
        if delete.prev_kv { self.keys(view, who, Need::Read, &delete.keys) } else { Ok(()) }
    }

    fn txn(&mut self, view: &dyn View, who: &Identity, txn: &Txn) -> Decision {
        for compare in &txn.compares {
            self.keys(view, who, Need::Read, &compare.keys)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Range(range) => self.keys(view, who, Need::Read, &range.keys)?,
                TxnOp::Put(put) => self.put(view, who, put)?,
                // Here etcd asks for the read first.
                TxnOp::DeleteRange(delete) => {
                    self.previous(view, who, delete)?;
                    self.keys(view, who, Need::Write, &delete.keys)?;
                }
                TxnOp::Txn(child) => self.txn(view, who, child)?,
            }
        }
        Ok(())
    }

    /// Law 5; a lease that is not there has no keys. Asked once for each stretch of keys that one grant
    /// allows, not for each key: there may be millions.
    fn lease(&mut self, view: &dyn View, who: &Identity, id: LeaseId) -> Decision {
        if lease_ttl(view, id).is_none() || self.admin(view, who).is_ok() {
            return Ok(());
        }
        let mut from = Bytes::new();
        loop {
            let mut first = None;
            lease_keys_from(view, (id, &from), &mut |key| {
                first = Some(Bytes::copy_from_slice(key));
                ControlFlow::Break(())
            });
            let Some(key) = first else { return Ok(()) };
            let keys = KeyRange::single(key);
            self.keys(view, who, Need::Write, &keys)?;
            let known = self.known(view, who).ok_or(Rejection::PermissionDenied)?;
            let Some(end) = known.rights.reach(Need::Write, &keys.start) else { return Ok(()) };
            from = end;
        }
    }

    fn keys(&mut self, view: &dyn View, who: &Identity, need: Need, keys: &KeyRange) -> Decision {
        self.current(who)?;
        let known = self.known(view, who).ok_or(Rejection::PermissionDenied)?;
        let allowed = known.is_root || known.rights.allow(need, keys);
        if allowed { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    /// Law 2.
    fn current(&self, who: &Identity) -> Decision {
        if who.auth_revision == 0 {
            return Err(Rejection::UserEmpty);
        }
        let old = who.auth_revision < self.state.revision && !mutant::on(62);
        if old { Err(Rejection::AuthOldRevision) } else { Ok(()) }
    }

    fn admin(&mut self, view: &dyn View, who: &Identity) -> Decision {
        if who.user.is_empty() {
            return Err(Rejection::UserEmpty);
        }
        let known = self.known(view, who).ok_or(Rejection::UserNotFound)?;
        if known.is_root { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    fn identified(&self, who: &Identity) -> Decision {
        if *who == Identity::default() { Err(Rejection::UserEmpty) } else { Ok(()) }
    }

    fn holds(&mut self, view: &dyn View, who: &Identity, role: &str) -> bool {
        self.known(view, who).is_some_and(|known| known.roles.iter().any(|held| held == role))
    }

    /// `None` for a user that does not exist (any more).
    fn known(&mut self, view: &dyn View, who: &Identity) -> Option<Rc<Known>> {
        if let Some(known) = self.known.get(&who.user) {
            return Some(known.clone());
        }
        let roles = user(view, &who.user)?.roles;
        let granted = roles.iter().filter_map(|name| role(view, name));
        let permissions: Vec<Permission> = granted.flat_map(|role| role.permissions).collect();
        let is_root = roles.iter().any(|role| role == ROOT);
        let known = Rc::new(Known { roles, is_root, rights: Rights::of(permissions.iter()) });
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        // The identity's bytes may be a slice of a whole log entry.
        self.known.insert(Bytes::copy_from_slice(&who.user), known.clone());
        Some(known)
    }
}

/// What one user could read at one auth revision.
#[derive(Clone, Debug)]
pub struct Reader {
    known: Rc<Known>,
    refusal: Option<Rejection>,
}

impl Reader {
    /// Whether it may read a key.
    ///
    /// # Errors
    /// etcd's refusals.
    pub fn permit(&self, key: &[u8]) -> Decision {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let keys = KeyRange::single(Bytes::copy_from_slice(key));
        let allowed = self.known.rights.allow(Need::Read, &keys);
        if allowed { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }
}
