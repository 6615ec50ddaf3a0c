//! Tests of the public interface of `semel-core`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "clippy sees tests, but not their helpers")]

mod codec;
mod engine;
mod fingerprints;
mod keys;
mod policy;
mod policy_page;
mod problems;
mod scopes;
mod transact;
