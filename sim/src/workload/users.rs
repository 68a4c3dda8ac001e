//! Clients that are users, and one that looks after them: rights change while requests are under way.
//!
//! Each client logs in, keeps its token, and logs in again when the token is refused; a password that
//! was changed is tried in its other form. The client that is root makes users and roles, switches
//! authentication on, and from then on changes this and that.
//!
//! Leaves out whether what is told is right: that is for the checkers.
//!
//! Worked example: client 1 is `u1`; its token is refused after a restart, so its next request is
//! Authenticate with `u1-0`; root has changed that meanwhile, and `u1-1` is right.

use bytes::Bytes;
use holdfast_core::auth::{AuthOp, AuthQuery, AuthReply, Permission, PermissionType, Secret};
use holdfast_core::query::{AnswerBody, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::rng::Rng;
use holdfast_server::auth::Credential;

use crate::history::Outcome;

/// A client's account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its user.
    pub name: String,
    rng: Rng,
    /// Which of the two passwords it tries.
    second: bool,
    token: Credential,
    /// Requests to make without a token before it tries to log in.
    unasked: u64,
    /// What root still has to set up, the next last.
    setup: Vec<AuthQuery>,
}

/// Users beside root.
const USERS: [&str; 3] = ["u0", "u1", "u2"];

const ROLES: [&str; 3] = ["r0", "r1", "r2"];

impl Account {
    /// The account of a client: the first is root's, the others share three.
    pub fn new(client: usize, rng: Rng) -> Account {
        let root = client == 0;
        let name = if root { "root" } else { USERS[(client - 1) % USERS.len()] };
        Account {
            name: name.to_owned(),
            rng,
            second: false,
            token: Credential::None,
            unasked: 0,
            setup: if root { setup() } else { Vec::new() },
        }
    }

    /// Who it says that it is.
    pub fn credential(&self) -> Credential {
        self.token.clone()
    }

    /// What it must ask, or likes to, before anything else.
    pub fn wish(&mut self) -> Option<Query> {
        if let Some(query) = self.setup.last() {
            return Some(Query::Auth(query.clone()));
        }
        if self.token == Credential::None && self.unasked == 0 {
            let (name, password) = (self.name.clone(), password(&self.name, self.second));
            return Some(Query::Auth(AuthQuery::Authenticate { name, password }));
        }
        self.unasked = self.unasked.saturating_sub(1);
        let share = if self.name == "root" { 45 } else { 4 };
        if !self.rng.chance(share) {
            return None;
        }
        let query = if self.name == "root" { self.change() } else { self.look() };
        Some(Query::Auth(query))
    }

    /// What came of a request.
    pub fn learn(&mut self, query: &Query, outcome: &Outcome) {
        let setting_up = self.setup.last().is_some_and(|next| *query == Query::Auth(next.clone()));
        let decided = matches!(outcome, Outcome::Answered(_) | Outcome::Rejected(_));
        if setting_up && decided {
            self.setup.pop();
        }
        let login = matches!(query, Query::Auth(AuthQuery::Authenticate { .. }));
        match outcome {
            Outcome::Answered(answer) => {
                if let AnswerBody::Auth(AuthReply::Authenticated { token, .. }) = &answer.body {
                    let token = String::from_utf8_lossy(&token.0).into_owned();
                    self.token = Credential::of(Some(token));
                }
            }
            Outcome::Rejected(Rejection::AuthNotEnabled) => self.unasked = self.rng.between(3, 20),
            Outcome::Rejected(Rejection::AuthFailed) if login => {
                self.second = !self.second;
                // It may have been deleted: not every request is to be a login.
                self.unasked = self.rng.below(4);
            }
            Outcome::Rejected(Rejection::InvalidAuthToken) => self.token = Credential::None,
            Outcome::Rejected(Rejection::UserEmpty) if !login => self.unasked = 0,
            _ => {}
        }
    }

