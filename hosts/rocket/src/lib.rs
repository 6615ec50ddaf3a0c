//! Semel as a fairing of Rocket: a retried request runs once.
//!
//! ```
//! use rocket::http::Header;
//! use rocket::local::asynchronous::Client;
//! use rocket::{Build, Rocket, post, routes};
//! use semel_rocket::{Idempotency, IdempotencyFairing, Run};
//! use semel_store_memory::MemoryStore;
//!
//! #[post("/", data = "<item>")]
//! fn order(run: &Run, item: &str) -> String {
//!     format!("{item}, made by attempt {}", run.attempt)
//! }
//!
//! fn shop(idempotency: Idempotency) -> Rocket<Build> {
//!     rocket::build().attach(IdempotencyFairing::new(idempotency).mount("/orders", routes![order]))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let client = Client::untracked(shop(idempotency)).await?;
//! let order = || client.post("/orders").header(Header::new("Idempotency-Key", "\"order-1\"")).body("tea");
//! let first = order().dispatch().await;
//! let retry = order().dispatch().await;
//! assert_eq!(retry.headers().get_one("Idempotency-Replayed"), Some("true"));
//! assert_eq!(retry.into_string().await, first.into_string().await);
//! # Ok(()) }
//! ```
//!
//! Rules differ by route: `idempotency.route(|policy| policy.require_key())` gives a handle with other rules over the
//! same store, and [`mount_by`](IdempotencyFairing::mount_by) mounts routes by it.
//!
//! # Two Rockets
//!
//! To know whether two requests are the same, their whole bodies have to be read before a handler runs. A fairing of
//! Rocket may look at 512 bytes and can answer nothing, and nobody but Rocket can give a handler a body that was read
//! before. So guarded routes are mounted in a second Rocket, inside of the one that listens: it has no socket, and is
//! given requests that are all here. In the outer one a route of the same method, path, rank and format stands for each of
//! them, which reads, claims, and has the inner one run what it claimed.
//!
//! * Guards, data guards, responders and catchers are those of Rocket, and need no change. What they ask of Rocket they
//!   ask the inner one: give it their state, fairings and catchers with [`around`](IdempotencyFairing::around). Both
//!   may hold clones of the same `Arc` or pool.
//! * What the inner Rocket answers, its fairings and catchers included, is what is judged, kept and replayed. The outer
//!   one's request fairings come before Semel and see every request; its response fairings come after it and see replays
//!   and refusals, too. Attach there what has to: `Shield`, CORS, compression, access logs.
//! * What is mounted on the outer Rocket itself is not touched at all.
//! * A guard that forwards goes on with the next route inside. No guarded route forwards to one outside.
//! * A handler that panics leaves the outcome unknown, and its client is told so. Rocket itself would answer 500, by which
//!   applications say that nothing was done.
//! * Rocket gives each request a task of its own, which goes on when its client has gone: so does a run.
//! * At a shutdown the fairing waits [`drain_within`](IdempotencyFairing::drain_within) for runs to end, and then has the
//!   inner Rocket's fairings see the shutdown. Rocket accepts no connections meanwhile.
//!
//! # What Rocket cannot give
//!
//! * A body is read by Rocket up to its 14th byte before anybody is asked: a request with `Expect: 100-continue` is told to
//!   go on although it is refused, and whoever sends less is waited for without a limit, whatever `body_within` says.
//! * A request of a guarded route that is not guarded (without a key, say) is read whole, too, up to the route's
//!   `body_limit`: beyond it is 413. WebSockets and other upgrades are for routes outside.
//! * Fields are text: Rocket drops a field of a request that is not UTF-8, a key included, which is then none. Require
//!   keys where that matters. A recorded field that is not UTF-8, which another host wrote, is left out of a replay.
//! * Where a request fairing outside peeks at bodies further than 14 bytes, one that is sent without a length and breaks off
//!   there is taken for whole.
//! * An answer over `capture_limit` that breaks off while it flows looks whole to its client, as any that Rocket streams.
//! * Runs whose clients have gone are not counted as detached: Rocket does not say that they have.
//! * Trailers, of requests and of answers; client certificates (`mtls`) inside.
//! * A panic of a catcher is a 500 like any other.
//!
//! Rocket is used as its own documentation has it, and one thing beside: the inner one is driven by `rocket::local`, which
//! is made for tests, and does what a server does from the request's head to its answer.

mod app;
mod body;
mod extract;
mod fairing;
mod head;
mod lent;
mod route;
mod run;

pub use extract::{Judged, LaterTx, NoTransaction, NotGuarded, Run, Steps, StepsFailed, StepsRefused, Tx};
pub use fairing::IdempotencyFairing;

pub use semel_core as core;
pub use semel_driver::{
    Address, BoxError, BuildError, Builder, Idempotency, Idempotent, NoSteps, Peer, StepError, StepsError,
    StepsOver, Undrained,
};
