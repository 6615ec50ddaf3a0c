//! Retries an HTTP request without doing it twice.
//!
//! A client that got no answer cannot know whether its request was done. This one gives each operation a key of its
//! own (`Idempotency-Key`, a UUIDv7), sends the same request with the same key until it is answered, and says what is
//! known at the end: done, replayed, rejected, not sent, or unknown with the key to ask with later.
//!
//! [`Call`] decides, without a clock, a socket or a task. Two shells do what it says:
//!
//! * feature `reqwest`: a middleware, see the module [`reqwest`](mod@reqwest);
//! * feature `tower`: a layer over any HTTP client that is a tower service, see the module
//!   [`tower`](mod@tower). With the
//!   feature `hyper-util`, what hyper-util's client never sent is told apart.
//!
//! # What is tried again
//!
//! | a try ends with | with a key | idempotent method | POST or PATCH without a key |
//! |---|---|---|---|
//! | no connection: never sent | again | again | again |
//! | a broken connection, a cut answer, a time-out | again | again | **unknown** |
//! | below 400 | done or replayed | the same | the same |
//! | 400, 422 | rejected, whatever else the answer says | the same | the same |
//! | 409 that says "in flight" (`retry: same-key`, `idempotency_key_in_use`, or `Retry-After`) | again | as 4xx | as 4xx |
//! | 425, 429, 503 | again | again | rejected |
//! | 408, 500, 502, 504 | again | again | **unknown** |
//! | other 4xx and 5xx | rejected | the same | the same |
//! | `retry: same-key`, `Stripe-Should-Retry: true` | again | again | as its status |
//! | `retry: stop` or `new-key`, `Stripe-Should-Retry: false` | no further try | the same | the same |
//! | `retry: reconcile` | **unknown** | the same | the same |
//!
//! A problem's member `retry` is believed before `Stripe-Should-Retry`, and both before the status. After a try that
//! may have run, an answer about credentials or load (401, 403, 429, 503 …) does not settle the operation: if nothing
//! follows, it is unknown. `Retry-After` is waited for, in both its forms; if that is beyond the deadline, the call
//! ends at once.
//!
//! No call is tried beyond its deadline, its tries, or the [`Budget`] that it shares with all others.

mod advice;
mod budget;
mod call;
mod judge;
mod key;
mod outcome;
mod retries;
#[cfg(feature = "shell")]
mod shell;

#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tower")]
pub mod tower;

pub use budget::Budget;
pub use call::{Answer, Asked, Call, Entropy, Failure, NotReplayable, Step, Trying};
pub use key::OperationKey;
pub use outcome::{End, Error, Limit, Outcome, Unknown, Verdict, Why, outcome};
pub use retries::{Retries, RetriesBuilder, RetriesError};
#[cfg(feature = "shell")]
pub use shell::{AnswerBody, NotBegun, Once, Unkeyed};
