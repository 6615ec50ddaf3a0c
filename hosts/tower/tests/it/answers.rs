//! Answers that are made again from a reference, over axum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::StatusCode;
use semel_store_memory::MemoryStore;
use semel_tower::core::engine::Override;
use semel_tower::core::policy::Answers;
use semel_tower::core::record::Reference;
use semel_tower::{BoxError, Idempotency, IdempotencyLayer};
use tower::ServiceExt as _;

use crate::support::{Effects, Seen, keyed};

/// A route whose answers hold a key that is shown once, and made again without it.
fn app(effects: &Effects, balance: &Arc<AtomicUsize>) -> Router {
    let (effects, balance) = (effects.clone(), balance.clone());
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build().unwrap();
    let accounts = idempotency.route(|policy| policy.answers(Answers::Reference)).unwrap().on_replay(
        move |account: Bytes, parts| {
            let now = balance.load(Ordering::SeqCst);
            async move {
                let said = format!("{} has {now}, {}", str::from_utf8(&account)?, parts.uri.path());
                Ok::<Response, BoxError>((StatusCode::CREATED, said).into_response())
            }
        },
    );
    let create = move || async move {
        let mut answer = format!("account {} with the key hunter2", effects.take()).into_response();
        let reference = Reference::new("account 1").unwrap();
        answer.extensions_mut().insert(Override::new().reference(reference));
        answer
    };
    let routes = Router::new().route("/accounts", post(create)).layer(IdempotencyLayer::new(accounts));
    Router::new().nest("/v1", routes)
}

#[tokio::test]
async fn a_replay_asks_the_application_and_is_current() {
    let (effects, balance) = (Effects::default(), Arc::new(AtomicUsize::new(5)));
    let app = app(&effects, &balance);
    let send = async || {
        let request = keyed("k").uri("/v1/accounts").body(Body::empty()).unwrap();
        Seen::of(app.clone().oneshot(request).await.unwrap()).await
    };
    let first = send().await;
    assert_eq!((first.text(), first.replayed()), ("account 1 with the key hunter2", false));
    for balanced in [5, 9] {
        balance.store(balanced, Ordering::SeqCst);
        let retry = send().await;
        // The client's own target, with the prefix that the router cut off.
        assert_eq!(retry.text(), format!("account 1 has {balanced}, /v1/accounts"));
        assert_eq!((retry.status, retry.replayed()), (StatusCode::CREATED, true));
    }
    assert_eq!(effects.count(), 1);
}
