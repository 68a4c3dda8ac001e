//! Everything between the core and the bytes on a disk: log, key tree, value segments, checkpoints,
//! recovery. Pure state machines that emit [`disk::DiskOp`]s, over [`disk::Disk`].

mod checkpoint;
pub mod disk;
pub mod engine;
mod segment;
pub mod snapshot;
mod superblock;
mod transfer;
pub mod tree;
pub mod wal;
