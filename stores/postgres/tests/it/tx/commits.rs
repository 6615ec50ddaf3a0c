//! What is committed, what is rolled back, and what a retry finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::{Router, routing::post};
use semel_store_postgres::{Isolation, Postgres};
use semel_tower::core::engine::Override;
use semel_tower::core::policy::keep::Outcome;
use semel_tower::core::store::Lender as _;
use semel_tower::{Idempotency, IdempotencyLayer, Tx};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::{App, Bank, COMPLETED, Gate, RELEASED, app, created, write};
use crate::server::through;
use crate::support::{Schema, test, url};

#[test]
fn writes_and_answer_are_one_commit_and_the_retry_is_a_replay() {
    test(async || {
        let bank = Bank::open().await;
        let (name, gate) = (bank.name(), Gate::new());
        let handler = {
            let gate = gate.clone();
            async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "one").await.unwrap();
                gate.pass().await;
                created()
            }
        };
        let app = bank.serve(handler).await;
        let first = tokio::spawn({
            let app = app.clone();
            async move { app.send("k").await }
        });
        gate.reached().await;
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (0, 0), "nothing before the answer");
        assert_eq!(app.send("k").await.brief(), (409, "in-flight"));
        gate.open();
        assert_eq!(first.await.unwrap().brief(), (201, "paid"));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
        let again = app.send("k").await;
        assert!(again.replayed());
        assert_eq!((again.brief(), app.runs(), bank.lines().await), ((201, "paid"), 1, 1));
    });
}

// A declined payment is an answer: its retry gets it, and the half of it that was written is gone.
#[test]
fn an_error_status_rolls_the_writes_back_and_is_replayed() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "half").await.unwrap();
                (StatusCode::CONFLICT, "declined")
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (409, "declined"));
        let again = app.send("k").await;
        assert!(again.replayed());
        assert_eq!((again.brief(), app.runs()), ((409, "declined"), 1));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (0, 1));
    });
}

#[test]
fn a_handler_that_says_commit_keeps_its_writes_whatever_the_status() {
    test(async || {
        for (status, way) in [(402, 0), (500, 1), (409, 2)] {
            let bank = Bank::open().await;
            let name = bank.name();
            let app = bank
                .serve(async move |mut tx: Tx<Postgres>| {
                    write(&mut tx, &name, "kept").await.unwrap();
                    let mut response = (StatusCode::from_u16(status).unwrap(), "declined").into_response();
                    match way {
                        0 => drop(response.extensions_mut().insert(Override::new().commit())),
                        1 => drop(response.extensions_mut().insert(Outcome::Applied)),
                        _ => {
                            let applied = Outcome::Applied.to_header_value();
                            response.headers_mut().insert("idempotency-outcome", applied);
                        }
                    }
                    response
                })
                .await;
            let first = app.send("k").await;
            assert_eq!(first.brief(), (status, "declined"));
            assert!(!first.headers.contains_key("idempotency-outcome"));
            assert!(app.send("k").await.replayed());
            assert_eq!((bank.lines().await, app.runs()), (1, 1), "{status}");
        }
    });
}

/// The second run of each finds nothing of the first.
#[test]
fn what_says_not_done_is_rolled_back_and_runs_again() {
    test(async || {
        for status in [500, 503, 429, 308, 408, 502, 504] {
            let bank = Bank::open().await;
            let (name, runs) = (bank.name(), Arc::new(AtomicUsize::new(0)));
            let app = bank
                .serve(async move |mut tx: Tx<Postgres>| {
                    write(&mut tx, &name, "line").await.unwrap();
                    if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                        return (StatusCode::from_u16(status).unwrap(), "not now");
                    }
                    created()
                })
                .await;
            assert_eq!(app.send("k").await.brief(), (status, "not now"));
            assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1), "{status}");
            assert_eq!(app.send("k").await.brief(), (201, "paid"), "{status}");
            assert_eq!(bank.lines().await, 1);
        }
    });
}

#[test]
fn a_panic_is_rolled_back_before_its_key_is_free() {
    test(async || {
        let bank = Bank::open().await;
        let (name, runs) = (bank.name(), Arc::new(AtomicUsize::new(0)));
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                assert!(runs.fetch_add(1, Ordering::SeqCst) > 0, "the handler's own fault");
                created()
            })
            .await;
        let panicked = tokio::spawn({
            let app = app.clone();
            async move { app.send("k").await }
        });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 1);
    });
}

/// A service of tower that has no extractors, and an error where axum has an answer.
#[test]
fn an_error_of_a_tower_service_is_rolled_back_and_passes_through() {
    test(async || {
        let bank = Bank::open().await;
        let store = bank.store().await;
        let transactions = bank.transactions(&store, Isolation::ReadCommitted).await;
        let idempotency =
            Idempotency::builder(store).transactional(transactions).require_key().build().unwrap();
        let (name, runs) = (bank.name(), Arc::new(AtomicUsize::new(0)));
        let inner = tower::service_fn(move |request: Request<Body>| {
            let (name, runs) = (Arc::clone(&name), Arc::clone(&runs));
            async move {
                let mut tx = Tx::<Postgres>::take(request.extensions()).await?;
                write(&mut tx, &name, "line").await?;
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Err(axum::BoxError::from("broken"));
                }
                Ok(Response::new(Body::from("done")))
            }
        });
        let service = tower::Layer::layer(&IdempotencyLayer::new(idempotency), inner);
        let ask = || Request::post("/").header("idempotency-key", "\"k\"").body(Body::empty()).unwrap();
        assert_eq!(service.clone().oneshot(ask()).await.unwrap_err().to_string(), "broken");
        assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
        assert_eq!(service.oneshot(ask()).await.unwrap().status(), 200);
        assert_eq!(bank.lines().await, 1);
    });
}

