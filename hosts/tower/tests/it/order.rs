//! Layers that know who asks, how often, and what was asked, on each side of Semel: with `layers.rs`, what
//! `docs/layer-order.md` says.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::{HeaderName, HeaderValue, StatusCode};
use semel_tower::core::scope::Scope;
use semel_tower::{Address, Idempotency, IdempotencyLayer};
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::support::{Effects, Seen, bounded, keyed, memory};

fn semel(idempotency: &Idempotency) -> IdempotencyLayer {
    IdempotencyLayer::new(idempotency.clone())
}

fn orders(effects: &Effects) -> Router {
    let effects = effects.clone();
    Router::new().route("/orders", post(async move || effects.take().to_string()))
}

async fn send(app: &Router, request: http::Request<Body>) -> Seen {
    Seen::of(bounded(app.clone().oneshot(request)).await.unwrap()).await
}

fn plain(key: &str) -> http::Request<Body> {
    keyed(key).body("{}".into()).unwrap()
}

// ---- who asks ----

/// Lets `alice` and `bob` in by a field that Semel does not know, and says who it is.
async fn let_in(mut request: Request, next: Next) -> Response {
    let user = match request.headers().get("x-session").map(HeaderValue::as_bytes) {
        Some(b"of-alice") => "alice",
        Some(b"of-bob") => "bob",
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    request.extensions_mut().insert(User(user));
    next.run(request).await
}

#[derive(Clone)]
struct User(&'static str);

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

fn by(session: &str) -> http::Request<Body> {
    keyed(KEY).header("x-session", session).body("{}".into()).unwrap()
}

/// A replay does not reach what is inside, so whoever has the key is not asked who they are.
#[tokio::test]
async fn inside_authentication_is_not_asked_at_a_replay() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = orders(&effects).layer(from_fn(let_in)).layer(semel(&idempotency));
    assert_eq!(send(&app, by("of-alice")).await.text(), "1");
    let stranger = send(&app, by("made-up")).await;
    assert_eq!((stranger.status.as_u16(), stranger.text(), stranger.replayed()), (200, "1", true));
}

#[tokio::test]
async fn outside_authentication_is_asked_each_time_and_names_whose_key_it_is() {
    let effects = Effects::default();
    let user = Scope::from_fn(|parts| Some(parts.extensions.get::<User>()?.0.to_owned()));
    let idempotency = memory().route(|policy| policy.scope(user)).unwrap();
    let app = orders(&effects).layer(semel(&idempotency)).layer(from_fn(let_in));
    assert_eq!(send(&app, by("of-alice")).await.text(), "1");
    assert_eq!(send(&app, by("made-up")).await.status, 401);
    // Two users with one key: two operations, and each gets its own answer again.
    assert_eq!(send(&app, by("of-bob")).await.text(), "2");
    for (session, text) in [("of-alice", "1"), ("of-bob", "2")] {
        let again = send(&app, by(session)).await;
        assert_eq!((again.text(), again.replayed()), (text, true));
    }
    assert_eq!(effects.count(), 2);
}

/// Without a scope, what authentication found out is not seen: the key has to be secret enough by itself.
#[tokio::test]
async fn outside_authentication_without_a_scope_shares_keys_between_its_users() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = orders(&effects).layer(semel(&idempotency)).layer(from_fn(let_in));
    assert_eq!(send(&app, by("of-alice")).await.text(), "1");
    let bob = send(&app, by("of-bob")).await;
    assert_eq!((bob.text(), bob.replayed()), ("1", true), "documented, and the reason for the scope");
}

// ---- how often ----

/// So many requests, and 429 for all others.
fn at_most(
    places: usize,
) -> impl Fn(Request, Next) -> futures_util::future::BoxFuture<'static, Response> + Clone {
    let places = Arc::new(Semaphore::new(places));
    move |request, next| {
        let places = Arc::clone(&places);
        Box::pin(async move {
            match places.try_acquire() {
                Ok(place) => {
                    place.forget();
                    next.run(request).await
                }
                Err(_) => StatusCode::TOO_MANY_REQUESTS.into_response(),
            }
        })
    }
}

