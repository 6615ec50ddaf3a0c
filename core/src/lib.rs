//! The engine of Semel: decides what becomes of a request that carries an `Idempotency-Key`.
//!
//! This crate performs no I/O, reads no clock, spawns nothing and has no `async` function. Hosts and the
//! driver convert and carry; every decision about a status or a state is made here. Applications use it through the
//! facade `semel`; hosts, stores and other drivers use it by itself.
//!
//! ```
//! use semel_core::engine::{Admission, admit};
//! use semel_core::policy::Policy;
//! use semel_core::problem::Code;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::builder().require_key().build()?;
//! let (mut head, ()) = http::Request::post("/orders").body(())?.into_parts();
//! match admit(&policy, &mut head) {
//!     Admission::Reject(refused) => assert_eq!(refused.code(), Code::KeyMissing),
//!     Admission::Bypass | Admission::Buffer(_) => panic!("this route requires a key"),
//! }
//! # Ok(()) }
//! ```
//!
//! # Where things are
//!
//! | module | what it decides |
//! |---|---|
//! | [`engine`] | what happens next, as states: read it first |
//! | [`key`], [`scope`], [`fingerprint`], [`identity`] | whose request it is, and whether it is the same one |
//! | [`policy`] | the rules of a route: which methods, which answers are kept, how long |
//! | [`store`], [`record`] | what a store owes, and what it keeps |
//! | [`steps`] | what a run with steps does next |
//! | [`problem`] | what a client is told, as RFC 9457 has it |
//! | [`observe`] | what an observer hears |
//!
//! # Limits
//!
//! A key has 1 to [`Key::MAX_LEN`](key::Key::MAX_LEN) characters. Bodies of requests and kept answers are bounded by the
//! [`policy`], 1 MiB each by default; a run's steps by [`steps`].
//!
//! # Errors
//!
//! [`PolicyError`](policy::PolicyError): settings that contradict each other, when they are built.
//! [`StoreErrorKind`](store::StoreErrorKind): what a store could not do, and whether it may have done it all the same. What a
//! client is refused with is a [`Code`](problem::Code), which is no error here.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `blake3` | BLAKE3 as a choice for the [hash of bodies](fingerprint::Hash); SHA-256 stays the default |
//! | `jsonpath` | JSONPath (RFC 9535) beside JSON Pointer, for what a [fingerprint leaves out](fingerprint::Exclusion) |

pub mod engine;
pub mod fingerprint;
mod grpc;
pub mod identity;
pub mod key;
pub mod observe;
pub mod policy;
pub mod problem;
pub mod record;
pub mod scope;
pub mod steps;
pub mod store;
