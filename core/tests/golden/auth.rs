//! The Auth calls of scripts:
//!
//! ```text
//! auth enable      auth disable      auth status      auth login USER TOKEN CHECKED
//! auth user-add NAME HASH|no-password     auth user-get NAME     auth users
//! auth user-delete NAME                   auth passwd NAME HASH|undecodable
//! auth user-grant USER ROLE               auth user-revoke USER ROLE
//! auth role-add NAME    auth role-get NAME    auth roles    auth role-delete NAME
//! auth grant ROLE r|w|rw|KIND KEY [END]       auth grant ROLE nothing
//! auth revoke ROLE KEY [END]
//! ```
//!
//! A name, key or hash of `-` is empty; an END of `*` is no end.

use bytes::Bytes;
use holdfast_core::auth::{AuthOp, AuthReply, Permission, PermissionType, Secret, TokenChange};
use holdfast_core::machine;
use holdfast_core::request::Identity;
use holdfast_core::store::View;

use crate::golden::parse::Words;

type Parsed<T> = Result<T, String>;

pub fn op(words: &mut Words<'_>) -> Parsed<AuthOp> {
    let name = |words: &mut Words<'_>| words.next().map(name);
    Ok(match words.next()? {
        "enable" => AuthOp::Enable,
        "disable" => AuthOp::Disable,
        "status" => AuthOp::Status,
        "login" => AuthOp::Authenticate {
            user: name(words)?,
            token: Secret(bytes(words.next()?)),
            checked: words.number()? as u64,
        },
        "user-add" => {
            let (name, hash) = (name(words)?, words.next()?);
            let no_password = hash == "no-password";
            let password = if no_password { Secret::default() } else { Secret(bytes(hash)) };
            AuthOp::UserAdd { name, password, no_password }
        }
        "user-get" => AuthOp::UserGet { name: name(words)? },
        "users" => AuthOp::UserList,
        "user-delete" => AuthOp::UserDelete { name: name(words)? },
        "passwd" => {
            let (name, hash) = (name(words)?, words.next()?);
            let password = (hash != "undecodable").then(|| Secret(bytes(hash)));
            AuthOp::UserChangePassword { name, password }
        }
        "user-grant" => AuthOp::UserGrantRole { user: name(words)?, role: name(words)? },
        "user-revoke" => AuthOp::UserRevokeRole { user: name(words)?, role: name(words)? },
        "role-add" => AuthOp::RoleAdd { name: name(words)? },
        "role-get" => AuthOp::RoleGet { name: name(words)? },
        "roles" => AuthOp::RoleList,
        "role-delete" => AuthOp::RoleDelete { name: name(words)? },
        "grant" => {
            AuthOp::RoleGrantPermission { role: name(words)?, permission: permission(words)? }
        }
        "revoke" => {
            let (role, key) = (name(words)?, bytes(words.next()?));
            AuthOp::RoleRevokePermission { role, key, range_end: range_end(words) }
        }
        word => return Err(format!("auth call `{word}`")),
    })
}

/// `bob`, `bob@7`, `-`.
pub fn identity(view: &dyn View, word: &str) -> Parsed<Identity> {
    let (user, revision) = word.split_once('@').unwrap_or((word, ""));
    if user == "-" {
        return Ok(Identity::default());
    }
    let auth_revision = match revision {
        "" => machine::auth_state(view).revision,
        revision => revision.parse().map_err(|_| format!("`{word}` names no revision"))?,
    };
    Ok(Identity { user: bytes(user), auth_revision })
}

pub fn show(reply: &AuthReply) -> Vec<String> {
    match reply {
        AuthReply::Done => Vec::new(),
        AuthReply::Status(state) => {
            vec![format!("  enabled {} at auth revision {}", state.enabled, state.revision)]
        }
        AuthReply::Authenticated { token, revision } => {
            vec![format!("  token {:?} at auth revision {revision}", text(&token.0))]
        }
        AuthReply::User(names) | AuthReply::Users(names) | AuthReply::Roles(names) => {
            vec![format!("  [{}]", names.join(" "))]
        }
        AuthReply::Role(permissions) => permissions.iter().map(show_permission).collect(),
    }
}

pub fn show_change(change: &TokenChange) -> String {
    match change {
        TokenChange::Assigned { user, token } => format!("  {user} holds {}", text(&token.0)),
        TokenChange::Revoked { user } => format!("  tokens of {user} are void"),
        TokenChange::Cleared => "  all tokens are void".to_owned(),
    }
}

fn show_permission(permission: &Permission) -> String {
    let kind = match permission.kind {
        PermissionType::READ => "r".to_owned(),
        PermissionType::WRITE => "w".to_owned(),
        PermissionType::READ_WRITE => "rw".to_owned(),
        PermissionType(other) => other.to_string(),
    };
    format!("  {kind} {:?} {:?}", text(&permission.key), text(&permission.range_end))
}

fn permission(words: &mut Words<'_>) -> Parsed<Option<Permission>> {
    let kind = match words.next()? {
        "nothing" => return Ok(None),
        "r" => PermissionType::READ,
        "w" => PermissionType::WRITE,
        "rw" => PermissionType::READ_WRITE,
        other => PermissionType(other.parse().map_err(|_| format!("kind `{other}`"))?),
    };
    let key = bytes(words.next()?);
    Ok(Some(Permission { key, range_end: range_end(words), kind }))
}

fn range_end(words: &mut Words<'_>) -> Bytes {
    match words.next() {
        Ok("*") => Bytes::from_static(b"\0"),
        Ok(end) => bytes(end),
        Err(_) => Bytes::new(),
    }
}

fn name(word: &str) -> String {
    if word == "-" { String::new() } else { word.to_owned() }
}

fn bytes(word: &str) -> Bytes {
    name(word).into_bytes().into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
