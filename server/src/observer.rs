//! Who is told what happens in a member: logs and metrics in a process, a record in a simulation.

use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::status::Status;

/// Told at once, on the member's thread; must not wait.
pub trait Observer {
    /// After each turn of the driver.
    fn turned(&self, status: &Status, facts: &[Fact]);

    /// A write of the log has become durable: so many bytes, after so long.
    fn synced(&self, bytes: u64, took: Duration);

    /// Something an operator should read.
    fn warn(&self, message: &str);

    /// The member serves clients at these addresses.
    fn ready(&self, addresses: &[String]);
}
