//! The async shell of Semel's engine.
//!
//! [`Idempotency`] carries the engine's decisions out: it reads bodies, sends claims, waits, keeps leases
//! alive, and settles runs. Hosts convert types and spawn handlers; everything else happens here. No decision
//! about a status or a state is made in this crate.
//!
//! Applications meet it in the facade `semel`. Whoever writes a host begins with [`Idempotency::admit`]; the tower layer
//! is the model, in some hundred lines (`hosts/tower/src/service.rs`).
//!
//! ```
//! use std::time::Duration;
//! use semel_driver::{Address, Idempotency};
//! use semel_store_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let idempotency = Idempotency::builder(MemoryStore::new()).namespace("orders").build()?;
//! let payments = idempotency.route(|rules| rules.require_key())?; // the same store under other rules
//! assert!(payments.inspect(&Address::key("order-1")).await?.is_none());
//! idempotency.drain(Duration::from_secs(10)).await?; // at the end: nothing is under way
//! # Ok(()) }
//! ```
//!
//! # Limits
//!
//! Whatever is under way at once is bounded by the [`Builder`]: bytes of bodies, runs, runs whose client has gone, waiting
//! duplicates, requests of a peer. Beyond them requests are refused before any claim.
//!
//! # Errors
//!
//! [`BuildError`] when it is built. [`StoreError`](semel_core::store::StoreError) of [`Idempotency::inspect`] and
//! [`Idempotency::resolve`]. [`StepsError`] in handlers with steps. [`Undrained`] at the end. A request is never
//! failed by an error: it gets an answer that says what is known.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `axum` | the steps of a run as an axum extractor; meant for `semel-tower` |
//! | `test` | [`Idempotency::test`]: a memory store, and a clock that is moved by hand |

mod address;
mod again;
mod body;
mod bounds;
mod budget;
mod capture;
mod claim;
mod client;
mod heartbeat;
mod idempotency;
mod lend;
mod persist;
mod read;
mod runtime;
mod steps;
mod sweep;
#[cfg(feature = "test")]
mod test;
mod ticket;
mod trace;
mod wait;
mod whole;

pub use address::Address;
pub use again::BoxError;
pub use body::{Body, Whole};
pub use bounds::Contradiction;
pub use budget::Peer;
pub use claim::{Admitted, Claimed, Guarded};
pub use client::{Attended, Awaited, Client};
pub use idempotency::{BuildError, Builder, Idempotency, Undrained};
pub use lend::{LaterTx, NextTx};
pub use runtime::{BoxFuture, Runtime, TokioRuntime};
pub use steps::{NoSteps, StepError, Steps, StepsError, StepsOver};
#[cfg(feature = "test")]
pub use test::{TestClock, Tested};
pub use ticket::{Idempotent, Panicked, Responded, Ticket};
pub use whole::OneCommit;
