//! A load generator for servers that speak etcd's API, and what the benchmark programs share.
//!
//! Leaves out: open loops with a fixed rate, watches, leases, and mixed workloads.

pub mod loadgen;
