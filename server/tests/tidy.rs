//! Reads the repository: edges between crates, heads and lengths of files, paths that documents name.
//!
//! Leaves out what the compiler and clippy check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a file may have.
const FILE_LINES_MAX: usize = 800;

/// The only edges between our crates, dev-dependencies included.
const EDGES: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("storage", &["core"]),
    ("net", &["core"]),
    ("server", &["core", "net", "storage"]),
    ("sim", &["core", "net", "server", "storage"]),
    ("fuzz", &["core", "net", "sim", "storage"]),
    ("benches", &["core", "net", "server", "storage"]),
    ("jepsen", &["sim"]),
];

fn root() -> PathBuf {
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    server.parent().expect("server lies in the repository").to_path_buf()
}

/// Every file below `folder` with this ending, build output aside.
fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the repository can be read") {
        let path = entry.expect("the repository can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules" {
            files(&path, ending, into);
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), ".rs", &mut found);
    assert!(found.len() > 100, "the whole repository is read, not {} files", found.len());
    let text = |path: &PathBuf| fs::read_to_string(path).expect("sources are UTF-8");
    found.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn crates_depend_on_each_other_as_planned() {
    let mut complaints = Vec::new();
    for (name, allowed) in EDGES {
        let manifest = root().join(name).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("every crate has a manifest");
        let mut section = String::new();
        let mut found: BTreeMap<&str, ()> = BTreeMap::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.to_string();
            }
            let dependency = section.contains("dependencies");
            if let Some(rest) = line.strip_prefix("holdfast-").filter(|_| dependency) {
                let end = rest.find(['.', ' ', '=']).unwrap_or(rest.len());
                found.insert(&rest[..end], ());
            }
        }
        let found: Vec<&str> = found.into_keys().collect();
        if found.iter().any(|edge| !allowed.contains(edge)) {
            complaints.push(format!("{name} depends on {found:?}, allowed is {allowed:?}"));
        }
    }
    complain(&complaints);
}

#[test]
fn every_source_says_what_it_is() {
    let headless = sources().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    let complaints = headless.map(|(path, _)| format!("{} has no //! head", path.display()));
    complain(&complaints.collect::<Vec<_>>());
}

#[test]
fn no_source_is_too_long() {
    let long = sources().into_iter().filter(|(_, text)| text.lines().count() > FILE_LINES_MAX);
    let complaints = long.map(|(path, text)| {
        format!("{} has {} lines, at most {FILE_LINES_MAX}", path.display(), text.lines().count())
    });
    complain(&complaints.collect::<Vec<_>>());
}

#[test]
fn documents_name_paths_that_exist() {
    let mut documents = Vec::new();
    files(&root(), ".md", &mut documents);
    let mut complaints = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).expect("documents are UTF-8");
        for quoted in text.split('`').skip(1).step_by(2) {
            let crates = EDGES.iter().any(|(name, _)| quoted.starts_with(&format!("{name}/")));
            let is_file = [".rs", ".md", ".proto"].iter().any(|ending| quoted.ends_with(ending));
            let plain = !quoted.contains([' ', '*', '<', '{', '\n']);
            if crates && is_file && plain && !root().join(quoted).exists() {
                complaints.push(format!("{} names {quoted}", document.display()));
            }
        }
    }
    complain(&complaints);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let root = root();
    let mut texts = Vec::new();
    for ending in [".rs", ".md", ".toml", ".sh", ".py", ".go", ".proto", ".yml"] {
        files(&root, ending, &mut texts);
    }
    let home = ["/ro", "ot/"].concat();
    let mut complaints = Vec::new();
    for path in texts {
        let text = fs::read_to_string(&path).expect("texts are UTF-8");
        if text.contains(&home) || text.contains(&format!("{}/", root.display())) {
            complaints.push(format!("{} names a folder of one machine", path.display()));
        }
    }
    complain(&complaints);
}
