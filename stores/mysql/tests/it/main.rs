//! The MySQL store against a real MariaDB.
//!
//! Each test has a database of its own on the server that `SEMEL_TEST_MYSQL` names, by default
//! `mysql://root@127.0.0.1:3306`, as a user who may make databases and users.

#![expect(clippy::unwrap_used, reason = "a failed test says where")]

mod crash;
mod laws;
mod open;
mod shape;
mod shared;
mod support;
mod trips;
mod tx;
