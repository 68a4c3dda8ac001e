//! The gRPC server against real HTTP/2 clients and raw bytes, over in-memory pipes.
//!
//! `world` has the services under test (each behaviour named by a method of etcd), `calls` what
//! honest clients do, `hostile` what others do. `twin` does so at random; `cost` measures and is ignored by default.

mod calls;
mod cost;
mod hostile;
mod twin;
mod world;
