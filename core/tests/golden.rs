//! Runs the golden scripts under `tests/scripts`: each tells one behaviour, and its first comment is
//! the claim. `UPDATE=1 cargo test -p holdfast-core --test golden` rewrites what they expect; read
//! the difference before you believe it.
//!
//! A script is a sequence of commands, each `> command` followed by the lines it prints. Commands:
//!
//! ```text
//! put KEY VALUE [lease=N] [prev] [ignore-value] [ignore-lease]       del KEY [END] [prev]
//! range KEY [END] [rev=N] [limit=N] [asc|desc] [by=version|create|mod|value] [keys-only]
//!           [count-only] [mod>=N] [mod<=N] [create>=N] [create<=N]
//! txn [if CMP ..] [then OP ; ..] [else OP ; ..] end      CMP is version(a)=1, value(a)!x, mod(a,c)>3
//! compact N      slice      grant ID TTL      revoke ID      lease ID      leases
//! alarms         publish MEMBER NAME URL ..   members        skip
//! rows           restart    reclaim           codec COMMAND (the bytes of its log entry)
//! ```
//!
//! END is a key, or `*` for "no end". A pair prints as `a="1" c2 m3 v2 l7`: created r2, modified r3,
//! version 2, lease 7.

mod golden {
    pub mod parse;
    pub mod world;
}

use std::fs;
use std::path::{Path, PathBuf};

use golden::world::World;

#[test]
fn scripts_print_what_they_claim() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut scripts = Vec::new();
    for folder in ["mvcc", "txn", "lease", "compaction"] {
        collect(&root.join(folder), &mut scripts);
    }
    assert!(scripts.len() >= 12, "the scripts are where they belong");
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

/// The script with every command's output replaced by what it prints now.
fn run(script: &str, path: &Path) -> String {
    let mut world = World::new();
    let mut out = String::new();
    let mut in_output = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            in_output = true;
            out.push_str(&format!("{line}\n"));
            let printed = world
                .command(command)
                .unwrap_or_else(|why| panic!("{}: `{command}`: {why}", path.display()));
            out.extend(printed.iter().map(|line| format!("{line}\n")));
        } else if line.is_empty() || line.starts_with('#') {
            in_output = false;
            out.push_str(&format!("{line}\n"));
        } else {
            assert!(in_output, "{}: `{line}` is no output of a command", path.display());
        }
    }
    out
}

fn collect(folder: &Path, scripts: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the folder of scripts exists");
    scripts.extend(entries.map(|entry| entry.expect("a readable folder").path()));
    scripts.sort();
}

fn difference(path: &Path, expected: &str, printed: &str) -> String {
    let mut lines = expected.lines().zip(printed.lines()).enumerate();
    let first = lines.find(|(_, (expected, printed))| expected != printed);
    let (number, (expected, printed)) = first.unwrap_or((0, ("a shorter text", "a longer text")));
    let place = path.display();
    format!("{place}:{}\n  expected {expected}\n  printed  {printed}", number + 1)
}
