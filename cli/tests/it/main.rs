//! The real binary: what it says, what it exits with, and what it leaves behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests")]

mod bad_input;
mod crash;
mod demo;
mod keys;
mod proxy;
mod settings;
mod shutdown;
mod support;
