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
