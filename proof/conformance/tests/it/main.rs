//! The tests of the tests: each law fails over a store that breaks it, and over no other.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod breaks;
mod broken;
mod recorded;
mod searches;
