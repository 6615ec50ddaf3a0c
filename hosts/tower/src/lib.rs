//! Semel as a tower layer: for axum, hyper, tonic and any tower service.
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::post};
//! use semel_tower::{Idempotency, IdempotencyLayer};
//! use semel_store_memory::MemoryStore;
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let app: Router = Router::new()
//!     .route("/orders", post(|| async { "made" }))
//!     .layer(IdempotencyLayer::new(idempotency));
//! # Ok(()) }
//! ```
//!
//! The layer reads the bodies of guarded requests up to a limit, claims their keys, runs the inner service in a
//! task of its own, records its answer, and only then sends it. Other requests pass through untouched, bodies
//! included.
//!
//! # Where to put it
//!
//! | layer | outside Semel | inside Semel |
//! |---|---|---|
//! | time-out | the client gets the time-out's answer; the run goes on, and a retry gets its answer | an answer of 408 or an error leaves the outcome *unknown* |
//! | catch-panic | the panic comes through Semel: the outcome is unknown, and the client gets the layer's 500 | the layer's 500 counts as the application's own: released, so a retry runs again. Put it outside, or use `Keep::careful()` |
//! | compression | each answer is compressed as its own client asked: right | the handler is asked for no coding, so nothing is compressed: right, but of no use |
//! | CORS | each answer gets fields for its own origin: right | `Access-Control-*` is replayed only to the first request's origin |

#[cfg(feature = "axum")]
mod extract;
mod future;
mod layer;
mod rebuild;
mod service;

pub use future::ResponseFuture;
pub use layer::IdempotencyLayer;
pub use rebuild::Rebuild;
pub use service::IdempotencyService;

#[cfg(feature = "axum")]
pub use extract::{NotGuarded, Run};

pub use semel_core as core;
pub use semel_driver::{Address, Body, BuildError, Builder, Idempotency, Idempotent, Peer, Undrained, Whole};
