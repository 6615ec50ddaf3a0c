//! Tests of `semel-store-sqlite` from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod crash;
mod file;
mod laws;
mod room;
mod support;
mod within;