    /// A change of users or roles.
    fn change(&mut self) -> AuthQuery {
        let rng = &mut self.rng;
        let mut pick = |from: &[&str]| from[rng.below(from.len() as u64) as usize].to_owned();
        let (user, role) = (pick(&USERS), pick(&ROLES));
        let op = match rng.below(100) {
            0..=34 => AuthOp::RoleGrantPermission { role, permission: Some(permission(rng)) },
            35..=44 => {
                let Permission { key, range_end, .. } = permission(rng);
                AuthOp::RoleRevokePermission { role, key, range_end }
            }
            45..=64 => AuthOp::UserGrantRole { user, role },
            65..=72 => AuthOp::UserRevokeRole { user, role },
            73..=75 => AuthOp::UserDelete { name: user },
            76..=81 => {
                let password = password(&user, rng.chance(50));
                return AuthQuery::UserAdd { name: user, password };
            }
            82..=85 => {
                let password = password(&user, rng.chance(50));
                return AuthQuery::UserChangePassword { name: user, password };
            }
            86 => AuthOp::RoleDelete { name: role },
            87..=90 => AuthOp::RoleAdd { name: role },
            91 => AuthOp::Disable,
            92..=94 => AuthOp::Enable,
            95 => AuthOp::UserGrantRole { user, role: "root".into() },
            96 => AuthOp::UserRevokeRole { user, role: "root".into() },
            _ => return self.look(),
        };
        AuthQuery::Op(op)
    }

    /// A look at users or roles, which may not be this user's to take.
    fn look(&mut self) -> AuthQuery {
        let rng = &mut self.rng;
        let mut pick = |from: &[&str]| from[rng.below(from.len() as u64) as usize].to_owned();
        let (name, role) = (pick(&USERS), pick(&ROLES));
        AuthQuery::Op(match rng.below(7) {
            0 | 1 => AuthOp::Status,
            2 => AuthOp::UserGet { name },
            3 => AuthOp::UserGet { name: self.name.clone() },
            4 => AuthOp::RoleGet { name: role },
            5 => AuthOp::UserList,
            _ => AuthOp::RoleList,
        })
    }
}

/// In reverse: root, three users, three roles of which each user has one, then all of it counts.
fn setup() -> Vec<AuthQuery> {
    let name = |name: &str| name.to_owned();
    let mut calls = Vec::new();
    for user in ["root"].iter().chain(&USERS) {
        calls.push(AuthQuery::UserAdd { name: name(user), password: password(user, false) });
    }
    let grant = AuthOp::UserGrantRole { user: name("root"), role: name("root") };
    calls.push(AuthQuery::Op(grant));
    for (user, role) in USERS.iter().zip(ROLES) {
        calls.push(AuthQuery::Op(AuthOp::RoleAdd { name: name(role) }));
        let grant = AuthOp::UserGrantRole { user: name(user), role: name(role) };
        calls.push(AuthQuery::Op(grant));
        // Everything, to begin with.
        let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        let kind = PermissionType::READ_WRITE;
        let permission = Some(Permission { key, range_end, kind });
        let grant = AuthOp::RoleGrantPermission { role: name(role), permission };
        calls.push(AuthQuery::Op(grant));
    }
    calls.push(AuthQuery::Op(AuthOp::Enable));
    calls.reverse();
    calls
}

fn password(user: &str, second: bool) -> Secret {
    Secret::from(format!("{user}-secret-{}", u8::from(second)).as_str())
}

/// Ranges over the keys that clients use; wide ones are likelier, or hardly anything would be allowed.
fn permission(rng: &mut Rng) -> Permission {
    const RANGES: [(&str, &str); 9] = [
        ("\0", "\0"),
        ("k/", "k0"),
        ("k/", "k0"),
        ("k/", "k/1"),
        ("k/1", "\0"),
        ("k/03", ""),
        ("lease/", "lease0"),
        ("reg", "\0"),
        ("a", "r"),
    ];
    let (key, range_end) = RANGES[rng.below(RANGES.len() as u64) as usize];
    let kind = match rng.below(6) {
        0 => PermissionType::READ,
        1 => PermissionType::WRITE,
        _ => PermissionType::READ_WRITE,
    };
    Permission { key: key.into(), range_end: range_end.into(), kind }
}
