//! One member's simulated disk: what was written, what of it is durable, and what a power cut leaves.
//!
//! Faults it makes, and why each must be survived:
//!  - *Unsynced writes are lost, each 512-byte sector on its own.* Drives reorder what they hold in
//!    their caches, so any subset of the sectors may have reached the medium, not only a prefix.
//!  - *A write under way is torn in the same way*, also when it was to be synced: the power goes while
//!    the drive works. A sector itself is old or new, never a mixture (drives promise that much).
//!  - *A file that grew may come back shorter*: its length is metadata, with a journal of its own.
//!  - *A name being created, renamed or removed is old or new*: the folder's sync had not returned.
//!  - *The power goes in the middle of recovery* ([`SimDisk::cut_after`]): recovery must be repeatable.
//!  - *No space*, at any operation that grows a file, and space comes back later.
//!  - *Latency with stalls of seconds*: other tenants, garbage collection in the drive. Completions
//!    come in any order.
//!
//! It leaves out what its cluster may not be asked to survive without repair: lying syncs, rot, EIO.
//!
//! Laws:
//!  1. Everything a successful sync covered survives every crash ([`Disk`]'s law 1, taken literally: a
//!     sync covers the writes that had completed when it was *issued*, and its own).
//!  2. A read returns what was last written and completed, durable or not.
//!  3. The same seed and the same operations leave the same image.
//!
//! Worked example: two sectors are written without a sync; the crash throws two coins, and the image
//! afterwards is one of old-old, old-new, new-old and new-new.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use holdfast_core::rng::Rng;
use holdfast_storage::disk::{Buffer, Completion, Disk, DiskOp, Done, FileName, Token};

/// What a drive writes as one: old or new, never a mixture.
pub const SECTOR: usize = 512;

/// How long operations take.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The shortest operation.
    pub base: Duration,
    /// Up to this much more, evenly.
    pub spread: Duration,
    /// In ten thousand, how many operations stall.
    pub stalls: u64,
    /// The longest stall.
    pub stall: Duration,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            base: Duration::from_micros(80),
            spread: Duration::from_micros(400),
            stalls: 0,
            stall: Duration::from_secs(1),
        }
    }
}

/// What a crash did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Bytes that were written or being written, not synced, and are gone.
    pub bytes_lost: u64,
    /// Bytes that were not synced and survived.
    pub bytes_kept: u64,
    /// Operations that were under way.
    pub torn: u64,
}

/// The image that survives the member's process. Shared by the world and the running member.
pub struct SimDisk {
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    latency: Latency,
    slowdown: u32,
    capacity: u64,
    names: BTreeMap<FileName, u64>,
    files: BTreeMap<u64, File>,
    file_next: u64,
    /// Counts operations begun and finished, so that a sync knows which writes came before it.
    step: u64,
    pending: BTreeMap<Token, Pending>,
    /// Operations that may still be performed before the power goes.
    fuse: Option<u64>,
    cut: bool,
}

struct Pending {
    op: DiskOp,
    begun: u64,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// For each sector that is not durable: the contents it had before each of its unsynced writes,
    /// with the step of that write, oldest first.
    undo: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
    /// The length that is durable.
    len_durable: u64,
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub fn new(rng: Rng, latency: Latency, capacity: u64) -> SimDisk {
        let state = State {
            rng,
            latency,
            slowdown: 1,
            capacity,
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            file_next: 0,
            step: 0,
            pending: BTreeMap::new(),
            fuse: None,
            cut: false,
        };
        SimDisk { state: Mutex::new(state) }
    }

    /// Takes an order and says how long it will take; [`SimDisk::finish`] then performs it.
    pub fn begin(&self, token: Token, op: DiskOp) -> Duration {
        let mut state = self.lock();
        let begun = state.tick();
        let twin = state.pending.insert(token, Pending { op: op.made(), begun });
        assert!(twin.is_none(), "{token:?} names two operations that are under way");
        state.draw_latency()
    }

    /// Performs an order begun earlier; `None` when a crash took it away.
    pub fn finish(&self, token: Token) -> Option<Completion> {
        let mut state = self.lock();
        let pending = state.pending.remove(&token)?;
        let result = state.perform(pending.op, pending.begun);
        Some(Completion { token, result })
    }

    /// Whether an operation that writes is under way: the best time for a power cut.
    pub fn is_writing(&self) -> bool {
        self.lock().pending.values().any(|pending| !matches!(pending.op, DiskOp::Read { .. }))
    }

    /// The power goes: what is not durable is kept or lost, sector by sector.
    pub fn crash(&self) -> Loss {
        let mut state = self.lock();
        let mut loss = Loss::default();
        for (_, pending) in std::mem::take(&mut state.pending) {
            loss.torn += 1;
            state.tear(pending.op, &mut loss);
        }
        state.lose_unsynced(&mut loss);
        state.fuse = None;
        state.cut = false;
        loss
    }

