//! The engine against its dumb twin: random batches, checkpoints, crashes, snapshots between
//! members.

mod crash;
mod crash_disk;
mod damage;
#[cfg(feature = "mutants")]
mod mutants;
mod real;
mod rig;
mod transfer;
mod twin;
