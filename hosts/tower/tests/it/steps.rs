//! Steps in axum's handlers, over a file that two processes share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use semel_store_sqlite::SqliteStore;
use semel_tower::{Idempotency, IdempotencyLayer, StepError, Steps, StepsError};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::support::{Seen, bounded, keyed, memory};

/// Calls as `step key`, and a gate in which the mail hangs if it is closed.
#[derive(Clone, Default)]
struct World {
    calls: Arc<Mutex<Vec<String>>>,
    hangs: Arc<Mutex<bool>>,
    hung: Arc<Notify>,
}

impl World {
    fn call(&self, step: &str, key: &str) {
        self.calls.lock().unwrap().push(format!("{step} {key}"));
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

async fn order(State(world): State<World>, mut steps: Steps) -> Result<(StatusCode, String), StepsError> {
    let charge = steps.run("charge", async |key| {
        world.call("charge", key.as_str());
        Ok(17)
    });
    let charge: u64 = charge.await?;
    let mail = steps.run("mail", async |key| {
        world.call("mail", key.as_str());
        let hangs = *world.hangs.lock().unwrap();
        if hangs {
            world.hung.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    mail.await?;
    Ok((StatusCode::CREATED, format!("charge {charge}")))
}

fn app(idempotency: Idempotency, world: &World) -> Router {
    Router::new()
        .route("/orders", post(order))
        .layer(IdempotencyLayer::new(idempotency))
        .with_state(world.clone())
}

async fn send(app: &Router, key: &str) -> Seen {
    let request = keyed(key).body(Body::empty()).unwrap();
    Seen::of(app.clone().oneshot(request).await.unwrap()).await
}

/// The first process stops answering the world in the middle of a step; another one, with a file handle of its own,
/// takes over once the lease is over.
#[tokio::test(flavor = "multi_thread")]
async fn another_process_goes_on_after_the_last_recorded_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let world = World::default();
    let open = || {
        let store = SqliteStore::open(&path).unwrap();
        let lease = Duration::from_millis(300);
        Idempotency::builder(store).steps().lease(lease).max_run(lease).build().unwrap()
    };
    *world.hangs.lock().unwrap() = true;
    let first = app(open(), &world);
    let dies = tokio::spawn(async move { send(&first, "k").await });
    bounded(world.hung.notified()).await;
    *world.hangs.lock().unwrap() = false;
    let second = app(open(), &world);
    let got = bounded(async {
        loop {
            let got = send(&second, "k").await;
            if got.status == StatusCode::CREATED {
                return got;
            }
            assert_eq!(got.code(), "in-flight");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((got.text(), got.replayed()), ("charge 17", false));
    dies.abort();
    let calls = world.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(calls[0].starts_with("charge") && calls[1].starts_with("mail"));
    // It may have been sent: it is sent again under the same key, which is what a provider tells them apart by.
    assert_eq!(calls[1], calls[2]);
    assert_eq!(calls.iter().collect::<HashSet<_>>().len(), 2);
}

/// The errors of steps are answers by themselves, and settle the run as they say.
#[tokio::test]
async fn an_error_of_a_step_is_an_answer_that_frees_or_keeps_the_key() {
    async fn busy(mut steps: Steps) -> Result<String, StepsError> {
        steps.run("charge", async |_| Err(StepError::retry("busy"))).await
    }
    async fn declined(mut steps: Steps) -> Result<String, StepsError> {
        steps.run("charge", async |_| Err(StepError::final_("declined"))).await
    }
    let layer =
        IdempotencyLayer::new(memory().route(semel_tower::core::policy::PolicyBuilder::steps).unwrap());
    let app = Router::new().route("/busy", post(busy)).route("/declined", post(declined)).layer(layer);
    let send = async |path: &str| {
        let request = keyed(path.trim_start_matches('/')).uri(path).body(Body::empty()).unwrap();
        Seen::of(app.clone().oneshot(request).await.unwrap()).await
    };
    for _ in 0..2 {
        let busy = send("/busy").await;
        assert_eq!((busy.status.as_u16(), busy.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
        assert!(!busy.replayed() && !busy.headers.contains_key("idempotency-outcome"));
    }
    assert!(!send("/declined").await.replayed());
    let retry = send("/declined").await;
    assert_eq!((retry.status.as_u16(), retry.replayed()), (500, true));
}

#[tokio::test]
async fn a_route_without_steps_says_what_to_set() {
    let got = send(&app(memory(), &World::default()), "k").await;
    assert_eq!(got.status.as_u16(), 500);
    assert!(got.text().contains("`steps`"), "{}", got.text());
}
