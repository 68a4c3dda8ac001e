//! A load generator for servers that speak etcd's API, and the comparison with real etcd made with it.
//!
//! Leaves out TLS and users.

pub mod compare;
pub mod loadgen;
