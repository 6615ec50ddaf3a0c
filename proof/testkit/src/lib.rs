//! Servers, fault proxies and awkward upstreams for Semel's own tests.

pub mod upstream;
pub mod wire;
