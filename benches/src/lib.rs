//! A load generator for servers that speak etcd's API, the comparison of costs with real etcd made with it, and the
//! comparison of answers.
//!
//! Leaves out TLS.

pub mod compare;
pub mod loadgen;
pub mod twin;
