//! Isolation levels, and transactions that meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use semel_core::policy::PolicyBuilder;
use semel_store_mysql::{Isolation, MySql, is_conflict};
use semel_tower::core::engine::Override;
use semel_tower::{Run, Tx};
use sqlx::{Connection as _, MySqlConnection};

use super::{App, Bank, COMPLETED, Gate, RELEASED, created, execute, write};
use crate::support::test;

/// As applications have it: the database's errors are 500, and conflicts are named.
struct Failed(sqlx::Error);

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::INTERNAL_SERVER_ERROR, "the database failed").into_response();
        if is_conflict(&self.0) {
            response.extensions_mut().insert(Override::new().conflict());
        }
        response
    }
}

/// Reads what all others read, and writes what they read: of two at once one has to give way.
async fn book(tx: &mut MySqlConnection, name: &str, gate: Option<&Gate>) -> Result<(), sqlx::Error> {
    execute(tx, format!("SELECT count(*) FROM {name}.ledger")).await?;
    if let Some(gate) = gate {
        gate.pass().await;
    }
    write(tx, name, "line").await
}

/// Two that have both read before either writes.
async fn two_at_once(app: &App, gate: &Gate) -> [(u16, String); 2] {
    let send = |key: &'static str| {
        let app = app.clone();
        tokio::spawn(async move {
            let told = app.send(key).await;
            let (status, text) = told.brief();
            (status, text.to_owned())
        })
    };
    let (one, two) = (send("one"), send("two"));
    gate.reached().await;
    gate.reached().await;
    gate.open();
    gate.open();
    [one.await.unwrap(), two.await.unwrap()]
}

async fn serializable(bank: &Bank, reruns: u32, gate: Gate) -> App {
    let name = bank.name();
    let firsts = Arc::new(AtomicUsize::new(0));
    let rules = move |policy: PolicyBuilder| policy.reruns(reruns);
    let handler = async move |mut tx: Tx<MySql>| {
        // Those that run again find the gate open.
        let gate = (firsts.fetch_add(1, Ordering::SeqCst) < 2).then_some(&gate);
        book(&mut tx, &name, gate).await?;
        Ok::<_, Failed>(created())
    };
    bank.serve_with(Isolation::Serializable, rules, handler).await
}

#[test]
fn a_serialization_failure_is_told_and_its_retry_runs() {
    test(async || {
        let (bank, gate) = (Bank::open().await, Gate::new());
        let app = serializable(&bank, 0, gate.clone()).await;
        let mut told = two_at_once(&app, &gate).await;
        told.sort();
        assert_eq!(told[0], (201, "paid".to_owned()));
        // By the handler's own statement, by the completion or by the commit.
        assert!(matches!(told[1].0, 500 | 503), "{told:?}");
        assert_eq!(
            (bank.lines().await, bank.records(COMPLETED).await, bank.records(RELEASED).await),
            (1, 1, 1)
        );
        for key in ["one", "two"] {
            assert_eq!(app.send(key).await.brief(), (201, "paid"));
        }
        assert_eq!((bank.lines().await, app.runs()), (2, 3));
    });
}

#[test]
fn a_serialization_failure_runs_again_in_place_where_its_route_allows_it() {
    test(async || {
        let (bank, gate) = (Bank::open().await, Gate::new());
        let app = serializable(&bank, 3, gate.clone()).await;
        let told = two_at_once(&app, &gate).await;
        assert_eq!(told, [(201, "paid".to_owned()), (201, "paid".to_owned())]);
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (2, 2));
        assert!(app.runs() > 2, "one ran again");
        assert_eq!(
            bank.schema.number("SELECT max(attempt) FROM {s}.semel_record").await,
            1,
            "under the same claim"
        );
    });
}

#[test]
fn a_deadlock_runs_again_in_place() {
    test(async || {
        let (bank, gate) = (Bank::open().await, Gate::new());
        bank.schema.run("CREATE TABLE {s}.account (n int PRIMARY KEY, held int); INSERT INTO {s}.account VALUES (1, 0), (2, 0)").await;
        let (name, firsts, opened) = (bank.name(), Arc::new(AtomicUsize::new(0)), gate.clone());
        let handler = async move |run: Run, mut tx: Tx<MySql>| {
            let order = if run.key.as_str() == "one" { [1, 2] } else { [2, 1] };
            for (step, account) in order.into_iter().enumerate() {
                execute(&mut tx, format!("UPDATE {name}.account SET held = held + 1 WHERE n = {account}"))
                    .await?;
                if step == 0 && firsts.fetch_add(1, Ordering::SeqCst) < 2 {
                    opened.pass().await;
                }
            }
            write(&mut tx, &name, "line").await?;
            Ok::<_, Failed>(created())
        };
        let app = bank.serve_with(Isolation::ReadCommitted, |policy| policy.reruns(2), handler).await;
        let told = two_at_once(&app, &gate).await;
        assert_eq!(told, [(201, "paid".to_owned()), (201, "paid".to_owned())]);
        assert_eq!((bank.lines().await, app.runs()), (2, 3));
        assert_eq!(bank.schema.number("SELECT CAST(sum(held) AS SIGNED) FROM {s}.account").await, 4);
    });
}

