//! Users, roles and the auth state: their tables, and what each Auth call makes of them.
//!
//! ```text
//! Table::Auth   "state"  → version:01 enabled:(00|01) revision:varint
//! Table::Users  name     → version:01 flags password:bytes roles:list(bytes)   flags: 1 no password
//! Table::Roles  name     → version:01 permissions:list(permission)
//! permission := kind:varint key:bytes range_end:bytes       kind: the 32 bits of etcd's number
//! list := count:varint item * count                         bytes := length:varint byte * length
//! ```
//!
//! Leaves out: who may call what ([`super::guard`] has decided that before).
//!
//! Laws:
//!  1. Every effective change of users and roles, and disabling, raises the auth revision by one;
//!     enabling, looking, and granting a role that is held already do not.
//!  2. With authentication on, user root, its role root and the role root itself cannot be taken away.
//!  3. Whatever voids a password or a user says so to the keepers of tokens ([`TokenChange`]).
//!
//! Worked example: `RoleDelete "reader"` removes the role's row, takes the role from every user that
//! holds it, and raises the revision from 7 to 8.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::auth::{
    AuthOp, AuthReply, AuthState, Permission, PermissionType, ROOT, Role, Secret, TokenChange, User,
};
use crate::kv::{put_varint, take_varint};
use crate::machine::draft::Draft;
use crate::rejection::Rejection;
use crate::request::{KeyRange, RangeEnd};
use crate::store::{Table, View};

/// Whether authentication is on, and the auth revision.
pub fn auth_state(view: &dyn View) -> AuthState {
    view.table(Table::Auth, STATE_KEY).as_deref().and_then(decode_state).unwrap_or_default()
}

/// A user, if there is such a one.
pub fn user(view: &dyn View, name: &[u8]) -> Option<User> {
    view.table(Table::Users, name).as_deref().and_then(decode_user)
}

/// A role, if there is such a one.
pub fn role(view: &dyn View, name: &str) -> Option<Role> {
    view.table(Table::Roles, name.as_bytes()).as_deref().and_then(decode_role)
}

/// The role that root's own is shown as: everything, though nothing is stored.
fn root_permission() -> Permission {
    Permission {
        key: Bytes::new(),
        range_end: Bytes::from_static(b"\0"),
        kind: PermissionType::READ_WRITE,
    }
}

type Done = Result<AuthReply, Rejection>;

/// Carries out an Auth call.
pub(super) fn perform(draft: &mut Draft<'_>, op: &AuthOp) -> Done {
    match op {
        AuthOp::Enable => enable(draft),
        AuthOp::Disable => disable(draft),
        AuthOp::Status => Ok(AuthReply::Status(auth_state(draft.view()))),
        AuthOp::Authenticate { user, token, checked } => {
            authenticate(draft, user, (token, *checked))
        }
        AuthOp::UserAdd { name, password, no_password } => {
            add_user(draft, name, (password, *no_password))
        }
        AuthOp::UserGet { name } => Ok(AuthReply::User(known(draft, name)?.roles)),
        AuthOp::UserList => Ok(AuthReply::Users(names(draft.view(), Table::Users))),
        AuthOp::UserDelete { name } => delete_user(draft, name),
        AuthOp::UserChangePassword { name, password } => {
            change_password(draft, name, password.as_ref())
        }
        AuthOp::UserGrantRole { user, role } => grant_role(draft, user, role),
        AuthOp::UserRevokeRole { user, role } => revoke_role(draft, user, role),
        AuthOp::RoleAdd { name } => add_role(draft, name),
        AuthOp::RoleGet { name } => {
            let role = known_role(draft, name)?;
            let root = name == ROOT;
            Ok(AuthReply::Role(if root { vec![root_permission()] } else { role.permissions }))
        }
        AuthOp::RoleList => Ok(AuthReply::Roles(names(draft.view(), Table::Roles))),
        AuthOp::RoleDelete { name } => delete_role(draft, name),
        AuthOp::RoleGrantPermission { role, permission } => {
            grant_permission(draft, role, permission.as_ref())
        }
        AuthOp::RoleRevokePermission { role, key, range_end } => {
            revoke_permission(draft, role, (key, range_end))
        }
    }
}

fn enable(draft: &mut Draft<'_>) -> Done {
    let state = auth_state(draft.view());
    if state.enabled {
        return Ok(AuthReply::Done);
    }
    let root = user(draft.view(), ROOT.as_bytes()).ok_or(Rejection::RootUserNotExist)?;
    if !holds(&root, ROOT) {
        return Err(Rejection::RootRoleNotExist);
    }
    set_state(draft, AuthState { enabled: true, ..state });
    Ok(AuthReply::Done)
}

fn disable(draft: &mut Draft<'_>) -> Done {
    let state = auth_state(draft.view());
    if state.enabled {
        set_state(draft, AuthState { enabled: false, revision: state.revision + 1 });
        draft.token_changed(TokenChange::Cleared);
    }
    Ok(AuthReply::Done)
}

