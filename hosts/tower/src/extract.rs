//! What an axum handler can ask for.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use semel_driver::Idempotent;
use std::convert::Infallible;

/// Which run this is: an axum extractor for the key, the attempt and the fence.
///
/// ```
/// use semel_tower::Run;
///
/// async fn create(run: Run) -> String {
///     format!("attempt {} with fence {}", run.attempt, run.fence)
/// }
///
/// async fn note(run: Option<Run>) -> &'static str {
///     if run.is_some() { "guarded" } else { "sent without a key" }
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for an extension")]
pub struct Run(pub Idempotent);

impl std::ops::Deref for Run {
    type Target = Idempotent;

    fn deref(&self) -> &Idempotent {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Run {
    type Rejection = NotGuarded;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotGuarded> {
        parts.extensions.get::<Idempotent>().cloned().map(Self).ok_or(NotGuarded)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Run {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Idempotent>().cloned().map(Self))
    }
}

/// The request is not guarded: it has no key where the key is optional, or no layer is on the route. Answered with
/// 500, since it is the server that is set up wrong; ask for `Option<Run>` where a key is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotGuarded;

impl IntoResponse for NotGuarded {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

impl std::fmt::Display for NotGuarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this request is not guarded: require a key on its route, or ask for Option<Run>")
    }
}

impl std::error::Error for NotGuarded {}
