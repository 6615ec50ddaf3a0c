//! The layer.

use semel_driver::Idempotency;
use tower_layer::Layer;

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
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(self.idempotency.clone(), inner)
    }
}
