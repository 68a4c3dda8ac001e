//! The real disk: a directory of this machine's file system.
//!
//! Every call goes straight to the kernel through cached file descriptors. Writes use O_DIRECT where
//! the file system takes it. For the log, so that a failed flush cannot leave pages in the cache that
//! a later read would take for durable (small parts beside a larger one go through the cache for
//! speed, and are dropped from it). For a checkpoint, so that at most one of its pieces is on its way
//! to the device when the log flushes: through the cache its hundreds of megabytes made flushes of
//! 100 ms, directly the longest seen takes 15. Where O_DIRECT is refused writes are buffered, and
//! [`FileDisk::notes`] says so. What is left out: threads (see [`Pool`](super::Pool)) and any retry of
//! a failed sync.
//!
//! Laws:
//!  1. A directory belongs to one process: an exclusive lock on `<dir>/lock` is held while it is
//!     open.
//!  2. An interrupted or short system call is continued, any other failure is reported as it is.
//!  3. A failed `Create` leaves no file behind.
//!
//! Worked example: `Write { file: wal/1.seg, parts: [(8192, d), (24576, b)], sync: true }` is a
//! `pwrite` of `d` through the cache, sent at once, one of `b` with O_DIRECT, and one `fdatasync`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustix::fs::{Advice, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{BLOCK, Buffer, Disk, DiskOp, Done, FileName};

/// Files kept open at most; beyond it the cache is emptied, and reopening costs microseconds.
const OPEN_MAX: usize = 256;

/// Bytes of zeros written at a time by `Create`, and, through the cache, between its syncs, so that a
/// 64 MiB file does not make one long flush beside the commits of the log.
const ZERO_CHUNK: usize = 1 << 20;
const ZERO_CHUNKS_PER_SYNC: u64 = 8;

/// How a [`FileDisk`] departs from its defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileOptions {
    /// Never sync anything: a power cut may then lose or tear whatever was acknowledged. For tests.
    pub no_fsync: bool,
}

/// A directory as a [`Disk`].
pub struct FileDisk {
    root: PathBuf,
    options: FileOptions,
    open: Mutex<BTreeMap<FileName, Arc<Handle>>>,
    notes: Mutex<Vec<String>>,
    _lock: File,
}

/// The descriptors of one file.
pub(super) struct Handle {
    pub buffered: OwnedFd,
    /// Opened by the first write; `None` where the file system refuses it.
    direct: OnceLock<Option<OwnedFd>>,
}

impl Handle {
    /// The descriptor past the cache, if the file has been written and the file system has one.
    #[cfg(target_os = "linux")]
    pub(super) fn direct(&self) -> Option<&OwnedFd> {
        self.direct.get().and_then(Option::as_ref)
    }
}

impl FileDisk {
    /// Opens a directory, making it if it is missing, and locks it.
    pub fn open(dir: &Path) -> io::Result<FileDisk> {
        FileDisk::open_with(dir, FileOptions::default())
    }

    /// As [`FileDisk::open`], with options.
    pub fn open_with(dir: &Path, options: FileOptions) -> io::Result<FileDisk> {
        make_folder(dir, options).map_err(|error| named("make the directory", dir, &error))?;
        let lock = lock(&dir.join("lock"), dir)?;
        let notes = match options.no_fsync {
            true => vec![String::from("nothing is synced: a power cut loses acknowledged writes")],
            false => Vec::new(),
        };
        Ok(FileDisk {
            root: dir.to_path_buf(),
            options,
            open: Mutex::new(BTreeMap::new()),
            notes: Mutex::new(notes),
            _lock: lock,
        })
    }

    /// What an operator should know about how this directory is written; each thing once.
    pub fn notes(&self) -> Vec<String> {
        held(&self.notes).clone()
    }

    /// How it departs from its defaults.
    pub fn options(&self) -> FileOptions {
        self.options
    }

    /// Removes a folder that holds nothing, if it can be.
    #[cfg(target_os = "linux")]
    pub(super) fn remove_folder(&self, folder: &str) {
        let _ = fs::remove_dir(self.root.join(folder));
    }

