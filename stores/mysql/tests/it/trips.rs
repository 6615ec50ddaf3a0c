//! Facts instead of timings: round trips, counted by a cable between store and server.

use std::time::Duration;

use semel_core::record::{Recovery, Retention};
use semel_core::store::{Begin, Begun, Delete, ReleaseAs, ReleaseBy, Store as _};
use semel_store_mysql::MySqlStore;

use crate::support::{Database, answer, ask, claimed, completed, id, test, through};

#[test]
fn steps_take_one_round_trip() {
    test(async || {
        let database = Database::new();
        let (cable, way) = through();
        let store = MySqlStore::builder(format!("{way}/{}", database.0));
        let store = store.connections(1).open().await.unwrap();
        // What has values of any length is prepared once a connection.
        completed(&store, 100, "x").await;
        let lease = claimed(&store, 101).await;
        let _ = store.note(lease.as_ref(), &"one".into()).await.unwrap();
        cable.new_trips();
        let counted = |what: &str, most: usize| assert_eq!(cable.new_trips(), most, "{what}");

        let lease = claimed(&store, 1).await;
        counted("a new claim", 1);
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Held { .. }));
        counted("a held one", 1);
        let _ = store.renew(&[lease.as_ref(); 3], Duration::from_hours(2)).await.unwrap();
        counted("renewals", 1);
        let _ = store.note(lease.as_ref(), &"one".into()).await.unwrap();
        counted("a note", 1);
        let _ = store.complete(lease.as_ref(), &answer("x"), &Retention::default()).await.unwrap();
        counted("a completion", 1);
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Settled(_)));
        counted("a replay", 1);
        assert!(store.read(&id(1)).await.unwrap().is_some());
        counted("a look", 1);
        let _ = store.delete(&id(1), Delete::Settled).await.unwrap();
        counted("a deletion", 1);

        let lease = claimed(&store, 2).await;
        let by = ReleaseBy::Lease(lease.as_ref());
        cable.new_trips();
        let _ = store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap();
        counted("a release", 1);
        let again = claimed(&store, 2).await;
        counted("a rerun", 2);
        let _ = store.abandon(again.as_ref()).await.unwrap();
        counted("an abandonment", 1);
        assert!(matches!(store.begin(&ask(2)).await.unwrap(), Begun::Unknown(_)));
        counted("an unknown one", 1);
        for (key, recovery) in [(3, Recovery::Takeover), (4, Recovery::Hold)] {
            let over = Begin { lease_for: Duration::ZERO, recovery, ..ask(key) };
            assert!(matches!(store.begin(&over).await.unwrap(), Begun::Acquired(_)));
            cable.new_trips();
            let _ = store.begin(&ask(key)).await.unwrap();
            counted("a lease that is over", 2);
        }
    });
}
