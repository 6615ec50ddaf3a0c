//! Steps beside a transaction: their notes are written to the very record that the transaction completes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::request::Parts;
use axum::response::IntoResponse as _;
use semel_core::policy::PolicyBuilder;
use semel_store_mysql::{Isolation, MySql};
use semel_tower::{LaterTx, Steps, StepsError, Tx};

use super::{Bank, COMPLETED, RELEASED, created, write};
use crate::support::test;

async fn charge(steps: &mut Steps, name: &str, calls: &AtomicUsize) -> Result<u64, StepsError> {
    let called = async |_| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok(7)
    };
    steps.run(name, called).await
}

// The network first, then the database, as it should be.
#[test]
fn steps_that_are_over_before_the_transaction_are_no_conflict_at_any_isolation() {
    test(async || {
        for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
            let bank = Bank::open().await;
            let (name, calls) = (bank.name(), Arc::<AtomicUsize>::default());
            let counted = Arc::clone(&calls);
            let handler = async move |mut steps: Steps, later: LaterTx<MySql>| {
                charge(&mut steps, "charge", &counted).await.unwrap();
                let mut tx = later.begin(steps.finish()).await.unwrap();
                write(&mut tx, &name, "charged").await.unwrap();
                created()
            };
            let app = bank.serve_with(isolation, PolicyBuilder::steps, handler).await;
            assert_eq!(app.send("k").await.brief(), (201, "paid"), "{isolation:?}");
            assert!(app.send("k").await.replayed());
            assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
            assert_eq!((calls.load(Ordering::SeqCst), app.runs()), (1, 1), "{isolation:?}");
        }
    });
}

// A transaction that waits for the network keeps its locks for as long as somebody else takes.
#[test]
fn no_transaction_is_opened_beside_steps_that_are_in_use_and_no_step_begins_beside_a_transaction() {
    test(async || {
        let bank = Bank::open().await;
        let handler = async |_steps: Steps, _tx: Tx<MySql>| created();
        let app = bank.serve_with(Isolation::ReadCommitted, PolicyBuilder::steps, handler).await;
        let refused = app.send("both").await;
        assert_eq!(refused.status, 500);
        assert!(refused.body.contains("still in use"), "{}", refused.body);

        let handler = async |_tx: Tx<MySql>, _steps: Steps| created();
        let app = bank.serve_with(Isolation::ReadCommitted, PolicyBuilder::steps, handler).await;
        let refused = app.send("both, the other way").await;
        assert_eq!(refused.status, 500);
        assert!(refused.body.contains("are over"), "{}", refused.body);

        // Neither is the program's word for good: mended, it goes on with the same key.
        assert_eq!((bank.records(RELEASED).await, bank.records(COMPLETED).await), (2, 0));
    });
}

// Whoever takes the transaction by the request's extensions has no extractor that could refuse.
#[test]
fn a_transaction_taken_by_extensions_ends_the_steps() {
    test(async || {
        let bank = Bank::open().await;
        let (name, calls) = (bank.name(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&calls);
        let handler = async move |parts: Parts| {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            charge(&mut steps, "charge", &counted).await.unwrap();
            assert!(Tx::<MySql>::take(&parts.extensions).await.is_err(), "the steps are in use");
            drop(steps);
            let mut tx = Tx::<MySql>::take(&parts.extensions).await.unwrap();
            write(&mut tx, &name, "charged").await.unwrap();
            match Steps::take(&parts.extensions) {
                Ok(_) => panic!("steps beside a transaction"),
                Err(refused) => assert!(refused.to_string().contains("are over"), "{refused}"),
            }
            created().into_response()
        };
        let app = bank.serve_with(Isolation::ReadCommitted, PolicyBuilder::steps, handler).await;
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

// A route for which nothing was said of steps has no phases to keep apart.
#[test]
fn a_transaction_after_steps_is_refused_where_there_are_none() {
    test(async || {
        let bank = Bank::open().await;
        let handler = async |_later: LaterTx<MySql>| created();
        let app = bank.serve_with(Isolation::ReadCommitted, |policy| policy, handler).await;
        let refused = app.send("k").await;
        assert_eq!(refused.status, 500);
        assert!(refused.body.contains("set `steps`"), "{}", refused.body);
    });
}
