//! The engine of Semel: decides what becomes of a request that carries an `Idempotency-Key`.
//!
//! This crate performs no I/O, reads no clock, spawns nothing and has no `async` function. Hosts and the
//! driver convert and carry; every decision about a status or a state is made here.

pub mod engine;
pub mod fingerprint;
pub mod identity;
pub mod key;
pub mod observe;
pub mod policy;
pub mod problem;
pub mod record;
pub mod scope;
pub mod steps;
pub mod store;