#[test]
fn a_client_that_hangs_up_in_the_middle_finds_its_answer_and_one_line() {
    test(async || {
        let bank = Bank::open().await;
        let (name, gate) = (bank.name(), Gate::new());
        let handler = {
            let gate = gate.clone();
            async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                gate.pass().await;
                created()
            }
        };
        let app = bank.serve(handler).await;
        let client = tokio::spawn({
            let app = app.clone();
            async move { app.send("k").await }
        });
        gate.reached().await;
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
        gate.open();
        app.idempotency.drain(Duration::from_secs(20)).await.unwrap();
        let again = app.send("k").await;
        assert!(again.replayed());
        assert_eq!((again.brief(), bank.lines().await, app.runs()), ((201, "paid"), 1, 1));
    });
}

/// Two processes: the second takes over while the first is at work, and the first can commit nothing any more.
#[test]
fn a_run_that_lost_its_lease_commits_nothing_and_answers_with_the_winners() {
    test(async || {
        for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead] {
            let bank = Bank::open().await;
            let gate = Gate::new();
            let opened = |note: &'static str, gate: Option<Gate>| {
                let name = bank.name();
                async move |mut tx: Tx<Postgres>| {
                    write(&mut tx, &name, note).await.unwrap();
                    if let Some(gate) = gate {
                        gate.pass().await;
                    }
                    (StatusCode::CREATED, note)
                }
            };
            let store = || async {
                bank.schema.builder().clock(semel_store_postgres::Clock::Shifted).open().await.unwrap()
            };
            let (one, two) = (store().await, store().await);
            let mover = store().await;
            let (tx_one, tx_two) =
                (bank.transactions(&one, isolation).await, bank.transactions(&two, isolation).await);
            let first = app(one, tx_one, |policy| policy, opened("first", Some(gate.clone())));
            let second = app(two, tx_two, |policy| policy, opened("second", None));
            let late = tokio::spawn(async move { first.send("k").await });
            gate.reached().await;
            mover.shift_clock(Duration::from_secs(31)).await.unwrap();
            assert_eq!(second.send("k").await.brief(), (201, "second"));
            gate.open();
            let late = late.await.unwrap();
            assert!(late.replayed());
            assert_eq!(late.brief(), (201, "second"), "{isolation:?}");
            let text = "SELECT count(*) FROM {s}.ledger WHERE note = 'second'";
            assert_eq!((bank.lines().await, bank.schema.number(text).await), (1, 1), "{isolation:?}");
        }
    });
}

#[test]
fn what_a_transaction_makes_is_made_or_undone_with_it_tables_too() {
    test(async || {
        for (status, there) in [(201, 1), (422, 0)] {
            let bank = Bank::open().await;
            let name = bank.name();
            let app = bank
                .serve(async move |mut tx: Tx<Postgres>| {
                    super::execute(&mut tx, format!("CREATE TABLE {name}.made (a int)")).await.unwrap();
                    (StatusCode::from_u16(status).unwrap(), "made")
                })
                .await;
            assert_eq!(app.send("k").await.brief(), (status, "made"));
            let text = "SELECT count(*) FROM pg_tables WHERE schemaname = '{s}' AND tablename = 'made'";
            assert_eq!(bank.schema.number(text).await, there);
        }
    });
}

/// Nested transactions of sqlx are savepoints of ours.
#[test]
fn a_nested_transaction_is_a_savepoint_and_its_commit_commits_nothing() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                let mut kept = tx.begin().await.unwrap();
                write(&mut kept, &name, "kept").await.unwrap();
                kept.commit().await.unwrap();
                let mut dropped = tx.begin().await.unwrap();
                write(&mut dropped, &name, "dropped").await.unwrap();
                drop(dropped);
                // Left open: part of the work all the same.
                let mut open = tx.begin().await.unwrap();
                write(&mut open, &name, "left open").await.unwrap();
                std::mem::forget(open);
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 2);
    });
}

#[test]
fn it_is_taken_again_after_it_was_given_back_and_by_one_at_a_time() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |request: Request<Body>| {
                let mut tx = Tx::<Postgres>::take(request.extensions()).await.unwrap();
                write(&mut tx, &name, "first").await.unwrap();
                let taken = Tx::<Postgres>::take(request.extensions()).await.unwrap_err();
                assert!(taken.to_string().contains("is taken"), "{taken}");
                drop(tx);
                let slot = request.extensions().get::<semel_store_postgres::TxSlot>().unwrap();
                let mut tx = Postgres::take(slot).await.unwrap();
                write(&mut tx, &name, "second").await.unwrap();
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 2);
    });
}

