//! The Rocket host, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod answers;
mod around;
mod handlers;
mod lacks;
mod methods;
mod runs;
mod support;
