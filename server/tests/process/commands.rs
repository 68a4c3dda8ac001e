//! `holdfast ctl` against a member: the sentence and the exit code are etcdctl's.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use holdfast_server::ctl::client::Settings;
use holdfast_server::ctl::command::{self, Parsed};
use holdfast_server::ctl::{Session, check};

use crate::proto::etcdserverpb as pb;
use crate::rig::{Server, binary, get, range};
use pb::maintenance_client::MaintenanceClient;

/// The exit code, and what was printed to standard output and to standard error.
fn ctl(server: &Server, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(["ctl", "--endpoints", &server.layout.client_url(0)]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it was asked for");
    // A command that reads nothing may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn ctl_tells_what_a_member_refuses() {
    let server = Server::start("ctl", &[]).await;
    let many: String = (0..129).map(|at| format!("put k{at} v\n")).collect();
    let refusals: [(&[&str], &str, &str); 9] = [
        (&["put", "", "x"], "", "etcdserver: key is not provided"),
        (&["get", ""], "", "etcdserver: key is not provided"),
        (&["put", "big"], &"x".repeat(1_600_000), "etcdserver: request is too large"),
        (&["txn"], &format!("\n{many}\n\n"), "etcdserver: too many operations in txn request"),
        (&["txn"], "\nput a 1\nput a 2\n\n\n", "etcdserver: duplicate key given in txn request"),
        (&["put", "a", "1", "--lease=4d"], "", "etcdserver: requested lease not found"),
        (
            &["lease", "revoke", "4d"],
            "",
            "failed to revoke lease (etcdserver: requested lease not found)",
        ),
        (&["get", "a", "--rev=99"], "", "etcdserver: mvcc: required revision is a future revision"),
        (&["compaction", "99"], "", "etcdserver: mvcc: required revision is a future revision"),
    ];
    for (args, input, sentence) in refusals {
        let wanted = (Some(1), String::new(), format!("Error: {sentence}\n"));
        assert_eq!(ctl(&server, args, input), wanted, "{args:?}");
    }
    let nothing = ctl(&server, &["get", "b", "a"], "");
    assert_eq!(
        nothing,
        (Some(0), String::new(), String::new()),
        "a range that is empty is no error"
    );
    let told = ctl(&server, &["lease", "timetolive", "4d"], "");
    assert_eq!(told.1, "lease 000000000000004d already expired\n");
}

#[tokio::test]
async fn ctl_looks_after_a_member() {
    let server = Server::start("ctl-maintenance", &[]).await;
    let url = server.layout.client_url(0);
    let nothing = (Some(0), String::new(), String::new());
    assert_eq!(ctl(&server, &["alarm", "list"], ""), nothing);
    let mut client = MaintenanceClient::new(server.channel().await);
    let action = pb::alarm_request::AlarmAction::Activate.into();
    let request = pb::AlarmRequest { action, member_id: 7, alarm: 1 };
    client.alarm(request).await.expect("is raised");
    let line = "memberID:7 alarm:NOSPACE\n".to_owned();
    assert_eq!(ctl(&server, &["alarm", "list"], ""), (Some(0), line.clone(), String::new()));
    let json = ctl(&server, &["alarm", "list", "-w", "json"], "").1;
    assert!(json.ends_with("\"alarms\":[{\"memberID\":7,\"alarm\":1}]}\n"), "{json}");
    assert_eq!(ctl(&server, &["alarm", "disarm"], ""), (Some(0), line, String::new()));
    assert_eq!(ctl(&server, &["alarm", "disarm"], ""), nothing);
    let told = ctl(&server, &["defrag"], "");
    let begin = format!("Finished defragmenting etcd member[{url}]. took ");
    assert!(told.0 == Some(0) && told.1.starts_with(&begin), "{told:?}");
    ctl(&server, &["put", "alice", "0"], "");
    let hash = client.hash_kv(pb::HashKvRequest { revision: 2 }).await.expect("is answered");
    let line = format!("{url}, {}, 2\n", hash.into_inner().hash);
    assert_eq!(ctl(&server, &["endpoint", "hashkv"], ""), (Some(0), line, String::new()));
    let file = server.layout.data_dir(0).with_extension("snapshot");
    let path = file.to_string_lossy().into_owned();
    let told = ctl(&server, &["snapshot", "save", &path], "");
    let line = format!("Snapshot saved at {path}\nServer version 3.7.0\n");
    assert_eq!(told, (Some(0), line, String::new()));
    let saved = std::fs::read(&file).expect("is there");
    assert_eq!((saved.len() % 512, &saved[..8]), (32, &b"HOLDFAST"[..]));
    let refusals: [(&[&str], i32, &str); 4] = [
        (&["move-leader", "1"], 1, "etcdserver: bad leader transferee"),
        (&["move-leader"], 128, "move-leader command needs 1 argument"),
        (&["snapshot", "save"], 128, "snapshot save expects one argument"),
        (&["elect", "post"], 128, "no proposal argument but -l not set"),
    ];
    for (args, code, sentence) in refusals {
        let wanted = (Some(code), String::new(), format!("Error: {sentence}\n"));
        assert_eq!(ctl(&server, args, ""), wanted, "{args:?}");
    }
}

#[tokio::test]
async fn ctl_holds_a_lock_for_a_command_and_gives_it_back() {
    let server = Server::start("ctl-lock", &[]).await;
    let script = "echo $ETCD_LOCK_KEY; exit 3";
    let told = ctl(&server, &["lock", "door", "--", "sh", "-c", script], "");
    assert!(told.1.starts_with("door/") && told.0 == Some(3), "{told:?}");
    let mut kv = server.kv().await;
    let key = told.1.trim_end().to_owned();
    assert_eq!(kv.range(get(&key)).await.expect("is read").into_inner().count, 0);
    let told = ctl(&server, &["lock", "door", "true"], "");
    assert_eq!(told, (Some(0), String::new(), String::new()));
}

#[tokio::test]
async fn ctl_leads_until_a_signal_and_resigns() {
    let server = Server::start("ctl-elect", &[]).await;
    let mut command = Command::new(binary());
    command.args(["ctl", "--endpoints", &server.layout.client_url(0), "elect", "post", "me"]);
    let child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut kv = server.kv().await;
    let request = || pb::RangeRequest { range_end: "post0".into(), ..get("post/") };
    let count = async |kv: &mut pb::kv_client::KvClient<_>| {
        kv.range(request()).await.expect("is read").into_inner().count
    };
    while count(&mut kv).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // It has shown its key when it answers the signal; before, the signal ends its wait.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.expect("there is kill").success());
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("post/") && said.ends_with("\nme\n"), "{said:?}");
    assert_eq!(count(&mut kv).await, 0);
}

