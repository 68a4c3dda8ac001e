//! The client's end of the wire: requests to bytes, and bytes of the server to frames and answers.
//!
//! Written for the simulator alone and sharing no line with `net`, so that what both sides of a call
//! understand is not one mistake made twice. Strict where a client may be: a frame, a header block or a
//! message that is not exactly as its specification wants it is a breach, told as a sentence.
//!
//! ```text
//!  protobuf   fields, both ways          hpack, huffman   header blocks, both ways
//!  request    queries to messages        frame            frames, both ways
//!  answer     messages to answers
//! ```
//!
//! Leaves out connections, windows and streams ([`crate::caller`]).
//!
//! Worked example: `Query::LeaseRevoke { id: 7 }` is the message `08 07` for
//! `/etcdserverpb.Lease/LeaseRevoke`, and behind it the number of its request in the run, in a field
//! that the server does not know and skips.

pub mod answer;
mod auth;
pub mod frame;
pub mod hpack;
mod huffman;
pub mod protobuf;
pub mod request;

/// A way in which a server may break the protocol.
pub type Breach = String;
