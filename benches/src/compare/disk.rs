//! The disk that is measured: what it is, and whether it is one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `f_type` of file systems that keep everything in memory: nothing on them is durable.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

/// Names of file systems that are met, by `f_type`; for the report alone.
const NAMES: [(u32, &str); 8] = [
    (TMPFS, "tmpfs"),
    (RAMFS, "ramfs"),
    (0x0000_ef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x794c_7630, "overlayfs"),
    (0xf2f5_2010, "f2fs"),
];

/// The file system below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, or its type in hexadecimal.
    pub name: String,
    /// Whether it keeps everything in memory.
    pub is_memory: bool,
}

impl Disk {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The folder is not there.
    pub fn of(folder: &Path) -> Result<Disk, String> {
        let stat = rustix::fs::statfs(folder)
            .map_err(|error| format!("statfs {}: {error}", folder.display()))?;
        Ok(Disk::of_type(stat.f_type as u32))
    }

    fn of_type(kind: u32) -> Disk {
        let name = NAMES.iter().find(|(known, _)| *known == kind);
        let name = name.map_or_else(|| format!("{kind:#x}"), |(_, name)| (*name).to_owned());
        Disk { name, is_memory: kind == TMPFS || kind == RAMFS }
    }
}

/// Bytes that the files below a folder take on disk. Files that vanish meanwhile count as nothing.
pub fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_disk() {
        assert!(Disk::of_type(TMPFS).is_memory && Disk::of_type(RAMFS).is_memory);
        assert!(!Disk::of_type(0xef53).is_memory);
        assert_eq!(Disk::of_type(0x1234).name, "0x1234");
        assert!(Disk::of(Path::new("/no/such/folder")).is_err());
    }

    /// `/dev/shm` is tmpfs wherever it is there.
    #[test]
    fn a_memory_file_system_is_recognized() {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            assert!(Disk::of(shm).expect("it is there").is_memory);
        }
    }
}
