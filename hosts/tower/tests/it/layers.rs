//! Beside tower-http's and tower's layers, on each side: what `docs/layer-order.md` says.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::Read as _;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use semel_tower::core::policy::Keep;
use semel_tower::{Idempotency, IdempotencyLayer};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::support::{Effects, Seen, bounded, keyed, memory, order};

const SECOND: Duration = Duration::from_secs(1);

fn semel(idempotency: &Idempotency) -> IdempotencyLayer {
    IdempotencyLayer::new(idempotency.clone())
}

/// A route of a handler that counts itself before it does anything else.
fn handler<F, R>(effects: &Effects, run: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> MethodRouter
where
    F: Future<Output = R> + Send + 'static,
    R: IntoResponse + 'static,
{
    let effects = effects.clone();
    post(move || run(effects.take()))
}

fn routes(route: MethodRouter) -> Router {
    Router::new().route("/orders", route)
}

async fn send(app: &Router, request: Request<impl Into<Body>>) -> Seen {
    Seen::of(bounded(app.clone().oneshot(request.map(Into::into))).await.unwrap()).await
}

fn plain(key: &str) -> Request<&'static str> {
    keyed(key).body("{}").unwrap()
}

// ---- time-outs ----

/// The client is told to wait no longer, but what it started ends, and its retry finds the answer.
#[tokio::test(start_paused = true)]
async fn outside_a_time_out_ends_the_waiting_and_not_the_run() {
    let (effects, idempotency) = (Effects::default(), memory());
    let slow = handler(&effects, |n| async move {
        tokio::time::sleep(SECOND * 3).await;
        n.to_string()
    });
    let time_out = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, SECOND);
    let app = routes(slow).layer(semel(&idempotency)).layer(time_out);
    let first = send(&app, plain("k")).await;
    assert_eq!(first.status, 504);
    assert!(first.body.is_empty(), "the time-out's own answer");
    idempotency.drain(SECOND * 20).await.unwrap();
    let again = send(&app, plain("k")).await;
    assert_eq!((again.text(), again.replayed(), effects.count()), ("1", true, 1));
}

/// The same with tower's, which errs instead of answering.
#[tokio::test(start_paused = true)]
async fn outside_towers_time_out_errs_and_the_run_goes_on() {
    let (effects, idempotency) = (Effects::default(), memory());
    let ran = effects.clone();
    let slow = service_fn(move |_: Request<Full<Bytes>>| {
        let n = ran.take();
        async move {
            tokio::time::sleep(SECOND * 3).await;
            Ok::<_, tower::BoxError>(Response::new(n.to_string()))
        }
    });
    let service = ServiceBuilder::new().timeout(SECOND).layer(semel(&idempotency)).service(slow);
    assert!(service.clone().oneshot(order("k")).await.unwrap_err().is::<tower::timeout::error::Elapsed>());
    idempotency.drain(SECOND * 20).await.unwrap();
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((again.text(), again.replayed(), effects.count()), ("1", true, 1));
}

/// The handler was cancelled somewhere: nobody knows what it did, so it is not run again.
#[tokio::test(start_paused = true)]
async fn inside_a_time_out_cancels_the_run_and_the_outcome_is_unknown() {
    for status in [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT] {
        let (effects, idempotency) = (Effects::default(), memory());
        let slow = handler(&effects, |_| std::future::pending::<()>());
        let time_out = TimeoutLayer::with_status_code(status, SECOND);
        let app = routes(slow).layer(time_out).layer(semel(&idempotency));
        let first = send(&app, plain("k")).await;
        assert_eq!(
            (first.status, &first.headers["idempotency-outcome"]),
            (status, &HeaderValue::from_static("unknown"))
        );
        let again = send(&app, plain("k")).await;
        assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
        assert_eq!(effects.count(), 1);
    }
}

