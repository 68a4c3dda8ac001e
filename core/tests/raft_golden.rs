//! Runs the golden scripts of consensus and snapshots: several nodes over memory stores, with instant
//! links and disks that a script can hold back. The first comment of a script is its claim.
//! `UPDATE=1 cargo test -p holdfast-core --test raft_golden` rewrites what they expect; read the
//! difference before you believe it.
//!
//! A script is a sequence of commands, each `> command` followed by what happens because of it:
//!
//! ```text
//! cluster N [checkpoint=N] [catchup=N] [cache=BYTES] [timeout=MS]     a fresh cluster, first command
//! elect n1                   time passes on n1 alone until it leads
//! run 500ms [n1]             time passes everywhere, or on n1 alone
//! put n1 a=1 b=2 ..          one request a pair, all in one turn of n1
//! read n1                    a read index
//! grant n1 ID TTL   keepalive n1 ID   ttl n1 ID                       leases
//! transfer n1                n1 is asked to hand its leadership over
//! cut n1 [n2]   heal         links; a healed one begins with a hello
//! crash n1   start n1        unsynced batches are lost; the start reads what is durable
//! lose n1 N                  the last N entries of n1's durable log disappear
//! hold n1 sync|ship|install  release n1 ..   fail n1 ship             what n1's disk does is held back
//! flush n1                   what is written is flushed, later batches are held back again
//! trace on|off               batches and messages too (heartbeats never)
//! show   log n1              every member; one member's log
//! ```
//!
//! Notation: member `n1`, term `t4`, entry `10@4`, batch `w7`, revision `r17`. The runner itself asserts
//! that a term has one leader, that a publish precedes the replies of its turn, and at each `show`
//! that members at the same entry hold the same state.

mod raft_golden {
    pub mod asserts;
    pub mod disk;
    pub mod script;
    pub mod show;
    pub mod world;
}

use std::fs;
use std::path::{Path, PathBuf};

use raft_golden::script::Script;

#[test]
fn scripts_print_what_they_claim() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut scripts: Vec<PathBuf> = ["raft", "snapshot"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("the folder of scripts exists"))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 16, "the scripts are where they belong");
    let mut wrong = Vec::new();
    for path in scripts {
        let script = fs::read_to_string(&path).expect("a script is readable text");
        assert!(script.starts_with("# "), "{} begins with its claim", path.display());
        let printed = run(&script, &path);
        if printed != script && update {
            fs::write(&path, printed).expect("the tree is writable under UPDATE");
        } else if printed != script {
            wrong.push(difference(&path, &script, &printed));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The script with what every command prints now.
fn run(script: &str, path: &Path) -> String {
    let mut runner = Script::default();
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(&format!("{line}\n"));
            let printed = runner
                .command(command)
                .unwrap_or_else(|why| panic!("{}: `{command}`: {why}", path.display()));
            out.extend(printed.iter().map(|line| format!("{line}\n")));
        } else if line.is_empty() || line.starts_with('#') {
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

fn difference(path: &Path, expected: &str, printed: &str) -> String {
    let mut lines = expected.lines().zip(printed.lines()).enumerate();
    let first = lines.find(|(_, (expected, printed))| expected != printed);
    let (number, (expected, printed)) = first.unwrap_or((0, ("another length", "another length")));
    format!("{}:{}\n  expected {expected}\n  printed  {printed}", path.display(), number + 1)
}
