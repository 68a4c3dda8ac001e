//! `holdfast ctl` against a member: the sentence and the exit code are etcdctl's.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::proto::etcdserverpb as pb;
use crate::rig::{Server, binary, get};
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
