//! Operators do the same on every store.

use crate::servers::{DURABLE, MariaDb, Postgres, Redis};
use crate::support::{Act, Folder, Proxy, Upstream, answer, order};

/// Lists, shows, resolves and deletes what a proxy on this store has left.
async fn keys_work_on(url: &str, more: &[&str]) {
    let upstream = Upstream::start(|request| match request.message.one("x-break") {
        Some(_) => Act::HangUp,
        None => Act::Answer(answer(200, "made")),
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let at = [&["--store", url], more].concat();
    let proxy = Proxy::start(&folder, &upstream.url(), &at).await;
    assert!(proxy.banner.contains("guarded"), "a store on a server has its guard: {}", proxy.banner);
    assert_eq!(proxy.ask(order("done", "", "{}")).await.status(), 200);
    proxy.ask(order("lost", "X-Break: 1\r\n", "{}")).await;
    let up = upstream.url();
    let keys = async |args: &[&str]| {
        let ended = folder.run(&[&["keys"], args, &at[..], &["--json"]].concat()).await;
        assert!(ended.code < 2, "{args:?}: {ended:?}");
        (ended.code, ended.out)
    };
    let json = |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap();
    let listed = json(&keys(&["list"]).await.1);
    assert_eq!(listed["records"].as_array().map(Vec::len), Some(2), "{listed:#}");
    let unknown = json(&keys(&["list", "--state", "unknown"]).await.1);
    let id = unknown["records"][0]["id"].as_str().expect("an unknown record").to_owned();
    assert_eq!(json(&keys(&["show", &id[..12]]).await.1)["state"], "unknown");
    let by_key = json(&keys(&["show", "--key", "lost", "--upstream", &up]).await.1);
    assert_eq!(by_key["id"], id.as_str());

    let (code, out) = keys(&["resolve", &id, "--applied", "--status", "201"]).await;
    assert_eq!((code, &json(&out)["resolved"]), (0, &true.into()));
    assert_eq!(proxy.ask(order("lost", "X-Break: 1\r\n", "{}")).await.status(), 201);
    assert_eq!(keys(&["resolve", &id, "--not-applied"]).await.0, 1, "it is settled");

    assert_eq!(keys(&["delete", "--key", "done", "--upstream", &up]).await.0, 0);
    assert_eq!(keys(&["show", "--key", "done", "--upstream", &up]).await.0, 1);
    assert_eq!(upstream.count(), 2);
    assert_eq!(proxy.ask(order("done", "", "{}")).await.status(), 200);
    assert_eq!(upstream.count(), 3, "a deleted key is as new");
}

#[tokio::test]
async fn on_postgres() {
    let Some(server) = Postgres::start(&["fsync=off"]).await.unwrap() else { return };
    keys_work_on(&server.url(), &[]).await;
    keys_work_on(&server.url(), &["--schema", "orders"]).await;
    assert_eq!(server.sql("SELECT count(*) FROM orders.meta").unwrap().trim(), "1");
}

#[tokio::test]
async fn on_mariadb() {
    let Some(database) = MariaDb::make() else { return };
    keys_work_on(&database.url(), &[]).await;
    keys_work_on(&database.url(), &["--schema", "orders_"]).await;
}

#[tokio::test]
async fn on_redis() {
    let Some(server) = Redis::start(DURABLE) else { return };
    keys_work_on(&server.url(), &[]).await;
    keys_work_on(&server.url(), &["--schema", "orders"]).await;
}
