//! Everything between the core and the bytes on a disk: log, key tree, value segments, checkpoints,
//! recovery. Pure state machines that emit [`disk::DiskOp`]s, over [`disk::Disk`].

pub mod disk;
pub mod tree;
pub mod wal;
