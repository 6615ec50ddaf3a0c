//! The driver on a memory store: what a client sees, what runs, and what is recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod answers;
mod bodies;
mod bounds;
mod faults;
mod heartbeat;
mod lifecycle;
mod steps;
mod support;
mod transactions;
mod waiting;
