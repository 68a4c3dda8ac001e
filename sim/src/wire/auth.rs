//! Calls about users and roles, and what is answered to them: paths, messages, and fields of answers.
//!
//! Leaves out the header, and the tag of a request ([`super::request`]).
//!
//! Worked example: a login of `u1` with `x` is `0a 02 75 31 12 01 78`, for
//! `/etcdserverpb.Auth/Authenticate`; the token comes back in field 2.

use bytes::Bytes;
use holdfast_core::auth::{
    AuthOp, AuthQuery, AuthReply, AuthState, Permission, PermissionType, Secret,
};

use super::Breach;
use super::protobuf::{Value, Writer, fields};

/// The path of the method that answers a call.
pub(super) fn path(query: &AuthQuery) -> &'static str {
    match query {
        AuthQuery::Authenticate { .. } => "/etcdserverpb.Auth/Authenticate",
        AuthQuery::UserAdd { .. } => "/etcdserverpb.Auth/UserAdd",
        AuthQuery::UserChangePassword { .. } => "/etcdserverpb.Auth/UserChangePassword",
        AuthQuery::Op(op) => match op {
            AuthOp::Enable => "/etcdserverpb.Auth/AuthEnable",
            AuthOp::Disable => "/etcdserverpb.Auth/AuthDisable",
            AuthOp::Status => "/etcdserverpb.Auth/AuthStatus",
            AuthOp::UserGet { .. } => "/etcdserverpb.Auth/UserGet",
            AuthOp::UserList => "/etcdserverpb.Auth/UserList",
            AuthOp::UserDelete { .. } => "/etcdserverpb.Auth/UserDelete",
            AuthOp::UserGrantRole { .. } => "/etcdserverpb.Auth/UserGrantRole",
            AuthOp::UserRevokeRole { .. } => "/etcdserverpb.Auth/UserRevokeRole",
            AuthOp::RoleAdd { .. } => "/etcdserverpb.Auth/RoleAdd",
            AuthOp::RoleGet { .. } => "/etcdserverpb.Auth/RoleGet",
            AuthOp::RoleList => "/etcdserverpb.Auth/RoleList",
            AuthOp::RoleDelete { .. } => "/etcdserverpb.Auth/RoleDelete",
            AuthOp::RoleGrantPermission { .. } => "/etcdserverpb.Auth/RoleGrantPermission",
            AuthOp::RoleRevokePermission { .. } => "/etcdserverpb.Auth/RoleRevokePermission",
            AuthOp::Authenticate { .. }
            | AuthOp::UserAdd { .. }
            | AuthOp::UserChangePassword { .. } => {
                unreachable!("those with passwords are queries of their own")
            }
        },
    }
}

/// The message of a call.
pub(super) fn message(query: &AuthQuery) -> Writer {
    let mut out = Writer::default();
    match query {
        AuthQuery::Authenticate { name, password }
        | AuthQuery::UserAdd { name, password }
        | AuthQuery::UserChangePassword { name, password } => {
            out.bytes(1, name.as_bytes()).bytes(2, &password.0);
        }
        AuthQuery::Op(op) => match op {
            AuthOp::UserGrantRole { user, role } | AuthOp::UserRevokeRole { user, role } => {
                out.bytes(1, user.as_bytes()).bytes(2, role.as_bytes());
            }
            AuthOp::UserGet { name }
            | AuthOp::UserDelete { name }
            | AuthOp::RoleAdd { name }
            | AuthOp::RoleGet { name }
            | AuthOp::RoleDelete { name } => {
                out.bytes(1, name.as_bytes());
            }
            AuthOp::RoleGrantPermission { role, permission } => {
                out.bytes(1, role.as_bytes());
                if let Some(Permission { key, range_end, kind }) = permission {
                    let mut inner = Writer::default();
                    inner.int(1, i64::from(kind.0)).bytes(2, key).bytes(3, range_end);
                    out.present_bytes(2, &inner.0);
                }
            }
            AuthOp::RoleRevokePermission { role, key, range_end } => {
                out.bytes(1, role.as_bytes()).bytes(2, key).bytes(3, range_end);
            }
            _ => {}
        },
    }
    out
}

/// The answer to a call of which no field has come yet.
pub(super) fn reply(query: &AuthQuery) -> AuthReply {
    match query {
        AuthQuery::Authenticate { .. } => {
            AuthReply::Authenticated { token: Secret::default(), revision: 0 }
        }
        AuthQuery::Op(AuthOp::Status) => {
            AuthReply::Status(AuthState { enabled: false, revision: 0 })
        }
        AuthQuery::Op(AuthOp::UserGet { .. }) => AuthReply::User(Vec::new()),
        AuthQuery::Op(AuthOp::UserList) => AuthReply::Users(Vec::new()),
        AuthQuery::Op(AuthOp::RoleGet { .. }) => AuthReply::Role(Vec::new()),
        AuthQuery::Op(AuthOp::RoleList) => AuthReply::Roles(Vec::new()),
        _ => AuthReply::Done,
    }
}

/// A field behind the header.
pub(super) fn field(reply: &mut AuthReply, field: u32, value: Value<'_>) -> Result<(), Breach> {
    match (reply, field) {
        (AuthReply::Authenticated { token, .. }, 2) => *token = Secret::from(&*value.text()?),
        (AuthReply::Status(state), 2) => state.enabled = value.int()? != 0,
        (AuthReply::Status(state), 3) => state.revision = value.int()? as u64,
        (AuthReply::User(names) | AuthReply::Users(names) | AuthReply::Roles(names), 2) => {
            names.push(value.text()?);
        }
        (AuthReply::Role(granted), 2) => granted.push(permission(value)?),
        _ => return super::answer::odd(field),
    }
    Ok(())
}

fn permission(value: Value<'_>) -> Result<Permission, Breach> {
    let mut permission =
        Permission { key: Bytes::new(), range_end: Bytes::new(), kind: PermissionType::READ };
    fields(value.bytes()?, |field, value| {
        match field {
            1 => permission.kind = PermissionType(value.int()? as i32),
            2 => permission.key = Bytes::copy_from_slice(value.bytes()?),
            3 => permission.range_end = Bytes::copy_from_slice(value.bytes()?),
            _ => return super::answer::odd(field),
        }
        Ok(())
    })?;
    Ok(permission)
}
