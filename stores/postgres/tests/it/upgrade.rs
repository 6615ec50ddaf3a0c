//! Programs of different versions on one schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use semel_core::record::PrincipalTag;
use semel_core::store::{Begin, Begun, Quota, Store as _, StoreErrorKind as Kind};
use semel_store_postgres::PostgresStore;
use tokio::task::JoinSet;

use crate::open::refused;
use crate::support::{Schema, ask, body, completed, id, test};

/// As the first version left it.
const BACK_TO_1: &str = "DROP INDEX {s}.record_principal; ALTER TABLE {s}.meta DROP COLUMN oldest;
    UPDATE {s}.meta SET version = 1";

// A deploy must not stop those who are still at work.
#[test]
fn instances_of_the_first_version_go_on_while_eight_others_upgrade_at_once() {
    test(async || {
        let schema = Schema::new();
        let first = PostgresStore::migrations(&schema.0).unwrap().remove(0);
        schema.run(&format!("BEGIN; {}; COMMIT", first.sql)).await;
        // Its statements are those of the first version, and prepared before the schema changes.
        let running = Arc::new(schema.open().await);
        completed(&running, 0, "of version 1").await;
        schema.run(BACK_TO_1).await;
        let stop = Arc::<AtomicBool>::default();
        let work = tokio::spawn({
            let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
            async move {
                let mut key = 1;
                while !stop.load(Ordering::SeqCst) {
                    completed(&running, key, "meanwhile").await;
                    key += 1;
                }
                key
            }
        });
        let mut opening = JoinSet::new();
        for _ in 0..8 {
            opening.spawn(schema.builder().open());
        }
        let stores: Vec<PostgresStore> = opening.join_all().await.into_iter().map(Result::unwrap).collect();
        stop.store(true, Ordering::SeqCst);
        let done = work.await.unwrap();
        assert_eq!(schema.number("SELECT version FROM {s}.meta").await, 2);
        for store in &stores {
            for key in [0, done - 1] {
                assert!(matches!(store.begin(&ask(key)).await.unwrap(), Begun::Settled(_)), "{key}");
            }
        }
        completed(&running, done, "by the old one").await;
        let record = stores[0].read(&id(done)).await.unwrap().unwrap();
        assert_eq!(body(&record.completion), "by the old one");
        // By hand, in advance, as the migration advises.
        schema.run(BACK_TO_1).await;
        let index = "CREATE INDEX record_principal ON {s}.record (principal) WHERE principal IS NOT NULL";
        schema.run(index).await;
        assert!(schema.builder().open().await.is_ok());
    });
}

// Half of the instances are a version behind in every rolling deploy, and all of them after one that is taken back.
#[test]
fn a_schema_of_the_next_version_is_used_until_it_says_that_it_may_not_be() {
    test(async || {
        let schema = Schema::new();
        let running = schema.open().await;
        completed(&running, 1, "before").await;
        schema
            .run(
                "ALTER TABLE {s}.record ADD COLUMN later text; CREATE INDEX ON {s}.record (later);
                 UPDATE {s}.meta SET version = 3",
            )
            .await;
        for store in [&running, &schema.open().await, &schema.builder().migrate(false).open().await.unwrap()]
        {
            assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Settled(_)));
            let key = fastrand::u32(10..);
            completed(store, key, "after").await;
            assert!(store.inspect(&id(key)).await.unwrap().is_some());
        }
        schema.run("UPDATE {s}.meta SET oldest = 3").await;
        refused(schema.builder(), Kind::NewerSchema, &[&schema.0, "version 3", "knows 2"]).await;
    });
}

// Without an index each claim with a quota reads the whole table.
#[test]
fn a_quota_is_counted_by_an_index() {
    test(async || {
        let schema = Schema::new();
        let store = schema.open().await;
        for (key, whose) in (0..).zip([1, 1, 2]) {
            let quota = Some(Quota { records: Some(2), bytes: None });
            let ask = Begin { principal: Some(PrincipalTag::from_bytes([whose; 32])), quota, ..ask(key) };
            assert!(matches!(store.begin(&ask).await.unwrap(), Begun::Acquired(_)));
        }
        // What a connection has counted is told when it ends.
        drop(store);
        let scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = '{s}'
            AND indexrelname = 'record_principal'";
        let give_up = Instant::now() + Duration::from_secs(20);
        while schema.number(scans).await < 3 {
            assert!(Instant::now() < give_up, "not by the index");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