/// 503 reads as "not done": a time-out inside must not be given that status.
#[tokio::test(start_paused = true)]
async fn inside_a_time_out_that_answers_503_lets_the_retry_run() {
    let (effects, idempotency) = (Effects::default(), memory());
    let slow = handler(&effects, |_| std::future::pending::<()>());
    let time_out = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, SECOND);
    let app = routes(slow).layer(time_out).layer(semel(&idempotency));
    assert_eq!(send(&app, plain("k")).await.status, 503);
    assert_eq!(send(&app, plain("k")).await.status, 503);
    assert_eq!(effects.count(), 2, "documented, and the reason not to do it");
    let careful = idempotency.route(|policy| policy.keep(Keep::careful())).unwrap();
    let slow = handler(&effects, |_| std::future::pending::<()>());
    let app = routes(slow).layer(time_out).layer(semel(&careful));
    assert_eq!(send(&app, plain("k2")).await.status, 503);
    assert_eq!(send(&app, plain("k2")).await.code(), "outcome-unknown");
}

#[tokio::test(start_paused = true)]
async fn inside_towers_time_out_errs_and_the_outcome_is_unknown() {
    let (effects, idempotency) = (Effects::default(), memory());
    let slow = handler(&effects, |_| std::future::pending::<()>());
    let told = HandleErrorLayer::new(|_: tower::BoxError| ready(StatusCode::IM_A_TEAPOT));
    let app =
        routes(slow).layer(ServiceBuilder::new().layer(told).layer(semel(&idempotency)).timeout(SECOND));
    assert_eq!(send(&app, plain("k")).await.status, 418, "the error came through to the layer outside");
    assert_eq!(send(&app, plain("k")).await.code(), "outcome-unknown");
    assert_eq!(effects.count(), 1);
}

// ---- panics ----

fn panicking(effects: &Effects) -> MethodRouter {
    handler(effects, |_| async { panic!("out of stock") as &str })
}

#[tokio::test]
async fn outside_catch_panic_answers_500_and_the_outcome_is_unknown() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(panicking(&effects)).layer(semel(&idempotency)).layer(CatchPanicLayer::new());
    assert_eq!(send(&app, plain("k")).await.status, 500);
    let again = send(&app, plain("k")).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
    assert_eq!(effects.count(), 1);
}

/// The layer's 500 looks like the application's own "not done".
#[tokio::test]
async fn inside_catch_panic_lets_the_retry_run_unless_the_route_is_careful() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(panicking(&effects)).layer(CatchPanicLayer::new()).layer(semel(&idempotency));
    assert_eq!(send(&app, plain("k")).await.status, 500);
    assert_eq!(send(&app, plain("k")).await.status, 500);
    assert_eq!(effects.count(), 2, "documented, and the reason to put it outside");
    let careful = idempotency.route(|policy| policy.keep(Keep::careful())).unwrap();
    let app = routes(panicking(&effects)).layer(CatchPanicLayer::new()).layer(semel(&careful));
    assert_eq!(send(&app, plain("k2")).await.status, 500);
    assert_eq!(send(&app, plain("k2")).await.code(), "outcome-unknown");
    assert_eq!(effects.count(), 3);
}

// ---- codings ----

fn long(effects: &Effects) -> MethodRouter {
    handler(effects, |n| async move { format!("{n}:{}", "order ".repeat(100)) })
}