    fn path(&self, file: &FileName) -> PathBuf {
        self.root.join(&*file.0)
    }

    pub(super) fn handle(&self, file: &FileName) -> io::Result<Arc<Handle>> {
        if let Some(handle) = held(&self.open).get(file) {
            return Ok(handle.clone());
        }
        let path = self.path(file);
        let buffered = open_file(&path, OFlags::RDWR)?;
        if file.folder() == "wal" {
            // Fallback reads must not be answered from pages of an earlier, failed flush.
            let _ = rustix::fs::fadvise(&buffered, 0, None, Advice::DontNeed);
        }
        let handle = Arc::new(Handle { buffered, direct: OnceLock::new() });
        let mut open = held(&self.open);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(file.clone(), handle.clone());
        Ok(handle)
    }

    /// The descriptor past the cache, opened if this is the file's first write.
    pub(super) fn direct<'a>(
        &self,
        handle: &'a Handle,
        file: &FileName,
    ) -> io::Result<Option<&'a OwnedFd>> {
        if let Some(direct) = handle.direct.get() {
            return Ok(direct.as_ref());
        }
        let direct = self.open_direct(&self.path(file))?;
        Ok(handle.direct.get_or_init(|| direct).as_ref())
    }

    fn open_direct(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match open_file(path, OFlags::RDWR | OFlags::DIRECT) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.note("the file system refuses O_DIRECT: files are written through the cache");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn note(&self, text: &str) {
        let mut notes = held(&self.notes);
        if !notes.iter().any(|note| note == text) {
            notes.push(text.to_owned());
        }
    }

    fn create(&self, file: &FileName, len: u64) -> io::Result<()> {
        let path = self.path(file);
        let folder = self.root.join(file.folder());
        make_folder(&folder, self.options)?;
        let fd = open_file(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let made = self.fits(len).and_then(|()| self.zero((&path, &fd), len));
        let made = made.and_then(|()| self.sync_folder(file));
        if made.is_err() {
            // Half a file would stand in the way of the next attempt; the first error is what
            // counts.
            let _ = fs::remove_file(&path);
        }
        if made.is_ok() && file.folder() == "wal" {
            // Opened, and its zeros dropped from the cache, by the thread that made it: the log's does
            // not wait for that. If it fails, whoever writes the file is told.
            let _ = self.handle(file).and_then(|handle| self.direct(&handle, file).map(drop));
        }
        made
    }

    /// Refuses at once what would only fail after writing the disk full.
    fn fits(&self, len: u64) -> io::Result<()> {
        let (free, _) = self.space()?;
        if len <= free {
            return Ok(());
        }
        let cause = format!("{len} bytes wanted, {free} are free below {}", self.root.display());
        Err(io::Error::new(io::ErrorKind::StorageFull, cause))
    }

    /// Fills a new file with zeros: past the cache where that is possible, which costs no copy and
    /// leaves nothing for the log's flushes to wait for but the piece that is on its way.
    fn zero(&self, (path, fd): (&Path, &OwnedFd), len: u64) -> io::Result<()> {
        let direct = self.open_direct(path)?;
        let chunk = ZERO_CHUNK.min(usize::try_from(len).unwrap_or(ZERO_CHUNK));
        let zeros = Buffer::from_slice(&vec![0; chunk]);
        let (mut at, mut chunks) = (0, 0);
        while at < len {
            let size = (len - at).min(ZERO_CHUNK as u64);
            self.write_part((fd, direct.as_ref()), &zeros[..size as usize], at)?;
            at += size;
            chunks += 1;
            if direct.is_none() && chunks % ZERO_CHUNKS_PER_SYNC == 0 {
                self.sync(fd)?;
            }
        }
        if self.options.no_fsync {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| rustix::fs::fsync(fd)).map_err(io::Error::from)
    }

    fn write(&self, file: &FileName, parts: &[(u64, Buffer)], sync: bool) -> io::Result<()> {
        let handle = self.handle(file)?;
        check_aligned(file, parts);
        let direct = self.direct(&handle, file)?;
        let beside = direct.is_some() && file.folder() == "wal";
        let last = parts.len().saturating_sub(1);
        for (nth, (offset, bytes)) in parts.iter().enumerate() {
            if beside && nth < last && bytes.len() == BLOCK {
                write_beside(&handle, bytes, *offset)?;
            } else {
                self.write_part((&handle.buffered, direct), bytes, *offset)?;
            }
        }
        if sync { self.sync(&handle.buffered) } else { Ok(()) }
    }

    fn write_part(
        &self,
        (buffered, direct): (&OwnedFd, Option<&OwnedFd>),
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        write_fully(bytes, offset, |bytes, at| match direct {
            Some(direct) => match pwrite(direct, bytes, at) {
                // An odd rest of a short write, or a device with larger sectors than ours.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.note("a direct write was refused: written through the cache");
                    pwrite(buffered, bytes, at)
                }
                result => result,
            },
            None => pwrite(buffered, bytes, at),
        })
    }

    fn sync(&self, fd: &OwnedFd) -> io::Result<()> {
        if self.options.no_fsync {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(fd)).map_err(io::Error::from)
    }

    fn sync_folder(&self, file: &FileName) -> io::Result<()> {
        sync_directory(&self.root.join(file.folder()), self.options)
    }

    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()> {
        assert_eq!(from.folder(), to.folder(), "a file keeps its folder");
        fs::rename(self.path(from), self.path(to))?;
        let mut open = held(&self.open);
        open.remove(to);
        if let Some(handle) = open.remove(from) {
            open.insert(to.clone(), handle);
        }
        drop(open);
        self.sync_folder(to)
    }

    fn remove(&self, file: &FileName) -> io::Result<()> {
        held(&self.open).remove(file);
        match fs::remove_file(self.path(file)) {
            Ok(()) => self.sync_folder(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let handle = self.handle(file)?;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let rest = &mut into[done..];
            let count =
                rustix::io::retry_on_intr(|| rustix::io::pread(&handle.buffered, &mut *rest, at))?;
            if count == 0 {
                let cause = format!("{file} ends at {at}, wanted {} bytes more", rest.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cause));
            }
            done += count;
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let meta = entry.metadata()?;
            if let (true, Some(name)) = (meta.is_file(), entry.file_name().to_str()) {
                files.push((FileName::new(folder, name), meta.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_at(file, offset, into)
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        match op.made() {
            DiskOp::Create { file, len } => self.create(&file, len).map(|()| Done::default()),
            DiskOp::Write { file, parts, sync } => {
                self.write(&file, &parts, sync)?;
                let buffers = parts.into_iter().map(|(_, buffer)| buffer).collect();
                Ok(Done { buffers, ..Done::default() })
            }
            DiskOp::Rename { from, to } => self.rename(&from, &to).map(|()| Done::default()),
            DiskOp::Remove { file } => self.remove(&file).map(|()| Done::default()),
            DiskOp::Read { file, offset, len } => {
                let mut data = vec![0; len];
                self.read_at(&file, offset, &mut data)?;
                Ok(Done { data, ..Done::default() })
            }
            DiskOp::Make(_) => unreachable!("it is made"),
        }
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }
}

/// Makes a folder that only its owner may enter, durably. An existing one is left as it is.
fn make_folder(dir: &Path, options: FileOptions) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."), options),
        Some(parent) => sync_directory(parent, options),
        None => Ok(()),
    }
}

fn sync_directory(dir: &Path, options: FileOptions) -> io::Result<()> {
    if options.no_fsync { Ok(()) } else { File::open(dir)?.sync_all() }
}

fn lock(path: &Path, dir: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = open_file(path, flags).map_err(|error| named("open the lock file", path, &error))?;
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(File::from(file)),
        Err(Errno::WOULDBLOCK) => {
            let cause = format!(
                "the directory {} is in use by another process: stop it, or use another directory",
                dir.display()
            );
            Err(io::Error::new(io::ErrorKind::ResourceBusy, cause))
        }
        Err(error) => Err(named("lock", path, &error.into())),
    }
}

fn named(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

fn open_file(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))?)
}

