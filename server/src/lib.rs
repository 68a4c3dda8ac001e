//! The process: configuration, identity, logs, metrics, health.

pub mod config;
pub mod datadir;
pub mod http;
pub mod identity;
pub mod logging;
pub mod metrics;
