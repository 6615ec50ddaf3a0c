//! The target of a request as its client wrote it.
//!
//! Axum's nested routers cut their prefix off. Judged by what is left, `/v1/orders` and `/v2/orders` would be one
//! endpoint, and a key used on both would get the other's answer instead of a refusal.

use http::Uri;
use http::request::Parts;

/// Puts the client's own target in place, and gives the router's to put back.
pub(crate) fn widen(parts: &mut Parts) -> Option<Uri> {
    let whole = original(parts)?;
    Some(std::mem::replace(&mut parts.uri, whole))
}

/// Puts the router's target back, for the handler.
pub(crate) fn narrow(parts: &mut Parts, local: Option<Uri>) {
    if let Some(local) = local {
        parts.uri = local;
    }
}

#[cfg(feature = "axum")]
fn original(parts: &Parts) -> Option<Uri> {
    let axum::extract::OriginalUri(original) = parts.extensions.get()?;
    (*original != parts.uri).then(|| original.clone())
}

#[cfg(not(feature = "axum"))]
fn original(_: &Parts) -> Option<Uri> {
    None
}

/// The route as axum's router names it, for traces.
#[cfg(feature = "axum")]
pub(crate) fn route(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
pub(crate) fn route(_: &Parts) -> Option<&str> {
    None
}
