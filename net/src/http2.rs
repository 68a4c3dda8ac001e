//! HTTP/2 and gRPC on the server's side, as a pure state machine: [`Connection`].
//!
//! Strict by RFC 9113 and RFC 7541, bounded against hostile clients by [`Http2Options`], and nothing
//! but bytes, replies and instants go in: the same code serves sockets and simulations.
//!
//! ```text
//!  frame      heads and payloads              hpack, field, head   header blocks to calls
//!  slab       open streams                    inbox, piece         gRPC's messages in and out
//!  police     how often a client may what     keepalive            is the client still there
//!  outbox     the output buffer               connection           all of it together
//! ```
//!
//! What it costs, measured on bytes in memory with services that answer at once, a put of 280 bytes a
//! call, on two shared cores (`cargo bench -p holdfast-benches --bench http2`):
//!
//! ```text
//!  calls in one read     1        16       64
//!  this engine           0.34     0.32     0.34 us a call
//!  the h2 crate          3.1      3.1      3.0  us a call
//! ```
//!
//! What holds it to the rules: the scripts of `tests/scripts/http2`, one behaviour each; the `h2` crate
//! as a random client (`tests/grpc/twin.rs`); the fuzz target `http2`; the simulator, whose clients have an
//! HTTP/2 of their own; and h2spec, all of whose 145 cases pass (CONTRIBUTING.md has the command).
//!
//! Its requests are not gRPC's; those have answers with a body, which the flow control cases need.
//!
//! Leaves out sockets, tasks and timers ([`crate::grpc`]), TLS, and what is called ([`crate::call`]).

mod connection;
mod field;
mod frame;
mod fuzz;
#[cfg(test)]
mod golden;
mod head;
mod hpack;
mod inbox;
mod keepalive;
mod options;
mod outbox;
mod piece;
mod police;
mod slab;

pub use connection::{Broken, Connection, End, Names, Taken};
pub use frame::Reason;
pub use fuzz::fuzz_http2;
pub use keepalive::KeepaliveOptions;
pub use options::Http2Options;
pub use police::Rate;