async fn move_both(tx: &mut MySqlConnection, name: &str, order: [u8; 2], gate: Option<&Gate>) {
    for (account, gate) in order.into_iter().zip([gate, None]) {
        let text = format!("UPDATE {name}.account SET held = held + 1 WHERE n = {account}");
        let _swallowed = execute(tx, text).await;
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }
}

/// A handler that swallows the error of a deadlock has no transaction any more, and nothing of it is taken for done; nor
/// is what the server did taken for a commit of the handler's.
#[test]
fn a_success_over_a_deadlock_is_no_success_and_its_retry_runs() {
    test(async || {
        for nested in [false, true] {
            let (bank, gate) = (Bank::open().await, Gate::new());
            bank.schema.run("CREATE TABLE {s}.account (n int PRIMARY KEY, held int); INSERT INTO {s}.account VALUES (1, 0), (2, 0)").await;
            let (name, firsts, opened) = (bank.name(), Arc::new(AtomicUsize::new(0)), gate.clone());
            let handler = async move |run: Run, mut tx: Tx<MySql>| {
                let order = if run.key.as_str() == "one" { [1, 2] } else { [2, 1] };
                let first = firsts.fetch_add(1, Ordering::SeqCst) < 2;
                let gate = first.then_some(&opened);
                if nested {
                    let mut inner = tx.begin().await.unwrap();
                    move_both(&mut inner, &name, order, gate).await;
                    let _swallowed = inner.commit().await;
                } else {
                    move_both(&mut tx, &name, order, gate).await;
                }
                let _swallowed = write(&mut tx, &name, "line").await;
                created()
            };
            let app = bank.serve(handler).await;
            let mut told = two_at_once(&app, &gate).await;
            told.sort();
            assert_eq!(told, [(201, "paid".to_owned()), (503, "rolled-back".to_owned())], "{nested}");
            assert_eq!((bank.lines().await, bank.records(RELEASED).await), (1, 1), "{nested}");
            for key in ["one", "two"] {
                assert_eq!(app.send(key).await.brief(), (201, "paid"));
            }
            assert_eq!((bank.lines().await, app.runs(), bank.marks().await), (2, 3, 0), "{nested}");
        }
    });
}

/// It undoes the statement alone, so the handler's word counts.
#[test]
fn a_wait_for_a_row_that_took_too_long_runs_again_in_place() {
    test(async || {
        let bank = Bank::with_session("SET SESSION innodb_lock_wait_timeout = 1").await;
        bank.schema
            .run("CREATE TABLE {s}.account (n int PRIMARY KEY); INSERT INTO {s}.account VALUES (1)")
            .await;
        let mut other = bank.pool.begin().await.unwrap();
        execute(&mut other, format!("SELECT n FROM {}.account FOR UPDATE", bank.name())).await.unwrap();
        let other = Arc::new(std::sync::Mutex::new(Some(other)));
        let name = bank.name();
        let handler = async move |mut tx: Tx<MySql>| {
            write(&mut tx, &name, "line").await?;
            let locked = execute(&mut tx, format!("SELECT n FROM {name}.account FOR UPDATE")).await;
            drop(other.lock().unwrap().take());
            locked?;
            Ok::<_, Failed>(created())
        };
        let app = bank.serve_with(Isolation::ReadCommitted, |policy| policy.reruns(1), handler).await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!((bank.lines().await, app.runs()), (1, 2));
    });
}

/// The completion is a current read, so a renewal is not behind anybody's back: a run may be longer than its lease.
#[test]
fn a_run_that_outlives_its_lease_commits_at_every_level() {
    test(async || {
        for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
            let bank = Bank::open().await;
            let name = bank.name();
            let handler = async move |mut tx: Tx<MySql>| {
                execute(&mut tx, format!("SELECT * FROM {name}.ledger")).await?;
                write(&mut tx, &name, "line").await?;
                execute(&mut tx, "DO SLEEP(1.5)").await?;
                Ok::<_, Failed>(created())
            };
            let rules = |policy: PolicyBuilder| policy.lease(Duration::from_millis(600));
            let app = bank.serve_with(isolation, rules, handler).await;
            assert_eq!(app.send("k").await.brief(), (201, "paid"), "{isolation:?}");
            assert_eq!((bank.lines().await, app.runs()), (1, 1));
            assert_eq!(bank.schema.number("SELECT max(attempt) FROM {s}.semel_record").await, 1);
        }
    });
}

// MariaDB 11.6's default: there a renewal would be a change behind the transaction's back.
#[test]
fn where_a_transaction_keeps_to_its_moment_its_lease_is_left_alone() {
    test(async || {
        let bank = Bank::with_session("SET SESSION innodb_snapshot_isolation = 1").await;
        let name = bank.name();
        let handler = async move |mut tx: Tx<MySql>| {
            execute(&mut tx, format!("SELECT * FROM {name}.ledger")).await?;
            write(&mut tx, &name, "line").await?;
            execute(&mut tx, "DO SLEEP(1.5)").await?;
            Ok::<_, Failed>(created())
        };
        let rules = |policy: PolicyBuilder| policy.lease(Duration::from_millis(2500));
        let app = bank.serve_with(Isolation::RepeatableRead, rules, handler).await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!((bank.lines().await, app.runs()), (1, 1));
    });
}
