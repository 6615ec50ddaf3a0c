//! The PostgreSQL store against a real server.
//!
//! Each test has a schema or a database of its own on the server that `SEMEL_TEST_POSTGRES` names, by default
//! `postgres://postgres@127.0.0.1:5432/postgres`, as a superuser.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed test says where"
)]

mod crash;
mod laws;
mod open;
mod server;
mod shape;
mod shared;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod trips;
mod tx;
mod upgrade;
