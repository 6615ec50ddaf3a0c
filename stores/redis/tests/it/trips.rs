//! Round trips, counted from outside.

use std::time::Duration;

use semel_core::record::Retention;
use semel_core::store::{Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_store_redis::RedisStore;

use crate::server::{Proxy, Server};
use crate::support::{answer, ask, body, claimed, id, private};

async fn behind_a_proxy() -> Option<(RedisStore, Proxy, Server)> {
    let server = Server::start(&["--save", ""])?;
    let proxy = Proxy::before(server.port);
    let builder = RedisStore::builder(&proxy.url()).timeout(Duration::from_millis(500));
    Some((builder.open().await.unwrap(), proxy, server))
}

#[test]
fn each_step_is_one_round_trip() {
    private(async || {
        let Some((store, proxy, _server)) = behind_a_proxy().await else { return };
        let keep = Retention::default();
        proxy.trips();
        for (n, bytes, replay) in [(1, 300, 1), (2, 10_000, 1), (3, 50_000, 2)] {
            let lease = claimed(&store, n).await;
            assert_eq!(proxy.trips(), 1, "a new claim");
            assert!(matches!(store.begin(&ask(n)).await.unwrap(), Begun::Held { .. }));
            assert_eq!(proxy.trips(), 1, "a duplicate of a running request");
            let settled = store.complete(lease, &answer(vec![b'x'; bytes]), &keep).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            assert_eq!(proxy.trips(), 1, "a completion with {bytes} bytes");
            let Begun::Settled(record) = store.begin(&ask(n)).await.unwrap() else { panic!("no replay") };
            assert_eq!(body(&record.completion).len(), bytes);
            assert_eq!(proxy.trips(), replay, "a replay of {bytes} bytes");
            assert!(store.read(&id(n)).await.unwrap().is_some());
            assert_eq!(proxy.trips(), replay);
        }
        let mut leases = Vec::new();
        for n in 10..60 {
            leases.push(claimed(&store, n).await);
        }
        proxy.trips();
        let renewed = store.renew(&leases, Duration::from_hours(2)).await.unwrap();
        assert!(renewed.iter().all(|settled| *settled == Settled::Applied));
        assert_eq!(proxy.trips(), 1, "50 renewals");
        let released = store.release(ReleaseBy::Lease(leases[0]), ReleaseAs::Retry, &keep).await.unwrap();
        assert_eq!((released, proxy.trips()), (Settled::Applied, 1));
        assert_eq!((store.abandon(leases[1]).await.unwrap(), proxy.trips()), (Settled::Applied, 1));
        assert!(store.inspect(&leases[2].id).await.unwrap().is_some());
        assert_eq!(proxy.trips(), 1);
        assert_eq!(proxy.connections(), 1, "one connection for all");
    });
}

// Each waiter with a connection of its own takes all that the server has.
#[test]
fn waiting_holds_no_connection_and_costs_no_round_trip() {
    private(async || {
        let Some((store, proxy, _server)) = behind_a_proxy().await else { return };
        let mut watches = Vec::new();
        for n in 0..200 {
            watches.push(store.watch(&id(n % 50)).await.unwrap());
        }
        assert_eq!(proxy.connections(), 2, "one for steps, one for all waiters");
        drop(watches);
        let lease = claimed(&store, 1).await;
        let watch = store.watch(&id(1)).await.unwrap();
        let settled = store.complete(lease, &answer("done"), &Retention::default()).await.unwrap();
        assert_eq!(settled, Settled::Applied);
        tokio::time::timeout(Duration::from_secs(5), watch).await.unwrap();
    });
}

// The server took the claim, and its answer was lost: asked again, the claim finds itself.
#[test]
fn a_lost_answer_is_asked_for_again() {
    private(async || {
        let Some((store, proxy, _server)) = behind_a_proxy().await else { return };
        for n in 0..5 {
            proxy.lose_next_answer();
            let lease = claimed(&store, n).await;
            proxy.lose_next_answer();
            let done = answer(vec![n.to_be_bytes()[3]; 5000]);
            let settled = store.complete(lease, &done, &Retention::default()).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            assert_eq!(store.read(&id(n)).await.unwrap().unwrap().completion, done);
        }
    });
}

// A cut cable says nothing: without a look at the connection, every later step times out for ever.
#[test]
fn a_connection_that_fell_silent_is_replaced() {
    private(async || {
        let Some((store, proxy, _server)) = behind_a_proxy().await else { return };
        proxy.silence();
        let begun = store.begin(&ask(1)).await;
        assert_eq!(begun.unwrap_err().kind(), semel_core::store::StoreErrorKind::Timeout);
        proxy.heal();
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while store.begin(&ask(2)).await.is_err() {
            assert!(std::time::Instant::now() < give_up, "it stays with the dead connection");
        }
        // And where the caller gave up first.
        proxy.silence();
        let hasty = tokio::time::timeout(Duration::from_millis(50), store.begin(&ask(3))).await;
        assert!(hasty.is_err());
        proxy.heal();
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while !matches!(
            tokio::time::timeout(Duration::from_millis(200), store.begin(&ask(4))).await,
            Ok(Ok(_))
        ) {
            assert!(std::time::Instant::now() < give_up, "it stays with the dead connection");
        }
    });
}
