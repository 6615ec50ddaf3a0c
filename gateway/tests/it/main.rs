//! The gateway between real sockets. What happened is counted at the upstream, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails like the test")]

mod admin;
mod bodies;
mod dispatch;
mod fields;
mod guarded;
mod http2;
mod lifecycle;
mod smuggling;
mod support;
mod upgrade;
