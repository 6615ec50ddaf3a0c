//! Semel in OpenAPI documents made by [utoipa]: the key's header, and what a guarded operation may answer.
//!
//! Two ways. Where operations are written by hand, name the types in them:
//!
//! ```
//! use semel_openapi::{Refusals, RequiredKey};
//!
//! #[utoipa::path(
//!     post,
//!     path = "/orders",
//!     params(RequiredKey),
//!     responses((status = 201, description = "Made."), Refusals)
//! )]
//! async fn create() {}
//!
//! #[derive(utoipa::OpenApi)]
//! #[openapi(paths(create), components(schemas(semel_openapi::IdempotencyProblem)))]
//! struct Api;
//! # let api = <Api as utoipa::OpenApi>::openapi();
//! # assert!(api.paths.paths["/orders"].post.as_ref().unwrap().responses.responses.contains_key("422"));
//! ```
//!
//! Or have [`Guarded`] write them into every guarded operation of a finished document, by the rules of the route itself: its
//! methods, whether the key is required, its field, its profile.
//!
//! ```
//! use semel_core::policy::Policy;
//! use semel_openapi::Guarded;
//! use utoipa::{Modify, OpenApi};
//!
//! #[utoipa::path(post, path = "/orders", responses((status = 201, description = "Made.")))]
//! async fn create() {}
//!
//! #[derive(OpenApi)]
//! #[openapi(paths(create))]
//! struct Api;
//!
//! let policy = Policy::builder().require_key().build()?; // or `idempotency.policy()`
//! let mut api = Api::openapi();
//! Guarded::by(&policy).modify(&mut api);
//! assert!(api.to_json()?.contains("Idempotency-Key"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Texts, statuses and members are those of [`semel_core::problem`], rendered: they are written down nowhere here.

mod guarded;
mod key;
mod merge;
mod problem;
mod refusals;

pub use guarded::Guarded;
pub use key::{OptionalKey, RequiredKey};
pub use problem::IdempotencyProblem;
pub use refusals::Refusals;
