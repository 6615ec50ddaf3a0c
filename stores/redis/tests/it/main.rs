//! Tests of `semel-store-redis` from outside, on servers of its own and on the one at 127.0.0.1:6379.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod deployments;
mod drills;
mod failover;
mod laws;
mod preflight;
mod server;
mod shared;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod trips;
