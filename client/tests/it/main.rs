//! The machine by its table and its model, the shells over clients that fail as a test says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod model;
mod problems;
mod reqwest_shell;
mod support;
mod table;
mod tower_shell;
