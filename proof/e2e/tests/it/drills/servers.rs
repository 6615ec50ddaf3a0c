//! A PostgreSQL that is stopped, killed and paused, and a MariaDB that is stopped and killed.

use rustix::process::Signal;
use semel_testkit::client::Client;
use semel_testkit::mysql;
use semel_testkit::postgres::Server;

use super::support::{Load, Tally, first_answer, gateway, send_all, tally};
use crate::proxy::shop::{ORDER_THEN_GATE, ORDERS, Shop};
use crate::proxy::support::{code, fresh, keys, once_final};

const NOTHING: Tally = Tally { lost: 0, twice: 0, unknown: 0, bodiless: 0 };

/// Whoever was answered is answered the same; whoever was not finds out, and nothing runs a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_and_stopped_under_load_loses_nothing_and_runs_nothing_twice() {
    let Some(mut server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
    let shop = Shop::open().await;
    let gateway = gateway(&server.url(), &shop.url()).await;
    let load = Load::start(gateway.address(), "load");
    for killed in [true, false, true] {
        load.more(40).await;
        if killed {
            server.kill().unwrap();
        } else {
            server.stop().unwrap();
        }
        server.resume().await.unwrap();
    }
    load.more(40).await;
    let tally = tally(&gateway, &shop, load.ended().await).await;
    assert_eq!((tally.lost, tally.twice), (0, 0), "{tally:?}");
}

/// The same of MariaDB, as it syncs by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_is_killed_and_stopped_under_load_loses_nothing_and_runs_nothing_twice() {
    let Some(mut server) = mysql::Server::start(&[]).await.unwrap() else { return };
    let shop = Shop::open().await;
    let gateway = gateway(&server.url(), &shop.url()).await;
    let load = Load::start(gateway.address(), "load");
    for killed in [true, false, true] {
        load.more(40).await;
        if killed {
            server.kill().unwrap();
        } else {
            server.stop().await.unwrap();
        }
        server.resume().await.unwrap();
    }
    load.more(40).await;
    let tally = tally(&gateway, &shop, load.ended().await).await;
    assert_eq!((tally.lost, tally.twice), (0, 0), "{tally:?}");
}

/// The server dies while it is at the claim, and while it is at the completion: each waits for a lock by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_amid_claims_and_completions_runs_nothing_twice() {
    const LOCK: &str = "LOCK TABLE semel.record IN EXCLUSIVE MODE";
    const LOCKED: &str =
        "SELECT count(*) FROM pg_locks WHERE relation = 'semel.record'::regclass AND mode = 'ExclusiveLock'";
    const WAITING: &str =
        "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'semel.record'::regclass AND NOT granted";
    let Some(mut server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
    let shop = Shop::open().await;
    let gateway = gateway(&server.url(), &shop.url()).await;
    let to = gateway.address();

    let amid_claims = fresh(ORDERS, "claim", 8);
    let held = server.hold(LOCK).unwrap();
    server.until(LOCKED, "1").await.unwrap();
    let sending = tokio::spawn({
        let sent = amid_claims.clone();
        async move { send_all(to, &sent).await }
    });
    server.until(WAITING, "t").await.unwrap();
    server.kill().unwrap();
    drop(held);
    server.resume().await.unwrap();
    let history = sending.await.unwrap();
    assert_eq!(tally(&gateway, &shop, history).await, NOTHING);

    let amid_completions = fresh(ORDER_THEN_GATE, "completion", 8);
    let sending = tokio::spawn({
        let sent = amid_completions.clone();
        async move { send_all(to, &sent).await }
    });
    shop.taken(keys(&amid_completions)).await;
    let held = server.hold(LOCK).unwrap();
    server.until(LOCKED, "1").await.unwrap();
    shop.open_gate();
    server.until(WAITING, "t").await.unwrap();
    server.kill().unwrap();
    drop(held);
    server.resume().await.unwrap();
    let history = sending.await.unwrap();
    let tally = tally(&gateway, &shop, history).await;
    assert_eq!((tally.lost, tally.twice), (0, 0), "{tally:?}");
}

/// Longer than a step may take and than a lease lasts: who claims is told that nothing ran, who runs is recorded late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_paused_runs_nothing_twice() {
    let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
    let shop = Shop::open().await;
    let gateway = gateway(&server.url(), &shop.url()).await;
    let to = gateway.address();
    let running = fresh(ORDER_THEN_GATE, "running", 8);
    let mut clients = Vec::new();
    for sent in &running {
        let mut client = Client::connect(to).await.unwrap();
        client.send(sent.ask.bytes()).await.unwrap();
        clients.push(client);
    }
    shop.taken(keys(&running)).await;
    server.signal(Signal::STOP).unwrap();
    shop.open_gate();
    let new = fresh(ORDERS, "new", 8);
    let told = send_all(to, &new).await;
    assert!(told.iter().all(|(_, taken)| taken.is_none()));
    assert!(keys(&new).all(|key| shop.orders(key).is_empty()), "run without a claim");
    server.signal(Signal::CONT).unwrap();
    let mut history = told;
    for (sent, mut client) in running.into_iter().zip(clients) {
        let answer = client.answer().await.ok();
        if let Some(answer) = &answer {
            assert!(answer.status() == 201 || code(answer) == "outcome-unknown", "{}", answer.text());
        }
        history.push((sent, answer.filter(|answer| answer.status() == 201)));
    }
    let tally = tally(&gateway, &shop, history).await;
    assert_eq!((tally.lost, tally.twice), (0, 0), "{tally:?}");
    // And it goes on.
    let next = &fresh(ORDERS, "next", 1)[0];
    assert_eq!(once_final(to, &next.ask).await.status(), 201);
    assert!(first_answer(to, next).await.is_some());
}
