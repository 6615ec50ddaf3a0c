//! Steps beside a transaction: their notes are written to the very record that the transaction completes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::request::Parts;
use semel_core::policy::PolicyBuilder;
use semel_store_postgres::{Isolation, Postgres};
use semel_tower::{Steps, StepsError, Tx};

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
            let handler = async move |mut steps: Steps, parts: Parts| {
                charge(&mut steps, "charge", &counted).await.unwrap();
                steps.finish();
                let mut tx = Tx::<Postgres>::take(&parts.extensions).await.unwrap();
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

/// A step while the transaction is open changes the record behind its back. What that costs is as documented.
#[test]
fn a_step_within_the_transaction_is_harmless_at_read_committed_and_one_conflict_above() {
    test(async || {
        for (isolation, told) in
            [(Isolation::ReadCommitted, (201, "paid")), (Isolation::RepeatableRead, (503, "rolled-back"))]
        {
            let bank = Bank::open().await;
            let (name, calls) = (bank.name(), Arc::<AtomicUsize>::default());
            let counted = Arc::clone(&calls);
            let handler = async move |mut steps: Steps, mut tx: Tx<Postgres>| {
                write(&mut tx, &name, "before").await.unwrap();
                charge(&mut steps, "charge", &counted).await.unwrap();
                steps.finish();
                created()
            };
            let app = bank.serve_with(isolation, PolicyBuilder::steps, handler).await;
            assert_eq!(app.send("k").await.brief(), told, "{isolation:?}");
            let conflicts = i64::from(told.0 == 503);
            assert_eq!((bank.lines().await, bank.records(RELEASED).await), (1 - conflicts, conflicts));
            // The step stands, so its second run notes nothing.
            assert_eq!(app.send("k").await.brief(), (201, "paid"), "{isolation:?}");
            assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
            assert_eq!(calls.load(Ordering::SeqCst), 1, "charged once");
        }
    });
}