/// Duplicates are answered before the limit sees them: a flood of them goes to the store.
#[tokio::test]
async fn inside_a_rate_limit_counts_no_duplicates_and_its_429_frees_the_key() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = orders(&effects).layer(from_fn(at_most(1))).layer(semel(&idempotency));
    for replayed in [false, true, true, true] {
        let seen = send(&app, plain("k")).await;
        assert_eq!((seen.status.as_u16(), seen.replayed()), (200, replayed));
    }
    // What it refuses has been claimed and released, and may come again.
    for _ in 0..2 {
        let seen = send(&app, plain("k2")).await;
        assert_eq!((seen.status.as_u16(), seen.replayed()), (429, false));
    }
    assert_eq!(effects.count(), 1);
}

#[tokio::test]
async fn outside_a_rate_limit_counts_each_try_and_claims_nothing_for_what_it_refuses() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = orders(&effects).layer(semel(&idempotency)).layer(from_fn(at_most(2)));
    assert_eq!(send(&app, plain("k")).await.text(), "1");
    assert!(send(&app, plain("k")).await.replayed());
    assert_eq!(send(&app, plain("k")).await.status, 429);
    assert_eq!(send(&app, plain("k2")).await.status, 429);
    let address = Address::key("k2");
    assert!(idempotency.inspect(&address).await.unwrap().is_none(), "no claim, no record");
}

/// A handler that never ends, and counts itself before it does anything else.
fn endless(effects: &Effects) -> Router {
    let effects = effects.clone();
    let handler = async move || {
        effects.take();
        std::future::pending::<()>().await;
    };
    Router::new().route("/orders", post(handler))
}

/// Tower's load-shed errs, and an error of what is inside says nothing about what was done.
#[tokio::test]
async fn inside_load_shed_leaves_the_outcome_unknown_of_what_never_ran() {
    for inside in [true, false] {
        let (effects, idempotency) = (Effects::default(), memory());
        let told = HandleErrorLayer::new(async |_: tower::BoxError| StatusCode::SERVICE_UNAVAILABLE);
        let shed = (LoadShedLayer::new(), GlobalConcurrencyLimitLayer::new(1));
        let app = if inside {
            endless(&effects).layer((told, semel(&idempotency), shed.0, shed.1))
        } else {
            endless(&effects).layer(semel(&idempotency)).layer((told, shed.0, shed.1))
        };
        let _first = tokio::spawn(app.clone().oneshot(plain("first")));
        effects.begun().await;
        assert_eq!(send(&app, plain("second")).await.status, 503, "the one place is taken");
        let retry = send(&app, plain("second")).await;
        let status = if inside { 409 } else { 503 };
        assert_eq!((retry.status.as_u16(), effects.count()), (status, 1));
        if inside {
            assert_eq!(retry.code(), "outcome-unknown");
        }
    }
}

// ---- what was asked ----

/// Counts what passes.
fn traced(
    effects: &Effects,
) -> TraceLayer<
    tower_http::classify::SharedClassifier<tower_http::classify::ServerErrorsAsFailures>,
    tower_http::trace::DefaultMakeSpan,
    impl Fn(&http::Request<Body>, &tracing::Span) + Clone + use<>,
> {
    let effects = effects.clone();
    TraceLayer::new_for_http().on_request(move |_: &http::Request<Body>, _: &tracing::Span| {
        effects.take();
    })
}

#[tokio::test]
async fn inside_tracing_sees_no_replay_and_no_refusal_and_outside_it_sees_all() {
    for (inside, seen) in [(true, 1), (false, 3)] {
        let (effects, traces, idempotency) = (Effects::default(), Effects::default(), memory());
        let app = orders(&effects);
        let app = if inside {
            app.layer(traced(&traces)).layer(semel(&idempotency))
        } else {
            app.layer(semel(&idempotency)).layer(traced(&traces))
        };
        send(&app, plain("k")).await;
        assert!(send(&app, plain("k")).await.replayed());
        assert_eq!(send(&app, keyed("k").body("[]".into()).unwrap()).await.code(), "key-reused");
        assert_eq!((effects.count(), traces.count()), (1, seen));
    }
}

