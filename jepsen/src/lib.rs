//! Real processes under faults, and clients that remember what they were told.
//!
//! The program `holdfast-jepsen` runs the long tests; `cargo test` runs short ones over the same modules
//! (`server/tests/process`, which is where the binary's path is known).

pub mod client;
pub mod dice;
pub mod history;
pub mod kill;
pub mod member;
pub mod verdict;
pub mod worker;

pub use holdfast_sim::net::proto;
