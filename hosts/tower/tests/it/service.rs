//! The rules of tower: readiness, clones, and services whose types are hidden.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use semel_tower::IdempotencyLayer;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::support::{Effects, Seen, bounded, memory, order};

/// Panics if it is called without having been polled ready itself. A clone of it is not ready.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        ready(Ok(Response::new(Full::from("done"))))
    }
}

/// A clone that was never polled ready panics in `Buffer` and `ConcurrencyLimit`, and steals places elsewhere.
#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_called() {
    let mut service = ServiceBuilder::new().layer(IdempotencyLayer::new(memory())).service(Strict::default());
    let unguarded = || Request::get("/").body(Full::default()).unwrap();
    for request in [order("k1"), unguarded(), order("k2"), order("k2"), unguarded()] {
        poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        assert_eq!(Seen::of(service.call(request).await.unwrap()).await.text(), "done");
    }
}

/// A connection that keeps its service after a refusal would keep the permit too, until its next request.
#[tokio::test]
async fn a_refused_request_gives_back_what_readiness_reserved() {
    let idempotency = memory().route(semel_tower::core::policy::PolicyBuilder::require_key).unwrap();
    let mut one = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(idempotency))
        .concurrency_limit(1)
        .service(service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done"))))));
    let mut other = one.clone();
    let without_key = || Request::post("/orders").body(Full::<Bytes>::default()).unwrap();
    poll_fn(|cx| one.poll_ready(cx)).await.unwrap();
    assert_eq!(one.call(without_key()).await.unwrap().status(), 400);
    bounded(poll_fn(|cx| other.poll_ready(cx))).await.unwrap();
    assert_eq!(bounded(other.call(order("k"))).await.unwrap().status(), 200);
    // A replay runs nothing either.
    poll_fn(|cx| one.poll_ready(cx)).await.unwrap();
    assert!(Seen::of(one.call(order("k")).await.unwrap()).await.replayed());
    bounded(poll_fn(|cx| other.poll_ready(cx))).await.unwrap();
}

type Hidden =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<semel_tower::Body<Full<Bytes>>>, tower::BoxError>;

/// No type parameter of the layer's own, so that a stack can be named and stored.
#[tokio::test]
async fn a_stack_with_a_buffer_and_a_hidden_type_runs_each_key_once() {
    let effects = Effects::default();
    let ran = effects.clone();
    let count = service_fn(move |_: Request<Full<Bytes>>| {
        let n = ran.take();
        async move { Ok::<_, tower::BoxError>(Response::new(Full::<Bytes>::from(n.to_string()))) }
    });
    let layer: IdempotencyLayer = IdempotencyLayer::new(memory());
    let hidden: Hidden = BoxCloneSyncService::new(
        ServiceBuilder::new().layer(layer).buffer(4).service(BoxCloneSyncService::new(count)),
    );
    for key in ["k1", "k2", "k1", "k2"] {
        let seen = Seen::of(hidden.clone().oneshot(order(key)).await.unwrap()).await;
        assert_eq!(seen.text(), &key[1..]);
    }
    assert_eq!(effects.count(), 2);
    let buffered = tower::buffer::Buffer::new(hidden, 8);
    let seen = Seen::of(buffered.oneshot(order("k1")).await.unwrap()).await;
    assert_eq!((seen.text(), seen.replayed()), ("1", true));
}