/// Bookkeeping has connections of its own, and no renewal waits for a handler's.
#[test]
fn fifty_requests_over_a_pool_of_two_longer_than_the_lease_run_once_each() {
    test(async || {
        let bank = Bank::with_pool(2, &url()).await;
        let name = bank.name();
        let rules = |policy: semel_core::policy::PolicyBuilder| policy.lease(Duration::from_millis(600));
        let handler = async move |mut tx: Tx<Postgres>| {
            write(&mut tx, &name, "line").await.unwrap();
            // Longer than the lease for those who wait for a connection: 25 rounds of two.
            super::execute(&mut tx, "SELECT pg_sleep(0.1)").await.unwrap();
            created()
        };
        let app = bank.serve_with(Isolation::ReadCommitted, rules, handler).await;
        let all = (0..50).map(|n| {
            let app = app.clone();
            tokio::spawn(async move { app.send(&format!("k{n}")).await.status })
        });
        for told in all.collect::<Vec<_>>() {
            assert_eq!(told.await.unwrap(), 201);
        }
        assert_eq!((bank.lines().await, app.runs(), bank.records(COMPLETED).await), (50, 50, 50));
        assert_eq!(bank.schema.number("SELECT max(attempt) FROM {s}.record").await, 1, "nobody took over");
    });
}

/// One claim, one beginning, the handler's own, one completion, one commit.
#[test]
fn a_run_costs_four_round_trips_beside_its_own_statements() {
    test(async || {
        let schema = Schema::new();
        let (cable, through) = through(&url());
        let builder = schema.builder();
        drop(builder.open().await.unwrap());
        schema.run("CREATE TABLE {s}.ledger (note text NOT NULL)").await;
        let store = semel_store_postgres::PostgresStore::builder(&through)
            .schema(&schema.0)
            .connections(1)
            .listen_url(url())
            .open()
            .await
            .unwrap();
        let gate = watch::Sender::new(true);
        let pool = gated(&gate, &through).await;
        let transactions = store.transactions(pool.clone()).open().await.unwrap();
        let name: Arc<str> = Arc::from(schema.0.as_str());
        let app: App = app(
            store,
            transactions,
            |policy| policy,
            async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                created()
            },
        );
        // The first prepares its statement.
        assert_eq!(app.send("k0").await.status, 201);
        idle(&pool).await;
        for n in 1..4 {
            let _before = cable.new_trips();
            gate.send_replace(false);
            assert_eq!(app.send(&format!("k{n}")).await.status, 201);
            assert_eq!(cable.new_trips(), 5, "claim, begin, the insert, completion, commit");
            // The pool's own look at a connection that it gets back, after the answer.
            gate.send_replace(true);
            idle(&pool).await;
        }
    });
}

/// A pool of one connection, which is given back while the gate is open.
async fn gated(gate: &watch::Sender<bool>, url: &str) -> PgPool {
    let gate = gate.clone();
    let options = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let options = options.after_release(move |_, _| {
        let mut gate = gate.subscribe();
        Box::pin(async move {
            let _opened = gate.wait_for(|open| *open).await;
            Ok(true)
        })
    });
    options.connect(url).await.unwrap()
}

/// Until the pool's connection is back.
async fn idle(pool: &PgPool) {
    while pool.num_idle() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The outer router has no key: nothing to complete a record with.
#[test]
fn a_request_without_a_key_is_told_that_it_has_no_transaction() {
    test(async || {
        let bank = Bank::open().await;
        let app = bank.serve(async |_tx: Tx<Postgres>| created()).await;
        let request = Request::post("/pay").body(Body::empty()).unwrap();
        let told = app.send_request(request).await;
        assert_eq!(told.status, 500);
        assert!(told.body.contains("require a key"), "{}", told.body);
        let bare: Router = Router::new().route("/pay", post(async |_tx: Tx<Postgres>| created()));
        let request = Request::post("/pay").body(Body::empty()).unwrap();
        assert_eq!(bare.oneshot(request).await.unwrap().status(), 500);
    });
}

// A full pool once answered with a time-out of the whole client.
#[test]
fn a_pool_without_a_free_connection_says_so_and_the_retry_runs() {
    test(async || {
        let bank = Bank::open().await;
        let small = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(200))
            .connect(&url())
            .await
            .unwrap();
        let bank = Bank { pool: small, ..bank };
        let (name, gate) = (bank.name(), Gate::new());
        let handler = {
            let gate = gate.clone();
            async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                gate.pass().await;
                created()
            }
        };
        let app = bank.serve(handler).await;
        let first = tokio::spawn({
            let app = app.clone();
            async move { app.send("one").await }
        });
        gate.reached().await;
        let refused = app.send("two").await;
        assert_eq!(refused.brief(), (503, "no transaction could be begun"));
        assert_eq!(refused.headers["retry-after"], "1");
        gate.open();
        assert_eq!(first.await.unwrap().status, 201);
        gate.open();
        assert_eq!(app.send("two").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 2);
    });
}
