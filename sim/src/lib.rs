//! The worlds in which Holdfast is tried out: faults, workloads, an oracle, checkers, a shrinker.
//!
//! The event-loop simulator runs the shipped core, log, engine, watch streams, peer codec and driver
//! in one thread over a heap of events, and owns time, randomness, network, disks and clocks.

pub mod checker;
pub mod clock;
pub mod disk;
pub mod history;
pub mod model;
pub mod nemesis;
pub mod network;
pub mod pair;
pub mod report;
pub mod shrink;
pub mod swarm;
pub mod watchdog;
pub mod workload;
pub mod world;

/// The wire: client stubs for programs that test real processes.
pub use holdfast_net as net;