#[tokio::test]
async fn ctl_looks_after_users_and_roles() {
    let server = Server::start("ctl_users", &["--bcrypt-cost=4"]).await;
    let done = |args: &[&str], printed: &str| done(&server, args, printed);
    let fails = |args: &[&str], code: i32, sentence: &str| fails(&server, args, (code, sentence));
    done(&["auth", "status"], "Authentication Status: false\nAuthRevision: 1\n");
    fails(&["auth", "enable"], 1, "etcdserver: root user does not exist");
    done(&["user", "add", "root:r"], "User root created\n");
    done(&["user", "add", "bob", "--new-user-password=b"], "User bob created\n");
    done(&["user", "add", "ann", "--no-password"], "User ann created\n");
    let said = ctl(&server, &["user", "add", "eve", "--interactive=false"], "pass word\n");
    assert_eq!(said, (Some(0), "User eve created\n".to_owned(), String::new()));
    fails(&["user", "add", ":x"], 128, "empty user name is not allowed");
    fails(&["user", "add", "bob:b"], 1, "etcdserver: user name already exists");
    fails(&["user", "add"], 128, "user add command requires user name as its argument");
    done(&["user", "list"], "ann\nbob\neve\nroot\n");
    done(&["user", "delete", "eve"], "User eve deleted\n");
    done(&["role", "add", "reader"], "Role reader created\n");
    done(&["role", "grant-permission", "reader", "read", "a", "c"], "Role reader updated\n");
    let prefix = ["role", "grant-permission", "--prefix", "reader", "ReadWrite", "k"];
    done(&prefix, "Role reader updated\n");
    done(
        &["role", "grant-permission", "reader", "write", "z", "--from-key"],
        "Role reader updated\n",
    );
    done(&["role", "grant-permission", "reader", "write", "p"], "Role reader updated\n");
    fails(&["role", "grant-permission", "reader", "all", "a"], 128, "invalid permission type: all");
    fails(
        &["role", "grant-permission", "reader", "read", "a", "b", "--prefix"],
        128,
        "unexpected endkey argument with --prefix flag",
    );
    let reader = "Role reader\nKV Read:\n\t[a, c)\n\t[k, l) (prefix k)\nKV Write:\n\
                  \t[k, l) (prefix k)\n\tp\n\t[z, <open ended>\n";
    done(&["role", "get", "reader"], reader);
    done(&["user", "grant-role", "bob", "reader"], "Role reader is granted to user bob\n");
    done(&["user", "get", "bob"], "User: bob\nRoles: reader\n");
    done(&["user", "get", "bob", "--detail"], &format!("User: bob\n\n{reader}"));
    done(&["auth", "enable"], "Authentication Enabled\n");
    ctl_logs_in(&server);
}

