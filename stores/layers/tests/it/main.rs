//! What the layers keep, and what they change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compressed;
mod guarded;
mod laws;
mod order;
mod roundtrip;
mod sealed;
mod support;
mod tiered;
