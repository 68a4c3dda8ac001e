//! The log against its claims, on a disk in memory whose image can be torn and damaged.
//!
//! `world` is the harness and its naive twin, `crash` the random one, `scenes` single situations,
//! `damage` what must be noticed.

mod crash;
mod damage;
mod scenes;
mod world;
