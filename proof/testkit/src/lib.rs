//! Servers, fault proxies and awkward upstreams for Semel's own tests.

pub mod cable;
#[cfg(feature = "certificates")]
pub mod certificates;
pub mod client;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod mysql;
pub mod postgres;
pub mod program;
pub mod records;
pub mod running;
pub mod skip;
pub mod upstream;
pub mod wire;

pub use semel_conformance::faulty;
