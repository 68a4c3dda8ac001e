//! The oracle's users, roles and rights: what etcd would allow, in the dumbest way that can be right.
//!
//! A range is allowed if it is at its start and at every border of a grant within it: between two
//! borders nothing changes. Nothing is merged and nothing remembered.
//!
//! Leaves out passwords and tokens, which are the edges' business.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::auth::{AuthOp, AuthReply, AuthState, Permission, PermissionType};
use holdfast_core::id::LeaseId;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Identity, KeyRange, Op, Put, RangeEnd, Txn, TxnOp};

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    no_password: bool,
    roles: BTreeSet<String>,
}

/// Everything about users at one point of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Vec<Permission>>,
}

impl Default for Users {
    fn default() -> Users {
        let (users, roles) = Default::default();
        Users { enabled: false, revision: 1, users, roles }
    }
}

type Decision = Result<(), Rejection>;

/// The keys attached to a lease.
pub(super) type Attached<'a> = &'a dyn Fn(i64) -> Vec<Bytes>;

impl Users {
    /// Whether rights are looked at.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// How often users and roles have changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether a user may read a range now; who is nobody may read nothing.
    pub fn may_read(&self, user: &str, keys: &KeyRange) -> bool {
        !self.enabled || self.right(user, keys, false).is_ok()
    }

    /// Whether a user may run a transaction of reads now.
    pub fn may_read_txn(&self, user: &str, txn: &Txn) -> bool {
        let reads = |op: &TxnOp| match op {
            TxnOp::Range(range) => self.may_read(user, &range.keys),
            _ => false,
        };
        txn.compares.iter().all(|compare| self.may_read(user, &compare.keys))
            && txn.success.iter().chain(&txn.failure).all(reads)
    }

    /// Whether a command comes so far that alarms are looked at: who grants or revokes a lease says first who he is.
    pub(super) fn may_begin(&self, who: &Identity, op: &Op) -> Decision {
        let of_leases = matches!(op, Op::LeaseGrant { .. } | Op::LeaseRevoke { .. });
        if self.enabled && of_leases && *who == Identity::default() {
            return Err(Rejection::UserEmpty);
        }
        Ok(())
    }

    /// Whether a command may be carried out.
    pub(super) fn may(&self, who: &Identity, op: &Op, attached: Attached<'_>) -> Decision {
        if !self.enabled || *who == Identity::SYSTEM {
            return Ok(());
        }
        let named = *who != Identity::default();
        let named = if named { Ok(()) } else { Err(Rejection::UserEmpty) };
        match op {
            Op::Put(put) => self.may_put(who, put, attached),
            Op::DeleteRange(delete) => {
                self.may_touch(who, &delete.keys, true)?;
                if delete.prev_kv { self.may_touch(who, &delete.keys, false) } else { Ok(()) }
            }
            Op::Txn(txn) => self.may_txn(who, txn, attached),
            Op::Compact { .. } | Op::Member(_) => self.root(who),
            Op::LeaseGrant { .. } | Op::AlarmList | Op::Alarm(AlarmOp::List(_)) => named,
            Op::Alarm(_) => self.root(who),
            Op::LeaseRevoke { id } => named.and_then(|()| self.may_take(who, *id, attached)),
            Op::Publish { .. }
            | Op::Started { .. }
            | Op::ClusterVersion(_)
            | Op::Audit(_)
            | Op::LeaseCheckpoint(_) => Ok(()),
            Op::Auth(op) => self.may_call(who, op),
        }
    }

    fn may_put(&self, who: &Identity, put: &Put, attached: Attached<'_>) -> Decision {
        let key = KeyRange::single(put.key.clone());
        self.may_touch(who, &key, true)?;
        if put.lease != LeaseId::NONE {
            self.may_take(who, put.lease, attached)?;
        }
        if put.prev_kv { self.may_touch(who, &key, false) } else { Ok(()) }
    }

