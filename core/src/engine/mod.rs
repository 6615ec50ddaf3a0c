//! The engine: what becomes of a request, as states that the events consume.
//!
//! ```text
//! admit(request)            → Bypass | Reject | Buffer
//! Buffering::finish(body)   → Claiming
//! Claiming::answer(begun)   → Run | Replay | Rederive | Reject | Wait | AskAgain
//! Running::respond(head)    → Capturing | Settling        Running::fail(failure) → Settling
//! Capturing::end(end)       → Settling
//! Settling::answer(settled) → Reply                      Settling::committed(committed) → Reply | Look
//! ```
//!
//! Nothing here waits, reads a clock or talks to a store: each state says what to do next, and is told what
//! came of it. A state that is dropped has settled nothing, so whoever drives the engine gives up the claim.

mod admit;
mod asker;
mod claim;
mod rederive;
mod run;
mod settle;
mod transact;

pub(crate) use admit::AHEAD;
pub use admit::{Admission, Buffering, Bypass, admit};
pub use asker::{Rejection, Replay};
pub use claim::{Claiming, Decision, Unclaimed, Waiting};
pub use rederive::Rederiving;
pub use run::{Capturing, Dispatch, End, Failure, FailureKind, Head, Next, Override, Running};
pub use settle::{Live, Overtaken, Persisted, Reply, Settling, Step};
pub use transact::{Found, Looking};
