//! How a seed's clients reach their members: most seeds let them speak to the edge, a quarter has the
//! shipped transport and services in between, over pipes of bytes.
//!
//! Every bound of a connection is drawn small enough, now and then, that honest clients meet it: output
//! that is full while requests come in, streams that are full, windows of a few bytes.

use std::time::Duration;

use holdfast_core::rng::Rng;
use holdfast_net::http2::{Http2Options, KeepaliveOptions, Rate};

use super::pick;

/// See the module. Shares are in percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportMix {
    /// Processes that the clients live in: those of one process share its connections.
    pub hosts: usize,
    /// Watching clients have a process of their own.
    pub apart: bool,
    /// Bytes in one direction of a connection at a time.
    pub pipe_bytes: usize,
    /// Bytes that travel together.
    pub piece_max: usize,
    /// The window that clients announce.
    pub window: u32,
    /// What they let a connection's window grow to again.
    pub connection: u32,
    /// Connections whose clients read slowly.
    pub slow: u64,
    /// Frames that are padded or cut.
    pub odd: u64,
    /// Requests that are cancelled when their client's patience ends; the others stay open.
    pub cancel: u64,
    /// Requests with a deadline of their own.
    pub deadline: u64,
    /// Connections that break after some bytes.
    pub cut: u64,
    /// The mean time between two hostile clients, if there are any.
    pub hostile: Option<Duration>,
    /// Unsent bytes at which a stream is full.
    pub stream_bytes_max: usize,
    /// The members' bounds.
    pub options: Http2Options,
}

/// A quarter of the seeds has one.
pub(super) fn draw(mut rng: Rng) -> Option<TransportMix> {
    if !rng.chance(25) {
        return None;
    }
    let rng = &mut rng;
    Some(TransportMix {
        hosts: rng.between(1, 3) as usize,
        apart: rng.chance(60),
        pipe_bytes: *pick(rng, &[256 << 10, 64 << 10, 16 << 10, 3_000]),
        piece_max: *pick(rng, &[64 << 10, 16 << 10, 1_460, 300]),
        window: *pick(rng, &[1 << 20, 65_535, 16_384, 1_000, 100, 0]),
        connection: *pick(rng, &[65_535, 65_535, 4_000, 800]),
        slow: *pick(rng, &[0, 0, 20, 60]),
        odd: *pick(rng, &[0, 5, 30]),
        cancel: *pick(rng, &[0, 50, 100]),
        deadline: *pick(rng, &[0, 10, 30]),
        cut: *pick(rng, &[0, 20, 50]),
        hostile: rng.chance(60).then(|| Duration::from_millis(rng.between(800, 6_000))),
        stream_bytes_max: *pick(rng, &[1 << 20, 64 << 10, 4 << 10, 300]),
        options: draw_options(rng),
    })
}

fn draw_options(rng: &mut Rng) -> Http2Options {
    let keepalive = KeepaliveOptions {
        interval: Duration::from_secs(rng.between(2, 20)),
        timeout: Duration::from_secs(rng.between(4, 10)),
    };
    Http2Options {
        concurrent_streams_max: *pick(rng, &[u32::MAX, u32::MAX, 100, 16]),
        stream_window: *pick(rng, &[1 << 20, 65_535]),
        connection_window: *pick(rng, &[16 << 20, 65_535]),
        unfinished_bytes_max: *pick(rng, &[64 << 20, 1 << 20]),
        unsent_bytes_max: *pick(rng, &[64 << 20, 256 << 10]),
        output_bytes_max: *pick(rng, &[256 << 10, 8 << 10, 1_000, 400]),
        cancels: Rate { burst: 1_000, per_second: 200 },
        idle_frames: Rate { burst: 1_000, per_second: 200 },
        handshake_timeout: Duration::from_secs(rng.between(15, 20)),
        drain_timeout: Duration::from_millis(rng.between(500, 5_000)),
        keepalive: rng.chance(60).then_some(keepalive),
        keepalive_min: Duration::from_secs(*pick(rng, &[5, 1])),
        ..Http2Options::default()
    }
}
