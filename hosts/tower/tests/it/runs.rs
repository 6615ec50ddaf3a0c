//! Runs that end badly, or without their client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use semel_store_memory::MemoryStore;
use semel_tower::core::policy::PolicyBuilder;
use semel_tower::core::record::State;
use semel_tower::{Address, Idempotency, IdempotencyLayer};
use tokio::sync::Semaphore;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::Instrument as _;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan as _;

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

/// The task is lost, not the client: it is told that nobody knows, and so is its retry.
#[tokio::test]
async fn a_body_that_panics_while_it_is_read_leaves_the_outcome_unknown() {
    let effects = Effects::default();
    let ran = effects.clone();
    let breaks = service_fn(move |_: Request<Full<Bytes>>| {
        ran.take();
        async {
            let body = Full::<Bytes>::from("done").map_frame(|_| -> Frame<Bytes> { panic!("in the body") });
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let idempotency = memory();
    let service = IdempotencyLayer::new(idempotency.clone()).layer(breaks);
    let first = Seen::of(bounded(service.clone().oneshot(order("k"))).await.unwrap()).await;
    assert_eq!((first.status.as_u16(), first.code()), (500, "outcome-unknown".to_owned()));
    idempotency.drain(Duration::from_secs(20)).await.unwrap();
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
    assert_eq!(effects.count(), 1);
}

/// A store that takes no claim stops the route, unless the route says that running twice is the lesser harm.
#[tokio::test]
async fn a_store_that_takes_no_claim_refuses_or_runs_unguarded_as_the_route_says() {
    let effects = Effects::default();
    let ran = effects.clone();
    let tell = service_fn(move |request: Request<Full<Bytes>>| {
        ran.take();
        async move {
            let attempt = request.headers().contains_key("idempotency-attempt");
            let body = request.into_body().collect().await?.to_bytes();
            Ok::<_, Infallible>(Response::new(format!("{attempt} {}", body.len())))
        }
    });
    let full = MemoryStore::builder().max_entries(1).build();
    let closed = Idempotency::builder(full).build().unwrap();
    let open = closed.route(PolicyBuilder::fail_open).unwrap();
    let [closed, open] = [closed, open].map(|rules| IdempotencyLayer::new(rules).layer(tell.clone()));
    assert_eq!(Seen::of(closed.clone().oneshot(order("k1")).await.unwrap()).await.text(), "true 2");
    let refused = Seen::of(closed.clone().oneshot(order("k2")).await.unwrap()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "store-unavailable".to_owned()));
    assert_eq!(effects.count(), 1);
    for effect in 2..=3 {
        let ran = Seen::of(open.clone().oneshot(order("k2")).await.unwrap()).await;
        assert_eq!((ran.text(), ran.replayed(), effects.count()), ("false 2", false, effect));
    }
    assert!(
        Seen::of(open.oneshot(order("k1")).await.unwrap()).await.replayed(),
        "what it knows it still replays"
    );
}

/// An answer that breaks off half-way is none: nothing of it is sent as if it were whole.
#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_outcome_unknown_and_none_of_it_is_sent() {
    let effects = Effects::default();
    let ran = effects.clone();
    let breaks = service_fn(move |_: Request<Full<Bytes>>| {
        ran.take();
        async {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
            sender.send_data(Bytes::from("half of")).await.unwrap();
            sender.abort(std::io::Error::other("the connection broke"));
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let service = IdempotencyLayer::new(memory()).layer(breaks);
    let first = Seen::of(bounded(service.clone().oneshot(order("k"))).await.unwrap()).await;
    assert_eq!((first.status.as_u16(), first.code()), (500, "outcome-unknown".to_owned()));
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
    assert_eq!(effects.count(), 1);
}

/// A handler that hangs must not hold its client for ever; when it ends after all, its word counts.
#[tokio::test]
async fn past_max_run_the_client_is_told_and_a_late_answer_still_wins() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let (ran, held) = (effects.clone(), Arc::clone(&gate));
    let hangs = service_fn(move |_: Request<Full<Bytes>>| {
        let (ran, held) = (ran.clone(), Arc::clone(&held));
        async move {
            ran.take();
            held.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("late")))
        }
    });
    let tested = Idempotency::test();
    let idempotency = tested.builder.max_run(Duration::from_mins(1)).build().unwrap();
    let service = IdempotencyLayer::new(idempotency.clone()).layer(hangs);
    let client = tokio::spawn(service.clone().oneshot(order("k")));
    effects.begun().await;
    tested.clock.advance(Duration::from_secs(59)).await;
    assert!(!client.is_finished());
    tested.clock.advance(Duration::from_secs(3)).await;
    let told = Seen::of(bounded(client).await.unwrap().unwrap()).await;
    assert_eq!((told.status.as_u16(), told.code()), (500, "outcome-unknown".to_owned()));
    let early = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    assert_eq!((early.status.as_u16(), early.code()), (409, "outcome-unknown".to_owned()));
    gate.add_permits(1);
    let drained = bounded(async {
        while idempotency.running() > 0 {
            tokio::task::yield_now().await;
        }
    });
    drained.await;
    let late = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((late.text(), late.replayed(), effects.count()), ("late", true, 1));
}

/// Logs of the handler without the request's span cannot be traced to the request.
#[tokio::test]
async fn the_span_of_the_request_travels_into_its_task() {
    let _default = tracing_subscriber::registry().set_default();
    let tell = service_fn(|_: Request<Full<Bytes>>| async {
        let names = tracing::Span::current().with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<tracing_subscriber::Registry>().unwrap().span(id).unwrap();
            span.scope().from_root().map(|span| span.name()).collect::<Vec<_>>().join("/")
        });
        Ok::<_, Infallible>(Response::new(names.unwrap_or_default()))
    });
    let service = IdempotencyLayer::new(memory()).layer(tell);
    let span = tracing::info_span!("request");
    let seen = Seen::of(service.oneshot(order("k")).instrument(span).await.unwrap()).await;
    assert_eq!(seen.text(), "request/idempotency");
}

/// A panic in the middle of an answer once reached the server's connection, and the client got nothing at all.
#[tokio::test]
async fn a_body_that_panics_leaves_the_outcome_unknown_and_says_so() {
    let answers = service_fn(|_: Request<Full<Bytes>>| async {
        let frames = futures_util::stream::iter([0])
            .map(|_| -> Result<http_body::Frame<Bytes>, Infallible> { panic!("out of ink") });
        Ok::<_, Infallible>(Response::new(http_body_util::StreamBody::new(frames)))
    });
    let service = IdempotencyLayer::new(memory()).layer(answers);
    let seen = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    assert_eq!((seen.status.as_u16(), seen.code()), (500, "outcome-unknown".to_owned()));
    let again = Seen::of(service.oneshot(order("k")).await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "outcome-unknown".to_owned()));
}
