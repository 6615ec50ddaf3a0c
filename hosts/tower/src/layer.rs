//! The layer.

use semel_driver::Idempotency;
use tower_layer::Layer;

use crate::any_body::AnyBodyLayer;
use crate::service::IdempotencyService;

/// Guards a service. It has no type parameter: the store is behind its handle.
///
/// Layers made from [`Idempotency::route`] share the store and the bookkeeping, under other rules.
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    idempotency: Idempotency,
}

impl IdempotencyLayer {
    /// A layer that guards by this handle's rules.
    pub fn new(idempotency: Idempotency) -> Self {
        Self { idempotency }
    }

    /// The same layer for servers whose request bodies cannot be made again from bytes, such as tonic's `Server` and
    /// hyper: the inner service gets [`Body`](crate::Body) in their place.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use http::{Request, Response};
    /// use hyper::body::Incoming;
    /// use semel_tower::{Body, Idempotency, IdempotencyLayer};
    /// use tower::{Layer as _, service_fn};
    ///
    /// # fn demo(idempotency: Idempotency) {
    /// let handler = service_fn(async |_: Request<Body<Incoming>>| {
    ///     Ok::<_, Infallible>(Response::new("made".to_owned()))
    /// });
    /// let service = IdempotencyLayer::new(idempotency).for_any_body().layer(handler);
    /// # hyper_util::service::TowerToHyperService::new(service);
    /// # }
    /// ```
    ///
    /// In tonic: `Server::builder().layer(IdempotencyLayer::new(idempotency).for_any_body())`.
    #[must_use]
    pub fn for_any_body(self) -> AnyBodyLayer {
        AnyBodyLayer::new(self)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(self.idempotency.clone(), inner)
    }
}
