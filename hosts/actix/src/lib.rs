//! Semel as a middleware of actix-web: a retried request runs once.
//!
//! ```
//! use actix_web::{App, HttpResponse, web};
//! use semel_actix::{Idempotency, IdempotencyMiddleware, Run};
//! use semel_store_memory::MemoryStore;
//!
//! async fn order(run: Run) -> HttpResponse {
//!     HttpResponse::Created().body(format!("made by attempt {}", run.attempt))
//! }
//!
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! // Once, outside of the closure that makes an application for each worker.
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let app = App::new().service(
//!     web::resource("/orders").wrap(IdempotencyMiddleware::new(idempotency.clone())).route(web::post().to(order)),
//! );
//! # drop(app);
//! # Ok(()) }
//! ```
//!
//! Rules differ by route: `idempotency.route(|policy| policy.require_key())` gives a handle with other rules over the
//! same store. Route guards, extractors and the handler are inside, so what they refuse is an answer like any other; an
//! error of a middleware inside is rendered as actix-web would, and that answer is judged and kept.
//!
//! What a request carries for scopes, policies and opt-outs lies in extensions of two kinds here: actix-web's own, and
//! those of the `http` crate that Semel reads. [`IdempotencyMiddleware::carry`] copies from the one to the other.
//!
//! # Errors
//!
//! An error of the handler, or of a middleware inside, is rendered as actix-web would, and that answer is judged. A panic ends
//! the connection, as it does without Semel, and leaves the outcome to the route's recovery rule. The middleware adds no
//! error of its own: what it refuses is a response.
//!
//! # What actix-web cannot give
//!
//! * A run goes on without its client in a task of its worker's own thread, for as long as that thread lives. A worker
//!   that ends, at once or at its server's `shutdown_timeout`, ends with the runs under way: they settle by the route's
//!   recovery rule. Await [`Idempotency::drain`] before the server is stopped.
//! * A request with `Expect: 100-continue` is told to go on before any middleware sees it, also one that is refused.
//! * Trailers: those of a request are not given to middlewares, and answers have none. An answer with trailers that another
//!   host recorded is replayed without them.
//! * A run in a transaction is not called anew after its transaction met others: its client is told to try again.
//! * A middleware outside that holds a clone of the `HttpRequest` makes actix-web panic, as for any middleware that
//!   changes a request.

mod body;
mod extract;
mod head;
mod middleware;
mod run;

pub use body::Answer;
pub use extract::{LaterTx, NoTransaction, NotGuarded, Run, Steps, StepsFailed, StepsRefused, Tx};
pub use middleware::{IdempotencyMiddleware, IdempotencyService};

pub use semel_core as core;
pub use semel_driver::{
    Address, BoxError, BuildError, Builder, Contradiction, Idempotency, Idempotent, NoSteps, Peer, StepError,
    StepsError, StepsOver, Undrained,
};