/// The edge has compared the password with the tables of `checked`; if they have changed since, it has
/// to do so again.
fn authenticate(draft: &mut Draft<'_>, name: &str, (token, checked): (&Secret, u64)) -> Done {
    let state = auth_state(draft.view());
    if !state.enabled {
        return Err(Rejection::AuthNotEnabled);
    }
    let known = user(draft.view(), name.as_bytes()).filter(|user| !user.no_password);
    known.ok_or(Rejection::AuthFailed)?;
    if checked != state.revision {
        return Err(Rejection::AuthOldRevision);
    }
    let revision = state.revision;
    if token.0.is_empty() {
        return Ok(AuthReply::Authenticated { token: Secret::default(), revision });
    }
    let mut whole = token.0.to_vec();
    whole.extend_from_slice(format!(".{}", draft.applied().index.0).as_bytes());
    let token = Secret(whole.into());
    let assigned = TokenChange::Assigned { user: name.to_owned(), token: token.clone() };
    draft.token_changed(assigned);
    Ok(AuthReply::Authenticated { token, revision })
}

fn add_user(draft: &mut Draft<'_>, name: &str, (password, no_password): (&Secret, bool)) -> Done {
    if name.is_empty() {
        return Err(Rejection::UserEmpty);
    }
    if user(draft.view(), name.as_bytes()).is_some() {
        return Err(Rejection::UserAlreadyExists);
    }
    let password = if no_password { Secret::default() } else { own(password) };
    set_user(draft, name, &User { password, no_password, roles: Vec::new() });
    Ok(changed(draft))
}

fn delete_user(draft: &mut Draft<'_>, name: &str) -> Done {
    if name == ROOT && auth_state(draft.view()).enabled {
        return Err(Rejection::InvalidAuthMgmt);
    }
    known(draft, name)?;
    draft.clear(Table::Users, text(name));
    draft.token_changed(TokenChange::Revoked { user: name.to_owned() });
    Ok(changed(draft))
}

fn change_password(draft: &mut Draft<'_>, name: &str, password: Option<&Secret>) -> Done {
    let mut user = known(draft, name)?;
    if !user.no_password {
        user.password = own(password.ok_or(Rejection::NoPasswordUser)?);
    }
    set_user(draft, name, &user);
    draft.token_changed(TokenChange::Revoked { user: name.to_owned() });
    Ok(changed(draft))
}

fn grant_role(draft: &mut Draft<'_>, name: &str, role: &str) -> Done {
    let mut user = known(draft, name)?;
    if role != ROOT {
        known_role(draft, role)?;
    }
    match user.roles.binary_search_by(|held| held.as_str().cmp(role)) {
        Ok(_) => Ok(AuthReply::Done),
        Err(place) => {
            user.roles.insert(place, role.to_owned());
            set_user(draft, name, &user);
            Ok(changed(draft))
        }
    }
}

fn revoke_role(draft: &mut Draft<'_>, name: &str, role: &str) -> Done {
    if name == ROOT && role == ROOT && auth_state(draft.view()).enabled {
        return Err(Rejection::InvalidAuthMgmt);
    }
    let mut user = known(draft, name)?;
    if !holds(&user, role) {
        return Err(Rejection::RoleNotGranted);
    }
    user.roles.retain(|held| held != role);
    set_user(draft, name, &user);
    Ok(changed(draft))
}

fn add_role(draft: &mut Draft<'_>, name: &str) -> Done {
    if name.is_empty() {
        return Err(Rejection::RoleEmpty);
    }
    if role(draft.view(), name).is_some() {
        return Err(Rejection::RoleAlreadyExists);
    }
    set_role(draft, name, &Role::default());
    Ok(changed(draft))
}

fn delete_role(draft: &mut Draft<'_>, name: &str) -> Done {
    if name == ROOT && auth_state(draft.view()).enabled {
        return Err(Rejection::InvalidAuthMgmt);
    }
    known_role(draft, name)?;
    draft.clear(Table::Roles, text(name));
    let mut holders = Vec::new();
    draft.view().table_scan(Table::Users, b"", &mut |key, value| {
        let holder = decode_user(value).filter(|user| holds(user, name));
        holders.extend(holder.map(|user| (Bytes::copy_from_slice(key), user)));
        ControlFlow::Continue(())
    });
    for (key, mut user) in holders {
        user.roles.retain(|held| held != name);
        draft.set(Table::Users, key, encode_user(&user));
    }
    Ok(changed(draft))
}

fn grant_permission(draft: &mut Draft<'_>, name: &str, permission: Option<&Permission>) -> Done {
    let permission = permission.ok_or(Rejection::PermissionNotGiven)?;
    let keys = KeyRange::from_wire(permission.key.clone(), permission.range_end.clone());
    let inverted = matches!(keys.end, RangeEnd::Before(_)) && keys.is_empty();
    if permission.key.is_empty() || inverted {
        return Err(Rejection::InvalidAuthMgmt);
    }
    let mut role = known_role(draft, name)?;
    let range = |of: &Permission| (of.key.clone(), of.range_end.clone());
    match role.permissions.binary_search_by_key(&range(permission), range) {
        Ok(place) => role.permissions[place].kind = permission.kind,
        Err(place) => role.permissions.insert(place, permission.clone()),
    }
    set_role(draft, name, &role);
    Ok(changed(draft))
}

