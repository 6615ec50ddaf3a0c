//! The layer in axum: what a client sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use axum::{Router, routing::post};
use semel_store_memory::MemoryStore;
use semel_tower::{Idempotency, IdempotencyLayer, Run};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

#[derive(Clone)]
struct App {
    ran: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

async fn create(State(app): State<App>, run: Run, body: String) -> (StatusCode, String) {
    let n = app.ran.fetch_add(1, Ordering::SeqCst) + 1;
    app.gate.acquire().await.unwrap().forget();
    (StatusCode::CREATED, format!("{n}:{}:{body}", run.attempt))
}

fn app(idempotency: Idempotency) -> (Router, App) {
    let app = App { ran: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let router = Router::new()
        .route("/orders", post(create))
        .layer(IdempotencyLayer::new(idempotency))
        .with_state(app.clone());
    (router, app)
}

fn order(key: &str, body: &str) -> Request<Body> {
    Request::post("/orders")
        .header("host", "shop.test")
        .header("idempotency-key", format!("\"{key}\""))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

async fn text(response: Response<Body>) -> (StatusCode, Option<String>, String) {
    let status = response.status();
    let replayed = response.headers().get("idempotency-replayed").map(|v| v.to_str().unwrap().to_owned());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, replayed, String::from_utf8(body.to_vec()).unwrap())
}

// Draft section 2.6: a retry after completion gets the result of the first run, and a duplicate in between
// a conflict.
#[tokio::test]
async fn a_duplicate_conflicts_while_the_original_runs_and_replays_after() {
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build().unwrap();
    let (router, app) = app(idempotency);
    let first = tokio::spawn(router.clone().oneshot(order("k1", r#"{"a":1}"#)));
    while app.ran.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let (status, _, body) = text(router.clone().oneshot(order("k1", r#"{"a":1}"#)).await.unwrap()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body.contains("in-flight"), "{body}");
    let (status, _, body) = text(router.clone().oneshot(order("k1", r#"{"a":2}"#)).await.unwrap()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "422 before 409: {body}");
    app.gate.add_permits(1);
    let (status, replayed, body) = text(first.await.unwrap().unwrap()).await;
    assert_eq!((status, replayed, body.as_str()), (StatusCode::CREATED, None, "1:1:{\"a\":1}"));
    let (status, replayed, body) =
        text(router.clone().oneshot(order("k1", r#"{ "a" : 1 }"#)).await.unwrap()).await;
    assert_eq!(
        (status, replayed.as_deref(), body.as_str()),
        (StatusCode::CREATED, Some("true"), "1:1:{\"a\":1}")
    );
    assert_eq!(app.ran.load(Ordering::SeqCst), 1);
}

// Edge case 1: a client that hangs up must not cancel the run; its retry gets the answer.
#[tokio::test]
async fn a_client_that_hangs_up_finds_its_answer_on_retry() {
    let idempotency = Idempotency::builder(MemoryStore::new()).build().unwrap();
    let (router, app) = app(idempotency.clone());
    let mut first = Box::pin(router.clone().oneshot(order("k1", "{}")));
    while app.ran.load(Ordering::SeqCst) == 0 {
        tokio::select! { biased; _ = &mut first => unreachable!(), () = tokio::task::yield_now() => {} }
    }
    drop(first);
    app.gate.add_permits(1);
    idempotency.drain(Duration::from_secs(10)).await.unwrap();
    let (status, replayed, body) = text(router.oneshot(order("k1", "{}")).await.unwrap()).await;
    assert_eq!((status, replayed.as_deref(), body.as_str()), (StatusCode::CREATED, Some("true"), "1:1:{}"));
    assert_eq!(app.ran.load(Ordering::SeqCst), 1);
}

fn text_of(app: &'static str) -> axum::routing::MethodRouter {
    post(move || async move { app })
}

/// Nested routers cut their prefix off: judged by what is left, two endpoints would answer for each other.
#[tokio::test]
async fn a_key_used_under_another_nest_is_refused() {
    let layer = IdempotencyLayer::new(Idempotency::builder(MemoryStore::new()).build().unwrap());
    let api = |name| Router::new().route("/orders", text_of(name)).layer(layer.clone());
    let app = Router::new().nest("/v1", api("first")).nest("/v2", api("second"));
    let send = |path: &'static str| {
        let mut request = order("k", "{}");
        *request.uri_mut() = path.parse().unwrap();
        app.clone().oneshot(request)
    };
    assert_eq!(text(send("/v1/orders").await.unwrap()).await.2, "first");
    let (status, _, body) = text(send("/v2/orders").await.unwrap()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    let (_, replayed, body) = text(send("/v1/orders").await.unwrap()).await;
    assert_eq!((replayed.as_deref(), body.as_str()), (Some("true"), "first"));
}

/// Rules name paths as clients write them: judged by what a router leaves of them, these would guard nothing.
#[tokio::test]
async fn a_nested_path_is_guarded_by_the_name_that_clients_use() {
    let rules = Idempotency::builder(MemoryStore::new()).only_paths(["/v1/orders"]);
    let layer = IdempotencyLayer::new(rules.build().unwrap());
    let tell = |run: Option<Run>, uri: axum::http::Uri| async move { format!("{} {uri}", run.is_some()) };
    let api = || Router::new().route("/orders", post(tell)).layer(layer.clone());
    let app = Router::new().nest("/v1", api()).nest("/v2", api());
    for (path, told) in [("/v1/orders", "true /orders"), ("/v2/orders", "false /orders")] {
        let mut request = order("k", "{}");
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(text(app.clone().oneshot(request).await.unwrap()).await.2, told);
    }
}

/// The handler of a nested router still sees the path that its router gave it.
#[tokio::test]
async fn a_nested_handler_sees_its_own_path() {
    let layer = IdempotencyLayer::new(Idempotency::builder(MemoryStore::new()).build().unwrap());
    let tell = |uri: axum::http::Uri| async move { uri.to_string() };
    let app = Router::new().nest("/v1", Router::new().route("/orders", post(tell)).layer(layer));
    let mut request = order("k", "{}");
    *request.uri_mut() = "/v1/orders?a=1".parse().unwrap();
    assert_eq!(text(app.oneshot(request).await.unwrap()).await.2, "/orders?a=1");
}

/// One store and one set of books under many rules: per route, per router, and around the whole application.
#[tokio::test]
async fn routes_have_rules_of_their_own_over_one_store() {
    let idempotency = Idempotency::builder(MemoryStore::new()).build().unwrap();
    let required = idempotency.route(semel_tower::core::policy::PolicyBuilder::require_key).unwrap();
    let app = Router::new()
        .route("/orders", text_of("order").layer(IdempotencyLayer::new(required)))
        .route("/notes", text_of("note").layer(IdempotencyLayer::new(idempotency.clone())))
        .route("/free", text_of("free"));
    let send = |path: &'static str, key: bool| {
        let mut request = order("k", "{}");
        if !key {
            request.headers_mut().remove("idempotency-key");
        }
        *request.uri_mut() = path.parse().unwrap();
        app.clone().oneshot(request)
    };
    assert_eq!(send("/orders", false).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(text(send("/notes", false).await.unwrap()).await.2, "note");
    assert_eq!(text(send("/orders", true).await.unwrap()).await.2, "order");
    assert_eq!(
        send("/notes", true).await.unwrap().status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "one store: the key belongs to the order"
    );
    assert_eq!(text(send("/free", true).await.unwrap()).await.2, "free");
}

/// `route_layer` leaves unknown paths to the router: a 404 of the router claims no key.
#[tokio::test]
async fn a_route_layer_guards_routes_and_not_the_fallback() {
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build().unwrap();
    let app: Router =
        Router::new().route("/orders", text_of("order")).route_layer(IdempotencyLayer::new(idempotency));
    let mut unknown = order("k", "{}");
    *unknown.uri_mut() = "/nowhere".parse().unwrap();
    assert_eq!(app.clone().oneshot(unknown).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(text(app.oneshot(order("k", "{}")).await.unwrap()).await.2, "order");
}
