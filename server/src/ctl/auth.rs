//! auth, user and role: users, what they may do, and whether anybody asks.
//!
//! Laws: 1. a mistake in the operands is told before anybody is connected to; 2. passwords are read from
//! the terminal without being shown, or from where the flags say, and are printed nowhere.
//!
//! Worked example: `auth enable` on a cluster whose user root lacks the role makes the role, grants it,
//! and tries again, as etcdctl does.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};

use holdfast_net::proto::{authpb, etcdserverpb as pb};
use pb::auth_client::AuthClient;
use tonic::Status;

use super::client::{Client, Settings, Wire, error_text, failed};
use super::json::{Json, Object};
use super::kv::prefix_end;
use super::{Exit, Session, print_json};

/// One of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// auth enable
    Enable,
    /// auth disable
    Disable,
    /// auth status
    Status,
    /// user add
    UserAdd,
    /// user delete
    UserDelete,
    /// user get
    UserGet,
    /// user list
    UserList,
    /// user passwd
    UserPasswd,
    /// user grant-role
    UserGrantRole,
    /// user revoke-role
    UserRevokeRole,
    /// role add
    RoleAdd,
    /// role delete
    RoleDelete,
    /// role get
    RoleGet,
    /// role list
    RoleList,
    /// role grant-permission
    RoleGrantPermission,
    /// role revoke-permission
    RoleRevokePermission,
}

/// What an answer looks like: lines, or one JSON value.
struct Shown {
    lines: String,
    json: Object,
}

/// Runs one of the commands.
pub async fn run(mut session: Session, verb: Verb) -> Result<(), Exit> {
    check(verb, session.operands().len())?;
    match verb {
        Verb::Enable | Verb::Disable | Verb::Status => switch(session, verb).await,
        Verb::UserAdd => {
            let (name, request) = user_add(&session)?;
            perform(&mut session, async move |mut auth| {
                let answer = auth.user_add(request).await?.into_inner();
                Ok(headed(format!("User {name} created\n"), answer.header.as_ref()))
            })
            .await
        }
        Verb::UserPasswd => {
            let name = word(&session, 0);
            let password = new_password(&session, &name)?;
            let request = pb::AuthUserChangePasswordRequest {
                name,
                password,
                hashed_password: String::new(),
            };
            perform(&mut session, async move |mut auth| {
                let answer = auth.user_change_password(request).await?.into_inner();
                Ok(headed("Password updated\n".to_owned(), answer.header.as_ref()))
            })
            .await
        }
        Verb::UserGet => user_get(session).await,
        Verb::UserDelete | Verb::UserList | Verb::UserGrantRole | Verb::UserRevokeRole => {
            user(session, verb).await
        }
        _ => role(session, verb).await,
    }
}

async fn switch(mut session: Session, verb: Verb) -> Result<(), Exit> {
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut auth = client.auth();
    match verb {
        Verb::Enable => {
            settings.bounded(enable(&mut auth)).await?;
            super::say(b"Authentication Enabled\n")
        }
        Verb::Disable => {
            let call = async { auth.auth_disable(pb::AuthDisableRequest {}).await.map_err(failed) };
            settings.bounded(call).await?;
            super::say(b"Authentication Disabled\n")
        }
        _ => {
            let call = async { auth.auth_status(pb::AuthStatusRequest {}).await.map_err(failed) };
            let answer = settings.bounded(call).await?.into_inner();
            let (enabled, revision) = (answer.enabled, answer.auth_revision);
            let lines = format!("Authentication Status: {enabled}\nAuthRevision: {revision}\n");
            let json = print_json::headed(answer.header.as_ref());
            let json = json.opt("enabled", enabled).opt("authRevision", revision);
            client.show(|| lines.into_bytes(), json.into())
        }
    }
}

/// Makes and grants the role root where that is all that is missing.
async fn enable(auth: &mut AuthClient<Wire>) -> Result<(), Exit> {
    loop {
        let Err(status) = auth.auth_enable(pb::AuthEnableRequest {}).await else { return Ok(()) };
        if error_text(&status) != ROOT_ROLE_MISSING {
            return Err(failed(status));
        }
        let (name, role) = ("root".to_owned(), "root".to_owned());
        auth.role_add(pb::AuthRoleAddRequest { name }).await.map_err(failed)?;
        let grant = pb::AuthUserGrantRoleRequest { user: "root".to_owned(), role };
        auth.user_grant_role(grant).await.map_err(failed)?;
    }
}