/// A request id is of one moment, and not replayed: only outside does every answer have one, and its own.
#[tokio::test]
async fn outside_a_request_id_is_on_each_answer_and_inside_on_first_runs_alone() {
    let name = HeaderName::from_static("x-request-id");
    for inside in [true, false] {
        let (effects, idempotency) = (Effects::default(), memory());
        let ids = ServiceBuilder::new()
            .layer(SetRequestIdLayer::new(name.clone(), MakeRequestUuid))
            .layer(PropagateRequestIdLayer::new(name.clone()));
        let app = orders(&effects);
        let app = if inside {
            app.layer(ids).layer(semel(&idempotency))
        } else {
            app.layer(semel(&idempotency)).layer(ids)
        };
        let (first, again) = (send(&app, plain("k")).await, send(&app, plain("k")).await);
        assert!(again.replayed());
        let id = |seen: &Seen| seen.headers.get(&name).cloned();
        assert!(id(&first).is_some());
        assert_eq!(id(&again).is_some(), !inside);
        assert_ne!(id(&first), id(&again));
    }
}

// ---- axum's own order ----

/// Axum's `layer` wraps what was added before it, and nothing else.
#[tokio::test]
async fn a_route_that_is_added_after_the_layer_is_not_guarded() {
    let (effects, idempotency) = (Effects::default(), memory());
    let late = effects.clone();
    let app = Router::new()
        .layer(semel(&idempotency))
        .route("/orders", post(async move || late.take().to_string()));
    for text in ["1", "2"] {
        let seen = send(&app, plain("k")).await;
        assert_eq!((seen.text(), seen.replayed()), (text, false));
    }
    let guarded = orders(&effects).layer(semel(&idempotency));
    for replayed in [false, true] {
        assert_eq!(send(&guarded, plain("k")).await.replayed(), replayed);
    }
}

/// The inner one meets the claim of the outer one.
#[tokio::test]
async fn two_layers_over_one_store_refuse_everything_until_one_has_a_namespace_of_its_own() {
    let (effects, idempotency) = (Effects::default(), memory());
    let app = orders(&effects).layer(semel(&idempotency)).layer(semel(&idempotency));
    let seen = send(&app, plain("k")).await;
    assert_eq!((seen.status.as_u16(), seen.code(), effects.count()), (409, "in-flight".to_owned(), 0));
    let own = idempotency.route(|policy| policy.namespace("inner")).unwrap();
    let app = orders(&effects).layer(semel(&own)).layer(semel(&idempotency));
    for replayed in [false, true] {
        let seen = send(&app, plain("k2")).await;
        assert_eq!((seen.text(), seen.replayed()), ("1", replayed));
    }
}

/// Axum takes bodies up to 2 MB by itself; Semel's own limit is lower, and comes first.
#[tokio::test]
async fn a_body_that_axum_would_take_is_refused_until_the_route_raises_its_limit() {
    let large = || keyed("k").body(vec![b'x'; 1_500_000].into()).unwrap();
    let length = async |body: bytes::Bytes| body.len().to_string();
    let app = || Router::new().route("/orders", post(length));
    let idempotency = memory();
    let refused = send(&app().layer(semel(&idempotency)), large()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (413, "content-too-large".to_owned()));
    let wide = idempotency.route(|policy| policy.body_limit(2 << 20)).unwrap();
    assert_eq!(send(&app().layer(semel(&wide)), large()).await.text(), "1500000");
}

/// A limit outside gives a client's place back when the client goes, while its run goes on. Inside, the place is the
/// run's; whether it is waited for before the claim depends on whether the limit's readiness reaches Semel, which it
/// does not from one `layer` of axum's to the next.
#[tokio::test(start_paused = true)]
async fn inside_a_concurrency_limit_bounds_runs_and_outside_only_their_clients() {
    for (at, most, claimed) in [("outside", 2, true), ("inside", 1, true), ("inside, together", 1, false)] {
        let (effects, idempotency) = (Effects::default(), memory());
        let limit = GlobalConcurrencyLimitLayer::new(1);
        let app = match at {
            "outside" => endless(&effects).layer(semel(&idempotency)).layer(limit),
            "inside" => endless(&effects).layer(limit).layer(semel(&idempotency)),
            _ => endless(&effects).layer((semel(&idempotency), limit)),
        };
        let patience = Duration::from_millis(200);
        let app = app.layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, patience));
        for key in ["first", "second"] {
            assert_eq!(send(&app, plain(key)).await.status, 504, "its client goes");
        }
        assert_eq!(effects.count(), most, "{at}: at once, by a limit of one");
        let second = idempotency.inspect(&Address::key("second")).await.unwrap();
        assert_eq!(second.is_some(), claimed, "{at}");
    }
}
