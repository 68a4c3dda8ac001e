//! The process: configuration, identity, logs, metrics, health.

pub mod config;
pub mod identity;
pub mod logging;
