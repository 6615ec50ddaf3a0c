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
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel_client::reqwest::{client, outcome};
//! use semel_client::{Outcome, Retries};
//!
//! let client = client(reqwest::Client::builder(), Retries::default())?;
//! match outcome(client.post("https://shop.example/orders").body("{}").send().await) {
//!     Outcome::Done(answer) | Outcome::Replayed(answer) => println!("{}", answer.text().await?),
//!     Outcome::Unknown(unknown) => println!("ask later, with the key {:?}", unknown.key),
//!     no => println!("nothing took effect: {no:?}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is tried again
//!
//! A page of the book has [the table](https://semel-rs.github.io/semel/client.html#what-is-tried-again), by answer and by
//! failure, with a key and without.
//!
//! A problem's member `retry` is believed before `Stripe-Should-Retry`, and both before the status. After a try that
//! may have run, an answer about credentials or load (401, 403, 429, 503 …) does not settle the operation: if nothing
//! follows, it is unknown. `Retry-After` is waited for, in both its forms; if that is beyond the deadline, the call
//! ends at once.
//!
//! # Limits
//!
//! No call is tried beyond its deadline, its tries, or the [`Budget`] that it shares with all others. Bodies are held in
//! memory, up to a limit, and so are answers to requests with a key: see [`Retries`].
//!
//! # Errors
//!
//! An [`Outcome`] says what is known: that is more than whether there was an error.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `reqwest` | the middleware for reqwest |
//! | `tower` | the layer over any client that is a tower service |
//! | `hyper-util` | tells apart what hyper-util's client never sent |
//! | `shell` | what both shells need; none to turn on by itself |

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
