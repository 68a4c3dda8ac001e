//! The Auth service: 17 calls, most of which are replicated as they are.
//!
//! Leaves out what depends on users and roles; that, and an empty name, is refused in apply, after it is
//! known whether the caller may ask at all.
//!
//! Law: a password of a user without one is dropped here, and a hash that a client sends counts only
//! where etcd lets it: in a change of password without a password.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use holdfast_core::auth::{AuthOp, AuthQuery, AuthReply, Permission, PermissionType, Secret};
use holdfast_core::query::Query;

use super::{append, decode};
use crate::call::{GrpcStatus, Method};
use crate::proto::{authpb, etcdserverpb as pb};

/// Go's `StdEncoding`: padding is demanded, the bits after the last byte do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Reads a call of the service; `None` when the method is not one of its.
pub(super) fn decode_call(method: Method, message: &Bytes) -> Option<Result<Query, GrpcStatus>> {
    let op = match method {
        Method::AuthEnable => read(message, |_: pb::AuthEnableRequest| AuthOp::Enable),
        Method::AuthDisable => read(message, |_: pb::AuthDisableRequest| AuthOp::Disable),
        Method::AuthStatus => read(message, |_: pb::AuthStatusRequest| AuthOp::Status),
        Method::Authenticate => {
            return Some(query(message, |request: pb::AuthenticateRequest| {
                let password = secret(request.password);
                AuthQuery::Authenticate { name: request.name, password }
            }));
        }
        Method::UserAdd => return Some(query(message, user_add)),
        Method::UserChangePassword => return Some(query(message, change_password)),
        Method::UserGet => {
            read(message, |r: pb::AuthUserGetRequest| AuthOp::UserGet { name: r.name })
        }
        Method::UserList => read(message, |_: pb::AuthUserListRequest| AuthOp::UserList),
        Method::UserDelete => {
            read(message, |r: pb::AuthUserDeleteRequest| AuthOp::UserDelete { name: r.name })
        }
        Method::UserGrantRole => read(message, |r: pb::AuthUserGrantRoleRequest| {
            AuthOp::UserGrantRole { user: r.user, role: r.role }
        }),
        Method::UserRevokeRole => read(message, |r: pb::AuthUserRevokeRoleRequest| {
            AuthOp::UserRevokeRole { user: r.name, role: r.role }
        }),
        Method::RoleAdd => {
            read(message, |r: pb::AuthRoleAddRequest| AuthOp::RoleAdd { name: r.name })
        }
        Method::RoleGet => {
            read(message, |r: pb::AuthRoleGetRequest| AuthOp::RoleGet { name: r.role })
        }
        Method::RoleList => read(message, |_: pb::AuthRoleListRequest| AuthOp::RoleList),
        Method::RoleDelete => {
            read(message, |r: pb::AuthRoleDeleteRequest| AuthOp::RoleDelete { name: r.role })
        }
        Method::RoleGrantPermission => read(message, |r: pb::AuthRoleGrantPermissionRequest| {
            let permission = r.perm.map(|permission| Permission {
                key: permission.key,
                range_end: permission.range_end,
                kind: PermissionType(permission.perm_type),
            });
            AuthOp::RoleGrantPermission { role: r.name, permission }
        }),
        Method::RoleRevokePermission => read(message, |r: pb::AuthRoleRevokePermissionRequest| {
            AuthOp::RoleRevokePermission { role: r.role, key: r.key, range_end: r.range_end }
        }),
        _ => return None,
    };
    Some(op)
}

fn user_add(request: pb::AuthUserAddRequest) -> AuthQuery {
    if request.options.is_some_and(|options| options.no_password) {
        let (name, password) = (request.name, Secret::default());
        return AuthQuery::Op(AuthOp::UserAdd { name, password, no_password: true });
    }
    AuthQuery::UserAdd { name: request.name, password: secret(request.password) }
}

/// Without a password nothing is hashed: the hash that the client sends is taken, an empty one too
/// (surface 1.6).
fn change_password(request: pb::AuthUserChangePasswordRequest) -> AuthQuery {
    let name = request.name;
    if !request.password.is_empty() {
        return AuthQuery::UserChangePassword { name, password: secret(request.password) };
    }
    // Go passes over line breaks.
    let hash = request.hashed_password.replace(['\r', '\n'], "");
    let password = BASE64.decode(hash).ok().map(|hash| Secret(hash.into()));
    AuthQuery::Op(AuthOp::UserChangePassword { name, password })
}

