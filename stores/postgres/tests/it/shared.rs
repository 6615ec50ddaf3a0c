//! Several stores on one schema, as several gateways are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use semel_core::record::{Recovery, Retention, State};
use semel_core::store::{
    Begun, Delete, Deleted, ReleaseAs, ReleaseBy, Resolution, Resolved, Settled, Severity, Store as _,
    Verdict,
};
use semel_store_postgres::PostgresStore;
use tokio::task::JoinSet;

use crate::support::{Schema, answer, ask, body, claimed, completed, id, test};

/// Longer than any wake-up, shorter than the test's own end.
const PATIENCE: Duration = Duration::from_secs(20);

// Middlewares that look before they insert run a quarter of such keys twice.
#[test]
fn of_two_duplicates_at_two_gateways_one_runs() {
    test(async || {
        let schema = Schema::new();
        let gateways = [Arc::new(schema.open().await), Arc::new(schema.open().await)];
        let mut claims = JoinSet::new();
        for key in 0..1000 {
            for gateway in &gateways {
                let gateway = Arc::clone(gateway);
                claims.spawn(async move { (key, gateway.begin(&ask(key)).await.unwrap()) });
            }
            if key % 50 == 49 {
                drain(&mut claims).await;
            }
        }
        assert_eq!(schema.number("SELECT count(*) FROM {s}.record").await, 1000);
        assert_eq!(schema.number("SELECT count(DISTINCT fence) FROM {s}.record").await, 1000);
    });
}

/// Pairs of claims of each key: one was granted, and the other was told so.
async fn drain(claims: &mut JoinSet<(u32, Begun)>) {
    let (mut granted, mut held) = (HashSet::new(), HashSet::new());
    while let Some(claim) = claims.join_next().await {
        let (key, begun) = claim.unwrap();
        match begun {
            Begun::Acquired(_) => assert!(granted.insert(key), "{key} ran twice"),
            Begun::Held { .. } => assert!(held.insert(key), "{key} did not run"),
            other => panic!("{key}: {other:?}"),
        }
    }
    assert_eq!(granted, held);
}

// A waiter of one gateway whose original runs at another must not wait for its next look.
#[test]
fn a_change_wakes_those_who_wait_at_another_gateway() {
    test(async || {
        let schema = Schema::new();
        let (here, there) = (schema.open().await, schema.open().await);
        listening(&schema, 2).await;
        for key in 0..4 {
            let lease = claimed(&there, key).await.as_ref();
            let watch = here.watch(&lease.id).await.unwrap();
            let keep = Retention::default();
            match key {
                0 => assert_eq!(there.complete(lease, &answer("x"), &keep).await.unwrap(), Settled::Applied),
                1 => {
                    let by = ReleaseBy::Lease(lease);
                    assert_eq!(there.release(by, ReleaseAs::Retry, &keep).await.unwrap(), Settled::Applied);
                }
                2 => assert_eq!(there.abandon(lease).await.unwrap(), Settled::Applied),
                _ => assert_eq!(there.delete(&lease.id, Delete::Any).await.unwrap(), Deleted::Gone),
            }
            tokio::time::timeout(PATIENCE, watch).await.expect("not woken");
        }
        let ask = semel_core::store::Begin { lease_for: Duration::ZERO, ..ask(9) };
        assert!(matches!(there.begin(&ask).await.unwrap(), Begun::Acquired(_)));
        let watch = here.watch(&ask.id).await.unwrap();
        assert_eq!(there.sweep(10).await.unwrap().unknown, 1);
        tokio::time::timeout(PATIENCE, watch).await.expect("not woken by a sweep");
    });
}

// What was told while nobody listened is lost: everybody has to look again.
#[test]
fn a_listener_that_lost_its_connection_wakes_everybody_when_it_is_back() {
    test(async || {
        let schema = Schema::new();
        let (here, there) = (schema.open().await, schema.open().await);
        listening(&schema, 2).await;
        let lease = claimed(&there, 1).await;
        let watch = here.watch(lease.id()).await.unwrap();
        let listener = format!("pid <> pg_backend_pid() AND query = 'LISTEN \"semel_{}\"'", schema.0);
        schema.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {listener}")).await;
        tokio::time::timeout(PATIENCE, watch).await.expect("not woken");
        listening(&schema, 2).await;
    });
}

