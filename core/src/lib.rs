//! The replicated state machine of Holdfast: consensus, MVCC, transactions, watch, leases.
//!
//! One function drives it, [`node::Node::step`]: facts in, orders out. It does no I/O, reads no
//! clock, starts no thread and draws no entropy, so the same code runs under a real server and under a
//! simulator that owns time, network and disk.

pub mod alarm;
pub mod arena;
pub mod ascending;
pub mod audit;
pub mod auth;
pub mod codec;
pub mod command;
pub mod compactor;
pub mod entry;
pub mod fact;
pub mod hash;
pub mod id;
pub mod input;
pub mod inspector;
pub mod kv;
pub mod lessor;
pub mod limits;
pub mod machine;
pub mod membership;
pub mod memory;
pub mod message;
pub mod mutant;
pub mod mvcc;
pub mod node;
pub mod output;
pub mod query;
pub mod raft;
pub mod rejection;
pub mod request;
pub mod response;
pub mod rng;
pub mod status;
pub mod store;
pub mod time;
pub mod watch;
