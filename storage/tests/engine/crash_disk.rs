//! A disk in memory that loses what was not synced, sector by sector, when it crashes.
//!
//! Faults it makes: at a crash each 512-byte sector written since the file's last sync is old, new
//! or half of each, each on its own; an order under way was done, partly done or not done; on
//! demand an order fails because the disk is full. Names are durable when their order completes, as
//! the seam promises.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use holdfast_core::rng::Rng;
use holdfast_storage::disk::{Disk, DiskOp, Done, FileName};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
pub struct CrashDisk {
    files: Mutex<BTreeMap<FileName, File>>,
    reads: Mutex<u64>,
}

impl CrashDisk {
    /// The process is killed; `under_way` was not completed.
    pub fn kill(&self, under_way: Vec<DiskOp>, rng: &mut Rng) {
        for op in under_way {
            self.perform_partly(op, rng);
        }
    }

    /// What a power cut may leave; `under_way` was not completed.
    pub fn crash(&self, under_way: Vec<DiskOp>, rng: &mut Rng) -> CrashDisk {
        self.kill(under_way, rng);
        let mut files = self.files.lock().unwrap().clone();
        for file in files.values_mut() {
            file.bytes = torn(file, rng);
            file.durable = file.bytes.clone();
        }
        CrashDisk { files: Mutex::new(files), reads: Mutex::default() }
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().map(|file| file.to_string()).collect()
    }

    /// The file of this kind; the first, if there are several.
    pub fn find(&self, suffix: &str) -> FileName {
        let files = self.files.lock().unwrap();
        files.keys().find(|file| file.name().ends_with(suffix)).cloned().expect("there is one")
    }

    /// Changes a file behind the engine's back.
    pub fn damage(&self, file: &FileName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(file).expect("the file exists");
        change(&mut file.bytes);
        file.durable = file.bytes.clone();
    }

    /// An independent copy.
    pub fn copy(&self) -> CrashDisk {
        let files = self.files.lock().unwrap().clone();
        CrashDisk { files: Mutex::new(files), reads: Mutex::default() }
    }

    pub fn bytes(&self, file: &FileName) -> Vec<u8> {
        self.files.lock().unwrap()[file].bytes.clone()
    }

    pub fn remove(&self, file: &FileName) {
        self.files.lock().unwrap().remove(file);
    }

    pub fn len(&self, file: &FileName) -> usize {
        self.files.lock().unwrap()[file].bytes.len()
    }

    pub fn reads(&self) -> u64 {
        *self.reads.lock().unwrap()
    }

    fn perform_partly(&self, op: DiskOp, rng: &mut Rng) {
        match op.made() {
            DiskOp::Write { file, parts, .. } => {
                for part in parts.into_iter().filter(|_| rng.chance(70)) {
                    let op = DiskOp::Write { file: file.clone(), parts: vec![part], sync: false };
                    self.perform(op).expect("a write to a file that exists works");
                }
            }
            op if rng.chance(50) => drop(self.perform(op)),
            _ => {}
        }
    }
}

fn torn(file: &File, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = file.durable.clone();
    if rng.chance(50) {
        bytes.resize(file.bytes.len().max(bytes.len()), 0);
    }
    for (old, new) in bytes.chunks_mut(SECTOR).zip(file.bytes.chunks(SECTOR)) {
        let new_bytes = [0, new.len() / 2, new.len(), new.len()][rng.below(4) as usize];
        old[..new_bytes].copy_from_slice(&new[..new_bytes]);
    }
    bytes
}

impl Disk for CrashDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        let files = self.files.lock().unwrap();
        let ours = files.iter().filter(|(name, _)| name.folder() == folder);
        Ok(ours.map(|(name, file)| (name.clone(), file.bytes.len() as u64)).collect())
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        *self.reads.lock().unwrap() += 1;
        let files = self.files.lock().unwrap();
        let file = files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let end = (offset as usize).checked_add(into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = file.bytes.get(offset as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        let op = op.made();
        if let DiskOp::Read { file, offset, len } = op {
            let mut data = vec![0; len];
            self.read(&file, offset, &mut data)?;
            return Ok(Done { data, buffers: Vec::new() });
        }
        let mut files = self.files.lock().unwrap();
        match op {
            DiskOp::Create { file, len } => {
                if files.contains_key(&file) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let bytes = vec![0; len as usize];
                files.insert(file, File { durable: bytes.clone(), bytes });
            }
            DiskOp::Write { file, parts, sync } => {
                let file = files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
                for (offset, part) in parts {
                    assert!(offset % 4096 == 0 && part.len() % 4096 == 0, "aligned");
                    let end = offset as usize + part.len();
                    file.bytes.resize(file.bytes.len().max(end), 0);
                    file.bytes[offset as usize..end].copy_from_slice(&part);
                }
                if sync {
                    file.durable = file.bytes.clone();
                }
            }
            DiskOp::Rename { from, to } => {
                assert_eq!(from.folder(), to.folder());
                let file = files.remove(&from).ok_or(io::ErrorKind::NotFound)?;
                files.insert(to, file);
            }
            DiskOp::Remove { file } => drop(files.remove(&file)),
            DiskOp::Read { .. } | DiskOp::Make(_) => unreachable!("handled above"),
        }
        Ok(Done::default())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        Ok((1 << 40, 1 << 40))
    }
}
