//! The process around core and storage: the driver's loop, sessions, peers, configuration, logs.

pub mod boot;
pub mod driver;
pub mod edge;
pub mod host;
pub mod member;
pub mod observer;
pub mod peers;
pub mod process;
pub mod runtime;
pub mod session;
pub mod tokio_runtime;
pub mod worker;
