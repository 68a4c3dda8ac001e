//! Runs golden scripts: each is a file below `tests/scripts`, its first comment is the claim, and every
//! `> command` is followed by the lines it prints.
//!
//! Leaves out what a command means: that is the caller's. `UPDATE=1` rewrites what the scripts expect;
//! read the difference before you believe it.
//!
//! Laws: a script runs in a world of its own; what is neither a comment (`# …`), an empty line, a
//! command nor below a command is a mistake in the script, not output.

use std::fs;
use std::path::{Path, PathBuf};

/// What a command prints, or why it cannot be understood.
pub type Printed = Result<Vec<String>, String>;

/// Runs every script of these folders, at least `least` of them, each with a new executor of commands.
pub fn check<C: FnMut(&str) -> Printed>(folders: &[&str], least: usize, new: impl Fn() -> C) {
    let update = std::env::var_os("UPDATE").is_some();
    let paths = scripts(folders);
    assert!(paths.len() >= least, "only {} scripts are where they belong", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let script = fs::read_to_string(&path).expect("a script is readable text");
        assert!(script.starts_with("# "), "{} begins with its claim", path.display());
        let printed = run(&script, &path, new());
        if printed != script && update {
            fs::write(&path, printed).expect("the tree is writable under UPDATE");
        } else if printed != script {
            wrong.push(difference(&path, &script, &printed));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn scripts(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("the folder of scripts exists"));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// The script with every command's output replaced by what it prints now.
fn run(script: &str, path: &Path, mut command: impl FnMut(&str) -> Printed) -> String {
    let mut out = String::new();
    let mut in_output = false;
    for line in script.lines() {
        if let Some(words) = line.strip_prefix("> ") {
            in_output = true;
            out.push_str(&format!("{line}\n"));
            let printed =
                command(words).unwrap_or_else(|why| panic!("{}: `{words}`: {why}", path.display()));
            out.extend(printed.iter().map(|line| format!("{line}\n")));
        } else if line.is_empty() || line.starts_with("# ") {
            in_output = false;
            out.push_str(&format!("{line}\n"));
        } else {
            assert!(in_output, "{}: `{line}` is no output of a command", path.display());
        }
    }
    out
}

/// The first line that differs, or that only one of the two has.
fn difference(path: &Path, expected: &str, printed: &str) -> String {
    let (mut expected, mut printed) = (expected.lines(), printed.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (wanted, got) = (expected.next(), printed.next());
        if wanted != got || wanted.is_none() {
            let text = |line: Option<&str>| line.unwrap_or("the end").to_owned();
            let (wanted, got) = (text(wanted), text(got));
            return format!("{}:{number}\n  expected {wanted}\n  printed  {got}", path.display());
        }
    }
}
