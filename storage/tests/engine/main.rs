//! The engine against its dumb twin: random batches, checkpoints, crashes, snapshots between members.

mod crash;
mod crash_disk;
mod damage;
mod rig;
mod transfer;
mod twin;