/// Waits until so many stores listen.
async fn listening(schema: &Schema, stores: i64) {
    let give_up = Instant::now() + PATIENCE;
    let count =
        format!("SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"semel_{}\"'", schema.0);
    while schema.number(&count).await < stores {
        assert!(Instant::now() < give_up, "nobody listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// A waiter that kept a connection would stop all claims as soon as there are as many waiters as connections.
#[test]
fn waiting_holds_no_connection() {
    test(async || {
        let schema = Schema::new();
        let store = Arc::new(schema.builder().connections(1).open().await.unwrap());
        let lease = claimed(&store, 1).await;
        let mut waiters = JoinSet::new();
        for _ in 0..50 {
            waiters.spawn(store.watch(lease.id()).await.unwrap());
        }
        for key in 2..10 {
            completed(&store, key, "meanwhile").await;
        }
        let mine =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%\"{s}\"%' AND pid <> pg_backend_pid()";
        assert_eq!(schema.number(mine).await, 1);
        let settled = store.complete(lease.as_ref(), &answer("x"), &Retention::default()).await.unwrap();
        assert_eq!(settled, Settled::Applied);
        while let Some(woken) = tokio::time::timeout(PATIENCE, waiters.join_next()).await.unwrap() {
            woken.unwrap();
        }
    });
}

// The one that makes the schema must not be disturbed by those who come at the same time.
#[test]
fn eight_instances_that_start_at_once_get_one_schema_and_one_secret() {
    test(async || {
        let schema = Schema::new();
        let mut opening = JoinSet::new();
        for _ in 0..8 {
            opening.spawn(schema.builder().open());
        }
        let mut stores: Vec<PostgresStore> = Vec::new();
        while let Some(store) = opening.join_next().await {
            stores.push(store.unwrap().unwrap());
        }
        assert!(stores.iter().all(|store| store.secret() == stores[0].secret()));
        completed(&stores[0], 1, "seen by all").await;
        for store in &stores {
            let Begun::Settled(record) = store.begin(&ask(1)).await.unwrap() else { panic!("not settled") };
            assert_eq!(body(&record.completion), "seen by all");
        }
    });
}

// A claim that took its number before the deletion, and inserts after it, would have a lower one than a claim that
// was granted and deleted in between.
#[test]
fn fences_grow_across_deletion_and_reopening_also_while_claims_race() {
    test(async || {
        let schema = Schema::new();
        let mut last = 0;
        for _ in 0..2 {
            let store = Arc::new(schema.open().await);
            for _ in 0..20 {
                let mut claims = JoinSet::new();
                for _ in 0..8 {
                    let store = Arc::clone(&store);
                    claims.spawn(async move { store.begin(&ask(1)).await.unwrap() });
                }
                let mut granted = Vec::new();
                while let Some(begun) = claims.join_next().await {
                    if let Begun::Acquired(acquired) = begun.unwrap() {
                        granted.push(acquired.lease.fence().get());
                    }
                }
                assert_eq!(granted.len(), 1, "{granted:?}");
                assert!(granted[0] > last, "{} after {last}", granted[0]);
                last = granted[0];
                assert_eq!(store.delete(&id(1), Delete::Any).await.unwrap(), Deleted::Gone);
                assert_eq!(store.inspect(&id(1)).await.unwrap(), None);
            }
        }
        // A minute later, nothing is left of it.
        schema.run("UPDATE {s}.record SET due = clock_timestamp()").await;
        let store = schema.open().await;
        assert_eq!(store.sweep(10).await.unwrap().removed, 1);
        assert_eq!(schema.number("SELECT count(*) FROM {s}.record").await, 0);
    });
}

// After a restore of the data alone the sequence counts from its beginning, and a late worker would have the higher number.
#[test]
fn fences_of_a_record_grow_also_where_the_sequence_is_behind() {
    test(async || {
        let schema = Schema::new();
        let store = schema.open().await;
        schema.run("SELECT setval('{s}.fence', 1000)").await;
        let taken = |recovery| semel_core::store::Begin { lease_for: Duration::ZERO, recovery, ..ask(1) };
        let Begun::Acquired(first) = store.begin(&taken(Recovery::Takeover)).await.unwrap() else {
            panic!("not acquired")
        };
        assert!(first.lease.fence().get() > 1000);
        schema.run("ALTER SEQUENCE {s}.fence RESTART 1").await;
        let Begun::Acquired(next) = store.begin(&taken(Recovery::Takeover)).await.unwrap() else {
            panic!("not taken over")
        };
        assert_eq!(next.attempt, 2);
        assert!(next.lease.fence() > first.lease.fence());

        schema.run("UPDATE {s}.record SET state = 3").await;
        let resolution = Resolution {
            op: ask(1).claim,
            expect: Some(next.lease.fence()),
            verdict: Verdict::NotApplied,
            retention: Retention::default(),
        };
        let Resolved::Applied(view) = store.resolve(&id(1), &resolution).await.unwrap() else {
            panic!("not resolved")
        };
        assert!(view.fence > next.lease.fence());

        let fences = async || {
            let found = store.examine().await.unwrap();
            found.into_iter().find(|finding| finding.about == "fences").unwrap()
        };
        let behind = fences().await;
        assert!(behind.severity == Severity::Warning && behind.what.contains("is behind"), "{}", behind.what);
        schema.run(&behind.fix.unwrap()).await;
        assert_eq!(fences().await.severity, Severity::Fine);
    });
}

// The clock that users get is not the one of the laws: it has to move, too.
#[test]
fn a_lease_ends_by_the_servers_clock() {
    test(async || {
        let schema = Schema::new();
        let store = schema.open().await;
        let ask = semel_core::store::Begin {
            lease_for: Duration::from_millis(150),
            recovery: Recovery::Takeover,
            ..ask(1)
        };
        let Begun::Acquired(first) = store.begin(&ask).await.unwrap() else { panic!("not acquired") };
        let give_up = Instant::now() + PATIENCE;
        loop {
            let Begun::Acquired(next) = store.begin(&ask).await.unwrap() else { panic!("not acquired") };
            if next.attempt == 2 {
                assert!(next.lease.fence() > first.lease.fence());
                break;
            }
            assert!(Instant::now() < give_up, "it never ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let view = store.inspect(&ask.id).await.unwrap().unwrap();
        assert!(view.changed.since(view.created) >= Duration::from_millis(150));
        assert_eq!(view.state, State::InFlight);
    });
}

// An instant before the wait for a row gives a lease that is shorter than what was asked, or over.
#[test]
fn a_lease_is_counted_from_after_the_wait_for_the_row() {
    test(async || {
        let schema = Schema::new();
        let store = Arc::new(schema.open().await);
        let first =
            semel_core::store::Begin { lease_for: Duration::ZERO, recovery: Recovery::Takeover, ..ask(1) };
        assert!(matches!(store.begin(&first).await.unwrap(), Begun::Acquired(_)));
        let hold = format!("BEGIN; SELECT FROM {}.record FOR UPDATE; SELECT pg_sleep(1); COMMIT", schema.0);
        let holding =
            tokio::spawn(async move { crate::support::run_at(&crate::support::url(), &hold).await });
        let locked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{s}.record FOR UPDATE%' \
                      AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'";
        let give_up = Instant::now() + PATIENCE;
        while schema.number(locked).await == 0 {
            assert!(Instant::now() < give_up, "the row is not locked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lease_for = Duration::from_millis(900);
        let next = semel_core::store::Begin { lease_for, claim: ask(1).claim, ..first };
        let Begun::Acquired(taken) = store.begin(&next).await.unwrap() else { panic!("not acquired") };
        assert_eq!(taken.attempt, 2);
        holding.await.unwrap();
        let view = store.inspect(&next.id).await.unwrap().unwrap();
        let given = view.lease_until.unwrap().since(view.changed);
        assert!(given >= Duration::from_millis(890), "a lease of {given:?}");
        assert!(view.lease_remaining() > Duration::from_millis(300), "{:?} are left", view.lease_remaining());
    });
}

// One claim of a batch that cannot be sent must not fail those who share its statement.
#[test]
fn a_step_that_is_refused_leaves_its_batch_alone() {
    test(async || {
        let schema = Schema::new();
        let store = Arc::new(schema.builder().connections(1).open().await.unwrap());
        let mut claims = JoinSet::new();
        for key in 0..64 {
            let store = Arc::clone(&store);
            // PostgreSQL keeps no zero byte in text.
            let settings = if key == 7 { "a\0b" } else { "fine" };
            let ask = semel_core::store::Begin { settings: settings.into(), ..ask(key) };
            claims.spawn(async move { (key, store.begin(&ask).await) });
        }
        while let Some(claim) = claims.join_next().await {
            match claim.unwrap() {
                (7, begun) => assert!(begun.is_err()),
                (key, begun) => assert!(matches!(begun, Ok(Begun::Acquired(_))), "{key}: {begun:?}"),
            }
        }
        assert_eq!(schema.number("SELECT count(*) FROM {s}.record").await, 63);
    });
}

// Connections that belong to the runtime of a busy handler answer its heartbeats when the lease is over.
#[test]
fn a_runtime_that_is_busy_holds_up_nobody_else() {
    if !crate::support::available() {
        return;
    }
    let schema = Schema::new();
    let (give, opened) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let builder = schema.builder();
    let busy = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(builder.open().await.unwrap());
            let lease = claimed(&store, 1).await.as_ref();
            give.send((store, lease)).unwrap();
            // A handler that computes and never yields.
            let _ = ended.recv();
        });
    });
    let (store, lease) = opened.recv().unwrap();
    let renewed = crate::support::wait_for(async {
        tokio::time::timeout(PATIENCE, store.renew(&[lease], Duration::from_hours(2))).await
    });
    drop(end);
    busy.join().unwrap();
    assert_eq!(renewed.expect("held up").unwrap(), [Settled::Applied]);
}