/// The second half: authentication is on, bob may read and write what begins with k.
fn ctl_logs_in(server: &Server) {
    let as_root = ["--user", "root:r"];
    let done = |args: &[&str], printed: &str| done(server, args, printed);
    let fails = |args: &[&str], code: i32, sentence: &str| fails(server, args, (code, sentence));
    fails(&["put", "a", "1"], 1, "etcdserver: user name is empty");
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    fails(&["--user", "bob:x", "put", "a", "1"], 2, wrong);
    fails(&["--user", "bob", "--password", "x", "put", "a", "1"], 2, wrong);
    let bare = "rpc error: code = Unknown desc = auth: authentication failed, \
                password was given for no password user";
    fails(&["--user", "ann:x", "get", "a"], 2, bare);
    fails(&["--user", "bob:b", "put", "a", "1"], 1, "etcdserver: permission denied");
    done(&["--user", "bob", "--password", "b", "put", "k1", "v"], "OK\n");
    fails(&["--user", "bob:b", "user", "list"], 1, "etcdserver: permission denied");
    fails(&["--auth-jwt-token", "nonsense", "get", "a"], 1, "etcdserver: invalid auth token");
    let health = ctl(server, &["--user", "bob:b", "endpoint", "health"], "");
    assert!(health.0 == Some(0) && health.1.contains("is healthy"), "{health:?}");
    let root = |args: &[&str], printed: &str| done(&[&as_root, args].concat(), printed);
    root(
        &["role", "get", "root"],
        "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n",
    );
    root(
        &["role", "revoke-permission", "reader", "a", "c"],
        "Permission of range [a, c) is revoked from role reader\n",
    );
    root(
        &["role", "revoke-permission", "reader", "p"],
        "Permission of key p is revoked from role reader\n",
    );
    root(
        &["role", "revoke-permission", "reader", "z", "--from-key"],
        "Permission of range [z, <open ended> is revoked from role reader\n",
    );
    root(&["user", "revoke-role", "bob", "reader"], "Role reader is revoked from user bob\n");
    let changed =
        ctl(server, &["--user", "root:r", "user", "passwd", "bob", "--interactive=false"], "new\n");
    assert_eq!(changed.1, "Password updated\n", "{changed:?}");
    root(&["role", "list"], "reader\nroot\n");
    root(&["role", "delete", "reader"], "Role reader deleted\n");
    let json = ctl(server, &["--user", "root:r", "-w", "json", "user", "get", "root"], "").1;
    assert!(json.ends_with(",\"roles\":[\"root\"]}\n"), "{json}");
    root(&["auth", "disable"], "Authentication Disabled\n");
    // A password is not looked at while there is nothing to log in to.
    done(&["--user", "nobody:x", "put", "a", "1"], "OK\n");
}

fn done(server: &Server, args: &[&str], printed: &str) {
    let wanted = (Some(0), printed.to_owned(), String::new());
    assert_eq!(ctl(server, args, ""), wanted, "{args:?}");
}

fn fails(server: &Server, args: &[&str], (code, sentence): (i32, &str)) {
    let wanted = (Some(code), String::new(), format!("Error: {sentence}\n"));
    assert_eq!(ctl(server, args, ""), wanted, "{args:?}");
}