const ROOT_ROLE_MISSING: &str = "etcdserver: root user does not have root role";

async fn user(mut session: Session, verb: Verb) -> Result<(), Exit> {
    let (name, role) = (word(&session, 0), word(&session, 1));
    perform(&mut session, async move |mut auth| {
        Ok(match verb {
            Verb::UserDelete => {
                let request = pb::AuthUserDeleteRequest { name: name.clone() };
                let answer = auth.user_delete(request).await?.into_inner();
                headed(format!("User {name} deleted\n"), answer.header.as_ref())
            }
            Verb::UserGrantRole => {
                let request =
                    pb::AuthUserGrantRoleRequest { user: name.clone(), role: role.clone() };
                let answer = auth.user_grant_role(request).await?.into_inner();
                let lines = format!("Role {role} is granted to user {name}\n");
                headed(lines, answer.header.as_ref())
            }
            Verb::UserRevokeRole => {
                let request =
                    pb::AuthUserRevokeRoleRequest { name: name.clone(), role: role.clone() };
                let answer = auth.user_revoke_role(request).await?.into_inner();
                let lines = format!("Role {role} is revoked from user {name}\n");
                headed(lines, answer.header.as_ref())
            }
            _ => {
                let answer = auth.user_list(pb::AuthUserListRequest {}).await?.into_inner();
                names("users", &answer.users, answer.header.as_ref())
            }
        })
    })
    .await
}

