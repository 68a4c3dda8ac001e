//! Writing and reading the Auth calls of an entry; see the head of `codec` for the format.
//!
//! Worked example: `RoleAdd { name: "r" }` is `50 0c 01 72`.

use bytes::Bytes;

use super::decode::{Read, Reader};
use super::encode::Writer;
use crate::auth::{AuthOp, Permission, PermissionType, Secret};

impl Writer {
    pub(super) fn auth(&mut self, op: &AuthOp) {
        match op {
            AuthOp::Enable => self.byte(0x01),
            AuthOp::Disable => self.byte(0x02),
            AuthOp::Status => self.byte(0x03),
            AuthOp::Authenticate { user, token, checked } => self.tagged(0x04, |w| {
                w.bytes(user.as_bytes());
                w.bytes(&token.0);
                w.varint(*checked);
            }),
            AuthOp::UserAdd { name, password, no_password } => self.tagged(0x05, |w| {
                w.flags([*no_password, false, false, false]);
                w.bytes(name.as_bytes());
                w.bytes(&password.0);
            }),
            AuthOp::UserGet { name } => self.tagged(0x06, |w| w.bytes(name.as_bytes())),
            AuthOp::UserList => self.byte(0x07),
            AuthOp::UserDelete { name } => self.tagged(0x08, |w| w.bytes(name.as_bytes())),
            AuthOp::UserChangePassword { name, password } => self.tagged(0x09, |w| {
                w.flags([password.is_none(), false, false, false]);
                w.bytes(name.as_bytes());
                w.bytes(password.as_ref().map_or(b"", |hash| &hash.0));
            }),
            AuthOp::UserGrantRole { user, role } => self.pair(0x0a, user, role),
            AuthOp::UserRevokeRole { user, role } => self.pair(0x0b, user, role),
            AuthOp::RoleAdd { name } => self.tagged(0x0c, |w| w.bytes(name.as_bytes())),
            AuthOp::RoleGet { name } => self.tagged(0x0d, |w| w.bytes(name.as_bytes())),
            AuthOp::RoleList => self.byte(0x0e),
            AuthOp::RoleDelete { name } => self.tagged(0x0f, |w| w.bytes(name.as_bytes())),
            AuthOp::RoleGrantPermission { role, permission } => self.tagged(0x10, |w| {
                w.flags([permission.is_some(), false, false, false]);
                w.bytes(role.as_bytes());
                if let Some(Permission { key, range_end, kind }) = permission {
                    w.int(i64::from(kind.0));
                    w.bytes(key);
                    w.bytes(range_end);
                }
            }),
            AuthOp::RoleRevokePermission { role, key, range_end } => self.tagged(0x11, |w| {
                w.bytes(role.as_bytes());
                w.bytes(key);
                w.bytes(range_end);
            }),
        }
    }

    fn pair(&mut self, tag: u8, user: &str, role: &str) {
        self.tagged(tag, |w| {
            w.bytes(user.as_bytes());
            w.bytes(role.as_bytes());
        });
    }
}

impl Reader<'_> {
    pub(super) fn auth(&mut self) -> Read<AuthOp> {
        Ok(match self.byte()? {
            0x01 => AuthOp::Enable,
            0x02 => AuthOp::Disable,
            0x03 => AuthOp::Status,
            0x04 => AuthOp::Authenticate {
                user: self.text()?,
                token: Secret(self.bytes()?),
                checked: self.varint()?,
            },
            0x05 => {
                let [no_password, ..] = self.flags()?;
                let (name, password) = (self.text()?, Secret(self.bytes()?));
                AuthOp::UserAdd { name, password, no_password }
            }
            0x06 => AuthOp::UserGet { name: self.text()? },
            0x07 => AuthOp::UserList,
            0x08 => AuthOp::UserDelete { name: self.text()? },
            0x09 => {
                let [undecodable, ..] = self.flags()?;
                let (name, hash) = (self.text()?, Secret(self.bytes()?));
                AuthOp::UserChangePassword { name, password: (!undecodable).then_some(hash) }
            }
            0x0a => AuthOp::UserGrantRole { user: self.text()?, role: self.text()? },
            0x0b => AuthOp::UserRevokeRole { user: self.text()?, role: self.text()? },
            0x0c => AuthOp::RoleAdd { name: self.text()? },
            0x0d => AuthOp::RoleGet { name: self.text()? },
            0x0e => AuthOp::RoleList,
            0x0f => AuthOp::RoleDelete { name: self.text()? },
            0x10 => {
                let [given, ..] = self.flags()?;
                let role = self.text()?;
                let permission = if given { Some(self.permission()?) } else { None };
                AuthOp::RoleGrantPermission { role, permission }
            }
            0x11 => {
                let (role, key) = (self.text()?, self.bytes()?);
                AuthOp::RoleRevokePermission { role, key, range_end: self.bytes()? }
            }
            kind => return Err(self.unknown(kind)),
        })
    }

    fn permission(&mut self) -> Read<Permission> {
        // A kind of more than 32 bits is none that this program writes.
        let kind = i32::try_from(self.int()?).map_err(|_| self.unknown(0x10))?;
        let (key, range_end): (Bytes, Bytes) = (self.bytes()?, self.bytes()?);
        Ok(Permission { key, range_end, kind: PermissionType(kind) })
    }
}
