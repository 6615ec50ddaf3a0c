//! The tower host, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod answers;
mod axum_host;
mod bodies;
mod extract;
mod fields;
mod hyper_host;
mod layers;
mod order;
mod runs;
mod service;
mod steps;
mod support;
mod traces;
mod untouched;
