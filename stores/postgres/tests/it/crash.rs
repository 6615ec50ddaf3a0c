//! A server that is stopped, restarted and killed under load.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use semel_core::record::{Retention, State};
use semel_core::store::{Begun, Settled, Store as _};
use semel_store_postgres::PostgresStore;
use semel_testkit::postgres::Server;
use tokio::task::JoinSet;

use crate::support::{answer, ask, body, id, private};

/// What was acknowledged: the fence under which a key was completed.
type Acknowledged = Arc<Mutex<HashMap<u32, u64>>>;

// A crash must take back nothing that a caller was shown, and a claim that is sent again must find itself.
#[test]
fn killed_under_load_it_has_lost_nothing_that_was_acknowledged() {
    private(async || {
        // As a database whose default gives durability away.
        let Some(mut server) = Server::start(&["synchronous_commit=off"]).await.unwrap() else { return };
        let store = Arc::new(PostgresStore::open(server.url()).await.unwrap());
        let acknowledged = Acknowledged::default();
        let (mut next, mut fences) = (0, HashSet::new());
        for round in 0..4 {
            let stop = Arc::new(AtomicBool::new(false));
            let mut workers = JoinSet::new();
            for _ in 0..8 {
                let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
                let (stop, from) = (Arc::clone(&stop), next);
                next += 1_000_000;
                workers.spawn(async move { work(&store, from, &stop, &acknowledged).await });
            }
            let before = acknowledged.lock().unwrap().len();
            let give_up = Instant::now() + Duration::from_secs(30);
            while acknowledged.lock().unwrap().len() < before + 100 {
                assert!(Instant::now() < give_up, "nothing goes on");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if round % 2 == 0 {
                server.kill().unwrap();
            } else {
                server.stop().unwrap();
            }
            server.resume().await.unwrap();
            stop.store(true, Ordering::SeqCst);
            while let Some(granted) = workers.join_next().await {
                for fence in granted.unwrap() {
                    assert!(fences.insert(fence), "fence {fence} twice");
                }
            }
        }
        let acknowledged = acknowledged.lock().unwrap().clone();
        for (key, fence) in acknowledged {
            let record = store.read(&id(key)).await.unwrap().unwrap_or_else(|| panic!("{key} is gone"));
            assert_eq!(record.view.fence.get(), fence);
            assert_eq!(body(&record.completion), format!("by {fence}"));
        }
    });
}

/// A step repeated until it is answered, as a driver does.
macro_rules! until_answered {
    ($step:expr) => {{
        let give_up = Instant::now() + Duration::from_mins(1);
        loop {
            match $step.await {
                Ok(answer) => break answer,
                Err(error) => assert!(error.can_retry() && Instant::now() < give_up, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }};
}

/// Claims and completes keys until told to stop. Says which fences it was granted.
async fn work(store: &PostgresStore, from: u32, stop: &AtomicBool, acknowledged: &Acknowledged) -> Vec<u64> {
    let mut fences = Vec::new();
    for key in from.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // The same claim each time: it must never be in its own way.
        let ask = ask(key);
        let begun = until_answered!(store.begin(&ask));
        let Begun::Acquired(acquired) = begun else { panic!("{key}: {begun:?}") };
        assert_eq!(acquired.attempt, 1, "{key} overtook itself");
        let fence = acquired.lease.fence().get();
        let text = answer(format!("by {fence}"));
        let keep = Retention::default();
        let settled = until_answered!(store.complete(acquired.lease.as_ref(), &text, &keep));
        assert_eq!(settled, Settled::Applied);
        acknowledged.lock().unwrap().insert(key, fence);
        fences.push(fence);
    }
    fences
}

// An answer that a hung server never gives must not hold its caller for ever.
#[test]
fn a_server_that_does_not_answer_is_a_time_out() {
    private(async || {
        let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        let builder = PostgresStore::builder(server.url()).timeout(Duration::from_millis(500));
        let store = builder.connections(1).open().await.unwrap();
        let mut lock = sqlx::PgPool::connect(&server.url()).await.unwrap().begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE semel.record").execute(&mut *lock).await.unwrap();
        let error = store.begin(&ask(1)).await.unwrap_err();
        assert_eq!(error.kind(), semel_core::store::StoreErrorKind::Timeout);
        lock.rollback().await.unwrap();
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Acquired(_)));
    });
}

// An idle pool full of connections to a server that was restarted must not fail a request each.
#[test]
fn a_restart_between_two_requests_is_not_noticed() {
    private(async || {
        let Some(mut server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        let store = Arc::new(PostgresStore::open(server.url()).await.unwrap());
        let mut claims = JoinSet::new();
        for key in 0..8 {
            let store = Arc::clone(&store);
            claims.spawn(async move { store.begin(&ask(key)).await.unwrap() });
        }
        claims.join_all().await;
        server.stop().unwrap();
        server.resume().await.unwrap();
        for key in 8..16 {
            assert!(matches!(store.begin(&ask(key)).await.unwrap(), Begun::Acquired(_)));
        }
        assert_eq!(store.inspect(&id(0)).await.unwrap().unwrap().state, State::InFlight);
    });
}

// An update that changes nothing, or a number taken for nothing, writes the log and waits for the disk.
#[test]
fn what_changes_nothing_writes_no_log() {
    private(async || {
        let quiet = ["wal_level=minimal", "max_wal_senders=0", "autovacuum=off", "checkpoint_timeout=1d"];
        let Some(server) = Server::start(&quiet).await.unwrap() else { return };
        for pooled in [false, true] {
            let builder = PostgresStore::builder(server.url());
            let builder = if pooled { builder.transaction_pooling() } else { builder };
            let store = builder.schema(format!("pooled_{pooled}")).open().await.unwrap();
            crate::support::completed(&store, 1, "kept").await;
            let _held = crate::support::claimed(&store, 2).await;
            let unknown = crate::support::claimed(&store, 3).await;
            let _ = store.abandon(unknown.as_ref()).await.unwrap();
            // The first to read a page, or to look a thing up, may leave a mark on it.
            replays(&store, 8).await;
            let log = async || {
                crate::support::number_at(&server.url(), "SELECT pg_current_wal_insert_lsn() - '0/0'").await
            };
            let before = log().await;
            replays(&store, 200).await;
            assert_eq!(log().await, before);
            // And it would have been seen.
            let _ = crate::support::claimed(&store, 4).await;
            assert!(log().await > before);
        }
    });
}

async fn replays(store: &PostgresStore, times: u32) {
    for _ in 0..times {
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Settled(_)));
        assert!(matches!(store.begin(&ask(2)).await.unwrap(), Begun::Held { .. }));
        assert!(matches!(store.begin(&ask(3)).await.unwrap(), Begun::Unknown(_)));
        assert!(store.inspect(&id(1)).await.unwrap().is_some());
    }
}

