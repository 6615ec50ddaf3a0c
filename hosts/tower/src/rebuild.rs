//! Request bodies that can be made again from bytes that are all here.

use std::convert::Infallible;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt as _, Full};
use semel_driver::{Body, Whole};

/// A request body that can be made again from its bytes, so that a guarded handler is given the type it
/// expects.
///
/// Those that cannot, such as hyper's `Incoming` and the body of tonic, take
/// [`IdempotencyLayer::for_any_body`](crate::IdempotencyLayer::for_any_body).
pub trait Rebuild: HttpBody {
    /// The same kind of body, from bytes and trailers that are all here.
    fn rebuild(whole: Whole) -> Self;
}

impl<B: HttpBody> Rebuild for Body<B> {
    fn rebuild(whole: Whole) -> Self {
        Self::whole(whole)
    }
}

/// Has no place for trailers: they are dropped.
impl Rebuild for Full<Bytes> {
    fn rebuild(whole: Whole) -> Self {
        Self::new(whole.bytes)
    }
}

impl<E: 'static> Rebuild for BoxBody<Bytes, E> {
    fn rebuild(whole: Whole) -> Self {
        whole.map_err(|never: Infallible| match never {}).boxed()
    }
}

impl<E: 'static> Rebuild for UnsyncBoxBody<Bytes, E> {
    fn rebuild(whole: Whole) -> Self {
        whole.map_err(|never: Infallible| match never {}).boxed_unsync()
    }
}

#[cfg(feature = "axum")]
impl Rebuild for axum_core::body::Body {
    fn rebuild(whole: Whole) -> Self {
        if whole.trailers.is_none() { Self::from(whole.bytes) } else { Self::new(whole) }
    }
}