    fn may_txn(&self, who: &Identity, txn: &Txn, attached: Attached<'_>) -> Decision {
        for compare in &txn.compares {
            self.may_touch(who, &compare.keys, false)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Range(range) => self.may_touch(who, &range.keys, false)?,
                TxnOp::Put(put) => self.may_put(who, put, attached)?,
                TxnOp::DeleteRange(delete) => {
                    self.may_touch(who, &delete.keys, true)?;
                    if delete.prev_kv {
                        self.may_touch(who, &delete.keys, false)?;
                    }
                }
                TxnOp::Txn(child) => self.may_txn(who, child, attached)?,
            }
        }
        Ok(())
    }

    /// Whoever decides over a lease decides over its keys.
    fn may_take(&self, who: &Identity, id: LeaseId, attached: Attached<'_>) -> Decision {
        if self.root(who).is_ok() {
            return Ok(());
        }
        let keys = attached(id.0).into_iter();
        keys.map(KeyRange::single).try_for_each(|key| self.may_touch(who, &key, true))
    }

    fn may_call(&self, who: &Identity, op: &AuthOp) -> Decision {
        let name = String::from_utf8_lossy(&who.user);
        let own = match op {
            AuthOp::Status | AuthOp::Authenticate { .. } => true,
            AuthOp::UserGet { name: asked } => *asked == name,
            AuthOp::RoleGet { name: role } => {
                self.users.get(&*name).is_some_and(|user| user.roles.contains(role))
            }
            _ => false,
        };
        if own { Ok(()) } else { self.root(who) }
    }

    fn may_touch(&self, who: &Identity, keys: &KeyRange, write: bool) -> Decision {
        if who.auth_revision == 0 {
            return Err(Rejection::UserEmpty);
        }
        if who.auth_revision < self.revision {
            return Err(Rejection::AuthOldRevision);
        }
        self.right(&String::from_utf8_lossy(&who.user), keys, write)
    }

    fn right(&self, user: &str, keys: &KeyRange, write: bool) -> Decision {
        let user = self.users.get(user).ok_or(Rejection::PermissionDenied)?;
        if user.roles.contains("root") {
            return Ok(());
        }
        let wanted = if write { PermissionType::WRITE } else { PermissionType::READ };
        let grants: Vec<&Permission> = user
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .filter(|grant| grant.kind == wanted || grant.kind == PermissionType::READ_WRITE)
            .collect();
        let granted = |key: &[u8]| grants.iter().any(|grant| is_within(key, grant));
        let borders = grants.iter().flat_map(|grant| {
            let behind = [&grant.key[..], b"\0"].concat();
            [grant.key.to_vec(), grant.range_end.to_vec(), behind]
        });
        let inside = borders.filter(|border| is_inside(border, keys));
        let start = std::iter::once(keys.start.to_vec());
        // Behind every border there is room for a key, unless nothing is behind it.
        let open = (keys.end == RangeEnd::Open).then(|| vec![0xff; 64]);
        let all = start.chain(inside).chain(open).all(|key| granted(&key));
        if all { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    fn root(&self, who: &Identity) -> Decision {
        if who.user.is_empty() {
            return Err(Rejection::UserEmpty);
        }
        let name = String::from_utf8_lossy(&who.user);
        let user = self.users.get(&*name).ok_or(Rejection::UserNotFound)?;
        if user.roles.contains("root") { Ok(()) } else { Err(Rejection::PermissionDenied) }
    }

    /// Carries out a call that is allowed.
    pub(super) fn call(&mut self, op: &AuthOp) -> Result<AuthReply, Rejection> {
        match op {
            AuthOp::Enable if !self.enabled => {
                let root = self.users.get("root").ok_or(Rejection::RootUserNotExist)?;
                if !root.roles.contains("root") {
                    return Err(Rejection::RootRoleNotExist);
                }
                self.enabled = true;
            }
            AuthOp::Disable if self.enabled => {
                self.enabled = false;
                self.revision += 1;
            }
            AuthOp::Enable | AuthOp::Disable => {}
            AuthOp::Status => {
                let (enabled, revision) = (self.enabled, self.revision);
                return Ok(AuthReply::Status(AuthState { enabled, revision }));
            }
            AuthOp::Authenticate { user, token, checked } => {
                if !self.enabled {
                    return Err(Rejection::AuthNotEnabled);
                }
                if self.users.get(user).is_none_or(|user| user.no_password) {
                    return Err(Rejection::AuthFailed);
                }
                if *checked != self.revision {
                    return Err(Rejection::AuthOldRevision);
                }
                let (token, revision) = (token.clone(), self.revision);
                return Ok(AuthReply::Authenticated { token, revision });
            }
            AuthOp::UserGet { name } => {
                let user = self.users.get(name).ok_or(Rejection::UserNotFound)?;
                return Ok(AuthReply::User(user.roles.iter().cloned().collect()));
            }
            AuthOp::UserList => return Ok(AuthReply::Users(self.users.keys().cloned().collect())),
            AuthOp::RoleList => return Ok(AuthReply::Roles(self.roles.keys().cloned().collect())),
            AuthOp::RoleGet { name } => {
                let granted = self.roles.get(name).ok_or(Rejection::RoleNotFound)?;
                return Ok(AuthReply::Role(granted.clone()));
            }
            _ => {
                if self.change(op)? {
                    self.revision += 1;
                }
            }
        }
        Ok(AuthReply::Done)
    }

    /// Changes users or roles; says whether anything did change.
    fn change(&mut self, op: &AuthOp) -> Result<bool, Rejection> {
        match op {
            AuthOp::RoleAdd { name } => {
                if self.roles.contains_key(name) {
                    return Err(Rejection::RoleAlreadyExists);
                }
                self.roles.insert(name.clone(), Vec::new());
            }
            AuthOp::RoleDelete { name } => {
                if self.protects(name) {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                self.roles.remove(name).ok_or(Rejection::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(name);
                }
            }
            AuthOp::RoleGrantPermission { role, permission } => {
                let grant = permission.as_ref().ok_or(Rejection::PermissionNotGiven)?;
                let granted = self.roles.get_mut(role).ok_or(Rejection::RoleNotFound)?;
                granted.retain(|old| (&old.key, &old.range_end) != (&grant.key, &grant.range_end));
                granted.push(grant.clone());
                granted.sort();
            }
            AuthOp::RoleRevokePermission { role, key, range_end } => {
                let granted = self.roles.get_mut(role).ok_or(Rejection::RoleNotFound)?;
                let before = granted.len();
                granted.retain(|old| (&old.key, &old.range_end) != (key, range_end));
                if granted.len() == before {
                    return Err(Rejection::PermissionNotGranted);
                }
            }
            _ => return self.change_user(op),
        }
        Ok(true)
    }

    fn change_user(&mut self, op: &AuthOp) -> Result<bool, Rejection> {
        match op {
            AuthOp::UserAdd { name, .. } if name.is_empty() => return Err(Rejection::UserEmpty),
            AuthOp::UserAdd { name, no_password, .. } => {
                if self.users.contains_key(name) {
                    return Err(Rejection::UserAlreadyExists);
                }
                let (no_password, roles) = (*no_password, BTreeSet::new());
                self.users.insert(name.clone(), User { no_password, roles });
            }
            AuthOp::UserDelete { name } => {
                if self.protects(name) {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                self.users.remove(name).ok_or(Rejection::UserNotFound)?;
            }
            AuthOp::UserChangePassword { name, password } => {
                let user = self.users.get(name).ok_or(Rejection::UserNotFound)?;
                if password.is_none() && !user.no_password {
                    return Err(Rejection::NoPasswordUser);
                }
            }
            AuthOp::UserGrantRole { user, role } => {
                let known = role == "root" || self.roles.contains_key(role);
                let user = self.users.get_mut(user).ok_or(Rejection::UserNotFound)?;
                if !known {
                    return Err(Rejection::RoleNotFound);
                }
                return Ok(user.roles.insert(role.clone()));
            }
            AuthOp::UserRevokeRole { user, role } => {
                if self.protects(user) && role == "root" {
                    return Err(Rejection::InvalidAuthMgmt);
                }
                let user = self.users.get_mut(user).ok_or(Rejection::UserNotFound)?;
                if !user.roles.remove(role) {
                    return Err(Rejection::RoleNotGranted);
                }
            }
            _ => unreachable!("the others change nothing"),
        }
        Ok(true)
    }

    /// While authentication is on, nothing of root's can be taken away.
    fn protects(&self, name: &str) -> bool {
        self.enabled && name == "root"
    }
}

fn is_within(key: &[u8], grant: &Permission) -> bool {
    match &grant.range_end[..] {
        b"" => key == grant.key,
        b"\0" => key >= &grant.key[..],
        end => key >= &grant.key[..] && key < end,
    }
}

fn is_inside(key: &[u8], keys: &KeyRange) -> bool {
    key > &keys.start[..]
        && match &keys.end {
            RangeEnd::Single => false,
            RangeEnd::Before(end) => key < &end[..],
            RangeEnd::Open => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_allowed_if_no_gap_is_in_it() {
        let mut users = Users::default();
        let name = |name: &str| name.to_owned();
        let grant = |key: &'static str, end: &'static str| AuthOp::RoleGrantPermission {
            role: name("r"),
            permission: Some(Permission {
                key: key.into(),
                range_end: end.into(),
                kind: PermissionType::READ,
            }),
        };
        let password = Default::default();
        for op in [
            AuthOp::UserAdd { name: name("root"), password, no_password: true },
            AuthOp::UserGrantRole { user: name("root"), role: name("root") },
            AuthOp::UserAdd { name: name("bob"), password: Default::default(), no_password: true },
            AuthOp::RoleAdd { name: name("r") },
            AuthOp::UserGrantRole { user: name("bob"), role: name("r") },
            grant("a", "c"),
            grant("c", ""),
            grant("d", "\0"),
            AuthOp::Enable,
        ] {
            assert_eq!(users.call(&op), Ok(AuthReply::Done), "{op:?}");
        }
        for (start, end, allowed) in [
            ("a", "c\0", true),
            ("a", "c\0\0", false),
            ("c", "", true),
            ("c0", "", false),
            ("d", "\0", true),
            ("c", "\0", false),
            ("b", "a", true),
            ("zz", "zzz", true),
        ] {
            let keys = KeyRange::from_wire(start.into(), end.into());
            assert_eq!(users.may_read("bob", &keys), allowed, "[{start:?}, {end:?})");
            assert!(users.may_read("root", &keys) && !users.may_read("eve", &keys));
        }
    }
}
