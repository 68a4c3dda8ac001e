//! The real etcd, built from its Go module through our own small mains in `benches/etcd-peer`.
//!
//! It needs Go, and the module proxy once; sums are kept in `go.sum`. The result lies below `target`,
//! never in the source tree. Without Go there is no etcd, which is said and not an error.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the mains are.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etcd-peer");

/// Where the binary goes.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/etcd-peer");

/// Builds etcd; None without Go.
///
/// # Errors
/// Go is there and the build failed.
pub fn build() -> Result<Option<PathBuf>, String> {
    let made = std::fs::create_dir_all(TARGET).and_then(|()| std::fs::canonicalize(TARGET));
    let folder = made.map_err(|error| format!("{TARGET}: {error}"))?;
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(&folder)
        .arg("./etcd")
        .current_dir(SOURCE)
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .status();
    match built {
        Ok(status) if status.success() => Ok(Some(folder.join("etcd"))),
        Ok(status) => Err(format!("go build of {SOURCE} failed: {status}")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("go: {error}")),
    }
}

/// What a binary says its version is, on one line.
pub fn version(binary: &Path) -> String {
    let said = Command::new(binary).arg("--version").output().map(|output| output.stdout);
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).trim().replace('\n', "; ");
    if said.is_empty() { "unknown version".to_owned() } else { said }
}
