//! The tower host, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod axum_host;