    /// The process is killed but the machine stays up: orders under way are performed or not, and what
    /// was written stays written, durable or not.
    pub fn kill(&self) -> Loss {
        let mut state = self.lock();
        let mut loss = Loss::default();
        for (_, pending) in std::mem::take(&mut state.pending) {
            loss.torn += 1;
            state.tear(pending.op, &mut loss);
        }
        state.fuse = None;
        state.cut = false;
        loss
    }

    /// The power goes after `operations` more blocking operations: they fail from then on.
    pub fn cut_after(&self, operations: u64) {
        self.lock().fuse = Some(operations);
    }

    /// Whether the fuse of [`SimDisk::cut_after`] has blown.
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Makes every operation `factor` times as slow; 1 is normal.
    pub fn set_slowdown(&self, factor: u32) {
        self.lock().slowdown = factor.max(1);
    }

    /// From now on there are no stalls.
    pub fn set_calm(&self) {
        self.lock().latency.stalls = 0;
    }

    /// Sets how many bytes fit; what is there stays.
    pub fn set_capacity(&self, capacity: u64) {
        self.lock().capacity = capacity;
    }

    /// Bytes in files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Turns one bit of a durable file over: for tests that want rot.
    pub fn flip_bit(&self, file: &FileName, offset: u64) -> bool {
        let mut state = self.lock();
        let Some(id) = state.names.get(file).copied() else { return false };
        let bytes = &mut state.files.get_mut(&id).expect("every name has its file").bytes;
        match bytes.get_mut(offset as usize) {
            Some(byte) => {
                *byte ^= 1;
                true
            }
            None => false,
        }
    }

    /// A checksum of everything that can be read: for comparing two runs.
    pub fn digest(&self) -> u32 {
        let state = self.lock();
        let mut hasher = crc32fast::Hasher::new();
        for (name, id) in &state.names {
            hasher.update(name.0.as_bytes());
            hasher.update(&state.files[id].bytes);
        }
        hasher.finalize()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Disk for SimDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>> {
        let mut state = self.lock();
        state.burn_fuse()?;
        let named = state.names.iter().filter(|(name, _)| name.folder() == folder);
        Ok(named.map(|(name, id)| (name.clone(), state.files[id].bytes.len() as u64)).collect())
    }

    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.burn_fuse()?;
        state.read(file, offset, into)
    }

