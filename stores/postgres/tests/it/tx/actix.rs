//! The transactional level over actix-web: the same commits from another host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, web};
use semel_actix::{IdempotencyMiddleware, LaterTx, Steps, StepsFailed, Tx};
use semel_core::policy::PolicyBuilder;
use semel_store_postgres::{Isolation, Postgres};
use semel_tower::Idempotency;

use super::{Bank, COMPLETED, RELEASED, write};
use crate::support::available;

/// A test in the runtime that actix-web brings.
fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        actix_web::rt::System::new().block_on(body());
    }
}

async fn guard(bank: &Bank, rules: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> IdempotencyMiddleware {
    let store = bank.store().await;
    let transactions = bank.transactions(&store, Isolation::ReadCommitted).await;
    let idempotency = Idempotency::builder(store).build().unwrap();
    IdempotencyMiddleware::new(idempotency.transactional(transactions, rules).unwrap())
}

/// Sends it and gives status, body and whether it is a replay.
macro_rules! send {
    ($app:expr, $key:expr) => {{
        let request = TestRequest::post()
            .uri("/pay")
            .insert_header(("host", "shop.test"))
            .insert_header(("idempotency-key", concat!('"', $key, '"')));
        let answer = call_service(&$app, request.to_request()).await;
        let (status, replayed) =
            (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"));
        (status, String::from_utf8(read_body(answer).await.to_vec()).unwrap(), replayed)
    }};
}

#[test]
fn writes_and_answer_are_one_commit_and_the_retry_is_a_replay() {
    test(async || {
        let bank = Bank::open().await;
        let (name, runs) = (bank.name(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&runs);
        let pay = move |mut tx: Tx<Postgres>| {
            let (name, counted) = (Arc::clone(&name), Arc::clone(&counted));
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                write(&mut tx, &name, "one").await.unwrap();
                HttpResponse::Created().body("paid")
            }
        };
        let guard = guard(&bank, |policy| policy).await;
        let app = init_service(App::new().wrap(guard).route("/pay", web::post().to(pay))).await;
        assert_eq!(send!(app, "k"), (201, "paid".into(), false));
        assert_eq!(send!(app, "k"), (201, "paid".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}

// A declined payment is an answer: its retry gets it, and the half of it that was written is gone.
#[test]
fn an_error_status_rolls_the_writes_back_and_is_replayed() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let pay = move |mut tx: Tx<Postgres>| {
            let name = Arc::clone(&name);
            async move {
                write(&mut tx, &name, "half").await.unwrap();
                HttpResponse::build(StatusCode::CONFLICT).body("declined")
            }
        };
        let guard = guard(&bank, |policy| policy).await;
        let app = init_service(App::new().wrap(guard).route("/pay", web::post().to(pay))).await;
        assert_eq!(send!(app, "k"), (409, "declined".into(), false));
        assert_eq!(send!(app, "k"), (409, "declined".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (0, 1));
    });
}

// The network first, then the database: also where the extractors are actix-web's.
#[test]
fn the_transaction_is_opened_for_what_ends_the_steps_and_not_before() {
    test(async || {
        let bank = Bank::open().await;
        let (name, calls) = (bank.name(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&calls);
        let pay = move |mut steps: Steps, later: LaterTx<Postgres>| {
            let (name, counted) = (Arc::clone(&name), Arc::clone(&counted));
            async move {
                let called = async |_| Ok(counted.fetch_add(1, Ordering::SeqCst));
                steps.run("charge", called).await?;
                let mut tx = later.begin(steps.finish()).await.unwrap();
                write(&mut tx, &name, "charged").await.unwrap();
                Ok::<_, StepsFailed>(HttpResponse::Created().body("paid"))
            }
        };
        let both = async |_: Steps, _: Tx<Postgres>| HttpResponse::Created();
        let guard = guard(&bank, PolicyBuilder::steps).await;
        let right = init_service(App::new().wrap(guard.clone()).route("/pay", web::post().to(pay))).await;
        assert_eq!(send!(right, "k"), (201, "paid".into(), false));
        assert_eq!(send!(right, "k"), (201, "paid".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
        assert_eq!(calls.load(Ordering::SeqCst), 1, "charged once");

        let wrong = init_service(App::new().wrap(guard).route("/pay", web::post().to(both))).await;
        let (status, text, _) = send!(wrong, "both");
        assert_eq!(status, 500);
        assert!(text.contains("still in use"), "{text}");
        assert_eq!(bank.records(RELEASED).await, 1, "the key is free");
    });
}
