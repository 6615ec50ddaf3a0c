//! What is looked at before the first request.

use semel_core::store::StoreErrorKind;
use semel_store_mysql::Isolation;
use semel_testkit::mysql::Server;
use semel_tower::Idempotency;

use super::{Bank, pool};
use crate::support::{server as url, test};

// A copy of a server has its databases, its secrets and its records.
#[test]
fn a_pool_to_another_server_is_refused() {
    test(async || {
        let Some(other) = Server::start(&[]).await.unwrap() else { return };
        let bank = Bank::open().await;
        let store = bank.store().await;
        let error = store.transactions(pool(1, &other.url()).await).open().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert!(error.to_string().contains("another server"), "{error}");
    });
}

#[test]
fn a_user_who_may_not_complete_records_is_told_which_rights_to_grant() {
    test(async || {
        let bank = Bank::open().await;
        let (name, user) = (&bank.schema.0, format!("u{:012x}", fastrand::u64(..1 << 48)));
        bank.schema.run(&format!("CREATE USER {user} IDENTIFIED BY 'x'")).await;
        let theirs = format!("mysql://{user}:x@{}", url().rsplit_once('@').unwrap().1);
        let store = bank.store().await;
        let error = store.transactions(pool(1, &theirs).await).open().await.unwrap_err().to_string();
        for (rights, table) in [("SELECT, UPDATE", "semel_record"), ("SELECT, INSERT, DELETE", "semel_mark")]
        {
            let table = format!("`{name}`.{table}");
            assert!(error.contains(&format!("GRANT {rights} ON {table}")), "{error}");
            assert!(store.transactions(pool(1, &theirs).await).open().await.is_err());
            bank.schema.run(&format!("GRANT {rights} ON {table} TO {user}")).await;
        }
        store.transactions(pool(1, &theirs).await).open().await.unwrap();
        bank.schema.run(&format!("DROP USER {user}")).await;
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
