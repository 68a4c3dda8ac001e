//! etcd's surface on the wire, and what members say to each other: conversion and validation, no
//! decisions about data.

pub mod call;
pub mod grpc;
pub mod http2;
pub mod payload;
pub mod peer;
pub mod proto;
pub mod sniff;
pub mod wire;
