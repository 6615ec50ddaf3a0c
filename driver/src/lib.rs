//! The async shell of Semel's engine.
//!
//! [`Idempotency`] carries the engine's decisions out: it reads bodies, sends claims, waits, keeps leases
//! alive, and settles runs. Hosts convert types and spawn handlers; everything else happens here. No decision
//! about a status or a state is made in this crate.

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
