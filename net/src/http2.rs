//! HTTP/2 + gRPC engine.

mod field;
mod hpack;
