//! Tests of the binary: real processes on this machine, driven by gRPC clients made from our own .proto
//! files.
//!
//! The kill test's modules are those of the program `holdfast-jepsen`, which runs it at length; only
//! tests of this package learn the binary's path, so its short version lives here.

#[path = "../../../jepsen/src/client.rs"]
mod client;
#[path = "../../../jepsen/src/dice.rs"]
mod dice;
#[path = "../../../jepsen/src/history.rs"]
mod history;
#[path = "../../../jepsen/src/kill.rs"]
mod kill;
#[expect(dead_code, reason = "the panic hook of the program uses the rest")]
#[path = "../../../jepsen/src/member.rs"]
mod member;
#[path = "../../../jepsen/src/verdict.rs"]
mod verdict;
#[path = "../../../jepsen/src/worker.rs"]
mod worker;

mod commands;
mod disk_driver;
mod edges;
mod faults;
mod flags;
mod hostile;
mod keys;
mod members;
mod memory;
mod rig;
mod services;
mod short_kill;
mod streams;
mod users;

use holdfast_net::proto;
