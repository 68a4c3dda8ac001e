//! Users, roles and rights as the specification has them, in the dumbest way that can be right: a
//! range is looked at point by point, and nothing is remembered.
//!
//! Shares nothing with the machine but the types of requests.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::auth::{AuthOp, AuthReply, AuthState, Permission, PermissionType};
use holdfast_core::id::LeaseId;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Identity, KeyRange, Op, Txn, TxnOp};

#[derive(Clone, Debug, Default)]
pub struct User {
    pub no_password: bool,
    pub roles: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub enabled: bool,
    pub revision: u64,
    pub users: BTreeMap<String, User>,
    pub roles: BTreeMap<String, Vec<Permission>>,
    /// The keys attached to each lease.
    pub leases: BTreeMap<i64, BTreeSet<Bytes>>,
}

/// What does not go through the log.
#[derive(Clone, Debug)]
pub enum Look {
    Range(KeyRange),
    Txn(Txn),
    Renew(i64),
    LeaseKeys(i64),
    AllLeases,
    Identified,
    Admin,
}

type Decision = Result<(), Rejection>;

impl Default for Model {
    fn default() -> Model {
        let (users, roles, leases) = Default::default();
        Model { enabled: false, revision: 1, users, roles, leases }
    }
}

impl Model {
    pub fn may(&self, who: &Identity, op: &Op) -> Decision {
        if !self.enabled || *who == Identity::SYSTEM {
            return Ok(());
        }
        match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => {
                let op = match op.clone() {
                    Op::Put(put) => TxnOp::Put(put),
                    Op::DeleteRange(delete) => {
                        // The order of the two questions is visible only in which refusal comes
                        // first, and both are answered alike.
                        TxnOp::DeleteRange(delete)
                    }
                    Op::Txn(txn) => TxnOp::Txn(Box::new(txn)),
                    _ => unreachable!("just matched"),
                };
                self.may_write(who, &op)
            }
            Op::Compact { .. } | Op::Member(_) => self.root_only(who),
            Op::LeaseGrant { .. } | Op::AlarmList | Op::Alarm(AlarmOp::List(_)) => {
                known_caller(who)
            }
            Op::Alarm(_) => self.root_only(who),
            Op::LeaseRevoke { id } => {
                known_caller(who)?;
                self.all_of_lease(who, id.0, true)
            }
            Op::Publish { .. }
            | Op::Started { .. }
            | Op::ClusterVersion(_)
            | Op::Audit(_)
            | Op::LeaseCheckpoint(_) => Ok(()),
            Op::Auth(op) => self.may_call(who, op),
        }
    }

    pub fn may_look(&self, who: &Identity, look: &Look) -> Decision {
        if !self.enabled || *who == Identity::SYSTEM {
            return Ok(());
        }
        match look {
            Look::Range(keys) => self.key_right(who, keys, false),
            Look::Txn(txn) => self.may_write(who, &TxnOp::Txn(Box::new(txn.clone()))),
            Look::Renew(id) => {
                known_caller(who)?;
                self.all_of_lease(who, *id, true)
            }
            Look::LeaseKeys(id) => {
                known_caller(who)?;
                self.all_of_lease(who, *id, false)
            }
            Look::AllLeases => {
                known_caller(who)?;
                self.leases.keys().try_for_each(|id| self.all_of_lease(who, *id, false))
            }
            Look::Identified => known_caller(who),
            Look::Admin => self.root_only(who),
        }
    }

    fn may_write(&self, who: &Identity, op: &TxnOp) -> Decision {
        match op {
            TxnOp::Range(range) => self.key_right(who, &range.keys, false),
            TxnOp::Put(put) => {
                let key = KeyRange::single(put.key.clone());
                self.key_right(who, &key, true)?;
                if put.lease != LeaseId::NONE {
                    self.all_of_lease(who, put.lease.0, true)?;
                }
                if put.prev_kv { self.key_right(who, &key, false) } else { Ok(()) }
            }
            TxnOp::DeleteRange(delete) => {
                self.key_right(who, &delete.keys, true)?;
                if delete.prev_kv { self.key_right(who, &delete.keys, false) } else { Ok(()) }
            }
            TxnOp::Txn(txn) => {
                for compare in &txn.compares {
                    self.key_right(who, &compare.keys, false)?;
                }
                txn.success.iter().try_for_each(|op| self.may_write(who, op))?;
                txn.failure.iter().try_for_each(|op| self.may_write(who, op))
            }
        }
    }

    fn may_call(&self, who: &Identity, op: &AuthOp) -> Decision {
        let name = String::from_utf8_lossy(&who.user).into_owned();
        let admin = self.root_only(who);
        match op {
            AuthOp::Status | AuthOp::Authenticate { .. } => Ok(()),
            AuthOp::UserGet { name: asked } if *asked == name => Ok(()),
            AuthOp::RoleGet { name: role }
                if self.users.get(&name).is_some_and(|user| user.roles.contains(role)) =>
            {
                Ok(())
            }
            _ => admin,
        }
    }

    fn all_of_lease(&self, who: &Identity, id: i64, write: bool) -> Decision {
        if self.root_only(who).is_ok() {
            return Ok(());
        }
        let keys = self.leases.get(&id).into_iter().flatten();
        keys.cloned().map(KeyRange::single).try_for_each(|key| self.key_right(who, &key, write))
    }

    fn root_only(&self, who: &Identity) -> Decision {
        let name = String::from_utf8_lossy(&who.user).into_owned();
        if name.is_empty() {
            return Err(Rejection::UserEmpty);
        }
        let user = self.users.get(&name).ok_or(Rejection::UserNotFound)?;
        if user.roles.contains("root") { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    fn key_right(&self, who: &Identity, keys: &KeyRange, write: bool) -> Decision {
        if who.auth_revision == 0 {
            return Err(Rejection::UserEmpty);
        }
        if who.auth_revision < self.revision {
            return Err(Rejection::AuthOldRevision);
        }
        let name = String::from_utf8_lossy(&who.user).into_owned();
        let user = self.users.get(&name).ok_or(Rejection::PermissionDenied)?;
        if user.roles.contains("root") {
            return Ok(());
        }
        let granted = |key: &[u8]| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            roles.flatten().any(|permission| {
                let kinds = match write {
                    true => [PermissionType::WRITE, PermissionType::READ_WRITE],
                    false => [PermissionType::READ, PermissionType::READ_WRITE],
                };
                kinds.contains(&permission.kind)
                    && within(key, &permission.key, &permission.range_end)
            })
        };
        let inside: Vec<Vec<u8>> =
            points().into_iter().filter(|point| keys.contains(point)).collect();
        let allowed = match inside.is_empty() {
            true => granted(&keys.start),
            false => inside.iter().all(|point| granted(point)),
        };
        if allowed { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    /// What a call answers that was allowed, and what it changes.
    pub fn call(&mut self, op: &AuthOp) -> Result<AuthReply, Rejection> {
        match op {
            AuthOp::Enable if self.enabled => {}
            AuthOp::Enable => {
                let root = self.users.get("root").ok_or(Rejection::RootUserNotExist)?;
                if !root.roles.contains("root") {
                    return Err(Rejection::RootRoleNotExist);
                }
                self.enabled = true;
            }
            AuthOp::Disable => {
                self.revision += u64::from(self.enabled);
                self.enabled = false;
            }
            AuthOp::Status => {
                let state = AuthState { enabled: self.enabled, revision: self.revision };
                return Ok(AuthReply::Status(state));
            }
            AuthOp::Authenticate { user, checked, .. } => return self.login(user, *checked),
            AuthOp::UserGet { name } => {
                return Ok(AuthReply::User(self.user(name)?.roles.iter().cloned().collect()));
            }
            AuthOp::UserList => {
                return Ok(AuthReply::Users(self.users.keys().cloned().collect()));
            }
            AuthOp::RoleGet { name } => {
                let permissions = self.roles.get(name).ok_or(Rejection::RoleNotFound)?;
                let all = Permission {
                    key: Bytes::new(),
                    range_end: Bytes::from_static(b"\0"),
                    kind: PermissionType::READ_WRITE,
                };
                let root = name == "root";
                return Ok(AuthReply::Role(if root { vec![all] } else { permissions.clone() }));
            }
            AuthOp::RoleList => {
                return Ok(AuthReply::Roles(self.roles.keys().cloned().collect()));
            }
            AuthOp::RoleAdd { .. }
            | AuthOp::RoleDelete { .. }
            | AuthOp::RoleGrantPermission { .. }
            | AuthOp::RoleRevokePermission { .. } => self.change_role(op)?,
            _ => self.change_user(op)?,
        }
        Ok(AuthReply::Done)
    }

    fn login(&self, user: &str, checked: u64) -> Result<AuthReply, Rejection> {
        if !self.enabled {
            return Err(Rejection::AuthNotEnabled);
        }
        if self.users.get(user).is_none_or(|user| user.no_password) {
            return Err(Rejection::AuthFailed);
        }
        if checked != self.revision {
            return Err(Rejection::AuthOldRevision);
        }
        Ok(AuthReply::Authenticated { token: Default::default(), revision: self.revision })
    }

    fn change_user(&mut self, op: &AuthOp) -> Decision {
        let enabled = self.enabled;
        match op {
            AuthOp::UserAdd { name, no_password, .. } => {
                if name.is_empty() {
                    return Err(Rejection::UserEmpty);
                }
                if self.users.contains_key(name) {
                    return Err(Rejection::UserAlreadyExists);
                }
                let user = User { no_password: *no_password, ..User::default() };
                self.users.insert(name.clone(), user);
            }
            AuthOp::UserDelete { name } => {
                if enabled && name == "root" {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                self.users.remove(name).ok_or(Rejection::UserNotFound)?;
            }
            AuthOp::UserChangePassword { name, password } => {
                if !self.user(name)?.no_password && password.is_none() {
                    return Err(Rejection::NoPasswordUser);
                }
            }
            AuthOp::UserGrantRole { user, role } => {
                self.user(user)?;
                if role != "root" && !self.roles.contains_key(role) {
                    return Err(Rejection::RoleNotFound);
                }
                if !self.user(user)?.roles.insert(role.clone()) {
                    return Ok(());
                }
            }
            AuthOp::UserRevokeRole { user, role } => {
                if enabled && user == "root" && role == "root" {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                if !self.user(user)?.roles.remove(role) {
                    return Err(Rejection::RoleNotGranted);
                }
            }
            _ => unreachable!("the others change no user"),
        }
        self.revision += 1;
        Ok(())
    }

    fn change_role(&mut self, op: &AuthOp) -> Decision {
        match op {
            AuthOp::RoleAdd { name } => {
                if name.is_empty() {
                    return Err(Rejection::RoleEmpty);
                }
                if self.roles.contains_key(name) {
                    return Err(Rejection::RoleAlreadyExists);
                }
                self.roles.insert(name.clone(), Vec::new());
            }
            AuthOp::RoleDelete { name } => {
                if self.enabled && name == "root" {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                self.roles.remove(name).ok_or(Rejection::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(name);
                }
            }
            AuthOp::RoleGrantPermission { role, permission } => {
                let permission = permission.clone().ok_or(Rejection::PermissionNotGiven)?;
                let (key, end) = (&permission.key, &permission.range_end);
                let whole = end.is_empty() || end > key || &end[..] == b"\0";
                if key.is_empty() || !whole {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                let granted = self.roles.get_mut(role).ok_or(Rejection::RoleNotFound)?;
                granted.retain(|other| (&other.key, &other.range_end) != (key, end));
                granted.push(permission.clone());
                granted.sort();
            }
            AuthOp::RoleRevokePermission { role, key, range_end } => {
                let granted = self.roles.get_mut(role).ok_or(Rejection::RoleNotFound)?;
                let before = granted.len();
                granted.retain(|other| (&other.key, &other.range_end) != (key, range_end));
                if granted.len() == before {
                    return Err(Rejection::PermissionNotGranted);
                }
            }
            _ => unreachable!("the others change no role"),
        }
        self.revision += 1;
        Ok(())
    }

    fn user(&mut self, name: &str) -> Result<&mut User, Rejection> {
        self.users.get_mut(name).ok_or(Rejection::UserNotFound)
    }
}

fn known_caller(who: &Identity) -> Decision {
    let nobody = who.user.is_empty() && who.auth_revision == 0;
    if nobody { Err(Rejection::UserEmpty) } else { Ok(()) }
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

/// One key for each place where a range of this test's borders could begin or end, and one between
/// each two.
fn points() -> Vec<Vec<u8>> {
    let letters =
        (b'a'..=b'h').flat_map(|letter| [vec![letter], vec![letter, 0], vec![letter, 0, 0]]);
    let mut points: Vec<Vec<u8>> = letters.collect();
    points.push(vec![0]);
    points.push(vec![0xff, 0xff]);
    points
}
