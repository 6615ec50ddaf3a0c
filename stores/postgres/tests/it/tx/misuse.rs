//! Handlers that do with their transaction what they should not.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use semel_store_postgres::{Isolation, Postgres};
use semel_tower::Tx;

use super::{Bank, COMPLETED, Gate, RELEASED, created, execute, write};
use crate::support::test;

#[test]
fn a_transaction_in_a_spawned_task_is_never_committed_and_its_handler_told() {
    test(async || {
        let bank = Bank::open().await;
        let (name, gate) = (bank.name(), Gate::new());
        let ended = Arc::new(tokio::sync::Notify::new());
        let handler = {
            let (gate, ended) = (gate.clone(), Arc::clone(&ended));
            async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "before").await.unwrap();
                tokio::spawn(async move {
                    gate.pass().await;
                    // It still works, and for nothing.
                    let _lost = write(&mut tx, &name, "after").await;
                    drop(tx);
                    ended.notify_one();
                });
                created()
            }
        };
        let app = bank.serve(handler).await;
        let told = app.send("k").await;
        assert_eq!(told.brief(), (500, "rolled-back"));
        assert!(
            told.body.contains("\"retry\":\"stop\"") && told.body.contains("still in use"),
            "{}",
            told.body
        );
        gate.reached().await;
        gate.open();
        ended.notified().await;
        assert_eq!(
            (bank.lines().await, bank.records(COMPLETED).await, bank.records(RELEASED).await),
            (0, 0, 1)
        );
    });
}

/// A short body that ends gives it back; one without an end is refused.
#[test]
fn an_answer_may_use_its_transaction_only_if_it_ends() {
    test(async || {
        for endless in [false, true] {
            let bank = Bank::open().await;
            let name = bank.name();
            let handler = async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                let body = futures_util::stream::unfold((tx, 0), move |(tx, n)| async move {
                    if n == 3 {
                        if !endless {
                            return None;
                        }
                        std::future::pending::<()>().await;
                    }
                    Some((Ok::<_, std::io::Error>(Bytes::from_static(b"row ")), (tx, n + 1)))
                });
                Response::new(Body::from_stream(body))
            };
            let rules =
                |policy: semel_core::policy::PolicyBuilder| policy.capture_for(Duration::from_millis(200));
            let app = bank.serve_with(Isolation::ReadCommitted, rules, handler).await;
            let told = app.send("k").await;
            if endless {
                assert_eq!(told.brief(), (500, "rolled-back"));
                assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
            } else {
                assert_eq!(told.brief(), (200, "row row row "));
                assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
            }
        }
    });
}

#[test]
fn an_answer_that_cannot_be_recorded_is_refused_and_rolled_back() {
    test(async || {
        let large = || "x".repeat(2 << 20).into_response();
        let events = || ([("content-type", "text/event-stream")], "data: 1\n\n").into_response();
        let unknown_length = || {
            let parts = (0..40).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 64 << 10])));
            Response::new(Body::from_stream(futures_util::stream::iter(parts)))
        };
        let broken = || {
            let parts = [Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("broken"))];
            Response::new(Body::from_stream(futures_util::stream::iter(parts)))
        };
        let shapes: [fn() -> Response; 4] = [large, events, unknown_length, broken];
        for (n, shape) in shapes.into_iter().enumerate() {
            let bank = Bank::open().await;
            let name = bank.name();
            let app = bank
                .serve(async move |mut tx: Tx<Postgres>| {
                    write(&mut tx, &name, "line").await.unwrap();
                    shape()
                })
                .await;
            let told = app.send("k").await;
            assert_eq!(told.brief(), (500, "rolled-back"), "{n}");
            let says = if n == 3 { "broke off" } else { "short and has an end" };
            assert!(told.body.contains(says), "{}", told.body);
            assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1), "{n}");
        }
    });
}

/// What was committed by the handler cannot be undone, so nothing runs again, and nobody is told a success.
#[test]
fn a_handler_that_ends_the_transaction_itself_is_found_out_and_runs_no_second_time() {
    test(async || {
        for (n, text, status, lines) in [
            (0, "COMMIT", 201, 1),
            (1, "COMMIT; BEGIN", 201, 1),
            (2, "COMMIT; BEGIN; SET LOCAL semel.tx = '0'", 201, 1),
            // What comes after is on its own.
            (3, "ROLLBACK", 201, 1),
            (4, "ROLLBACK; BEGIN", 201, 0),
            // Neither may the key be freed.
            (5, "COMMIT", 500, 1),
            (6, "COMMIT; BEGIN", 409, 1),
            (7, "COMMIT; BEGIN; SELECT 1/0", 201, 1),
        ] {
            let bank = Bank::open().await;
            let name = bank.name();
            let app = bank
                .serve(async move |mut tx: Tx<Postgres>| {
                    if n != 3 {
                        write(&mut tx, &name, "before").await.unwrap();
                    }
                    let _as_it_may = execute(&mut tx, text).await;
                    if n == 3 {
                        write(&mut tx, &name, "after").await.unwrap();
                    }
                    (StatusCode::from_u16(status).unwrap(), "done")
                })
                .await;
            assert_eq!(app.send("k").await.brief(), (500, "outcome-unknown"), "{text} {status}");
            assert_eq!(app.send("k").await.brief(), (409, "replay-unavailable"), "{text} {status}");
            assert_eq!((bank.lines().await, app.runs()), (lines, 1), "{text} {status}");
            // Its connection is not handed on.
            let clean = execute(&mut bank.pool.acquire().await.unwrap(), "VACUUM pg_catalog.pg_am").await;
            assert!(clean.is_ok(), "outside of a transaction: {clean:?}");
        }
    });
}

// The mark alone is no proof: it goes with the session's settings.
#[test]
fn a_handler_that_resets_its_session_is_rolled_back_and_not_taken_for_done() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                execute(&mut tx, "RESET ALL").await.unwrap();
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (503, "rolled-back"));
        assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
    });
}

// A swallowed error leaves a transaction in which nothing more can be done: COMMIT of it would be a ROLLBACK that the
// server calls success.
#[test]
fn a_success_over_a_failed_statement_is_no_success() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                let _swallowed = execute(&mut tx, "SELECT 1/0").await;
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (500, "rolled-back"));
        assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
    });
}

#[test]
fn a_constraint_that_fails_at_the_commit_is_an_error_and_leaves_nothing() {
    test(async || {
        let bank = Bank::open().await;
        bank.schema
            .run("CREATE TABLE {s}.once (n int, UNIQUE (n) DEFERRABLE INITIALLY DEFERRED); INSERT INTO {s}.once VALUES (1)")
            .await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "line").await.unwrap();
                execute(&mut tx, format!("INSERT INTO {name}.once VALUES (1)")).await.unwrap();
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (500, "rolled-back"));
        assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1));
        bank.schema.run("DELETE FROM {s}.once").await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!((bank.lines().await, app.runs()), (1, 2));
    });
}
