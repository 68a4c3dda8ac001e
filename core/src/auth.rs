//! Users, roles and permissions as typed values: what the Auth calls ask for, and what they answer.
//!
//! Leaves out: who may do what ([`crate::machine::guard`]), how the tables are kept
//! ([`crate::machine`]), tokens' life times and password hashing (the edge's).
//!
//! Laws:
//!  1. No password is in an [`AuthOp`]: the edge has replaced it by its hash before the log.
//!  2. Passwords, hashes and tokens do not show in `Debug`: what is printed may end up in a log.
//!
//! Worked example: `UserAdd { name: "bob", password: "x" }` becomes `AuthOp::UserAdd { name: "bob",
//! password: <bcrypt hash>, no_password: false }` at the edge, and the user "bob" in apply.

use std::fmt;

use bytes::Bytes;

/// The user and the role that may do everything.
pub const ROOT: &str = "root";

/// Something that must not be printed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// What a permission allows: etcd's number, of which others than these allow nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PermissionType(pub i32);

impl PermissionType {
    /// Reading; the default of a message that names none.
    pub const READ: PermissionType = PermissionType(0);
    /// Writing.
    pub const WRITE: PermissionType = PermissionType(1);
    /// Both.
    pub const READ_WRITE: PermissionType = PermissionType(2);

    /// Whether it allows reading.
    pub fn reads(self) -> bool {
        self == PermissionType::READ || self == PermissionType::READ_WRITE
    }

    /// Whether it allows writing.
    pub fn writes(self) -> bool {
        self == PermissionType::WRITE || self == PermissionType::READ_WRITE
    }
}

/// A range of keys and what may be done with them, as it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// Where the range starts.
    pub key: Bytes,
    /// Where it ends: empty is the one key, `"\0"` is no end.
    pub range_end: Bytes,
    /// What is allowed.
    pub kind: PermissionType,
}

/// A user as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The bcrypt hash; empty where no password can match.
    pub password: Secret,
    /// Whether it was created without one.
    pub no_password: bool,
    /// In byte order, each once.
    pub roles: Vec<String>,
}

/// A role as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// In the order of keys and ends, each range once.
    pub permissions: Vec<Permission>,
}

/// Whether authentication is on, and how often users and roles have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthState {
    /// Whether rights are looked at.
    pub enabled: bool,
    /// From 1; raised by each effective change and by disabling.
    pub revision: u64,
}

impl Default for AuthState {
    fn default() -> AuthState {
        AuthState { enabled: false, revision: 1 }
    }
}

/// A replicated Auth call: those that only look are replicated in etcd too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthOp {
    /// Auth.AuthEnable
    Enable,
    /// Auth.AuthDisable
    Disable,
    /// Auth.AuthStatus
    Status,
    /// Auth.Authenticate, once the edge has compared the password.
    Authenticate {
        /// Who.
        user: String,
        /// The simple token up to its dot; empty when the edge issues tokens of another kind.
        token: Secret,
        /// The auth revision of the tables that the password was compared with.
        checked: u64,
    },
    /// Auth.UserAdd
    UserAdd {
        /// The new user.
        name: String,
        /// The hash; empty with `no_password`.
        password: Secret,
        /// Whether it can be identified by a certificate alone.
        no_password: bool,
    },
    /// Auth.UserGet
    UserGet {
        /// Who.
        name: String,
    },
    /// Auth.UserList
    UserList,
    /// Auth.UserDelete
    UserDelete {
        /// Who.
        name: String,
    },
    /// Auth.UserChangePassword
    UserChangePassword {
        /// Whose.
        name: String,
        /// The new hash; `None` when the client sent a hash that cannot be decoded.
        password: Option<Secret>,
    },
    /// Auth.UserGrantRole
    UserGrantRole {
        /// To whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Auth.UserRevokeRole
    UserRevokeRole {
        /// From whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Auth.RoleAdd
    RoleAdd {
        /// The new role.
        name: String,
    },
    /// Auth.RoleGet
    RoleGet {
        /// Which.
        name: String,
    },
    /// Auth.RoleList
    RoleList,
    /// Auth.RoleDelete
    RoleDelete {
        /// Which.
        name: String,
    },
    /// Auth.RoleGrantPermission
    RoleGrantPermission {
        /// To which role.
        role: String,
        /// What; clients may leave it out, which is refused.
        permission: Option<Permission>,
    },
    /// Auth.RoleRevokePermission
    RoleRevokePermission {
        /// From which role.
        role: String,
        /// The granted range's start …
        key: Bytes,
        /// … and its end, exactly.
        range_end: Bytes,
    },
}

/// What an Auth call answers, beside the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthReply {
    /// Nothing more.
    Done,
    /// Auth.AuthStatus
    Status(AuthState),
    /// Auth.Authenticate: the token, empty where the edge has still to issue it for this revision.
    Authenticated {
        /// The token.
        token: Secret,
        /// The auth revision it was issued at.
        revision: u64,
    },
    /// Auth.UserGet: the user's roles.
    User(Vec<String>),
    /// Auth.UserList
    Users(Vec<String>),
    /// Auth.RoleGet: the role's permissions.
    Role(Vec<Permission>),
    /// Auth.RoleList
    Roles(Vec<String>),
}

/// A change of the set of simple tokens, which every member keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A user has authenticated.
    Assigned {
        /// Who.
        user: String,
        /// The whole token.
        token: Secret,
    },
    /// The tokens of a user are void: it was deleted, or has another password.
    Revoked {
        /// Whose.
        user: String,
    },
    /// All tokens are void: authentication was switched off.
    Cleared,
}

/// What a client asks of the Auth service: as an [`AuthOp`], but with passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthQuery {
    /// Auth.Authenticate
    Authenticate {
        /// Who.
        name: String,
        /// As given.
        password: Secret,
    },
    /// Auth.UserAdd with a password, which may be empty.
    UserAdd {
        /// The new user.
        name: String,
        /// As given.
        password: Secret,
    },
    /// Auth.UserChangePassword with a password that is not empty.
    UserChangePassword {
        /// Whose.
        name: String,
        /// As given.
        password: Secret,
    },
    /// A call that can be replicated as it is.
    Op(AuthOp),
}
