//! The real binary: what it says, what it exits with, and what it leaves behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests")]

mod bad_input;
mod crash;
mod demo;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod doctor;
mod keys;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod keys_on_servers;
#[cfg(feature = "layers")]
mod layers;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod migrate;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod opening;
mod proxy;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod servers;
mod settings;
mod shutdown;
mod support;
