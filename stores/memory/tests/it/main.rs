//! What the memory store promises beyond the laws of every store: its bounds and its clock.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail as the test does")]

mod bounds;
mod clock;
mod common;
mod laws;
