//! The gRPC server against real HTTP/2 clients and raw bytes, over in-memory pipes.
//!
//! `world` has the services under test (each behaviour named by a method of etcd), `calls` what
//! honest clients do, `hostile` what others do, and `twin` compares random ones. What a call costs is
//! measured by `benches/benches/grpc.rs`.

mod calls;
mod hostile;
mod twin;
mod world;
