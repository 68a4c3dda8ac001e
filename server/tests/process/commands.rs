//! `holdfast ctl` against a member that refuses: the sentence and the exit code are etcdctl's.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::rig::{Server, binary};

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
