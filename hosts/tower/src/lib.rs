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
//! The layer reads the bodies of guarded requests up to a limit, claims their keys, runs the inner service
//! to its end whether or not the client hangs up, records its answer, and only then sends it. Other requests pass through untouched, bodies
//! included.
//!
//! Rules differ by route: `idempotency.route(|policy| policy.require_key())` gives a handle with other rules over
//! the same store. On bare hyper, wrap the body first: `request.map(semel_tower::Body::passed)`.
//!
//! Inside a nested router of axum the target that counts is the client's own, with the prefix that the router cut
//! off, so that `/v1/orders` and `/v2/orders` are two endpoints (this needs the feature `axum`).
//!
//! # Where to put it
//!
//! As far out as the layers that prepare the request allow: inside what authenticates, limits, decodes and grants,
//! outside what may cancel or answer for the handler only if the table says so.
//!
//! | layer | outside Semel | inside Semel |
//! |---|---|---|
//! | time-out | right: the client gets the time-out's answer (tower's: its error), the run goes on, and a retry gets its answer | the run is cancelled. 408, 504 and tower's error leave the outcome *unknown*, and a retry gets 409 `outcome-unknown`. Never give it the status 503: that reads as "not done", and a retry runs again (`Keep::careful()` prevents it) |
//! | catch-panic | right: the panic comes through Semel, the client gets the layer's 500, and the outcome is *unknown* | the layer's 500 counts as the application's own "not done": a retry runs again, unless the route has `Keep::careful()` |
//! | compression | right: each answer is coded as its own client asked, replays included | the handler is asked for no coding, so nothing is compressed: safe, but of no use. With `HeaderRules::keep_encodings` a retry gets the first try's coding, whatever it accepts itself |
//! | decompression of requests | right: a retry that is coded anew to other bytes is the same request | the bytes that were sent are compared: a retry coded anew gets 422 `key-reused` |
//! | CORS | right: each answer, replay or refusal, gets fields for its own origin. List `Idempotency-Replayed` in `expose_headers`, if scripts are to see it | `Access-Control-*` is replayed to the first request's origin alone, and scripts cannot read Semel's own refusals |
//! | body limit | 413 by the declared length, before Semel; a longer body without a declared length breaks off at the limit and gets 400 `body-incomplete`. Neither claims the key | Semel's own limit comes first; the layer's 413 is kept and replayed |
//!
//! Whether a panic, an error of the inner service or a client that hangs up: the run is settled by the route's
//! recovery rule, and the panic or error reaches whoever waits for the answer.

#[cfg(feature = "axum")]
mod extract;
mod future;
mod layer;
mod one_commit;
mod rebuild;
mod service;
mod target;
mod tx;

pub use future::ResponseFuture;
pub use layer::IdempotencyLayer;
pub use one_commit::OneCommitService;
pub use rebuild::Rebuild;
pub use service::IdempotencyService;
pub use tx::{LaterTx, Tx};

#[cfg(feature = "axum")]
pub use extract::{NotGuarded, Run};
#[cfg(feature = "axum")]
pub use tx::NoTransaction;

pub use semel_core as core;
pub use semel_driver::{
    Address, Body, BoxError, BuildError, Builder, Idempotency, Idempotent, NoSteps, OneCommit, Peer,
    StepError, Steps, StepsError, StepsOver, Undrained, Whole,
};
