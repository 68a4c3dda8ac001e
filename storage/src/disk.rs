//! The disk, as everything above it sees it.
//!
//! [`Disk`] performs one operation at a time and blocks; whoever must not block hands a [`DiskOp`] to
//! a [`DiskQueue`] instead and gets a [`Completion`] later, in any order. Operations on the same file that depend on each
//! other must therefore wait for each other's completion; [`DiskOp::Write`] with `sync` is one
//! operation, so that a log batch costs one round trip.
//!
//! Files are named by a path relative to the member's directory, of the form `folder/name`, of ASCII letters,
//! digits, `.`, `-`. The real disk, the pool, the ring and the simulated disk pass one
//! conformance suite.
//!
//! Laws:
//!  1. What is written is durable only after a sync of its file that was issued after the write had
//!     completed (or by the same operation) and itself succeeded. What a write without `sync` wrote
//!     needs a sync of its own: a later write's may cover its own parts alone.
//!  2. A created, renamed or removed name is durable only after a sync of its folder.
//!  3. A failed sync says nothing about any byte written since the last good one: never retry it.
//!  4. A read returns what was last written, durable or not.

use std::io;
use std::sync::Arc;

mod buffer;
mod conformance;
mod file;
mod memory;
mod pool;
#[cfg(test)]
mod queues;
#[cfg(test)]
pub(crate) mod scratch;
#[cfg(target_os = "linux")]
mod uring;

pub use buffer::Buffer;
pub use conformance::conformance;
pub use file::{FileDisk, FileOptions};
pub use memory::{Image, MemoryDisk};
pub use pool::Pool;
#[cfg(target_os = "linux")]
pub use uring::Uring;

/// The unit of alignment of everything this crate writes, in bytes.
pub const BLOCK: usize = 4096;

/// A file of the member, by its path below the member's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(pub Arc<str>);

impl FileName {
    /// The file `name` of `folder`.
    pub fn new(folder: &str, name: &str) -> FileName {
        FileName(format!("{folder}/{name}").into())
    }

    /// The folder part.
    pub fn folder(&self) -> &str {
        self.0.split_once('/').map_or("", |(folder, _)| folder)
    }

    /// The part after the folder.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One order to the disk.
#[derive(Debug)]
pub enum DiskOp {
    /// Makes a new file of `len` zero bytes, really written and not merely reserved (a flush into
    /// reserved blocks costs twice), synced, its name synced too. Fails if the file exists.
    Create {
        /// Which file.
        file: FileName,
        /// Its length, a multiple of [`BLOCK`].
        len: u64,
    },
    /// Writes every part, in any order, and then syncs the file if told to: these parts for certain,
    /// earlier operations' parts not on every queue. A part is [`BLOCK`]-aligned
    /// in offset and length. Past the end the file grows.
    Write {
        /// Which file; it exists.
        file: FileName,
        /// Offsets and bytes.
        parts: Vec<(u64, Buffer)>,
        /// Make it durable before completing.
        sync: bool,
    },
    /// Gives a file another name, replacing what had it, and syncs the folder (one folder).
    Rename {
        /// The present name.
        from: FileName,
        /// The new one, in the same folder.
        to: FileName,
    },
    /// Removes a file and syncs its folder. A missing file is not an error.
    Remove {
        /// Which file.
        file: FileName,
    },
    /// Reads bytes that a caller on the serving path does not want to wait for.
    Read {
        /// Which file.
        file: FileName,
        /// From where.
        offset: u64,
        /// How many bytes; fewer are an error of kind `UnexpectedEof`.
        len: usize,
    },
    /// An order whose bytes take a while to make: they are made where it is performed.
    Make(Job),
}

impl DiskOp {
    /// The order itself: what performs orders calls this first.
    pub fn made(self) -> DiskOp {
        match self {
            DiskOp::Make(Job(make)) => make().made(),
            op => op,
        }
    }

    /// The file, as far as it is known; of a rename the present name.
    pub fn file(&self) -> Option<&FileName> {
        match self {
            DiskOp::Create { file, .. }
            | DiskOp::Write { file, .. }
            | DiskOp::Rename { from: file, .. }
            | DiskOp::Remove { file }
            | DiskOp::Read { file, .. } => Some(file),
            DiskOp::Make(_) => None,
        }
    }
}

/// Makes an order on the thread that performs it.
pub struct Job(Box<dyn FnOnce() -> DiskOp + Send>);

impl Job {
    /// `make` must not wait for anything that its submitter does.
    pub fn new(make: impl FnOnce() -> DiskOp + Send + 'static) -> Job {
        Job(Box::new(make))
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// Names an order until it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Whose order it is.
    pub owner: Owner,
    /// The owner's number for it.
    pub number: u64,
}

/// The parts of a member that give orders to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The write-ahead log.
    Wal,
    /// The engine: checkpoints, purging, staging.
    Engine,
}

/// The end of an order: the bytes of a `Read`, and the buffers of a `Write` for use again.
#[derive(Debug)]
pub struct Completion {
    /// Which order.
    pub token: Token,
    /// What came of it.
    pub result: io::Result<Done>,
}

/// What a completed order leaves behind.
#[derive(Debug, Default)]
pub struct Done {
    /// The bytes of a `Read`.
    pub data: Vec<u8>,
    /// The buffers of a `Write`.
    pub buffers: Vec<Buffer>,
}

/// A disk that performs operations one at a time, blocking. Shared by every part of a member.
pub trait Disk: Send + Sync {
    /// The files of a folder and their lengths, in name order. A missing folder is empty.
    fn list(&self, folder: &str) -> io::Result<Vec<(FileName, u64)>>;

    /// Fills `into` from `offset` on; a shorter file is an error of kind `UnexpectedEof`.
    fn read(&self, file: &FileName, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Performs one order.
    fn perform(&self, op: DiskOp) -> io::Result<Done>;

    /// Free and total bytes of the file system.
    fn space(&self) -> io::Result<(u64, u64)>;
}

/// Carries disk orders out somewhere else, and wakes its owner when one has ended.
pub trait DiskQueue {
    /// Takes an order. Its completion carries the same token.
    fn submit(&self, token: Token, op: DiskOp);

    /// Starts what was submitted since the last call. Queues that start an order when they take it
    /// have nothing to do here.
    fn kick(&self) {}

    /// Adds what has completed since the last call.
    fn reap(&self, into: &mut Vec<Completion>);
}
