//! The worlds in which Holdfast is tried out: faults, workloads, an oracle, checkers, a shrinker.
//!
//! The event-loop simulator runs the shipped core, log, engine, watch streams, peer codec and driver
//! in one thread over a heap of events, and owns time, randomness, network, disks and clocks. In a
//! quarter of the seeds clients reach it through the shipped HTTP/2 transport and services, over pipes
//! of bytes that break anywhere; in the others they speak to the edge.

pub mod caller;
pub mod checker;
pub mod clock;
pub mod disk;
pub mod history;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod nemesis;
pub mod network;
pub mod pair;
pub mod pipe;
pub mod report;
pub mod shrink;
pub mod swarm;
pub mod watchdog;
pub mod wire;
pub mod workload;
pub mod world;

/// The wire: client stubs for programs that test real processes.
pub use holdfast_net as net;