fn accepting(key: &str, coding: &'static str) -> Request<&'static str> {
    keyed(key).header("accept-encoding", coding).body("{}").unwrap()
}

fn unzipped(body: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

/// Edge case 10: the first try takes gzip, its retry only plain bytes.
#[tokio::test]
async fn outside_compression_codes_each_answer_as_its_own_client_asked() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(long(&effects)).layer(semel(&idempotency)).layer(CompressionLayer::new());
    let gzip = send(&app, accepting("k", "gzip")).await;
    let identity = send(&app, accepting("k", "identity")).await;
    let gzip_again = send(&app, accepting("k", "gzip")).await;
    assert_eq!(
        [&gzip, &gzip_again].map(|seen| seen.headers["content-encoding"].to_str().unwrap()),
        ["gzip"; 2]
    );
    assert!(!identity.headers.contains_key("content-encoding"));
    assert!(identity.replayed() && gzip_again.replayed());
    assert_eq!(unzipped(&gzip.body), identity.text());
    assert_eq!(unzipped(&gzip_again.body), identity.text());
    assert_eq!(effects.count(), 1);
}

#[tokio::test]
async fn inside_compression_is_asked_for_no_coding_so_every_retry_can_read_the_answer() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(long(&effects)).layer(CompressionLayer::new()).layer(semel(&idempotency));
    for coding in ["gzip", "identity", "gzip"] {
        let seen = send(&app, accepting("k", coding)).await;
        assert!(!seen.headers.contains_key("content-encoding"), "{coding}");
        assert!(seen.text().starts_with("1:order"));
    }
    assert_eq!(effects.count(), 1);
}

/// A route may keep codings: then the retry gets the first try's, whatever it takes itself.
#[tokio::test]
async fn inside_compression_is_kept_where_the_route_keeps_encodings() {
    let effects = Effects::default();
    let mut rules = semel_tower::core::policy::HeaderRules::default();
    rules.keep_encodings = true;
    let idempotency = memory().route(|policy| policy.header_rules(rules)).unwrap();
    let app = routes(long(&effects)).layer(CompressionLayer::new()).layer(semel(&idempotency));
    let first = send(&app, accepting("k", "gzip")).await;
    let again = send(&app, accepting("k", "identity")).await;
    assert_eq!([&first, &again].map(|seen| seen.headers["content-encoding"].to_str().unwrap()), ["gzip"; 2]);
    assert_eq!(first.body, again.body);
}

fn zipped(level: u32, text: &str) -> Vec<u8> {
    let mut coder = flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::new(level));
    let mut bytes = Vec::new();
    coder.read_to_end(&mut bytes).unwrap();
    bytes
}

fn coded(key: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    keyed(key).header("content-encoding", "gzip").header("content-type", "text/plain").body(body).unwrap()
}

/// A client codes its retry anew, and not always to the same bytes.
#[tokio::test]
async fn decompression_outside_judges_what_was_meant_and_inside_what_was_sent() {
    let text = "one order of many ".repeat(100);
    let (fast, best) = (zipped(1, &text), zipped(9, &text));
    assert_ne!(fast, best);
    let length = |effects: &Effects| {
        let effects = effects.clone();
        post(move |body: Bytes| {
            effects.take();
            async move { body.len().to_string() }
        })
    };
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(length(&effects)).layer(semel(&idempotency)).layer(
        ServiceBuilder::new()
            .layer(RequestDecompressionLayer::new())
            .map_request(|r: Request<_>| r.map(Body::new)),
    );
    assert_eq!(send(&app, coded("k", fast.clone())).await.text(), "1800");
    let again = send(&app, coded("k", best.clone())).await;
    assert_eq!((again.text(), again.replayed(), effects.count()), ("1800", true, 1));
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(length(&effects)).layer(RequestDecompressionLayer::new()).layer(semel(&idempotency));
    assert_eq!(send(&app, coded("k", fast)).await.text(), "1800");
    let again = send(&app, coded("k", best)).await;
    assert_eq!((again.status.as_u16(), again.code()), (422, "key-reused".to_owned()));
    assert_eq!(effects.count(), 1);
}

// ---- origins ----

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(["https://a.test", "https://b.test"].map(HeaderValue::from_static))
        .allow_methods([Method::POST])
        .allow_headers([HeaderName::from_static("idempotency-key")])
        .expose_headers([HeaderName::from_static("idempotency-replayed")])
}

