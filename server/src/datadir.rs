//! The member's directory on a real disk: who may use it, and what must not be in it.
//!
//! Holdfast's files live in `<data-dir>/holdfast/`; the rest of `<data-dir>` is left alone. What the
//! files hold, and whose they are, is checked by `boot`.
//!
//! Laws:
//!  1. A directory with real etcd's data is never written to.
//!  2. Every refusal names the directory and says what to do.
//!
//! Worked example: a fresh `default.etcd` is made with permissions 0700 and gets `holdfast/lock`; a
//! `default.etcd/member/snap/db` beside it would have been refused.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use holdfast_storage::disk::{FileDisk, FileOptions};

/// A directory that may be used.
#[derive(Debug, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
    /// What the operator should know: one line each, for the log.
    pub warnings: Vec<String>,
}

impl DataDir {
    /// Makes `--data-dir` if it is missing, and checks it.
    ///
    /// # Errors
    /// It is no directory, cannot be read or written, or holds the data of real etcd.
    pub fn prepare(path: &Path) -> Result<DataDir, String> {
        let mut warnings = Vec::new();
        match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => {
                return Err(format!(
                    "--data-dir {} is not a directory: remove it or choose another",
                    path.display()
                ));
            }
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    warnings.push(format!(
                        "others may look into --data-dir {} (mode {mode:04o}): chmod 0700 it",
                        path.display()
                    ));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
                made.map_err(|error| unusable("make", path, &error))?;
            }
            Err(error) => return Err(unusable("look at", path, &error)),
        }
        refuse_etcd(path)?;
        check_writable(path)?;
        Ok(DataDir { path: path.to_path_buf(), warnings })
    }

    /// Where Holdfast's files are.
    pub fn holdfast(&self) -> PathBuf {
        self.path.join("holdfast")
    }

    /// Opens and locks the disk there.
    ///
    /// # Errors
    /// Another process uses it, or the system refuses.
    pub fn open(&self, options: FileOptions) -> Result<FileDisk, String> {
        FileDisk::open_with(&self.holdfast(), options).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => format!(
                "--data-dir {} is in use by another process: stop it or choose another",
                self.path.display()
            ),
            _ => unusable("open", &self.path, &error),
        })
    }
}

fn refuse_etcd(path: &Path) -> Result<(), String> {
    let Some(found) = etcd_file(path).map_err(|error| unusable("read", path, &error))? else {
        return Ok(());
    };
    Err(format!(
        "--data-dir {} holds the data of a real etcd member ({}), which Holdfast can neither read nor \
         write. It has not been touched. Start Holdfast with an empty --data-dir and copy the keys \
         from the running etcd with a client, for example etcdctl make-mirror",
        path.display(),
        found.display()
    ))
}

/// The first file that only real etcd makes.
fn etcd_file(path: &Path) -> io::Result<Option<PathBuf>> {
    let database = path.join("member/snap/db");
    if database.try_exists()? {
        return Ok(Some(database));
    }
    let entries = match fs::read_dir(path.join("member/wal")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "wal") {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Permission bits alone do not tell: the file system may be mounted read-only.
fn check_writable(path: &Path) -> Result<(), String> {
    fs::read_dir(path).map_err(|error| unusable("read", path, &error))?;
    let probe = path.join(format!(".touch-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create(true).truncate(true).open(&probe);
    made.and_then(|_| fs::remove_file(&probe)).map_err(|error| unusable("write to", path, &error))
}

fn unusable(what: &str, path: &Path, error: &io::Error) -> String {
    format!(
        "cannot {what} --data-dir {}: {error}: \
         give this user read and write access to it or choose another",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test alone, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let unique = crate::identity::random().expect("the kernel gives random bytes");
            let path = std::env::temp_dir().join(format!("holdfast-{name}-{unique:x}"));
            DirBuilder::new().mode(0o700).create(&path).expect("a fresh name");
            Scratch(path)
        }

        fn file(&self, name: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("is below the directory")).expect("makes");
            fs::write(path, "x").expect("writes");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_directory_is_private() {
        let scratch = Scratch::new("new");
        let path = scratch.0.join("deep/default.etcd");
        let dir = DataDir::prepare(&path).expect("is made");
        assert!(dir.warnings.is_empty());
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&path).expect("reads").count(), 0, "nothing is left behind");
        dir.open(FileOptions::default()).expect("opens");
        assert!(path.join("holdfast/lock").exists());
        assert_eq!(DataDir::prepare(&path), Ok(dir), "a second start finds it as it was");
    }

    #[test]
    fn real_etcd_s_data_is_refused_untouched() {
        for file in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
            let scratch = Scratch::new("etcd");
            scratch.file(file);
            let error = DataDir::prepare(&scratch.0).expect_err("is refused");
            assert!(error.contains("holds the data of a real etcd member"), "{error}");
            assert!(error.contains(file) && error.contains("make-mirror"), "{error}");
            assert_eq!(fs::read_dir(&scratch.0).expect("reads").count(), 1);
        }
        let scratch = Scratch::new("empty-member");
        scratch.file("member/wal/readme.txt");
        DataDir::prepare(&scratch.0).expect("an empty member directory is no data");
    }

    #[test]
    fn one_in_use_is_refused() {
        let scratch = Scratch::new("busy");
        let dir = DataDir::prepare(&scratch.0).expect("is usable");
        let first = dir.open(FileOptions::default()).expect("opens");
        let error = dir.open(FileOptions::default()).err().expect("is locked");
        let wanted = format!(
            "--data-dir {} is in use by another process: stop it or choose another",
            scratch.0.display()
        );
        assert_eq!(error, wanted);
        drop(first);
        dir.open(FileOptions::default()).expect("opens again");
    }

    #[test]
    fn loose_permissions_are_warned_of() {
        let scratch = Scratch::new("loose");
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).expect("is ours");
        let dir = DataDir::prepare(&scratch.0).expect("is usable");
        let wanted = format!(
            "others may look into --data-dir {} (mode 0755): chmod 0700 it",
            scratch.0.display()
        );
        assert_eq!(dir.warnings, [wanted]);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let scratch = Scratch::new("file");
        scratch.file("data");
        let path = scratch.0.join("data");
        let error = DataDir::prepare(&path).expect_err("is a file");
        assert!(error.ends_with("data is not a directory: remove it or choose another"), "{error}");
        let error = DataDir::prepare(&path.join("below")).expect_err("is below a file");
        assert!(error.starts_with("cannot look at --data-dir"), "{error}");
        // Holds for root too, where permissions do not.
        let error = DataDir::prepare(Path::new("/proc/holdfast")).expect_err("cannot be made");
        assert!(error.starts_with("cannot make --data-dir /proc/holdfast"), "{error}");
        let error = DataDir::prepare(Path::new("/proc")).expect_err("cannot be written");
        assert!(error.starts_with("cannot write to --data-dir /proc: "), "{error}");
    }
}