#[tokio::test]
async fn ctl_check_puts_and_takes_back() {
    let server = Server::start("ctl-check", &[]).await;
    let url = server.layout.client_url(0);
    let (code, said, why) = ctl(&server, &["check", "perf", "--load", "xs"], "");
    let unknown = "Error: unknown load option xs\n";
    assert_eq!((code, said.as_str(), why.as_str()), (Some(4), "", unknown));
    ctl(&server, &["put", "/etcdctl-check-perf/a\"", "1"], "");
    let told = ctl(&server, &["check", "perf"], "");
    let text = "Error: prefix \"/etcdctl-check-perf/\" has keys. Delete with 'etcdctl del --prefix \
                /etcdctl-check-perf/' first\n";
    assert_eq!(told, (Some(3), String::new(), text.to_owned()));
    let scale = ["check", "datascale", "--prefix=scale/", "--auto-compact", "--auto-defrag"];
    let (code, said, why) = ctl(&server, &scale, "");
    assert_eq!((code, why.as_str()), (Some(0), ""), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let begin = "Start data scale check for work load [10000 key-value pairs, 1024 bytes per \
                 key-value, 50 concurrent clients].";
    let (compacting, compacted) =
        ("Compacting with revision 10003", "Compacted with revision 10003");
    let defragmenting = format!("Defragmenting \"{url}\"");
    let defragmented = format!("Defragmented \"{url}\"");
    let wanted = [begin, compacting, compacted, &defragmenting, &defragmented];
    assert_eq!(lines[..5], wanted);
    let used = lines[5].strip_prefix("PASS: Approximate system memory used : ");
    let used =
        used.and_then(|rest| rest.strip_suffix(" MB.")).and_then(|mb| mb.parse::<f64>().ok());
    assert!(used.is_some() && lines.len() == 6, "{said}");
    assert_eq!(ctl(&server, &["get", "--prefix", "scale/"], "").1, "");
}

#[tokio::test]
async fn ctl_checks_at_a_rate() {
    let server = Server::start("ctl-rate", &[]).await;
    let line = ["--endpoints", &server.layout.client_url(0), "check", "perf"];
    let line = line.map(|word| word.as_bytes().to_vec());
    let Ok(Parsed::Run(invocation)) = command::parse(&line) else { panic!("check perf") };
    let mut session = Session { invocation, env: Vec::new() };
    let settings = Settings::of(&mut session).expect("flags in order");
    let clients = [settings.connect().await, settings.connect().await].map(|one| one.expect("up"));
    let rate = check::Rate { limit: 200, clients: 2, time: Duration::from_secs(1) };
    let stats = check::put_at(&clients, b"rate/", rate).await;
    assert!(stats.errors.is_empty() && stats.total >= Duration::from_millis(900), "{stats:?}");
    // Never more than the rate and what a coarse clock makes up for; fewer where the machine is busy.
    assert!((20..=203).contains(&stats.latencies.len()), "{}", stats.latencies.len());
    let count = server.kv().await.range(range("rate/", "rate0")).await.expect("is read");
    let count = count.into_inner().count as usize;
    assert_eq!(count, stats.latencies.len(), "each put has a key of its own");
}

#[tokio::test]
async fn ctl_get_takes_pieces() {
    let server = Server::start("ctl-stream", &[]).await;
    let puts: String = (0..100).map(|at| format!("put k{at:03} {at}\n")).collect();
    ctl(&server, &["txn"], &format!("\n{puts}\n\n"));
    for options in [&["--prefix", "k"][..], &["--prefix", "k", "--limit=37"], &["k001"], &["none"]]
    {
        for format in ["simple", "json"] {
            let plain = [&["get", "-w", format], options].concat();
            let stream = [&plain[..], &["--stream"]].concat();
            let told = ctl(&server, &plain, "");
            assert_eq!(ctl(&server, &stream, ""), told, "{options:?}");
            assert!(told.0 == Some(0) && (options == ["none"] || told.1.contains('k')), "{told:?}");
        }
    }
    let told = ctl(&server, &["get", "--prefix", "k", "--order=DESCEND", "--stream"], "");
    let text = "Error: rpc error: code = Unimplemented desc = RangeStream does not support custom \
                sort orders\n";
    assert_eq!(told, (Some(1), String::new(), text.to_owned()));
}
