//! stub

/// The wire: client stubs for programs that test real processes.
pub use holdfast_net as net;
