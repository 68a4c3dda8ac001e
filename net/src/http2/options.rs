//! Bounds and periods of one connection.
//!
//! Leaves out the clock. Everything a client can make grow has its bound here; what is a number of the
//! format is with its frame.
//!
//! Worked example: with `output_bytes_max` of 256 KiB, a client that never reads costs that much and
//! what its streams may hold each; then nothing more is read from it.

use std::time::Duration;

use super::keepalive::KeepaliveOptions;
use super::police::Rate;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// Largest request message; etcd: `--max-request-bytes` and 512 KiB.
    pub recv_bytes_max: usize,
    /// `--max-concurrent-streams`; `u32::MAX` tells the client no limit.
    pub concurrent_streams_max: u32,
    /// Largest header list of a request, and a quarter of the largest header block.
    pub header_bytes_max: u32,
    /// What a client may send on one stream before it is read.
    pub stream_window: u32,
    /// Ditto, on all streams of a connection.
    pub connection_window: u32,
    /// A stream whose client reads slowly is full at this many unsent bytes.
    pub stream_bytes_max: usize,
    /// Bytes of requests that are not complete, and of the heads and slots of all open calls, on all
    /// streams of a connection.
    pub unfinished_bytes_max: usize,
    /// Unsent bytes of all streams, from which on no new call is taken.
    pub unsent_bytes_max: usize,
    /// Written bytes that wait for the socket, from which on nothing is read and no message written.
    pub output_bytes_max: usize,
    /// How often streams may be cancelled, by the client or for its errors, calls refused at once, and
    /// frames for them come late.
    pub cancels: Rate,
    /// How often frames may come that say nothing.
    pub idle_frames: Rate,
    /// How long a client may take to say that it speaks HTTP/2.
    pub handshake_timeout: Duration,
    /// How long open calls may take to end once the connection drains.
    pub drain_timeout: Duration,
    /// Pings to clients; `None` is none.
    pub keepalive: Option<KeepaliveOptions>,
    /// The least time between a client's pings (`--grpc-keepalive-min-time`).
    pub keepalive_min: Duration,
}

impl Default for Http2Options {
    /// etcd's where etcd has one.
    fn default() -> Http2Options {
        Http2Options {
            recv_bytes_max: 1_572_864 + (512 << 10),
            concurrent_streams_max: u32::MAX,
            header_bytes_max: 64 << 10,
            stream_window: 1 << 20,
            connection_window: 16 << 20,
            stream_bytes_max: 1 << 20,
            unfinished_bytes_max: 64 << 20,
            unsent_bytes_max: 64 << 20,
            output_bytes_max: 256 << 10,
            // One deadline can end very many honest calls at once, and a call that is cancelled costs
            // about what one that is answered costs: the rate only keeps a flood from being free.
            cancels: Rate { burst: 10_000, per_second: 5_000 },
            idle_frames: Rate { burst: 1_000, per_second: 100 },
            handshake_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
            keepalive: Some(KeepaliveOptions {
                interval: Duration::from_secs(2 * 3600),
                timeout: Duration::from_secs(20),
            }),
            keepalive_min: Duration::from_secs(5),
        }
    }
}
