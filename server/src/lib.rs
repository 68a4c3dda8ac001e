//! The process around core and storage: the driver's loop, sessions, peers; configuration, logs,
//! metrics, health.

pub mod backup;
pub mod boot;
pub mod config;
pub mod ctl;
pub mod datadir;
pub mod disk_driver;
pub mod driver;
pub mod edge;
pub mod errand;
pub mod host;
pub mod http;
pub mod identity;
pub mod launch;
pub mod logging;
pub mod member;
pub mod metrics;
pub mod observer;
pub mod peers;
pub mod probe;
pub mod process;
pub mod runtime;
pub mod session;
pub mod tokio_runtime;
pub mod worker;