fn secret(text: String) -> Secret {
    Secret(text.into_bytes().into())
}

fn read<M: prost::Message + Default>(
    message: &Bytes,
    op: impl FnOnce(M) -> AuthOp,
) -> Result<Query, GrpcStatus> {
    query(message, |request| AuthQuery::Op(op(request)))
}

fn query<M: prost::Message + Default>(
    message: &Bytes,
    query: impl FnOnce(M) -> AuthQuery,
) -> Result<Query, GrpcStatus> {
    Ok(Query::Auth(query(decode(message)?)))
}

/// Appends the answer. Those that are a header alone all have the same bytes.
pub(super) fn encode(header: pb::ResponseHeader, reply: &AuthReply, out: &mut bytes::BytesMut) {
    let header = Some(header);
    match reply {
        AuthReply::Done => append(&pb::AuthEnableResponse { header }, out),
        AuthReply::Status(state) => {
            let (enabled, auth_revision) = (state.enabled, state.revision);
            append(&pb::AuthStatusResponse { header, enabled, auth_revision }, out);
        }
        AuthReply::Authenticated { token, .. } => {
            let token = String::from_utf8_lossy(&token.0).into_owned();
            append(&pb::AuthenticateResponse { header, token }, out);
        }
        AuthReply::User(roles) => {
            append(&pb::AuthUserGetResponse { header, roles: roles.clone() }, out);
        }
        AuthReply::Users(users) => {
            append(&pb::AuthUserListResponse { header, users: users.clone() }, out);
        }
        AuthReply::Role(permissions) => {
            let perm = permissions.iter().map(permission).collect();
            append(&pb::AuthRoleGetResponse { header, perm }, out);
        }
        AuthReply::Roles(roles) => {
            append(&pb::AuthRoleListResponse { header, roles: roles.clone() }, out);
        }
    }
}

fn permission(permission: &Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.kind.0,
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Code;
    use crate::wire::{WireLimits, decode_query};
    use prost::Message;

    fn decoded(method: Method, message: &impl Message) -> AuthQuery {
        let message = Bytes::from(message.encode_to_vec());
        match decode_query(method, &message, &WireLimits::default()) {
            Ok(Query::Auth(query)) => query,
            other => panic!("{other:?}"),
        }
    }

    fn changed(password: &str, hash: &str) -> AuthQuery {
        let request = pb::AuthUserChangePasswordRequest {
            name: "bob".into(),
            password: password.into(),
            hashed_password: hash.into(),
        };
        decoded(Method::UserChangePassword, &request)
    }

    #[test]
    fn a_hash_counts_only_without_a_password() {
        let name = || "bob".to_owned();
        let op = |password: Option<&str>| {
            let password = password.map(Secret::from);
            AuthQuery::Op(AuthOp::UserChangePassword { name: name(), password })
        };
        assert_eq!(changed("", "aGFzaA=="), op(Some("hash")));
        assert_eq!(changed("", "aGFz\r\naA=="), op(Some("hash")));
        assert_eq!(changed("", ""), op(Some("")));
        for undecodable in ["aGFzaA", "aGFzaA=", "????", "a"] {
            assert_eq!(changed("", undecodable), op(None), "{undecodable}");
        }
        let password = Secret::from("x");
        let given = AuthQuery::UserChangePassword { name: name(), password };
        assert_eq!(changed("x", "aGFzaA=="), given);
    }

    #[test]
    fn a_user_without_a_password_brings_none() {
        let mut request = pb::AuthUserAddRequest {
            name: "bob".into(),
            password: "x".into(),
            options: None,
            hashed_password: "aGFzaA==".into(),
        };
        let given = AuthQuery::UserAdd { name: "bob".into(), password: "x".into() };
        assert_eq!(decoded(Method::UserAdd, &request), given);
        request.options = Some(authpb::UserAddOptions { no_password: true });
        let (name, password) = ("bob".to_owned(), Secret::default());
        let bare = AuthQuery::Op(AuthOp::UserAdd { name, password, no_password: true });
        assert_eq!(decoded(Method::UserAdd, &request), bare);
    }

    #[test]
    fn names_that_are_no_text_are_refused() {
        let bytes = Bytes::from_static(b"\x0a\x02\xff\xfe");
        let refused = decode_query(Method::RoleAdd, &bytes, &WireLimits::default());
        assert_eq!(refused.map_err(|status| status.code), Err(Code::Internal));
    }
}