    fn perform(&self, op: DiskOp) -> io::Result<Done> {
        let op = op.made();
        let mut state = self.lock();
        let begun = state.tick();
        if let Err(error) = state.burn_fuse() {
            // The operation during which the power goes is under way for ever.
            let number = u64::MAX - begun;
            let token = Token { owner: holdfast_storage::disk::Owner::Engine, number };
            state.pending.insert(token, Pending { op, begun });
            return Err(error);
        }
        state.perform(op, begun)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let state = self.lock();
        Ok((state.capacity.saturating_sub(state.used()), state.capacity))
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].bytes.len() as u64).sum()
    }

    fn burn_fuse(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => self.cut = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if self.cut { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn draw_latency(&mut self) -> Duration {
        let spread = self.rng.below(self.latency.spread.as_nanos() as u64 + 1);
        let mut total = (self.latency.base + Duration::from_nanos(spread)) * self.slowdown;
        if self.rng.below(10_000) < self.latency.stalls {
            let stall = self.latency.stall.as_nanos() as u64;
            total += Duration::from_nanos(self.rng.between(stall / 100, stall));
        }
        total
    }

    fn file(&mut self, name: &FileName) -> io::Result<&mut File> {
        let id = self.names.get(name).ok_or_else(|| not_found(name))?;
        Ok(self.files.get_mut(id).expect("every name has its file"))
    }

    fn read(&mut self, name: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.file(name)?;
        let start = offset as usize;
        let Some(bytes) = file.bytes.get(start..start.saturating_add(into.len())) else {
            let what = format!("{name} ends at {} before {start}+{}", file.bytes.len(), into.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        };
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn perform(&mut self, op: DiskOp, begun: u64) -> io::Result<Done> {
        let mut done = Done::default();
        match op {
            DiskOp::Create { file, len } => self.create(&file, len)?,
            DiskOp::Write { file, parts, sync } => {
                let own = self.write(&file, &parts)?;
                if sync {
                    self.file(&file)?.sync(begun, own);
                }
                done.buffers = parts.into_iter().map(|(_, buffer)| buffer).collect();
            }
            DiskOp::Rename { from, to } => {
                let id = self.names.remove(&from).ok_or_else(|| not_found(&from))?;
                if let Some(replaced) = self.names.insert(to, id) {
                    self.files.remove(&replaced);
                }
            }
            DiskOp::Remove { file } => self.remove(&file),
            DiskOp::Read { file, offset, len } => {
                done.data = vec![0; len];
                self.read(&file, offset, &mut done.data)?;
            }
            DiskOp::Make(_) => unreachable!("it is made"),
        }
        Ok(done)
    }

    fn create(&mut self, name: &FileName, len: u64) -> io::Result<()> {
        if self.names.contains_key(name) {
            let what = format!("{name} exists");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        self.reserve(len)?;
        let file = File { bytes: vec![0; len as usize], len_durable: len, ..File::default() };
        self.file_next += 1;
        self.names.insert(name.clone(), self.file_next);
        self.files.insert(self.file_next, file);
        Ok(())
    }

    fn remove(&mut self, name: &FileName) {
        if let Some(id) = self.names.remove(name) {
            self.files.remove(&id);
        }
    }

    fn reserve(&self, more: u64) -> io::Result<()> {
        if self.used() + more > self.capacity {
            let what = format!("{} of {} bytes are in use", self.used(), self.capacity);
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        Ok(())
    }

    fn write(&mut self, name: &FileName, parts: &[(u64, Buffer)]) -> io::Result<u64> {
        let step = self.tick();
        let len = self.file(name)?.bytes.len() as u64;
        let end = parts.iter().map(|(at, part)| at + part.len() as u64).max().unwrap_or(0);
        self.reserve(end.saturating_sub(len))?;
        let file = self.file(name)?;
        for (offset, part) in parts {
            for (i, sector) in part.chunks(SECTOR).enumerate() {
                file.write_sector(*offset as usize / SECTOR + i, sector, step);
            }
        }
        Ok(step)
    }

    /// An operation under way when the power goes: each sector, each name, is old or new.
    fn tear(&mut self, op: DiskOp, loss: &mut Loss) {
        match op {
            DiskOp::Write { file, parts, .. } => self.tear_write(&file, &parts, loss),
            DiskOp::Create { file, len } => {
                if self.rng.chance(50) {
                    // The name may be there with any length, since nothing said it was complete.
                    let blocks = len / SECTOR as u64;
                    let kept = self.rng.between(0, blocks) * SECTOR as u64;
                    let _ = self.create(&file, kept);
                }
            }
            DiskOp::Rename { .. } | DiskOp::Remove { .. } => {
                if self.rng.chance(50) {
                    let step = self.tick();
                    let _ = self.perform(op, step);
                }
            }
            DiskOp::Read { .. } => {}
            DiskOp::Make(_) => unreachable!("it is made"),
        }
    }

    fn tear_write(&mut self, name: &FileName, parts: &[(u64, Buffer)], loss: &mut Loss) {
        let step = self.tick();
        for (offset, part) in parts {
            for (i, sector) in part.chunks(SECTOR).enumerate() {
                if self.rng.chance(50) {
                    loss.bytes_lost += sector.len() as u64;
                    continue;
                }
                let Ok(file) = self.file(name) else { return };
                file.write_sector(*offset as usize / SECTOR + i, sector, step);
            }
        }
    }

    fn lose_unsynced(&mut self, loss: &mut Loss) {
        for file in self.files.values_mut() {
            for (sector, versions) in std::mem::take(&mut file.undo) {
                // Any of the versions since the last sync may be what the medium holds.
                let kept = self.rng.below(versions.len() as u64 + 1) as usize;
                match versions.into_iter().nth(kept) {
                    Some((_, old)) => {
                        loss.bytes_lost += SECTOR as u64;
                        file.put_sector(sector, &old);
                    }
                    None => loss.bytes_kept += SECTOR as u64,
                }
            }
            if (file.bytes.len() as u64) > file.len_durable && self.rng.chance(50) {
                let len = self.rng.between(file.len_durable, file.bytes.len() as u64);
                file.bytes.truncate(len as usize / SECTOR * SECTOR);
            }
            file.len_durable = file.bytes.len() as u64;
        }
    }
}

impl File {
    fn write_sector(&mut self, sector: usize, bytes: &[u8], step: u64) {
        let start = sector * SECTOR;
        if self.bytes.len() < start + SECTOR {
            self.bytes.resize(start + SECTOR, 0);
        }
        let old = self.bytes[start..start + SECTOR].to_vec();
        self.undo.entry(sector).or_default().push((step, old));
        self.put_sector(sector, bytes);
    }

    fn put_sector(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        if let Some(place) = self.bytes.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// A sync issued at `begun` succeeded: writes that had completed by then, or belong to the same
    /// operation (step `own`), are durable.
    fn sync(&mut self, begun: u64, own: u64) {
        self.undo.retain(|_, versions| {
            versions.retain(|(step, _)| *step > begun && *step != own);
            !versions.is_empty()
        });
        self.len_durable = self.bytes.len() as u64;
    }
}

fn not_found(name: &FileName) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {name}"))
}