fn from(key: &str, origin: &'static str) -> Request<&'static str> {
    keyed(key).header("origin", origin).body("{}").unwrap()
}

fn allowed(seen: &Seen) -> Option<&str> {
    let mut values = seen.headers.get_all("access-control-allow-origin").iter();
    let first = values.next().map(|value| value.to_str().unwrap());
    assert!(values.next().is_none(), "browsers refuse two");
    first
}

#[tokio::test]
async fn outside_cors_grants_each_answer_to_its_own_origin() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(long(&effects)).layer(semel(&idempotency)).layer(cors());
    for (origin, replayed) in [("https://a.test", false), ("https://b.test", true), ("https://a.test", true)]
    {
        let seen = send(&app, from("k", origin)).await;
        assert_eq!((allowed(&seen), seen.replayed()), (Some(origin), replayed));
        assert_eq!(seen.headers["access-control-expose-headers"], "idempotency-replayed");
    }
    // A script can read why it was refused.
    let refused = keyed("k").header("origin", "https://b.test").body("{ }").unwrap();
    let refused = send(&app, refused).await;
    assert_eq!((refused.status.as_u16(), allowed(&refused)), (422, Some("https://b.test")));
    let preflight = Request::options("/orders")
        .header("origin", "https://a.test")
        .header("access-control-request-method", "POST")
        .body("")
        .unwrap();
    assert_eq!(send(&app, preflight).await.headers["access-control-allow-headers"], "idempotency-key");
    assert_eq!(effects.count(), 1);
}

#[tokio::test]
async fn inside_cors_is_replayed_to_the_first_origin_alone_and_refusals_are_not_granted() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = routes(long(&effects)).layer(cors()).layer(semel(&idempotency));
    let granted = [("https://a.test", true), ("https://b.test", false), ("https://a.test", true)];
    for (origin, granted) in granted {
        let seen = send(&app, from("k", origin)).await;
        assert_eq!(allowed(&seen), granted.then_some(origin));
    }
    let refused = keyed("k").header("origin", "https://a.test").body("{ }").unwrap();
    let refused = send(&app, refused).await;
    assert_eq!((refused.status.as_u16(), allowed(&refused)), (422, None));
    assert_eq!(effects.count(), 1);
}

// ---- limits ----

#[tokio::test]
async fn a_body_limit_outside_refuses_before_semel_and_inside_its_413_is_kept() {
    let limit = RequestBodyLimitLayer::new(10);
    let sized = |key: &str| keyed(key).header("content-length", "11").body("12345678901").unwrap();
    let (effects, idempotency) = (Effects::default(), memory());
    let outside = routes(long(&effects)).layer(semel(&idempotency)).layer(limit);
    assert_eq!(send(&outside, sized("k")).await.status, 413);
    let chunked = keyed("k").body("12345678901").unwrap();
    let cut = send(&outside, chunked).await;
    assert_eq!((cut.status.as_u16(), cut.code()), (400, "body-incomplete".to_owned()));
    assert!(!send(&outside, plain("k")).await.replayed(), "neither of them claimed the key");
    let inside = routes(long(&effects)).layer(limit).layer(semel(&idempotency));
    assert_eq!(send(&inside, sized("k2")).await.status, 413);
    let again = send(&inside, sized("k2")).await;
    assert_eq!((again.status.as_u16(), again.replayed()), (413, true));
    assert_eq!(effects.count(), 1);
}

// ---- types ----

/// Layers that make answers of their own need bodies with a default: the stack has to compile without axum too.
#[tokio::test]
async fn all_of_them_stack_around_a_bare_service() {
    let bare = service_fn(|_: Request<Full<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done"))))
    });
    let service = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, SECOND))
        .layer(cors())
        .layer(CompressionLayer::new())
        .layer(semel(&memory()))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, SECOND))
        .layer(cors())
        .service(bare);
    for replayed in [false, true] {
        let seen = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
        assert_eq!((seen.text(), seen.replayed()), ("done", replayed));
    }
}
