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
//! the same store. A server whose request bodies cannot be made again from bytes, such as tonic's or bare hyper, takes
//! [`IdempotencyLayer::for_any_body`].
//!
//! Inside a nested router of axum the target that counts is the client's own, with the prefix that the router cut
//! off, so that `/v1/orders` and `/v2/orders` are two endpoints (this needs the feature `axum`).
//!
//! # gRPC
//!
//! A call is a POST with trailers, and is guarded like any request. In tonic:
//! `Server::builder().layer(IdempotencyLayer::new(idempotency).for_any_body())`. Every call is a POST, and a stream has no end to
//! wait for, so name the unary calls that are guarded with `only_paths(["/shop.Orders/Place"])`. Answers are judged by the status of
//! the call, and refusals are statuses with `google.rpc` details. gRPC-Web is not known.
//!
//! # Where to put it
//!
//! Outside stands what decides whether a request may come in, and what dresses every answer: tracing, catch-panic,
//! time-outs, CORS, compression, rate limits, authentication. A replay reaches nothing that is inside. What is seen where
//! the order is wrong, symptom by symptom, is on a page of the book:
//! [layer order](https://semel-rs.github.io/semel/layer-order.html).
//!
//! # Limits
//!
//! The inner service is `Clone`, and its future, error and bodies `Send + 'static`, since a run outlives its client. Its
//! request body is one that can be made from memory ([`Rebuild`]). Bodies of guarded requests are read whole, up to the
//! route's limit; what else is bounded is said at the [`Builder`].
//!
//! # Errors
//!
//! Whether a panic, an error of the inner service or a client that hangs up: the run is settled by the route's
//! recovery rule, and the panic or error reaches whoever waits for the answer. The layer adds no error of its own: what it
//! refuses is a response.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `axum` | axum's body, the targets of its nested routers, and the extractors [`Run`], [`Steps`], [`Tx`] and [`LaterTx`] |
//! | `test` | `Idempotency::test`: a memory store, and a clock that is moved by hand |

mod any_body;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod layer;
mod one_commit;
mod rebuild;
mod service;
mod target;
mod tx;

pub use any_body::{AnyBodyLayer, AnyBodyService};
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
    Address, Body, BoxError, BuildError, Builder, Contradiction, Idempotency, Idempotent, NoSteps, OneCommit,
    Peer, StepError, Steps, StepsError, StepsOver, Undrained, Whole,
};