fn revoke_permission(draft: &mut Draft<'_>, name: &str, (key, end): (&Bytes, &Bytes)) -> Done {
    let mut role = known_role(draft, name)?;
    let before = role.permissions.len();
    role.permissions.retain(|granted| granted.key != key || granted.range_end != end);
    if role.permissions.len() == before {
        return Err(Rejection::PermissionNotGranted);
    }
    set_role(draft, name, &role);
    Ok(changed(draft))
}

/// Law 1.
fn changed(draft: &mut Draft<'_>) -> AuthReply {
    let state = auth_state(draft.view());
    set_state(draft, AuthState { revision: state.revision + 1, ..state });
    AuthReply::Done
}

fn known(draft: &Draft<'_>, name: &str) -> Result<User, Rejection> {
    user(draft.view(), name.as_bytes()).ok_or(Rejection::UserNotFound)
}

fn known_role(draft: &Draft<'_>, name: &str) -> Result<Role, Rejection> {
    role(draft.view(), name).ok_or(Rejection::RoleNotFound)
}

fn holds(user: &User, role: &str) -> bool {
    user.roles.iter().any(|held| held == role)
}

/// The names of all rows of a table.
fn names(view: &dyn View, table: Table) -> Vec<String> {
    let mut names = Vec::new();
    view.table_scan(table, b"", &mut |key, _| {
        names.push(String::from_utf8_lossy(key).into_owned());
        ControlFlow::Continue(())
    });
    names
}

/// A hash in the log is a slice of its entry; what is kept must not hold on to that.
fn own(secret: &Secret) -> Secret {
    Secret(Bytes::copy_from_slice(&secret.0))
}

fn text(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn set_state(draft: &mut Draft<'_>, state: AuthState) {
    let mut value = vec![VERSION, u8::from(state.enabled)];
    put_varint(&mut value, state.revision);
    draft.set(Table::Auth, Bytes::from_static(STATE_KEY), value.into());
}

fn set_user(draft: &mut Draft<'_>, name: &str, user: &User) {
    draft.set(Table::Users, text(name), encode_user(user));
}

fn set_role(draft: &mut Draft<'_>, name: &str, role: &Role) {
    draft.set(Table::Roles, text(name), encode_role(role));
}

const STATE_KEY: &[u8] = b"state";

const VERSION: u8 = 1;

const NO_PASSWORD: u8 = 1;

fn decode_state(value: &[u8]) -> Option<AuthState> {
    let [VERSION, enabled, rest @ ..] = value else { return None };
    let mut rest = rest;
    Some(AuthState { enabled: *enabled != 0, revision: take_varint(&mut rest)? })
}

fn encode_user(user: &User) -> Bytes {
    let mut out = vec![VERSION, if user.no_password { NO_PASSWORD } else { 0 }];
    put_bytes(&mut out, &user.password.0);
    put_varint(&mut out, user.roles.len() as u64);
    user.roles.iter().for_each(|role| put_bytes(&mut out, role.as_bytes()));
    out.into()
}

fn decode_user(value: &[u8]) -> Option<User> {
    let [VERSION, flags, rest @ ..] = value else { return None };
    let mut rest = rest;
    let password = Secret(Bytes::copy_from_slice(take_bytes(&mut rest)?));
    let count = take_varint(&mut rest)?;
    let role = |rest: &mut &[u8]| Some(str::from_utf8(take_bytes(rest)?).ok()?.to_owned());
    // Each item takes a byte at least, so a wrong count ends with the data.
    let roles = (0..count).map(|_| role(&mut rest)).collect::<Option<Vec<String>>>()?;
    Some(User { password, no_password: flags & NO_PASSWORD != 0, roles })
}

fn encode_role(role: &Role) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, role.permissions.len() as u64);
    for permission in &role.permissions {
        put_varint(&mut out, u64::from(permission.kind.0 as u32));
        put_bytes(&mut out, &permission.key);
        put_bytes(&mut out, &permission.range_end);
    }
    out.into()
}

fn decode_role(value: &[u8]) -> Option<Role> {
    let [VERSION, rest @ ..] = value else { return None };
    let mut rest = rest;
    let count = take_varint(&mut rest)?;
    let permission = |rest: &mut &[u8]| {
        Some(Permission {
            kind: PermissionType(u32::try_from(take_varint(rest)?).ok()? as i32),
            key: Bytes::copy_from_slice(take_bytes(rest)?),
            range_end: Bytes::copy_from_slice(take_bytes(rest)?),
        })
    };
    let permissions = (0..count).map(|_| permission(&mut rest)).collect::<Option<Vec<_>>>()?;
    Some(Role { permissions })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(data)?).ok()?;
    let (head, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(head)
}
