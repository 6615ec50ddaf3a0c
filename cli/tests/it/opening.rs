//! A store that is down at the start is waited for; one that somebody has to change ends the proxy.

use crate::servers::{DURABLE, Postgres, Redis, free_port};
use crate::support::{Folder, Proxy, Upstream, ask, code, get, order, until};

const PASSWORD: &str = "hunter2";

async fn readiness(proxy: &Proxy) -> (u16, String) {
    let answer = ask(proxy.admin.expect("an admin address"), get("/readyz")).await;
    (answer.status(), answer.text())
}

/// Up and honest about it: alive, not ready, unguarded requests pass, and nothing guarded runs.
async fn waits(proxy: &Proxy, upstream: &Upstream, names: &str) {
    assert!(proxy.banner.contains("NOT OPEN"), "{}", proxy.banner);
    let (status, reason) = readiness(proxy).await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("not open yet") && reason.contains(names), "{reason}");
    assert!(!reason.contains(PASSWORD) && !proxy.banner.contains(PASSWORD), "{reason}");
    assert_eq!(ask(proxy.admin.unwrap(), get("/healthz")).await.status(), 200);
    let before = upstream.count();
    let refused = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((refused.status(), code(&refused)), (503, "store-unavailable".to_owned()));
    assert!(refused.one("retry-after").is_some());
    assert_eq!(upstream.count(), before, "it ran");
    assert_eq!(proxy.ask(get("/orders")).await.status(), 200);
    assert_eq!(upstream.count(), before + 1);
}

/// From here on as if nothing had been.
async fn becomes_ready(proxy: &Proxy, upstream: &Upstream) {
    until("ready", async || readiness(proxy).await.0 == 200).await;
    let before = upstream.count();
    for _ in 0..2 {
        assert_eq!(proxy.ask(order("k", "", "{}")).await.status(), 200);
    }
    assert_eq!(upstream.count(), before + 1, "a duplicate ran, or nothing did");
}

#[tokio::test]
async fn a_database_that_comes_later_is_waited_for() {
    let Some(mut server) = Postgres::make(&["fsync=off"]).unwrap() else { return };
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let url = format!("postgres://postgres:{PASSWORD}@{}/postgres", server.address());
    let proxy = Proxy::start(&folder, &upstream.url(), &["--store", &url]).await;
    waits(&proxy, &upstream, &server.address().to_string()).await;
    server.resume().await.unwrap();
    becomes_ready(&proxy, &upstream).await;
    assert!(!folder.log().contains(PASSWORD), "{}", folder.log());
    // And it ends as gracefully as any.
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.ended().await, Some(0));
}

#[tokio::test]
async fn a_redis_that_comes_later_is_waited_for() {
    let Some(mut server) = Redis::make(DURABLE) else { return };
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &["--store", &server.url()]).await;
    waits(&proxy, &upstream, &server.port.to_string()).await;
    server.resume();
    becomes_ready(&proxy, &upstream).await;
}

// What nobody can wait for: a wrong password that shows when the server comes.
#[tokio::test]
async fn what_the_store_then_refuses_ends_the_proxy() {
    let Some(mut server) = Redis::make(&["--requirepass", "another"]) else { return };
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/0", server.port);
    let proxy = Proxy::start(&folder, &upstream.url(), &["--store", &url]).await;
    waits(&proxy, &upstream, &server.port.to_string()).await;
    server.resume();
    assert_eq!(proxy.ended().await, Some(5));
    let log = folder.log();
    assert!(
        log.lines().last().is_some_and(|line| line.starts_with("semel: ") && line.contains("password")),
        "{log}"
    );
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn a_name_without_an_address_is_waited_for_and_a_shutdown_is_heard_meanwhile() {
    let upstream = Upstream::answering("made").await.unwrap();
    for scheme in ["postgres", "redis"] {
        let folder = Folder::new();
        let url = format!("{scheme}://semel:{PASSWORD}@no-such-host.invalid/0");
        let proxy = Proxy::start(&folder, &upstream.url(), &["--store", &url]).await;
        waits(&proxy, &upstream, "no-such-host.invalid").await;
        proxy.signal(rustix::process::Signal::TERM);
        assert_eq!(proxy.ended().await, Some(0));
        assert!(!folder.log().contains(PASSWORD), "{}", folder.log());
    }
}

// A firewall that drops what it does not like is silent for half a minute, and a probe of /healthz gives up before.
#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_and_a_shutdown_is_heard_meanwhile() {
    let upstream = Upstream::answering("made").await.unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for scheme in ["postgres", "mysql"] {
        let folder = Folder::new();
        let url = format!("{scheme}://semel:{PASSWORD}@{address}/app");
        let proxy = Proxy::start(&folder, &upstream.url(), &["--store", &url]).await;
        waits(&proxy, &upstream, &address).await;
        proxy.signal(rustix::process::Signal::TERM);
        assert_eq!(proxy.ended().await, Some(0));
        assert!(!folder.log().contains(PASSWORD), "{}", folder.log());
    }
}

// At the start and not at the first payment: one line, naming the store and never the password.
#[tokio::test]
async fn what_somebody_has_to_change_ends_it_at_the_start() {
    let Some(postgres) = Postgres::start(&["fsync=off"]).await.unwrap() else { return };
    let Some(evicting) = Redis::start(&["--maxmemory-policy", "allkeys-lru"]) else { return };
    postgres.sql("CREATE ROLE asks_password LOGIN PASSWORD 'another'; CREATE ROLE nobody LOGIN").unwrap();
    let database = |user: &str, database: &str| {
        format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/{database}", postgres.port())
    };
    let newer = database("postgres", "postgres");
    assert_eq!(Folder::new().run(&["migrate", &newer, "--schema", "newer"]).await.code, 0);
    postgres.sql("UPDATE newer.meta SET version = 99, oldest = 99").unwrap();
    let cases: [(&str, &[&str], &str); 7] = [
        (&database("asks_password", "postgres"), &[], "password"),
        (&database("postgres", "nowhere"), &[], "no such database"),
        (&database("nobody", "postgres"), &[], "CREATE"),
        (&newer, &["--schema", "newer"], "update this program"),
        (&format!("{newer}?sslmode=require"), &[], "TLS"),
        (&newer, &["--capture-limit", "500MB"], "500000000"),
        (&evicting.url(), &[], "maxmemory-policy"),
    ];
    for (url, more, says) in cases {
        let folder = Folder::new();
        let upstream = format!("http://127.0.0.1:{}", free_port());
        let args =
            ["proxy", "--upstream", &upstream, "--listen", "127.0.0.1:0", "--admin", "off", "--store", url];
        let ended = folder.run(&[&args[..], more].concat()).await;
        assert_eq!(ended.code, 5, "{says}: {ended:?}");
        let last = ended.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("semel: ") && last.contains(says), "{says}: {ended:?}");
        assert!(ended.out.is_empty() && !ended.err.contains(PASSWORD), "{ended:?}");
    }
}
