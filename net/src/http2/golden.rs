//! Runs the golden scripts under `tests/scripts/http2`: each tells one behaviour of a connection, and
//! its first comment is the claim. `UPDATE=1 cargo test -p holdfast-net golden` rewrites what they
//! expect; read the difference before you believe it.
//!
//! A script is a sequence of commands, each `> command` followed by what it prints. Commands that are
//! joined by `;` arrive as one read. Commands:
//!
//! ```text
//! client [streams=N] [output=N] [cancels=N] [idle=N] [header=N] [unsent=N] ..   a new connection, its preface sent
//! connect                         a new connection, nothing sent
//! settings [window=N] [frame=N] [table=N] [push=N] [ack]
//! headers N PATH [end] [open] [plain] [NAME=VALUE ..]     `plain` leaves gRPC's fields out; `open` more to come
//! trailers N [NAME=VALUE ..]      more N HEX [end]        a CONTINUATION
//! data N "TEXT" [end]             a message               bytes N HEX [end]       any DATA
//! zeros N BYTES [end]             a message of zeros      none N [end]            DATA without any
//! ping HEX [ack]    window N BY    reset N    goaway    priority N ON    raw HEX
//! reply C "TEXT" [last]    bulk C BYTES [last]    close C CODE [TEXT]       by the services, to call C
//! at TIME           the clock goes on (1s, 20ms)          drain           hang-up
//! blocked           the socket takes nothing              flowing         it takes everything again
//! takes N           of what a blocked socket was offered
//! ```
//!
//! Repeat a command with `xN` behind it. Frames of the server print as `→`, events as `call`,
//! `message`, `half-closed`, `cancelled` and `writable`.

mod script;

use std::fs;
use std::path::{Path, PathBuf};

use script::World;

#[test]
fn golden_scripts_print_what_they_claim() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/http2");
    let entries = fs::read_dir(&folder).expect("the folder of scripts exists");
    let mut scripts: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "the scripts are where they belong");
    let update = std::env::var_os("UPDATE").is_some();
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
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(&format!("{line}\n"));
            let printed = world
                .command(command)
                .unwrap_or_else(|why| panic!("{}: `{command}`: {why}", path.display()));
            out.extend(printed.iter().map(|line| format!("  {line}\n")));
        } else if line.is_empty() || line.starts_with('#') {
            out.push_str(&format!("{line}\n"));
        } else {
            assert!(line.starts_with("  "), "{}: `{line}` is no output", path.display());
        }
    }
    out
}

fn difference(path: &Path, expected: &str, printed: &str) -> String {
    let mut lines = expected.lines().zip(printed.lines()).enumerate();
    let first = lines.find(|(_, (expected, printed))| expected != printed);
    let (number, (expected, printed)) = first.unwrap_or((0, ("a shorter text", "a longer text")));
    let place = path.display();
    format!("{place}:{}\n  expected {expected}\n  printed  {printed}", number + 1)
}
