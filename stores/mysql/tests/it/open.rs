//! What opening says of a server, a user or a database that cannot be used.

use std::time::Duration;

use semel_core::identity::Secret;
use semel_core::store::{Severity, Store as _, StoreErrorKind};
use semel_store_mysql::MySqlStore;
use semel_testkit::mysql::Server;

use crate::support::{Database, answer, ask, body, claimed, completed, id, private, server, test};

async fn refused(url: String) -> (StoreErrorKind, String) {
    let error = MySqlStore::open(url).await.unwrap_err();
    (error.kind(), format!("{error}"))
}

// At the first payment is too late.
#[test]
fn what_cannot_be_used_is_refused_and_the_password_is_not_shown() {
    test(async || {
        let database = Database::new();
        let user = format!("u{:08x}", fastrand::u32(..));
        database.run(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'hunter2'")).await;
        let address = server().rsplit('@').next().unwrap().to_owned();
        let name = &database.0;
        for (url, text) in [
            (format!("mysql://{user}:wrong2@{address}/{name}"), "refuses this user"),
            (format!("mysql://{user}:hunter2@{address}/{name}"), "may not use this database"),
            (format!("{}/nosuch_{name}", server()), "no such database"),
            (server(), "names no database"),
            ("postgres://u:hunter2@h/x".to_owned(), "write mysql://"),
        ] {
            let (kind, error) = refused(url).await;
            assert_eq!(kind, StoreErrorKind::Config, "{error}");
            assert!(
                error.contains(text) && !error.contains("hunter2") && !error.contains("wrong2"),
                "{error}"
            );
        }
        for url in ["mysql://root@nosuch.invalid/x", "mysql://root@127.0.0.1:1/x"] {
            let (kind, error) = refused(url.into()).await;
            assert_eq!(kind, StoreErrorKind::Unavailable, "{error}");
        }
        database.run(&format!("GRANT SELECT ON {name}.* TO {user}@'%'")).await;
        let url = format!("mysql://{user}:hunter2@{address}/{name}");
        let (kind, error) = refused(url.clone()).await;
        assert!(kind == StoreErrorKind::Config && error.contains("grant CREATE"), "{error}");
        let store = database.open().await;
        let (kind, error) = refused(url).await;
        assert!(kind == StoreErrorKind::Config && error.contains("GRANT SELECT, INSERT"), "{error}");
        drop(store);
        database.run(&format!("DROP USER {user}@'%'")).await;
    });
}

// Programs that are asynchronous call it as well, and a runtime may not be dropped inside another one.
#[test]
fn it_is_opened_blocking_inside_a_runtime_as_well() {
    test(async || {
        let database = Database::new();
        let migrated = database.builder().bring_up_to_date_blocking().unwrap();
        assert_eq!(migrated.from, 0);
        let store = database.builder().open_blocking().unwrap();
        completed(&store, 1, "done").await;
    });
}

#[test]
fn tables_of_a_newer_version_or_another_secret_are_refused_and_left_alone() {
    test(async || {
        let database = Database::new();
        let store = database.open().await;
        let again = database.open().await;
        assert!(store.secret() == again.secret(), "two secrets give one key two records");
        let other = database.builder().secret(Secret::from_bytes([1; 32])).open().await.unwrap_err();
        assert_eq!(other.kind(), StoreErrorKind::Config);
        database.run("UPDATE semel_meta SET version = 99").await;
        let newer = database.builder().open().await.unwrap_err();
        assert_eq!(newer.kind(), StoreErrorKind::NewerSchema);
        assert_eq!(database.number("SELECT CAST(version AS SIGNED) FROM semel_meta").await, 99);
        let missing = database.builder().prefix("other_").migrate(false).open().await.unwrap_err();
        assert_eq!(missing.kind(), StoreErrorKind::Config);
    });
}

#[test]
fn many_instances_may_migrate_at_once() {
    test(async || {
        let database = Database::new();
        let opening = (0..16).map(|_| database.builder().connections(1).open());
        let opening: Vec<_> = opening.map(tokio::spawn).collect();
        let mut secrets = Vec::new();
        for store in opening {
            secrets.push(store.await.unwrap().unwrap().secret().clone());
        }
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    });
}

// As somebody else would run them.
#[test]
fn migrations_that_are_run_by_hand_are_enough() {
    test(async || {
        let database = Database::new();
        for migration in MySqlStore::migrations("own_").unwrap() {
            database.run(&migration.sql).await;
            database.run(&migration.sql).await;
        }
        let store = database.builder().prefix("own_").migrate(false).open().await.unwrap();
        let _ = claimed(&store, 1).await;
    });
}

// A body that does not fit was found at its completion, after the run.
#[test]
fn a_body_that_does_not_fit_a_packet_is_refused_at_the_start() {
    private(async || {
        let Some(server) = Server::start(&["--max-allowed-packet=4M"]).await.unwrap() else { return };
        let error = MySqlStore::builder(server.url()).max_body(4 << 20).open().await.unwrap_err();
        assert!(
            error.kind() == StoreErrorKind::Config && error.to_string().contains("max_allowed_packet"),
            "{error}"
        );
        let store = MySqlStore::open(server.url()).await.unwrap();
        let most = usize::try_from(store.capabilities().max_body.unwrap()).unwrap();
        let lease = claimed(&store, 1).await.as_ref();
        let keep = semel_core::record::Retention::default();
        let large = store.complete(lease, &answer(vec![0; most + 1]), &keep).await.unwrap_err();
        assert_eq!(large.kind(), StoreErrorKind::TooLarge);
        // Every byte value, among them what would end a string or escape.
        let bytes: Vec<u8> = (0..=255_u8).cycle().take(most).collect();
        let _ = store.complete(lease, &answer(bytes.clone()), &keep).await.unwrap();
        assert_eq!(body(&store.read(&id(1)).await.unwrap().unwrap().completion), bytes);
    });
}

#[test]
fn a_read_only_server_is_refused_and_a_forgetful_one_says_so() {
    private(async || {
        let settings = ["--innodb-flush-log-at-trx-commit=2", "--log-bin=bin", "--binlog-format=MIXED"];
        let Some(server) = Server::start(&settings).await.unwrap() else { return };
        let store = MySqlStore::open(server.url()).await.unwrap();
        assert!(!store.capabilities().durable);
        let findings = store.examine().await.unwrap();
        let warned = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
        assert_eq!(warned, 2, "{findings:?}");
        crate::support::run_at(
            &server.url(),
            "SET GLOBAL sync_binlog = 1, GLOBAL innodb_flush_log_at_trx_commit = 1",
        )
        .await;
        assert!(MySqlStore::open(server.url()).await.unwrap().capabilities().durable);
        crate::support::run_at(&server.url(), "SET GLOBAL read_only = 1").await;
        let (kind, error) = refused(server.url()).await;
        assert!(kind == StoreErrorKind::Unavailable && error.contains("read-only"), "{error}");
    });
}

// A server's defaults that would change what statements mean or when a lease ends.
#[test]
fn no_default_of_the_server_is_trusted() {
    private(async || {
        let settings = [
            "--sql-mode=ANSI,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,NO_AUTO_VALUE_ON_ZERO",
            "--default-time-zone=+05:30",
            "--transaction-isolation=SERIALIZABLE",
            "--character-set-server=latin1",
            "--autocommit=0",
        ];
        let Some(server) = Server::start(&settings).await.unwrap() else { return };
        let store = MySqlStore::open(server.url()).await.unwrap();
        let lease = claimed(&store, 1).await;
        let view = store.inspect(lease.id()).await.unwrap().unwrap();
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seen = Duration::from_millis(u64::try_from(view.now.as_millis()).unwrap());
        assert!(seen.abs_diff(real) < Duration::from_mins(1), "{seen:?} is not {real:?}");
        let other = MySqlStore::open(server.url()).await.unwrap();
        assert!(matches!(other.begin(&ask(1)).await.unwrap(), semel_core::store::Begun::Held { .. }));
    });
}
