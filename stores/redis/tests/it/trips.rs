//! Round trips, counted from outside.

use std::time::Duration;

use semel_core::record::Retention;
use semel_core::store::{Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_store_redis::RedisStore;
use semel_testkit::cable::{Cable, Fault};

use crate::server::Server;
use crate::support::{answer, ask, body, claimed, id, private};

async fn over_a_cable() -> Option<(RedisStore, Cable, Server)> {
    let server = Server::start(&["--save", ""])?;
    let cable = Cable::to(([127, 0, 0, 1], server.port).into()).unwrap();
    let url = format!("redis://{}/0", cable.address());
    let builder = RedisStore::builder(&url).timeout(Duration::from_millis(500));
    Some((builder.open().await.unwrap(), cable, server))
}

#[test]
fn each_step_is_one_round_trip() {
    private(async || {
        let Some((store, cable, _server)) = over_a_cable().await else { return };
        let keep = Retention::default();
        cable.new_trips();
        for (n, bytes, replay) in [(1, 300, 1), (2, 10_000, 1), (3, 50_000, 2)] {
            let lease = claimed(&store, n).await;
            assert_eq!(cable.new_trips(), 1, "a new claim");
            assert!(matches!(store.begin(&ask(n)).await.unwrap(), Begun::Held { .. }));
            assert_eq!(cable.new_trips(), 1, "a duplicate of a running request");
            let settled = store.complete(lease, &answer(vec![b'x'; bytes]), &keep).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            assert_eq!(cable.new_trips(), 1, "a completion with {bytes} bytes");
            let Begun::Settled(record) = store.begin(&ask(n)).await.unwrap() else { panic!("no replay") };
            assert_eq!(body(&record.completion).len(), bytes);
            assert_eq!(cable.new_trips(), replay, "a replay of {bytes} bytes");
            assert!(store.read(&id(n)).await.unwrap().is_some());
            assert_eq!(cable.new_trips(), replay);
        }
        let mut leases = Vec::new();
        for n in 10..60 {
            leases.push(claimed(&store, n).await);
        }
        cable.new_trips();
        let renewed = store.renew(&leases, Duration::from_hours(2)).await.unwrap();
        assert!(renewed.iter().all(|settled| *settled == Settled::Applied));
        assert_eq!(cable.new_trips(), 1, "50 renewals");
        let released = store.release(ReleaseBy::Lease(leases[0]), ReleaseAs::Retry, &keep).await.unwrap();
        assert_eq!((released, cable.new_trips()), (Settled::Applied, 1));
        assert_eq!((store.abandon(leases[1]).await.unwrap(), cable.new_trips()), (Settled::Applied, 1));
        assert!(store.inspect(&leases[2].id).await.unwrap().is_some());
        assert_eq!(cable.new_trips(), 1);
        assert_eq!(cable.connections(), 1, "one connection for all");
    });
}

// What runs in a script is invisible from outside, and most of the server's time: a pair that leaves its short way still
// does all that it should.
#[test]
fn a_fresh_pair_takes_six_commands_and_a_large_answer_three_more() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let store = RedisStore::open(&server.url()).await.unwrap();
        for (bytes, more) in [(300, &[][..]), (10_000, &["pexpire", "rename", "set"][..])] {
            let stats = |section: &str| {
                let mut info = redis::cmd("INFO");
                info.arg(section).query::<String>(&mut server.connection()).unwrap()
            };
            redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut server.connection()).unwrap();
            let lease = claimed(&store, bytes).await;
            let body = vec![b'x'; usize::try_from(bytes).unwrap()];
            let settled = store.complete(lease, &answer(body), &Retention::default()).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            let mut ran = Vec::new();
            for line in stats("commandstats").lines() {
                let Some((name, rest)) =
                    line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls="))
                else {
                    continue;
                };
                if !["config|resetstat", "evalsha", "client|setinfo"].contains(&name) {
                    let calls = rest.split(',').next().unwrap().parse().unwrap();
                    ran.extend(std::iter::repeat_n(name.to_owned(), calls));
                }
            }
            ran.sort();
            let mut expected = [&["get", "publish", "set", "set", "time", "time"][..], more].concat();
            expected.sort_unstable();
            assert_eq!(ran, expected, "{bytes} bytes");
        }
    });
}

// Each waiter with a connection of its own takes all that the server has.
#[test]
fn waiting_holds_no_connection_and_costs_no_round_trip() {
    private(async || {
        let Some((store, cable, _server)) = over_a_cable().await else { return };
        let mut watches = Vec::new();
        for n in 0..200 {
            watches.push(store.watch(&id(n % 50)).await.unwrap());
        }
        assert_eq!(cable.connections(), 2, "one for steps, one for all waiters");
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
        let Some((store, cable, _server)) = over_a_cable().await else { return };
        for n in 0..5 {
            cable.next(Fault::CutAfter);
            let lease = claimed(&store, n).await;
            cable.next(Fault::CutAfter);
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
        let Some((store, cable, _server)) = over_a_cable().await else { return };
        cable.always(Fault::BlackHole);
        let begun = store.begin(&ask(1)).await;
        assert_eq!(begun.unwrap_err().kind(), semel_core::store::StoreErrorKind::Timeout);
        cable.heal().unwrap();
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while store.begin(&ask(2)).await.is_err() {
            assert!(std::time::Instant::now() < give_up, "it stays with the dead connection");
        }
        // And where the caller gave up first.
        cable.always(Fault::BlackHole);
        let hasty = tokio::time::timeout(Duration::from_millis(50), store.begin(&ask(3))).await;
        assert!(hasty.is_err());
        cable.heal().unwrap();
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while !matches!(
            tokio::time::timeout(Duration::from_millis(200), store.begin(&ask(4))).await,
            Ok(Ok(_))
        ) {
            assert!(std::time::Instant::now() < give_up, "it stays with the dead connection");
        }
    });
}
