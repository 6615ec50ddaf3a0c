//! Runs that end badly, or without their client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::Full;
use semel_tower::core::record::State;
use semel_tower::{Address, IdempotencyLayer};
use tokio::sync::Semaphore;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::Instrument as _;
use tracing_subscriber::prelude::*;

use crate::support::{Effects, Seen, bounded, memory, order};

/// An error says nothing about effects: the caller gets it as it is, and the retry does not run.
#[tokio::test]
async fn an_error_of_the_service_passes_through_and_leaves_the_outcome_unknown() {
    let effects = Effects::default();
    let ran = effects.clone();
    let breaks = service_fn(move |_: Request<Full<Bytes>>| {
        ran.take();
        async { Err::<Response<Full<Bytes>>, _>(std::io::Error::other("the connection broke")) }
    });
    let idempotency = memory();
    let service = IdempotencyLayer::new(idempotency.clone()).layer(breaks);
    let error = service.clone().oneshot(order("k")).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection broke");
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
    let record = idempotency.inspect(&Address::key("k")).await.unwrap().unwrap();
    assert_eq!(record.state, State::Unknown);
    assert_eq!(effects.count(), 1);
}

/// Whoever waits has to see the panic, and not an answer that hides it; in `call` itself and in its future.
#[tokio::test]
async fn a_panic_reaches_the_caller_with_its_payload_and_leaves_the_outcome_unknown() {
    for in_call in [true, false] {
        let effects = Effects::default();
        let ran = effects.clone();
        let panics = service_fn(move |_: Request<Full<Bytes>>| {
            ran.take();
            assert!(!in_call, "out of stock");
            async { panic!("out of stock") }
        });
        let panics = panics.map_result(|answer: Result<Response<Full<Bytes>>, Infallible>| answer);
        let service = IdempotencyLayer::new(memory()).layer(panics);
        let outcome = std::panic::AssertUnwindSafe(service.clone().oneshot(order("k"))).catch_unwind().await;
        let Err(payload) = outcome else { panic!("the panic is lost") };
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"out of stock"), "in call: {in_call}");
        let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
        assert_eq!(again.code(), "outcome-unknown");
        assert_eq!(effects.count(), 1);
    }
}

/// Shutdown: a run whose client has gone is still under way, and `axum::serve` would not wait for it.
#[tokio::test]
async fn drain_waits_for_a_run_whose_client_has_gone_and_says_when_it_does_not_end() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let (ran, held) = (effects.clone(), Arc::clone(&gate));
    let slow = service_fn(move |_: Request<Full<Bytes>>| {
        let (ran, held) = (ran.clone(), Arc::clone(&held));
        async move {
            ran.take();
            held.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done")))
        }
    });
    let idempotency = memory();
    let service = IdempotencyLayer::new(idempotency.clone()).layer(slow);
    let client = tokio::spawn(service.clone().oneshot(order("k")));
    effects.begun().await;
    client.abort();
    assert!(client.await.is_err());
    let undrained = idempotency.drain(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(undrained.running, 1);
    let draining = tokio::spawn({
        let idempotency = idempotency.clone();
        async move { idempotency.drain(Duration::from_secs(20)).await }
    });
    gate.add_permits(1);
    bounded(draining).await.unwrap().unwrap();
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert!(again.replayed());
    assert_eq!((again.text(), effects.count()), ("done", 1));
}

/// Logs of the handler without the request's span cannot be traced to the request.
#[tokio::test]
async fn the_span_of_the_request_travels_into_its_task() {
    let _default = tracing_subscriber::registry().set_default();
    let tell = service_fn(|_: Request<Full<Bytes>>| async {
        let name = tracing::Span::current().metadata().map_or("none", |span| span.name());
        Ok::<_, Infallible>(Response::new(name.to_owned()))
    });
    let service = IdempotencyLayer::new(memory()).layer(tell);
    let span = tracing::info_span!("request");
    let seen = Seen::of(service.oneshot(order("k")).instrument(span).await.unwrap()).await;
    assert_eq!(seen.text(), "request");
}
