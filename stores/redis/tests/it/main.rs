//! Tests of `semel-store-redis` from outside, on a server of one's own or the one at 127.0.0.1:6379.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

mod laws;
mod shared;
mod support;
