//! Scenarios over every host, from outside: sockets in, effects counted at the application.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod app;
mod bodies;
mod client;
mod draft;
mod drills;
mod edges;
mod fixture;
mod grpc;
mod hosts;
mod proxy;
mod records;
mod retries;
mod table;
