//! What a handler can ask for.

use std::convert::Infallible;

use axum::body::Body;
use axum::{Router, routing::post};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use semel_tower::{IdempotencyLayer, Idempotent, Run};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{Seen, keyed, memory, order};

async fn needs(run: Run) -> String {
    format!("{} {} {}", run.key.as_str(), run.attempt, run.fence.get() > 0)
}

async fn may_have(run: Option<Run>) -> &'static str {
    if run.is_some() { "guarded" } else { "not guarded" }
}

fn app() -> Router {
    Router::new()
        .route("/orders", post(needs))
        .route("/notes", post(may_have))
        .layer(IdempotencyLayer::new(memory()))
}

async fn send(path: &str, key: Option<&str>) -> Seen {
    let mut request = match key {
        Some(key) => keyed(key),
        None => Request::post("/"),
    };
    request = request.uri(path);
    Seen::of(app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()).await
}

#[tokio::test]
async fn run_gives_the_decoded_key_the_attempt_and_the_fence() {
    assert_eq!(send("/orders", Some("k-1")).await.text(), "k-1 1 true");
}

/// A handler that charges must not run without a key because a route was set up to take requests without one.
#[tokio::test]
async fn run_refuses_a_request_without_a_key_and_names_the_remedy() {
    let seen = send("/orders", None).await;
    assert_eq!(seen.status, 500);
    assert!(seen.text().contains("Option<Run>"), "{}", seen.text());
}

#[tokio::test]
async fn an_optional_run_tells_guarded_from_not_guarded() {
    assert_eq!(send("/notes", Some("k")).await.text(), "guarded");
    assert_eq!(send("/notes", None).await.text(), "not guarded");
}

/// Without axum there is no extractor: the extension is what any tower service can read.
#[tokio::test]
async fn any_tower_service_finds_the_extension() {
    let tell = service_fn(|request: Request<Full<Bytes>>| async move {
        let told = request.extensions().get::<Idempotent>();
        let text = told.map_or("none".to_owned(), |run| format!("{} {}", run.key.as_str(), run.attempt));
        Ok::<_, Infallible>(Response::new(text))
    });
    let service = IdempotencyLayer::new(memory()).layer(tell);
    assert_eq!(Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await.text(), "k 1");
    let without = Request::post("/orders").body(Full::default()).unwrap();
    assert_eq!(Seen::of(service.oneshot(without).await.unwrap()).await.text(), "none");
}
