//! What is wrong with a server is said at start, with its name and without the password.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use semel_core::store::{Store as _, StoreErrorKind};
use semel_store_redis::{RedisStore, Warning};

use crate::server::Server;
use crate::support::private;

const SECRET: &str = "open-sesame-7319";

/// Opens it, and looks at the error that has to come.
async fn refused(url: &str, kind: StoreErrorKind, says: &str) {
    let opened = RedisStore::builder(url).timeout(Duration::from_millis(700)).open().await;
    let error = opened.expect_err(says);
    let text = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(text.contains(says), "{says:?} is not said: {text}");
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.starts_with("redis store: "), "{text}");
    assert!(!text.contains(SECRET), "the password is told: {text}");
}

#[test]
fn a_server_that_cannot_keep_the_contract_is_refused() {
    private(async || {
        use StoreErrorKind::Config;
        let table: &[(&[&str], &str)] = &[
            (&["--maxmemory-policy", "allkeys-lru"], "maxmemory-policy is allkeys-lru"),
            (&["--maxmemory-policy", "volatile-ttl"], "accept_eviction"),
            (&["--replicaof", "127.0.0.1 1"], "is a replica"),
            (&["--cluster-enabled", "yes"], "is a node of a cluster: write redis+cluster://"),
            (&["--sentinel"], "is a Sentinel, which holds no records: write redis+sentinel://"),
            (&["--proto-max-bulk-len", "10mb"], "proto-max-bulk-len"),
            (&["--requirepass", SECRET], "refuses the user or the password"),
            (&["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-evalsha"], "may not do"),
            (&["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-rename"], "may not do"),
        ];
        for (settings, says) in table {
            let Some(server) = Server::start(settings) else { return };
            let url = if settings[0] == "--sentinel" {
                format!("redis://127.0.0.1:{}", server.port)
            } else {
                server.url()
            };
            refused(&url, Config, says).await;
            refused(&url, Config, &server.port.to_string()).await;
        }
    });
}

#[test]
fn a_wrong_url_is_one_clear_error() {
    private(async || {
        use StoreErrorKind::{Config, Timeout, Unavailable};
        let Some(server) = Server::start(&["--requirepass", SECRET, "--databases", "2"]) else { return };
        let port = server.port;
        let with = |user: &str| format!("redis://{user}@127.0.0.1:{port}/0");
        refused(&with(":wrong-open-sesame"), Config, "refuses the user or the password").await;
        refused(&with(&format!("nobody:{SECRET}")), Config, "refuses the user or the password").await;
        refused(&format!("redis://:{SECRET}@127.0.0.1:{port}/99"), Config, "has no such database").await;
        refused(&format!("redis://:{SECRET}@127.0.0.1:{port}/orders"), Config, "no URL of a server").await;
        refused(
            &format!("rediss://:{SECRET}@127.0.0.1:{port}?tls_ca=/no/such/ca.pem"),
            Config,
            "/no/such/ca.pem",
        )
        .await;
        refused(&format!("postgres://:{SECRET}@127.0.0.1"), Config, "no URL of a server").await;
        refused(&format!("redis://:{SECRET}@no-such-host.invalid/"), Unavailable, "no-such-host.invalid")
            .await;
        refused("redis+unix:///no/such/socket", Unavailable, "/no/such/socket").await;
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        refused(&format!("redis://:{SECRET}@{address}/"), Timeout, " in time").await;
        drop(silent);
        refused(&format!("redis://:{SECRET}@{address}/"), Unavailable, "refuses connections").await;
        assert!(RedisStore::open(&format!("redis://:{SECRET}@127.0.0.1:{port}/1")).await.is_ok());
        let prefixed = RedisStore::builder(&server.url()).prefix("a*b").open().await.unwrap_err();
        assert_eq!(prefixed.kind(), Config);
        let debug = format!("{:?}", RedisStore::builder(&with(SECRET)));
        assert!(!debug.contains(SECRET), "{debug}");
    });
}

// Redis 6 knows no script flags: the first settlement on a full server would fail.
#[test]
fn a_server_that_is_too_old_is_refused() {
    private(async || {
        for (info, kind, says) in [
            ("redis_version:6.2.14\r\nredis_mode:standalone\r\n", StoreErrorKind::Config, "is Redis 6.2.14"),
            ("nothing:known\r\n", StoreErrorKind::Config, "needs 7.0 or later"),
            ("redis_version:7.0.15\r\nloading:1\r\n", StoreErrorKind::Unavailable, "still loading"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("redis://{}/", listener.local_addr().unwrap());
            std::thread::spawn(move || answer(&listener, info));
            refused(&url, kind, says).await;
        }
    });
}

/// A server that answers INFO so, and everything else with OK.
fn answer(listener: &TcpListener, info: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let commands = text.lines().filter(|line| line.starts_with('*')).count();
        let reply = if text.contains("INFO\r\n") && !text.contains("SETINFO") {
            format!("${}\r\n{info}\r\n", info.len())
        } else {
            "+OK\r\n".repeat(commands)
        };
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

// "Durable" is what operators choose stores by: it may not be said of a server that forgets.
#[test]
fn durability_is_what_the_server_is_set_to() {
    private(async || {
        let table: &[(&[&str], &[Warning])] = &[
            (&["--save", ""], &[Warning::NotPersistent]),
            (&["--save", "3600 1"], &[Warning::SnapshotsOnly]),
            (&["--appendonly", "yes", "--appendfsync", "everysec"], &[Warning::SyncedEverySecond]),
            (&["--appendonly", "yes", "--appendfsync", "no"], &[Warning::SyncedByTheSystem]),
            (&["--appendonly", "yes", "--appendfsync", "always"], &[]),
            (
                &["--appendonly", "yes", "--appendfsync", "always", "--rename-command", "CONFIG", ""],
                &[Warning::SyncUnknown],
            ),
        ];
        for (settings, warnings) in table {
            let Some(server) = Server::start(settings) else { return };
            let store = RedisStore::open(&server.url()).await.unwrap();
            assert_eq!(store.warnings(), *warnings, "{settings:?}");
            assert_eq!(store.capabilities().durable, warnings.is_empty(), "{settings:?}");
        }
        let evicting =
            ["--maxmemory-policy", "allkeys-lru", "--appendonly", "yes", "--appendfsync", "always"];
        let Some(server) = Server::start(&evicting) else { return };
        let store = RedisStore::builder(&server.url()).accept_eviction().open().await.unwrap();
        assert_eq!(store.warnings(), [Warning::Evicts("allkeys-lru".into())]);
        assert!(!store.capabilities().durable, "what is evicted is not kept");
    });
}
