//! Facts instead of timings: answers counted by a proxy between store and server.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Recovery, Retention};
use semel_core::store::{Begin, Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_store_postgres::PostgresStore;
use semel_testkit::cable::{Cable, Fault};
use tokio::task::JoinSet;

use crate::server::through;
use crate::support::{Schema, answer, ask, claimed, completed, test, url};

async fn counts<T>(cable: &Cable, step: impl Future<Output = T>) -> (usize, T) {
    cable.new_trips();
    let answer = step.await;
    (cable.new_trips(), answer)
}

#[test]
fn steps_take_one_round_trip() {
    test(async || {
        let schema = Schema::new();
        let (cable, through) = through(&url());
        // Whoever listens talks to the server for itself: it is not to be counted.
        let builder = PostgresStore::builder(&through).schema(&schema.0).connections(1).listen_url(url());
        count_steps(&cable, &builder.open().await.unwrap()).await;
    });
}

#[test]
fn and_so_they_do_behind_a_pooler() {
    test(async || {
        let schema = Schema::new();
        let (cable, through) = through(&url());
        let builder = PostgresStore::builder(&through).schema(&schema.0).connections(1).transaction_pooling();
        count_steps(&cable, &builder.open().await.unwrap()).await;
    });
}

async fn count_steps(cable: &Cable, store: &PostgresStore) {
    let keep = Retention::default();
    let zero = |n, recovery| Begin { lease_for: Duration::ZERO, recovery, ..ask(n) };
    // The first of each kind prepares what is not asked for by every request.
    for key in 100..102 {
        warm_up(store, key).await;
    }

    let (trips, lease) = counts(cable, claimed(store, 1)).await;
    assert_eq!(trips, 1, "a new claim");
    let (trips, begun) = counts(cable, store.begin(&ask(1))).await;
    assert_eq!(trips, 1, "a held one");
    assert!(matches!(begun.unwrap(), Begun::Held { .. }));
    let (trips, settled) = counts(cable, store.renew(&[lease.as_ref()], Duration::from_hours(2))).await;
    assert_eq!((trips, settled.unwrap()), (1, vec![Settled::Applied]));
    let (trips, settled) = counts(cable, store.note(lease.as_ref(), &"one".into())).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, settled) = counts(cable, store.complete(lease.as_ref(), &answer("x"), &keep)).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, begun) = counts(cable, store.begin(&ask(1))).await;
    assert_eq!(trips, 1, "a replay");
    assert!(matches!(begun.unwrap(), Begun::Settled(_)));
    let other = Begin { principal: Some(semel_core::record::PrincipalTag::from_bytes([1; 32])), ..ask(1) };
    let (trips, begun) = counts(cable, store.begin(&other)).await;
    assert_eq!(trips, 1, "a mismatch");
    assert!(matches!(begun.unwrap(), Begun::Differs(_)));

    let lease = claimed(store, 2).await;
    let (trips, settled) =
        counts(cable, store.release(ReleaseBy::Lease(lease.as_ref()), ReleaseAs::Retry, &keep)).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, again) = counts(cable, claimed(store, 2)).await;
    assert_eq!(trips, 2, "a rerun");
    let (trips, settled) = counts(cable, store.abandon(again.as_ref())).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, begun) = counts(cable, store.begin(&ask(2))).await;
    assert_eq!(trips, 1, "an unknown one");
    assert!(matches!(begun.unwrap(), Begun::Unknown(_)));

    for (key, recovery) in [(3, Recovery::Takeover), (4, Recovery::Hold)] {
        assert!(matches!(store.begin(&zero(key, recovery)).await.unwrap(), Begun::Acquired(_)));
        let (trips, begun) = counts(cable, store.begin(&ask(key))).await;
        assert_eq!(trips, 2, "a lease that is over: {begun:?}");
    }
}

// Each trip beyond two is one more wait for whoever retries what was refused.
#[test]
fn records_that_are_taken_by_a_batch_take_one_trip_each_beside_its_own() {
    test(async || {
        let schema = Schema::new();
        let (cable, through) = through(&url());
        let builder = PostgresStore::builder(&through).schema(&schema.0).connections(1).listen_url(url());
        let store = Arc::new(builder.open().await.unwrap());
        for key in 100..102 {
            warm_up(&store, key).await;
        }
        for key in [1, 2] {
            let by = ReleaseBy::Lease(claimed(&store, key).await.as_ref());
            let _ = store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap();
        }
        for (key, recovery) in [(3, Recovery::Takeover), (4, Recovery::Hold)] {
            let over = Begin { lease_for: Duration::ZERO, recovery, ..ask(key) };
            assert!(matches!(store.begin(&over).await.unwrap(), Begun::Acquired(_)));
        }
        completed(&store, 5, "x").await;
        cable.new_trips();
        // While this one is on its way, the others queue.
        cable.next(Fault::LateRequest(Duration::from_millis(500)));
        let mut claims = JoinSet::new();
        for key in [10, 1, 2, 3, 4, 5] {
            let store = Arc::clone(&store);
            claims.spawn(async move { (key, store.begin(&ask(key)).await.unwrap()) });
            while key == 10 && cable.pending() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for (key, begun) in claims.join_all().await {
            match (key, begun) {
                (10, Begun::Acquired(_)) | (4, Begun::Unknown(_)) | (5, Begun::Settled(_)) => {}
                (1..=3, Begun::Acquired(acquired)) => assert_eq!(acquired.attempt, 2),
                other => panic!("{other:?}"),
            }
        }
        // The one before, one for all, and one for each of four.
        assert_eq!(cable.new_trips(), 1 + 1 + 4);
    });
}

async fn warm_up(store: &PostgresStore, key: u32) {
    let lease = claimed(store, key).await;
    let _ = store.note(lease.as_ref(), &"one".into()).await.unwrap();
    let by = ReleaseBy::Lease(lease.as_ref());
    let _ = store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap();
    let again = claimed(store, key).await;
    let _ = store.abandon(again.as_ref()).await.unwrap();
    let hold = Begin { lease_for: Duration::ZERO, ..ask(key + 50) };
    let _ = store.begin(&hold).await.unwrap();
    let _ = store.begin(&ask(key + 50)).await.unwrap();
}
