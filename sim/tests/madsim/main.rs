//! The second layer of simulation: whole members over madsim.
//!
//! Three nodes run the shipped [`Member`](holdfast_server::member::Member): driver, sessions, peer
//! links and the real gRPC transport, on simulated disks, network and drifting clocks. Clients
//! speak real HTTP/2 and gRPC over the simulated network. The leader is lost again and again under
//! an open watch, a lease that is being renewed and puts in flight; see `world.rs` for a round and
//! `history.rs` for the laws.
//!
//! This layer is for sessions, streams and reconnects. Consensus and storage are tried out far
//! harder by the event-loop simulator, which has every fault of the catalogue.
//!
//! `MADSIM_SEEDS=17..18 cargo test -p holdfast-sim --test madsim worlds` replays a seed.
//!
//! Laws:
//!  1. A run with no seeds fails, and so does a build without `--cfg madsim`.
//!  2. The same seed leaves the same trace, on any thread.

#[cfg(madsim)]
mod client;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod disk;
#[cfg(madsim)]
mod gate;
#[cfg(madsim)]
mod history;
#[cfg(madsim)]
mod runtime;
#[cfg(madsim)]
mod shared;
#[cfg(madsim)]
mod streams;
#[cfg(madsim)]
mod workload;
#[cfg(madsim)]
mod world;

#[cfg(not(madsim))]
#[test]
fn madsim_is_missing() {
    panic!(
        "the madsim worlds were built without `--cfg madsim`, so none of them ran. \
         .cargo/config.toml sets it; a RUSTFLAGS variable, or rustflags in your own cargo \
         configuration, replace that: unset RUSTFLAGS, or add `--cfg madsim` to it"
    );
}
