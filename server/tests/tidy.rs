//! Reads the repository as a reviewer would: crate edges, heads, lengths, and paths in documents.
//!
//! Needs nothing but the source tree. Lints that the compiler or clippy has are theirs. Limits ratchet:
//! they may get smaller. Law: each test names every offender at once, by file.
//!
//! Worked example: a file of 801 lines fails `files_are_short` with its path and its length.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which package of the workspace may name which in its manifest, dev-dependencies included.
const EDGES: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("storage", &["core"]),
    ("net", &["core"]),
    ("server", &["core", "storage", "net"]),
    ("sim", &["core", "storage", "net", "server"]),
    ("fuzz", &["core", "storage", "net", "sim"]),
    ("benches", &["core", "storage", "net", "server"]),
    ("jepsen", &["sim"]),
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the workspace").to_owned()
}

/// Every file of the source tree, by its path from the root.
fn files() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the tree can be listed") {
            let path = entry.expect("the tree can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !is_foreign(&name) {
                    folders.push(path);
                }
                continue;
            }
            let from_root = path.strip_prefix(root()).expect("it was found below the root");
            found.insert(from_root.to_string_lossy().into_owned(), path);
        }
    }
    found
}

/// Folders that git does not track.
fn is_foreign(name: &str) -> bool {
    let exact = [".git", "venv", "node_modules", "__pycache__", "corpus", "artifacts"];
    exact.contains(&name) || name.starts_with("target") || name.ends_with(".etcd")
}

fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|(name, _)| name.ends_with(".rs"));
    rust.map(|(name, path)| {
        let text = fs::read_to_string(path).unwrap_or_else(|cause| panic!("{name}: {cause}"));
        (name, text)
    })
    .collect()
}

fn assert_none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n{}", offenders.join("\n"));
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut offenders = Vec::new();
    for (package, allowed) in EDGES {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml"));
        let manifest = manifest.unwrap_or_else(|cause| panic!("{package}/Cargo.toml: {cause}"));
        for edge in edges(&manifest) {
            if !allowed.contains(&edge.as_str()) {
                offenders.push(format!("{package} names {edge}"));
            }
        }
    }
    assert_none("edges that the architecture does not have", &offenders);
}

/// The packages of the workspace that a manifest depends on, in any of its sections.
fn edges(manifest: &str) -> BTreeSet<String> {
    let mut in_dependencies = false;
    let mut edges = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
            // `[dependencies.holdfast-x]` is an edge written as a section.
            let section = line.trim_matches(['[', ']']).rsplit('.').next().unwrap_or_default();
            edges.extend(section.strip_prefix("holdfast-").map(str::to_owned));
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if let Some(name) = name.strip_prefix("holdfast-").filter(|_| in_dependencies) {
            edges.insert(name.to_owned());
        }
    }
    edges
}

#[test]
fn every_package_has_its_row() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = "));
    let members = members.expect("the workspace lists its members on one line");
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let rows: BTreeSet<&str> = EDGES.iter().map(|(package, _)| *package).collect();
    assert_eq!(members, rows);
}

#[test]
fn files_have_heads() {
    let without = sources().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    let without: Vec<String> = without.map(|(name, _)| name).collect();
    assert_none("files that do not open with `//!`, what they are and leave out", &without);
}

#[test]
fn files_are_short() {
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            offenders.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
    }
    assert_none("files that hold more than one noun", &offenders);
}

#[test]
fn functions_are_short() {
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        for (line, length) in long_functions(&text) {
            offenders.push(format!("{name}:{line}: {length} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    assert_none("functions that do more than one thing", &offenders);
}

/// Where a function is too long, and how long. Trusts rustfmt: a body ends at its `fn`'s indentation.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") || !starts_function(code) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = format!("{indent}}}");
        let length = lines[at..].iter().position(|line| *line == end).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            long.push((at + 1, length));
        }
    }
    long
}

fn starts_function(code: &str) -> bool {
    let mut words = code.split_whitespace();
    words
        .find(|word| {
            !["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"].contains(word)
        })
        .is_some_and(|word| word == "fn")
        && !code.ends_with(';')
        && !code.ends_with('}')
}

#[test]
fn paths_in_documents_exist() {
    let mut offenders = Vec::new();
    for (name, path) in files().into_iter().filter(|(name, _)| name.ends_with(".md")) {
        let text = fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{name}: {cause}"));
        let folder = path.parent().expect("a file lies in a folder");
        for link in links(&text) {
            if !folder.join(&link).exists() {
                offenders.push(format!("{name} links to {link}"));
            }
        }
        for mention in mentions(&text) {
            if !root().join(&mention).exists() {
                offenders.push(format!("{name} mentions {mention}"));
            }
        }
    }
    assert_none("documents that name what is not there", &offenders);
}

#[test]
fn tests_that_a_document_names_exist() {
    let folder = root().join("server/tests");
    let table = fs::read_to_string(folder.join("README.md")).expect("the table of bad input");
    let quoted = table.split('`').skip(1).step_by(2);
    let named: Vec<(&str, &str)> = quoted.filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() >= 18, "the table names its tests: {named:?}");
    let missing = named.into_iter().filter(|(module, test)| {
        let text = fs::read_to_string(folder.join(format!("process/{module}.rs")));
        !text.is_ok_and(|text| text.contains(&format!("fn {test}()")))
    });
    let missing: Vec<String> = missing.map(|(module, test)| format!("{module}::{test}")).collect();
    assert_none("tests that are named and not there", &missing);
}

/// Targets of links within the repository.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.filter_map(|target| target.split('#').next());
    let local = |target: &&str| !target.is_empty() && !target.contains("://");
    targets.filter(local).map(str::to_owned).collect()
}

/// Words in backquotes that are paths from the root.
fn mentions(text: &str) -> Vec<String> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = quoted.flat_map(str::split_whitespace);
    let paths = words.filter(|word| {
        let top = word.split('/').next().unwrap_or_default();
        let known = EDGES.iter().any(|(package, _)| *package == top);
        let known = known || ["clients", ".ci", ".github", ".cargo"].contains(&top);
        known && word.contains('/') && !word.contains(['<', '*', '{', '$', ':', '('])
    });
    paths.map(str::to_owned).collect()
}

#[test]
fn no_machine_is_named() {
    let machines = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let work = concat!("/wo", "rk/");
    let mut offenders = Vec::new();
    for (name, path) in files() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            let named = machines.iter().chain([&work]).any(|machine| {
                // A folder of that name inside a longer path is nobody's machine.
                line.match_indices(machine).any(|(start, _)| {
                    !line[..start].ends_with(|before: char| before.is_alphanumeric())
                })
            });
            if named {
                offenders.push(format!("{name}:{}", at + 1));
            }
        }
    }
    assert_none("paths of somebody's machine", &offenders);
}
