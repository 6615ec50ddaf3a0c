//! The tower host, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod axum_host;
mod bodies;
mod extract;
mod fields;
mod hyper_host;
mod layers;
mod runs;
mod service;
mod support;
mod untouched;