/// Writes one block through the cache and has the kernel send it at once, so that it travels beside
/// the direct write that follows (measured: 150 instead of 180 us for a log batch and its
/// descriptor). The advice also drops the page once it is clean, as does the one given when a file of
/// the log is opened: after a failed flush no later run reads from it.
fn write_beside(handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_fully(bytes, offset, |bytes, at| pwrite(&handle.buffered, bytes, at))?;
    let len = NonZeroU64::new(bytes.len() as u64);
    // Only advice: the sync that follows does what it does not.
    let _ = rustix::fs::fadvise(&handle.buffered, offset, len, Advice::DontNeed);
    Ok(())
}

/// Asserts what submitters owe the disk.
pub(super) fn check_aligned(file: &FileName, parts: &[(u64, Buffer)]) {
    for (offset, bytes) in parts {
        let aligned = offset % BLOCK as u64 == 0 && bytes.len() % BLOCK == 0;
        assert!(aligned, "{file}: a part of {} bytes at {offset} is not aligned", bytes.len());
    }
}

fn pwrite(fd: &OwnedFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwrite(fd, bytes, offset)?)
}

/// Calls `write` until all of `bytes` are written: a short write is continued, an interrupted one
/// done again (law 2).
fn write_fully(
    bytes: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A panic elsewhere cannot leave these maps half changed, so a poisoned lock is as good as any.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{conformance, scratch::Scratch};

    #[test]
    fn conforms() {
        let scratch = Scratch::new("file-conforms");
        conformance(&FileDisk::open(scratch.path()).expect("opens"));
    }

    #[test]
    fn conforms_without_fsync() {
        let scratch = Scratch::new("file-no-fsync");
        let disk = FileDisk::open_with(scratch.path(), FileOptions { no_fsync: true });
        let disk = disk.expect("opens");
        conformance(&disk);
        assert!(disk.notes()[0].contains("nothing is synced"));
    }

    #[test]
    fn a_second_opener_is_told_so() {
        let scratch = Scratch::new("file-lock");
        let first = FileDisk::open(scratch.path()).expect("opens");
        let error = FileDisk::open(scratch.path()).err().expect("is locked");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        FileDisk::open(scratch.path()).expect("opens once the first is gone");
    }

    #[test]
    fn the_directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("file-mode");
        let dir = scratch.path().join("deep/data");
        let disk = FileDisk::open(&dir).expect("opens");
        let op = DiskOp::Create { file: FileName::new("wal", "1.seg"), len: BLOCK as u64 };
        disk.perform(op).expect("creates");
        for path in [dir.clone(), dir.join("wal")] {
            let mode = fs::metadata(&path).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_continued() {
        let mut script = vec![
            Ok(3),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(1),
            Err(io::Error::from(Errno::INTR)),
            Ok(100),
        ];
        script.reverse();
        let mut written = Vec::new();
        let write = |bytes: &[u8], at: u64| {
            let step = script.pop().expect("no more calls than scripted")?;
            let count = bytes.len().min(step);
            written.push((at, bytes[..count].to_vec()));
            Ok(count)
        };
        write_fully(b"abcdefgh", 10, write).expect("completes");
        let expected = vec![(10, b"abc".to_vec()), (13, b"d".to_vec()), (14, b"efgh".to_vec())];
        assert_eq!(written, expected);
    }

    #[test]
    fn a_full_disk_keeps_its_kind() {
        let full = |_: &[u8], _| Err(io::Error::from(Errno::NOSPC));
        let error = write_fully(b"x", 0, full).expect_err("is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let none = write_fully(b"x", 0, |_, _| Ok(0)).expect_err("makes no progress");
        assert_eq!(none.kind(), io::ErrorKind::WriteZero);
    }
}
