//! A disk in memory, for tests and fuzzing: no faults of its own, but its image can be copied,
//! damaged and put back.
//!
//! Leaves out everything about durability: what was written is there. The simulator has a disk that
//! loses what was not synced.
//!
//! Worked example: `let mut image = disk.image(); image.get_mut(&file)[17] ^= 1;
//! Wal::recover(&MemoryDisk::from_image(image), ..)`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use super::{BLOCK, Disk, DiskOp, Done, FileName};

/// The bytes of every file.
pub type Image = BTreeMap<FileName, Vec<u8>>;

/// A [`Disk`] that is a map.
#[derive(Debug)]
pub struct MemoryDisk {
    files: Mutex<Image>,
    capacity: Mutex<u64>,
}

impl Default for MemoryDisk {
    fn default() -> MemoryDisk {
        MemoryDisk::from_image(Image::new())
    }
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// A disk with these files.
    pub fn from_image(image: Image) -> MemoryDisk {
        MemoryDisk { files: Mutex::new(image), capacity: Mutex::new(1 << 40) }
    }

    /// A copy of every file.
    pub fn image(&self) -> Image {
        self.files().clone()
    }

    /// From now on, no more than this many bytes in all.
    pub fn set_capacity(&self, bytes: u64) {
        *self.capacity.lock().expect("no holder panics") = bytes;
    }

    fn files(&self) -> MutexGuard<'_, Image> {
        self.files.lock().expect("no holder panics")
    }

    fn capacity(&self) -> u64 {
        *self.capacity.lock().expect("no holder panics")
    }

    fn create(&self, file: FileName, len: u64) -> io::Result<()> {
        let mut files = self.files();
        if files.contains_key(&file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if used(&files) + len > self.capacity() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        files.insert(file, vec![0; usize::try_from(len).map_err(io::Error::other)?]);
        Ok(())
    }
}

fn used(files: &Image) -> u64 {
    files.values().map(|bytes| bytes.len() as u64).sum()
}

fn missing(file: &FileName) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{file} does not exist"))
}

impl Disk for MemoryDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        let files = self.files();
        let inside = files.iter().filter(|(file, _)| file.folder() == folder);
        Ok(inside.map(|(file, bytes)| (file.clone(), bytes.len() as u64)).collect())
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let files = self.files();
        let bytes = files.get(file).ok_or_else(|| missing(file))?;
        let end = bytes.len().min(usize::try_from(offset).map_err(io::Error::other)?);
        let from = &bytes[end..];
        if from.len() < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into.copy_from_slice(&from[..into.len()]);
        Ok(())
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        match op.made() {
            DiskOp::Create { file, len } => self.create(file, len)?,
            DiskOp::Write { file, parts, sync: _ } => {
                let mut files = self.files();
                let bytes = files.get_mut(&file).ok_or_else(|| missing(&file))?;
                for (offset, part) in &parts {
                    let start = usize::try_from(*offset).map_err(io::Error::other)?;
                    assert!(start % BLOCK == 0 && part.len() % BLOCK == 0, "parts are aligned");
                    if bytes.len() < start + part.len() {
                        bytes.resize(start + part.len(), 0);
                    }
                    bytes[start..start + part.len()].copy_from_slice(part);
                }
                let buffers = parts.into_iter().map(|(_, buffer)| buffer).collect();
                return Ok(Done { buffers, ..Done::default() });
            }
            DiskOp::Rename { from, to } => {
                let mut files = self.files();
                let bytes = files.remove(&from).ok_or_else(|| missing(&from))?;
                files.insert(to, bytes);
            }
            DiskOp::Remove { file } => {
                self.files().remove(&file);
            }
            DiskOp::Read { file, offset, len } => {
                let mut data = vec![0; len];
                self.read(&file, offset, &mut data)?;
                return Ok(Done { data, ..Done::default() });
            }
            DiskOp::Make(_) => unreachable!("it is made"),
        }
        Ok(Done::default())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let capacity = self.capacity();
        Ok((capacity.saturating_sub(used(&self.files())), capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::disk::conformance(&MemoryDisk::new());
    }
}
