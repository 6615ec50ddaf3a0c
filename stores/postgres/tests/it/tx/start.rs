//! What is looked at before the first request.

use semel_core::store::StoreErrorKind;
use semel_store_postgres::Isolation;
use semel_tower::Idempotency;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::{Bank, pool};
use crate::support::{run_at, test, url};

fn elsewhere(change: impl FnOnce(PgConnectOptions) -> PgConnectOptions) -> String {
    let options: PgConnectOptions = url().parse().unwrap();
    change(options).to_url_lossy().to_string()
}

// A copy of a database has its names, its secret and its records.
#[test]
fn a_pool_to_another_database_is_refused() {
    test(async || {
        let bank = Bank::open().await;
        let other = format!("{}_copy", bank.schema.0);
        run_at(&url(), &format!("CREATE DATABASE {other}")).await;
        let there = elsewhere(|options| options.database(&other));
        drop(
            semel_store_postgres::PostgresStore::builder(&there).schema(&bank.schema.0).open().await.unwrap(),
        );
        let store = bank.store().await;
        let error = store.transactions(pool(1, &there).await).open().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert!(error.to_string().contains("another database"), "{error}");
        run_at(&url(), &format!("DROP DATABASE {other} WITH (FORCE)")).await;
    });
}

#[test]
fn a_user_who_may_not_complete_records_is_told_which_rights_to_grant() {
    test(async || {
        let bank = Bank::open().await;
        let user = format!("{}_user", bank.schema.0);
        bank.schema.run(&format!("CREATE ROLE {user} LOGIN")).await;
        let theirs = elsewhere(|options| options.username(&user));
        let store = bank.store().await;
        let error = store.transactions(pool(1, &theirs).await).open().await.unwrap_err().to_string();
        let name = &bank.schema.0;
        for grant in [
            format!("GRANT USAGE ON SCHEMA {name} TO {user}"),
            format!("GRANT SELECT, UPDATE ON {name}.record TO {user}"),
        ] {
            assert!(error.contains(&grant), "{error}");
            bank.schema.run(&grant).await;
        }
        store.transactions(pool(1, &theirs).await).open().await.unwrap();
        bank.schema.run(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await;
    });
}

#[test]
fn transactions_of_another_store_are_refused() {
    test(async || {
        let bank = Bank::open().await;
        let (one, two) = (bank.store().await, bank.store().await);
        let transactions = bank.transactions(&one, Isolation::ReadCommitted).await;
        let error = Idempotency::builder(two).transactional(transactions.clone()).build().unwrap_err();
        assert!(error.to_string().contains("of the very store"), "{error}");
        // A layer that changes answers would read what it did not write.
        let plain = Idempotency::builder(one).build().unwrap();
        assert!(plain.transactional(transactions, |policy| policy).is_ok());
    });
}
