//! Why the guard is not salvo's own adapter of tower layers. If this fails, it may be.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use salvo::http::body::ReqBody;
use salvo::hyper::Request as HyperRequest;
use salvo::prelude::TowerLayerCompat as _;
use salvo::{Handler, Router, handler};
use semel::{Body, Idempotency, IdempotencyLayer, MemoryStore};
use semel_testkit::client::{Client, post};
use tokio::sync::Semaphore;
use tower::Layer as _;
use tower::layer::layer_fn;
use tower::util::MapRequest;

use super::start;
use crate::guard::Guard;

/// Waits to be let go, and says that it has begun.
struct Slow {
    begun: Semaphore,
    go_on: Semaphore,
}

struct Held(Arc<Slow>);

#[handler]
impl Held {
    async fn handle(&self) -> &'static str {
        self.0.begun.add_permits(1);
        self.0.go_on.acquire().await.unwrap().forget();
        "made"
    }
}

/// The layer by salvo's adapter.
fn adapted(idempotency: Idempotency) -> impl Handler {
    let boxed =
        |body: Body<ReqBody>| ReqBody::Boxed { inner: Box::pin(body.map_err(Into::into)), fuse_config: None };
    layer_fn(move |flow| {
        let inner = MapRequest::new(flow, move |request: HyperRequest<Body<ReqBody>>| request.map(boxed));
        let guarded = IdempotencyLayer::new(idempotency.clone()).layer(inner);
        MapRequest::new(guarded, |request: HyperRequest<ReqBody>| request.map(Body::passed))
    })
    .compat::<ReqBody>()
}

/// The answer to a retry whose first client has gone while its run was under way, which then may go on or not.
async fn retried_after_hanging_up(guard: impl Handler, may_go_on: usize) -> String {
    let slow = Arc::new(Slow { begun: Semaphore::new(0), go_on: Semaphore::new(0) });
    let base = start(Router::with_path("orders").hoop(guard).post(Held(slow.clone()))).await;
    let mut client = Client::connect(base).await.unwrap();
    client.send(post("/orders", "order-1", "").bytes()).await.unwrap();
    slow.begun.acquire().await.unwrap().forget();
    drop(client);
    slow.go_on.add_permits(may_go_on);
    post("/orders", "order-1", "").send(base).await.unwrap().text()
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_a_run_in_salvos_adapter_and_none_in_the_guard() {
    let waiting = || {
        let rules = Idempotency::builder(MemoryStore::new()).require_key();
        rules.wait(std::time::Duration::from_secs(20)).build().unwrap()
    };
    assert_eq!(retried_after_hanging_up(Guard(waiting()), 1).await, "made");
    let unknown = retried_after_hanging_up(adapted(waiting()), 0).await;
    assert!(unknown.contains("outcome-unknown"), "{unknown}");
}
