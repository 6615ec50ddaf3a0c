//! Handlers that do with their transaction what they should not.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use semel_store_mysql::{Isolation, MySql};
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
            async move |mut tx: Tx<MySql>| {
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
            let handler = async move |mut tx: Tx<MySql>| {
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
                .serve(async move |mut tx: Tx<MySql>| {
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
fn a_handler_that_commits_by_itself_is_found_out_and_runs_no_second_time() {
    test(async || {
        for (text, status) in [
            ("COMMIT", 201),
            ("COMMIT; BEGIN", 201),
            ("COMMIT AND CHAIN", 201),
            ("START TRANSACTION READ WRITE", 201),
            ("SET autocommit = 1", 201),
            ("SET autocommit = 0; SET autocommit = 1", 201),
            ("COMMIT; START TRANSACTION READ WRITE; SAVEPOINT semel_run", 201),
            // Each of these commits what came before it.
            ("CREATE TABLE {s}.made (a INT)", 201),
            ("TRUNCATE TABLE {s}.other", 201),
            ("LOCK TABLES {s}.other WRITE; UNLOCK TABLES", 201),
            // Neither may the key be freed.
            ("COMMIT", 500),
            ("CREATE TABLE {s}.made (a INT)", 409),
            ("COMMIT; SELECT nonsense", 503),
        ] {
            let bank = Bank::open().await;
            bank.schema.run("CREATE TABLE {s}.other (a INT)").await;
            let (name, sent) = (bank.name(), text.replace("{s}", &bank.name()));
            let app = bank
                .serve(async move |mut tx: Tx<MySql>| {
                    write(&mut tx, &name, "before").await.unwrap();
                    let _as_it_may = execute(&mut tx, sent.as_str()).await;
                    (StatusCode::from_u16(status).unwrap(), "done")
                })
                .await;
            assert_eq!(app.send("k").await.brief(), (500, "outcome-unknown"), "{text} {status}");
            assert_eq!(app.send("k").await.brief(), (409, "replay-unavailable"), "{text} {status}");
            assert_eq!((bank.lines().await, app.runs(), bank.marks().await), (1, 1, 0), "{text} {status}");
            // Its connection is not handed on.
            write(&mut bank.pool.acquire().await.unwrap(), &bank.name(), "outside").await.unwrap();
            assert_eq!(bank.lines().await, 2, "{text}");
        }
    });
}

/// Nothing is committed by what follows it: the session is read-only by then.
#[test]
fn a_handler_that_rolls_back_by_itself_has_done_nothing_and_may_run_again() {
    test(async || {
        for text in ["ROLLBACK", "ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"] {
            for status in [201, 422, 500] {
                let bank = Bank::open().await;
                let (name, refused) = (bank.name(), Arc::new(std::sync::Mutex::new(None)));
                let seen = Arc::clone(&refused);
                let app = bank
                    .serve(async move |mut tx: Tx<MySql>| {
                        write(&mut tx, &name, "before").await.unwrap();
                        execute(&mut tx, text).await.unwrap();
                        *seen.lock().unwrap() = Some(write(&mut tx, &name, "after").await.is_err());
                        (StatusCode::from_u16(status).unwrap(), "done")
                    })
                    .await;
                let told = app.send("k").await;
                if status == 500 {
                    assert_eq!(told.brief(), (500, "done"), "{text}");
                } else {
                    assert_eq!(told.brief(), (503, "rolled-back"), "{text} {status}");
                }
                assert_eq!(*refused.lock().unwrap(), Some(text != "ROLLBACK AND CHAIN"), "{text}");
                assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1), "{text} {status}");
            }
        }
    });
}

// It does not end a transaction here, as it does elsewhere: what the handler makes of it is its own business.
#[test]
fn a_failed_statement_undoes_itself_alone() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = bank
            .serve(async move |mut tx: Tx<MySql>| {
                write(&mut tx, &name, "line").await.unwrap();
                execute(&mut tx, "SELECT nonsense").await.unwrap_err();
                created()
            })
            .await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
    });
}
