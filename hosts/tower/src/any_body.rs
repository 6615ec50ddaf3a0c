//! The layer for request bodies of any type.

use std::task::{Context, Poll};

use http::Request;
use semel_driver::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::layer::IdempotencyLayer;
use crate::service::IdempotencyService;

/// An [`IdempotencyLayer`] whose inner service takes [`Body`] in place of the server's own type. Made by
/// [`IdempotencyLayer::for_any_body`].
#[derive(Clone, Debug)]
pub struct AnyBodyLayer(IdempotencyLayer);

impl AnyBodyLayer {
    pub(crate) fn new(layer: IdempotencyLayer) -> Self {
        Self(layer)
    }
}

impl<S> Layer<S> for AnyBodyLayer {
    type Service = AnyBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AnyBodyService(self.0.layer(inner))
    }
}

/// A guarded service that takes request bodies of any type. Made by [`AnyBodyLayer`].
#[derive(Clone, Debug)]
pub struct AnyBodyService<S>(IdempotencyService<S>);

impl<S, B> Service<Request<B>> for AnyBodyService<S>
where
    IdempotencyService<S>: Service<Request<Body<B>>>,
{
    type Response = <IdempotencyService<S> as Service<Request<Body<B>>>>::Response;
    type Error = <IdempotencyService<S> as Service<Request<Body<B>>>>::Error;
    type Future = <IdempotencyService<S> as Service<Request<Body<B>>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request.map(Body::passed))
    }
}