// What makes one server serve many callers: they share statements and commits, and get each their own answer.
#[test]
fn callers_who_meet_share_a_commit() {
    private(async || {
        let Some(server) = Server::start(&["autovacuum=off"]).await.unwrap() else { return };
        let number = async |text: &str| crate::support::number_at(&server.url(), text).await;
        let store = Arc::new(PostgresStore::open(server.url()).await.unwrap());
        let before = number("SELECT pg_current_xact_id()::text").await;
        for key in 0..10 {
            crate::support::completed(&store, 64_000 + key, "alone").await;
        }
        let mut callers = JoinSet::new();
        // Looking takes a number, too.
        let alone = number("SELECT pg_current_xact_id()::text").await - before - 1;
        assert_eq!(alone, 20, "commits of 10 pairs");
        let before = number("SELECT pg_current_xact_id()::text").await;
        for caller in 0..64 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                for n in 0..10 {
                    let key = caller * 1000 + n;
                    let lease = crate::support::claimed(&store, key).await;
                    let text = answer(format!("{key}"));
                    let settled = store.complete(lease.as_ref(), &text, &Retention::default()).await.unwrap();
                    assert_eq!(settled, Settled::Applied);
                    let Begun::Settled(record) = store.begin(&ask(key)).await.unwrap() else {
                        panic!("{key}")
                    };
                    assert_eq!(body(&record.completion), format!("{key}"));
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        let commits = number("SELECT pg_current_xact_id()::text").await - before;
        assert_eq!(number("SELECT count(*) FROM semel.record WHERE state = 1").await, 650);
        // Alone, each of 640 pairs takes two.
        assert!(commits < 640, "{commits} commits for 640 pairs");
    });
}

// Batches over several rows that two processes take in other orders wait for each other until the server kills one.
#[test]
fn heartbeats_of_the_same_leases_do_not_wait_for_each_other() {
    private(async || {
        let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        let open = async || Arc::new(PostgresStore::open(server.url()).await.unwrap());
        let stores = [open().await, open().await];
        let mut leases = Vec::new();
        for key in 0..64 {
            leases.push(crate::support::claimed(&stores[0], key).await.as_ref());
        }
        let mut beats = JoinSet::new();
        for n in 0..32 {
            let (store, mut leases) = (Arc::clone(&stores[n % 2]), leases.clone());
            fastrand::shuffle(&mut leases);
            beats.spawn(async move { store.renew(&leases, Duration::from_hours(2)).await.unwrap() });
        }
        while let Some(settled) = beats.join_next().await {
            assert!(settled.unwrap().iter().all(|settled| *settled == Settled::Applied));
        }
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(crate::support::number_at(&server.url(), deadlocks).await, 0);
    });
}
