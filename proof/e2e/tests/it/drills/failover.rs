//! A PostgreSQL whose standby takes over, with what it had received by then.

use semel_testkit::cable::{Cable, Fault};
use semel_testkit::postgres::Server;

use super::support::{Load, gateway, send_all, tally};
use crate::proxy::shop::{ORDERS, Shop};
use crate::proxy::support::fresh;

/// A primary, the standby that streams from it over a cable, and the cable that gateways find the primary by.
struct Pair {
    primary: Server,
    standby: Server,
    stream: Cable,
    name: Cable,
}

impl Pair {
    async fn start() -> Option<Self> {
        let primary = Server::start(&["fsync=off"]).await.unwrap()?;
        let stream = Cable::to(primary.address()).unwrap();
        let standby = primary.standby(stream.address()).await.unwrap();
        let name = Cable::to(primary.address()).unwrap();
        primary
            .until("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1")
            .await
            .unwrap();
        Some(Self { primary, standby, stream, name })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.name.address())
    }

    /// From now on nothing is said until the standby has it on its disk.
    async fn synchronous(&self) {
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
        self.primary.sql("SELECT pg_reload_conf()").unwrap();
        let state = "SELECT sync_state FROM pg_stat_replication";
        self.primary.until(state, "sync").await.unwrap();
    }

    /// Waits until the standby has all that was committed.
    async fn caught_up(&self) {
        let behind = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn < pg_current_wal_lsn()";
        self.primary.until(behind, "0").await.unwrap();
    }

    async fn fail_over(&mut self) {
        self.primary.kill().unwrap();
        self.standby.sql("SELECT pg_promote()").unwrap();
        self.standby.until("SELECT pg_is_in_recovery()", "f").await.unwrap();
        self.name.lead_to(self.standby.address());
        self.name.cut();
    }
}

/// What the standby had not received is gone, and runs again: exactly that, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_that_takes_over_runs_again_what_it_had_not_received() {
    let Some(mut pair) = Pair::start().await else { return };
    let shop = Shop::open().await;
    let gateway = gateway(&pair.url(), &shop.url()).await;
    let received = send_all(gateway.address(), &fresh(ORDERS, "received", 50)).await;
    pair.caught_up().await;
    pair.stream.always(Fault::BlackHole);
    let missed = send_all(gateway.address(), &fresh(ORDERS, "missed", 50)).await;
    assert!(received.iter().chain(&missed).all(|(_, answer)| answer.is_some()));
    pair.fail_over().await;
    let received = tally(&gateway, &shop, received).await;
    assert_eq!((received.lost, received.twice, received.unknown), (0, 0, 0));
    let missed = tally(&gateway, &shop, missed).await;
    assert_eq!((missed.lost, missed.twice, missed.unknown), (50, 50, 0));
}

/// With a synchronous standby nobody was told anything that it had not received, whenever the primary dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_that_takes_over_has_lost_nothing_and_runs_nothing_twice() {
    let Some(mut pair) = Pair::start().await else { return };
    pair.synchronous().await;
    let shop = Shop::open().await;
    let gateway = gateway(&pair.url(), &shop.url()).await;
    let load = Load::start(gateway.address(), "load");
    load.more(150).await;
    // What the primary has written from here on is on its disk alone when it dies.
    pair.stream.always(Fault::BlackHole);
    let alone = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    pair.primary.until(alone, "t").await.unwrap();
    pair.fail_over().await;
    load.more(150).await;
    let tally = tally(&gateway, &shop, load.ended().await).await;
    assert_eq!((tally.lost, tally.twice), (0, 0), "{tally:?}");
}
