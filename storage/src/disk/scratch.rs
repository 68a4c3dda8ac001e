//! A directory for one test, removed when the test ends.
//!
//! Lies below the system's temporary directory, named after the test and the process. Leaves out
//! any cleverness about collisions: test names are unique.

use std::fs;
use std::path::{Path, PathBuf};

/// A temporary directory.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one.
    pub fn new(test: &str) -> Scratch {
        let name = format!("holdfast-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory can be written");
        Scratch(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