async fn user_get(mut session: Session) -> Result<(), Exit> {
    let (name, detail) = (word(&session, 0), session.invocation.flags.switch("detail"));
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut auth = client.auth();
    let request = pb::AuthUserGetRequest { name: name.clone() };
    let call = async { auth.user_get(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    if !detail {
        let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
        let list = Json::array(&answer.roles, |role| role.as_str().into());
        let json = print_json::headed(answer.header.as_ref()).opt("roles", list);
        let lines = format!("User: {name}\nRoles:{roles}\n");
        return client.show(|| lines.into_bytes(), json.into());
    }
    super::say(format!("User: {name}\n").as_bytes())?;
    for role in answer.roles {
        super::say(b"\n")?;
        let request = pb::AuthRoleGetRequest { role: role.clone() };
        let call = async { auth.role_get(request).await.map_err(failed) };
        let shown = role_shown(&role, &settings.bounded(call).await?.into_inner());
        client.show(|| shown.lines.into_bytes(), shown.json.into())?;
    }
    Ok(())
}

async fn role(mut session: Session, verb: Verb) -> Result<(), Exit> {
    let name = word(&session, 0);
    let request = match verb {
        Verb::RoleGrantPermission => {
            let kind = permission_type(&word(&session, 1))?;
            let (key, range_end) = permission_range(&session, &session.operands()[2..])?;
            Some(authpb::Permission {
                perm_type: kind,
                key: key.into(),
                range_end: range_end.into(),
            })
        }
        Verb::RoleRevokePermission => {
            let (key, range_end) = permission_range(&session, &session.operands()[1..])?;
            Some(authpb::Permission { perm_type: 0, key: key.into(), range_end: range_end.into() })
        }
        _ => None,
    };
    let shown_key = session.operands().get(1).cloned().unwrap_or_default();
    perform(&mut session, async move |mut auth| {
        Ok(match (verb, request) {
            (Verb::RoleAdd, _) => {
                let request = pb::AuthRoleAddRequest { name: name.clone() };
                let answer = auth.role_add(request).await?.into_inner();
                headed(format!("Role {name} created\n"), answer.header.as_ref())
            }
            (Verb::RoleDelete, _) => {
                let request = pb::AuthRoleDeleteRequest { role: name.clone() };
                let answer = auth.role_delete(request).await?.into_inner();
                headed(format!("Role {name} deleted\n"), answer.header.as_ref())
            }
            (Verb::RoleGet, _) => {
                let request = pb::AuthRoleGetRequest { role: name.clone() };
                role_shown(&name, &auth.role_get(request).await?.into_inner())
            }
            (Verb::RoleGrantPermission, perm) => {
                let request = pb::AuthRoleGrantPermissionRequest { name: name.clone(), perm };
                let answer = auth.role_grant_permission(request).await?.into_inner();
                headed(format!("Role {name} updated\n"), answer.header.as_ref())
            }
            (Verb::RoleRevokePermission, Some(range)) => {
                let authpb::Permission { key, range_end, .. } = range;
                let lines = revoked(&name, &shown_key, &range_end);
                let request =
                    pb::AuthRoleRevokePermissionRequest { role: name.clone(), key, range_end };
                let answer = auth.role_revoke_permission(request).await?.into_inner();
                headed(lines, answer.header.as_ref())
            }
            _ => {
                let answer = auth.role_list(pb::AuthRoleListRequest {}).await?.into_inner();
                names("roles", &answer.roles, answer.header.as_ref())
            }
        })
    })
    .await
}

async fn perform(
    session: &mut Session,
    call: impl AsyncFnOnce(AuthClient<Wire>) -> Result<Shown, Status>,
) -> Result<(), Exit> {
    let settings = Settings::of(session)?;
    let client: Client = settings.bounded(settings.connect()).await?;
    let answer = async { call(client.auth()).await.map_err(failed) };
    let shown = settings.bounded(answer).await?;
    client.show(|| shown.lines.into_bytes(), shown.json.into())
}

/// How many operands a command takes, in etcdctl's words.
fn check(verb: Verb, count: usize) -> Result<(), Exit> {
    let (fits, sentence) = match verb {
        Verb::Enable => (count == 0, "auth enable command does not accept any arguments"),
        Verb::Disable => (count == 0, "auth disable command does not accept any arguments"),
        Verb::Status => (count == 0, "auth status command does not accept any arguments"),
        Verb::UserAdd => (count == 1, "user add command requires user name as its argument"),
        Verb::UserDelete => (count == 1, "user delete command requires user name as its argument"),
        Verb::UserGet => (count == 1, "user get command requires user name as its argument"),
        Verb::UserList => (count == 0, "user list command requires no arguments"),
        Verb::UserPasswd => (count == 1, "user passwd command requires user name as its argument"),
        Verb::UserGrantRole => {
            (count == 2, "user grant command requires user name and role name as its argument")
        }
        Verb::UserRevokeRole => {
            (count == 2, "user revoke-role requires user name and role name as its argument")
        }
        Verb::RoleAdd => (count == 1, "role add command requires role name as its argument"),
        Verb::RoleDelete => (count == 1, "role delete command requires role name as its argument"),
        Verb::RoleGet => (count == 1, "role get command requires role name as its argument"),
        Verb::RoleList => (count == 0, "role list command requires no arguments"),
        Verb::RoleGrantPermission => (
            count >= 3,
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ),
        Verb::RoleRevokePermission => (
            count >= 2,
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ),
    };
    if fits { Ok(()) } else { Err(Exit::new(Exit::BAD_ARGS, sentence)) }
}

fn word(session: &Session, at: usize) -> String {
    let bytes = session.operands().get(at).map_or(&b""[..], |word| word);
    String::from_utf8_lossy(bytes).into_owned()
}

fn user_add(session: &Session) -> Result<(String, pb::AuthUserAddRequest), Exit> {
    let flags = &session.invocation.flags;
    let given = word(session, 0);
    let options = Some(authpb::UserAddOptions { no_password: flags.switch("no-password") });
    let (name, password) = if flags.switch("no-password") {
        (given, String::new())
    } else if !flags.text("new-user-password").is_empty() {
        (given, flags.text("new-user-password").to_owned())
    } else if let Some((name, password)) = given.split_once(':') {
        if name.is_empty() {
            return Err(Exit::new(Exit::BAD_ARGS, "empty user name is not allowed"));
        }
        (name.to_owned(), password.to_owned())
    } else {
        let password = new_password(session, &given)?;
        (given, password)
    };
    let hashed_password = String::new();
    let request = pb::AuthUserAddRequest { name: name.clone(), password, options, hashed_password };
    Ok((name, request))
}

/// A password from the terminal, asked for twice, or the first word of the standard input.
fn new_password(session: &Session, name: &str) -> Result<String, Exit> {
    if !session.invocation.flags.switch("interactive") {
        let mut line = String::new();
        // What cannot be read is empty, as for etcdctl.
        let _ = std::io::stdin().lock().read_line(&mut line);
        return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let ask = |prompt: &str| {
        ask_password(prompt)
            .map_err(|why| Exit::new(Exit::BAD_ARGS, format!("failed to ask password: {why}")))
    };
    let first = ask(&format!("Password of {name}: "))?;
    if first.is_empty() {
        return Err(Exit::new(Exit::BAD_ARGS, "empty password"));
    }
    let second = ask(&format!("Type password of {name} again for confirmation: "))?;
    if first != second {
        return Err(Exit::new(Exit::BAD_ARGS, "given passwords are different"));
    }
    Ok(first)
}

/// Asks for a password on the terminal, without showing it.
pub fn ask_password(prompt: &str) -> std::io::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    let shown = tcgetattr(&input)?;
    debug_assert!(input.is_terminal(), "only a terminal has attributes");
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    tcsetattr(&input, OptionalActions::Flush, &shown)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn permission_type(text: &str) -> Result<i32, Exit> {
    match text.to_ascii_uppercase().as_str() {
        "READ" => Ok(0),
        "WRITE" => Ok(1),
        "READWRITE" => Ok(2),
        _ => Err(Exit::new(Exit::BAD_ARGS, format!("invalid permission type: {text}"))),
    }
}

fn permission_range(session: &Session, operands: &[Vec<u8>]) -> Result<(Vec<u8>, Vec<u8>), Exit> {
    let flags = &session.invocation.flags;
    let (prefix, from_key) = (flags.switch("prefix"), flags.switch("from-key"));
    let refused = |sentence: &str| Err(Exit::new(Exit::BAD_ARGS, sentence));
    let (key, end) = (operands[0].clone(), operands.get(1));
    if prefix && from_key && (key.is_empty() || end.is_none()) {
        return refused("--from-key and --prefix flags are mutually exclusive");
    }
    if key.is_empty() {
        // No key is empty: this is where all keys start.
        let end = if prefix || from_key { b"\0".to_vec() } else { Vec::new() };
        return Ok((b"\0".to_vec(), end));
    }
    let end = match end {
        None if prefix => prefix_end(&key),
        None if from_key => b"\0".to_vec(),
        None => Vec::new(),
        Some(_) if prefix => return refused("unexpected endkey argument with --prefix flag"),
        Some(_) if from_key => return refused("unexpected endkey argument with --from-key flag"),
        Some(end) => end.clone(),
    };
    Ok((key, end))
}

fn headed(lines: String, header: Option<&pb::ResponseHeader>) -> Shown {
    Shown { lines, json: print_json::headed(header) }
}

fn names(field: &'static str, names: &[String], header: Option<&pb::ResponseHeader>) -> Shown {
    let lines = names.iter().map(|name| format!("{name}\n")).collect();
    let list = Json::array(names, |name| name.as_str().into());
    Shown { lines, json: print_json::headed(header).opt(field, list) }
}

fn role_shown(name: &str, answer: &pb::AuthRoleGetResponse) -> Shown {
    let part = |kinds: [i32; 2]| {
        let some = answer.perm.iter().filter(|perm| kinds.contains(&perm.perm_type));
        some.map(permission_line).collect::<String>()
    };
    let lines = format!("Role {name}\nKV Read:\n{}KV Write:\n{}", part([0, 2]), part([1, 2]));
    let perm = Json::array(&answer.perm, |perm| {
        Object::default()
            .opt("permType", i64::from(perm.perm_type))
            .opt("key", Json::bytes(&perm.key))
            .opt("range_end", Json::bytes(&perm.range_end))
            .into()
    });
    Shown { lines, json: print_json::headed(answer.header.as_ref()).opt("perm", perm) }
}

fn permission_line(perm: &authpb::Permission) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (key, end) = (text(&perm.key), text(&perm.range_end));
    if perm.range_end.is_empty() {
        return format!("\t{key}\n");
    }
    let mut line = match &perm.range_end[..] {
        b"\0" => format!("\t[{key}, <open ended>"),
        _ => format!("\t[{key}, {end})"),
    };
    if !perm.key.is_empty() && prefix_end(&perm.key) == perm.range_end {
        write!(line, " (prefix {key})").expect("a String takes everything");
    }
    line.push('\n');
    line
}

fn revoked(role: &str, key: &[u8], end: &[u8]) -> String {
    let (key, text) = (String::from_utf8_lossy(key), String::from_utf8_lossy(end));
    match end {
        b"" => format!("Permission of key {key} is revoked from role {role}\n"),
        b"\0" => format!("Permission of range [{key}, <open ended> is revoked from role {role}\n"),
        _ => format!("Permission of range [{key}, {text}) is revoked from role {role}\n"),
    }
}
