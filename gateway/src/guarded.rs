//! The layer between listener and upstream.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use semel_driver::{Body, Idempotency, Peer as Claimant};
use semel_tower::{IdempotencyService, ResponseFuture};
use tower_service::Service;

use crate::answer::{Answering, AnsweringFuture};
use crate::config::GatewayConfig;
use crate::forward::{Forward, Peer};
use crate::upstream::ResponseBody;

type RequestOf = Body<Incoming>;
type Inner = Answering<Forward<RequestOf>>;
type InnerFuture = AnsweringFuture<<Forward<RequestOf> as Service<Request<RequestOf>>>::Future>;

/// Guards requests to the upstream of a worker by the rules of an [`Idempotency`].
#[derive(Clone, Debug)]
pub struct GuardedForward {
    service: IdempotencyService<Inner>,
    /// Who takes over once it is there, and what it calls.
    later: Option<(Arc<OnceLock<Idempotency>>, Inner)>,
}

impl GuardedForward {
    /// A service with a connection pool of its own.
    pub fn new(config: &GatewayConfig, idempotency: Idempotency) -> Self {
        let inner = Answering::new(Forward::new(config)).by(idempotency.policy());
        Self { service: IdempotencyService::new(idempotency, inner), later: None }
    }

    /// The same, until another handle is there, which then guards every request that comes.
    pub fn until(
        config: &GatewayConfig,
        idempotency: Idempotency,
        later: Arc<OnceLock<Idempotency>>,
    ) -> Self {
        let inner = Answering::new(Forward::new(config)).by(idempotency.policy());
        Self { service: IdempotencyService::new(idempotency, inner.clone()), later: Some((later, inner)) }
    }

    fn switch(&mut self) {
        let there = self.later.as_ref().and_then(|(later, inner)| Some((later.get()?, inner)));
        if let Some((idempotency, inner)) = there {
            self.service =
                IdempotencyService::new(idempotency.clone(), inner.clone().by(idempotency.policy()));
            self.later = None;
        }
    }
}

impl Service<Request<Incoming>> for GuardedForward {
    type Response = Response<Body<ResponseBody<RequestOf>>>;
    type Error = Infallible;
    type Future = ResponseFuture<InnerFuture, ResponseBody<RequestOf>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        self.switch();
        if let Some(peer) = request.extensions().get::<Peer>() {
            let claimant = Claimant(peer.address().ip().to_canonical());
            request.extensions_mut().insert(claimant);
        }
        self.service.call(request.map(Body::passed))
    }
}
