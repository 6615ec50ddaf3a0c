//! Several stores on one database, as several gateways are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use semel_core::record::{Recovery, Retention};
use semel_core::store::{Begin, Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_testkit::running::together;

use crate::support::{Database, answer, ask, claimed, completed, id, test};

// Middlewares that look before they insert run a quarter of such keys twice.
#[test]
fn of_a_thousand_pairs_at_two_gateways_none_runs_twice() {
    test(async || {
        let database = Database::new();
        let gateways = [Arc::new(database.open().await), Arc::new(database.open().await)];
        let mut ran = Vec::new();
        for keys in (0..1000_u32).collect::<Vec<_>>().chunks(50) {
            let pairs = keys.iter().flat_map(|&n| gateways.clone().map(|gateway| (n, gateway)));
            let claims = pairs.map(|(n, gateway)| async move {
                match gateway.begin(&ask(n)).await.unwrap() {
                    Begun::Acquired(acquired) => Some((n, acquired.lease.fence())),
                    Begun::Held { .. } => None,
                    other => panic!("{n}: {other:?}"),
                }
            });
            ran.extend(together(claims).await.into_iter().flatten());
        }
        assert_eq!(ran.len(), 1000);
        assert_eq!(ran.iter().map(|(n, _)| n).collect::<HashSet<_>>().len(), 1000);
        assert_eq!(ran.iter().map(|(_, fence)| fence).collect::<HashSet<_>>().len(), 1000);
    });
}

// Gap locks make neighbours wait for each other, and deadlock.
#[test]
fn of_64_claims_of_one_key_one_runs_and_neighbours_do_not_deadlock() {
    test(async || {
        let database = Database::new();
        let gateways = [Arc::new(database.open().await), Arc::new(database.open().await)];
        for round in 0..5 {
            let claims = (0..64_usize).map(|at| {
                let store = Arc::clone(&gateways[at % 2]);
                async move { matches!(store.begin(&ask(round)).await.unwrap(), Begun::Acquired(_)) }
            });
            assert_eq!(together(claims).await.into_iter().filter(|granted| *granted).count(), 1);
            // Neighbours: claimed, completed, freed and claimed again, while a sweep goes over them.
            let neighbours = (0..64_u32).map(|at| {
                let store = Arc::clone(&gateways[at as usize % 2]);
                async move {
                    let n = 1000 + round * 64 + at;
                    let brief = Retention { released: Duration::ZERO, ..Retention::default() };
                    for _ in 0..2 {
                        let lease = claimed(&store, n).await;
                        let by = ReleaseBy::Lease(lease.as_ref());
                        let settled = store.release(by, ReleaseAs::Retry, &brief).await.unwrap();
                        assert_eq!(settled, Settled::Applied);
                        let _ = store.sweep(10).await.unwrap();
                    }
                    completed(&store, n, "done").await;
                }
            });
            together(neighbours).await;
        }
    });
}

// An instant before the wait for a row gives a lease that is shorter than what was asked, or over.
#[test]
fn a_lease_is_counted_from_after_the_wait_for_the_row() {
    test(async || {
        let database = Database::new();
        let store = Arc::new(database.open().await);
        let first = Begin { lease_for: Duration::ZERO, recovery: Recovery::Takeover, ..ask(1) };
        assert!(matches!(store.begin(&first).await.unwrap(), Begun::Acquired(_)));
        let url = database.url();
        let hold = "START TRANSACTION; SELECT * FROM semel_record FOR UPDATE; SELECT SLEEP(1); COMMIT";
        let holding = tokio::spawn(async move { crate::support::run_at(&url, hold).await });
        let locked = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND state = 'User sleep'",
            database.0
        );
        let give_up = Instant::now() + Duration::from_secs(20);
        while database.number(&locked).await == 0 {
            assert!(Instant::now() < give_up, "the row is not locked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lease_for = Duration::from_millis(900);
        let next = Begin { lease_for, claim: ask(1).claim, ..first };
        let Begun::Acquired(taken) = store.begin(&next).await.unwrap() else { panic!("not acquired") };
        assert_eq!(taken.attempt, 2);
        holding.await.unwrap();
        let view = store.inspect(&next.id).await.unwrap().unwrap();
        assert!(view.lease_until.unwrap().since(view.changed) >= Duration::from_millis(890));
        assert!(view.lease_remaining() > Duration::from_millis(300), "{:?} are left", view.lease_remaining());
    });
}

// The clock that users get is not the one of the laws: it has to move, too.
#[test]
fn a_lease_ends_by_the_servers_clock() {
    test(async || {
        let database = Database::new();
        let store = database.open().await;
        let ask = Begin { lease_for: Duration::from_millis(100), ..ask(1) };
        assert!(matches!(store.begin(&ask).await.unwrap(), Begun::Acquired(_)));
        let give_up = Instant::now() + Duration::from_secs(30);
        while !matches!(store.begin(&ask).await.unwrap(), Begun::Unknown(_)) {
            assert!(Instant::now() < give_up, "it never ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

// To take a damaged record for absent would run it again.
#[test]
fn what_does_not_decode_is_never_absent() {
    test(async || {
        let database = Database::new();
        let store = database.open().await;
        completed(&store, 1, "kept").await;
        completed(&store, 2, "kept").await;
        database
            .run("UPDATE semel_record SET completion = SUBSTR(completion, 2) WHERE state = 1 LIMIT 1")
            .await;
        database.run("UPDATE semel_record SET state = 9 ORDER BY id DESC LIMIT 1").await;
        for n in 1..3 {
            let error = store.begin(&ask(n)).await.unwrap_err();
            assert_eq!(error.kind(), semel_core::store::StoreErrorKind::Undecodable, "{n}: {error}");
        }
        assert!(store.inspect(&id(2)).await.is_err());
    });
}

// What each claim has used up must not stay for ever, and the last number must.
#[test]
fn a_sweep_removes_numbers_but_the_last() {
    test(async || {
        let database = Database::new();
        let store = database.open().await;
        for n in 0..10 {
            let lease = claimed(&store, n).await;
            let _ = store.complete(lease.as_ref(), &answer("x"), &Retention::default()).await.unwrap();
        }
        let _ = store.sweep(10).await.unwrap();
        assert_eq!(database.number("SELECT COUNT(*) FROM semel_fence").await, 1);
    });
}
