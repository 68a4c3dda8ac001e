//! Users, roles and rights: all calls of the Auth service, and everybody else's under them.
//!
//! Authentication is off at first, then on for most of the time. Whoever is root does most of the changing, so that
//! things move; the others try.

use super::{Draw, kv, lease, maintenance, txn};
use crate::twin::step::{Act, Step};

const USERS: [&str; 4] = ["root", "alice", "bob", "carol"];
const ROLES: [&str; 4] = ["root", "r1", "r2", "r3"];

/// Who is logged in as far as is known.
#[derive(Debug, Default)]
pub struct Users {
    count: usize,
    /// The newest tokens, with their users.
    tokens: Vec<(String, String)>,
    logins: usize,
}

impl Users {
    /// At least one step.
    pub fn steps(&mut self, draw: &mut Draw) -> Vec<Step> {
        self.count += 1;
        if self.count % 150 == 30 {
            return enable();
        }
        let steps = match draw.below(100) {
            0..12 => vec![login(draw)],
            12..60 => vec![manage(draw)],
            60..63 => watch(draw),
            63..75 => vec![kv::step(draw)],
            75..80 => vec![Step::call("KV.Txn", txn::txn(draw, 1))],
            80..92 => lease::steps(draw),
            92..94 => vec![Step::call("Cluster.MemberList", "linearizable:true")],
            94..96 => vec![Step::call("Cluster.MemberRemove", "ID:404")],
            _ => vec![maintenance::steps(draw, 1).remove(0)],
        };
        let token = self.caller(draw, steps[0].method().unwrap_or_default());
        let identified = |mut step: Step| {
            step.caller.token.clone_from(&token);
            step
        };
        steps.into_iter().map(identified).collect()
    }

    /// Mostly root for what only root may, anybody for the rest.
    fn caller(&self, draw: &mut Draw, method: &str) -> Option<String> {
        let of = |name: &str| {
            let newest = self.tokens.iter().rev().find(|(user, _)| user == name);
            newest.map(|(_, token)| token.clone())
        };
        match draw.below(100) {
            0..4 => None,
            4..6 => Some("nonsense".to_owned()),
            6..8 => Some("abcdefghijklmnop.7".to_owned()),
            8..60 if method.starts_with("Auth.") => of("root"),
            8..25 => of("root"),
            _ if self.tokens.is_empty() => None,
            _ => Some(self.tokens[draw.below(self.tokens.len())].1.clone()),
        }
    }

    /// Remembers tokens.
    pub fn learn(&mut self, step: &Step, lines: &[String]) {
        let is_login = step.method() == Some("Auth.Authenticate");
        if !is_login || !lines.first().is_some_and(|line| line.starts_with("ok")) {
            return;
        }
        self.logins += 1;
        let user = step.message().split('"').nth(1).unwrap_or_default().to_owned();
        self.tokens.push((user, format!("$token{}", self.logins)));
        if self.tokens.len() > 8 {
            self.tokens.remove(0);
        }
    }
}

fn enable() -> Vec<Step> {
    vec![
        Step::call("Auth.AuthEnable", ""),
        Step::call("Auth.UserAdd", "name:\"root\",password:\"root\""),
        Step::call("Auth.UserChangePassword", "name:\"root\",password:\"root\""),
        Step::call("Auth.AuthEnable", ""),
        Step::call("Auth.UserGrantRole", "user:\"root\",role:\"root\""),
        Step::call("Auth.RoleAdd", "name:\"r1\""),
        Step::call("Auth.RoleAdd", "name:\"r2\""),
        Step::call("Auth.UserAdd", "name:\"alice\",password:\"alice\""),
        Step::call("Auth.UserGrantRole", "user:\"alice\",role:\"r1\""),
        Step::call("Auth.UserAdd", "name:\"bob\",password:\"bob\""),
        Step::call("Auth.AuthEnable", ""),
        Step::call("Auth.AuthEnable", ""),
        Step::call("Auth.Authenticate", "name:\"root\",password:\"root\""),
        Step::call("Auth.Authenticate", "name:\"alice\",password:\"alice\""),
        Step::call("Auth.Authenticate", "name:\"bob\",password:\"bob\""),
    ]
}

fn user(draw: &mut Draw) -> &'static str {
    if draw.chance(4) { draw.pick(&["", "nobody"]) } else { draw.pick(&USERS) }
}

fn role(draw: &mut Draw) -> &'static str {
    if draw.chance(4) { draw.pick(&["", "none"]) } else { draw.pick(&ROLES) }
}

/// Mostly the name, which is what most passwords are.
fn password(draw: &mut Draw, user: &'static str) -> &'static str {
    match draw.below(20) {
        0 => "",
        1 => "wrong",
        2 => "$fill(73)",
        3 => "$fill(72)",
        _ => user,
    }
}

fn login(draw: &mut Draw) -> Step {
    let user = user(draw);
    let password = password(draw, user);
    Step::call("Auth.Authenticate", format!("name:\"{user}\",password:\"{password}\""))
}

fn watch(draw: &mut Draw) -> Vec<Step> {
    let text = format!("create_request:{{{}}}", draw.range());
    let open = Step::open("a1", "Watch.Watch", text);
    vec![open, Act::Gather.into(), Act::Cancel("a1".to_owned()).into()]
}

/// A call of the Auth service.
fn manage(draw: &mut Draw) -> Step {
    let (user, role) = (user(draw), role(draw));
    let call = |method: &str, text: String| Step::call(&format!("Auth.{method}"), text);
    match draw.below(100) {
        0..2 => call("AuthEnable", String::new()),
        2..3 => call("AuthDisable", String::new()),
        3..9 => call("AuthStatus", String::new()),
        9..20 => call("UserAdd", add(draw, user)),
        20..27 => call("UserGet", format!("name:\"{user}\"")),
        27..31 => call("UserList", String::new()),
        31..34 => call("UserDelete", format!("name:\"{user}\"")),
        34..38 => {
            let password = password(draw, user);
            call("UserChangePassword", format!("name:\"{user}\",password:\"{password}\""))
        }
        38..50 => call("UserGrantRole", format!("user:\"{user}\",role:\"{role}\"")),
        50..54 => call("UserRevokeRole", format!("name:\"{user}\",role:\"{role}\"")),
        54..60 => call("RoleAdd", format!("name:\"{role}\"")),
        60..67 => call("RoleGet", format!("role:\"{role}\"")),
        67..71 => call("RoleList", String::new()),
        71..73 => call("RoleDelete", format!("role:\"{role}\"")),
        73..93 => call("RoleGrantPermission", grant(draw, role)),
        _ => call("RoleRevokePermission", format!("role:\"{role}\",{}", draw.range())),
    }
}

fn add(draw: &mut Draw, user: &'static str) -> String {
    let password = password(draw, user);
    let mut text = format!("name:\"{user}\",password:\"{password}\"");
    text += &draw.maybe(10, |_| "options:{no_password:true}".to_owned());
    text += &draw.maybe(5, |_| "options:{}".to_owned());
    text
}

fn grant(draw: &mut Draw, role: &str) -> String {
    if draw.chance(3) {
        return format!("name:\"{role}\"");
    }
    let kind = draw.below(3);
    format!("name:\"{role}\",perm:{{permType:{kind},{}}}", draw.range())
}
