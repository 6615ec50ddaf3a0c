//! What is opened, what is refused, and what a schema remembers.

use std::error::Error;
use std::fmt::Write as _;

use semel_core::identity::Secret;
use semel_core::record::{Retention, State};
use semel_core::store::{Begun, Query, Store as _, StoreError, StoreErrorKind as Kind};
use semel_store_postgres::{Builder, PostgresStore};
use semel_testkit::postgres::{Server, free_port};

use crate::support::{Schema, ask, claimed, completed, id, private, run_at, test};

const PASSWORD: &str = "hunter2";

/// It is refused with one line that names server and database, and no text of it holds the password.
pub(crate) async fn refused(builder: Builder, kind: Kind, names: &[&str]) -> String {
    assert!(!format!("{builder:?}").contains(PASSWORD));
    let error = match builder.open().await {
        Err(error) => error,
        Ok(store) => panic!("{store:?} was opened"),
    };
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.starts_with("postgres store: ") && !text.contains('\n'), "{text}");
    for name in names {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
    assert!(!everything(&error).contains(PASSWORD), "{}", everything(&error));
    text
}

fn everything(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, " {error} {error:?}").unwrap();
        source = error.source();
    }
    text
}

fn at(user: &str, port: u16, database: &str) -> Builder {
    PostgresStore::builder(format!("postgres://{user}:{PASSWORD}@127.0.0.1:{port}/{database}"))
}

#[test]
fn what_cannot_be_reached_is_named() {
    private(async || {
        let port = free_port().unwrap();
        let place = format!("127.0.0.1:{port}/app");
        refused(at("semel", port, "app"), Kind::Unavailable, &[&place]).await;
        let nowhere = format!("postgres://semel:{PASSWORD}@no-such-host.invalid:5432/app");
        refused(PostgresStore::builder(nowhere), Kind::Unavailable, &["no-such-host.invalid:5432/app"]).await;
        for url in ["hunter2", "mysql://semel:hunter2@db/app", "postgres://semel:hunter2@db:port/app"] {
            refused(PostgresStore::builder(url), Kind::Config, &["postgres://"]).await;
        }
        refused(at("semel", port, "app").schema("a-b"), Kind::Config, &["a-b"]).await;
        refused(at("semel", port, "app").max_body(u64::MAX), Kind::Config, &["400000000"]).await;
        refused(at("semel", port, "app").connections(0), Kind::Config, &["connection"]).await;
    });
}

#[test]
fn what_a_server_refuses_is_told_at_once() {
    private(async || {
        let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        let port = server.port();
        run_at(
            &server.url(),
            "CREATE ROLE asks_password LOGIN PASSWORD 'another'; CREATE ROLE nobody LOGIN;
             CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on",
        )
        .await;
        let place = format!("127.0.0.1:{port}/postgres");
        refused(at("asks_password", port, "postgres"), Kind::Config, &[&place, "password"]).await;
        refused(at("postgres", port, "missing"), Kind::Config, &["/missing", "no such database"]).await;
        refused(at("nobody", port, "postgres"), Kind::Config, &[&place, "schema semel", "CREATE"]).await;
        refused(at("reader", port, "postgres"), Kind::Unavailable, &[&place, "read-only"]).await;
        refused(at("postgres", port, "postgres").migrate(false), Kind::Config, &["migrations"]).await;
        let encrypted = format!("{}?sslmode=require", server.url());
        refused(PostgresStore::builder(encrypted), Kind::Config, &[&place, "TLS"]).await;

        // By the migrations as they are published, for a user with no more rights than the documentation says.
        for migration in PostgresStore::migrations("semel").unwrap() {
            run_at(&server.url(), &format!("BEGIN; {} COMMIT", migration.sql)).await;
        }
        // Who runs `semel` has no crate's documentation at hand.
        refused(at("nobody", port, "postgres"), Kind::Config, &["GRANT USAGE ON the schema", "record"]).await;
        run_at(
            &server.url(),
            "GRANT USAGE ON SCHEMA semel TO nobody; GRANT SELECT, UPDATE ON semel.meta TO nobody",
        )
        .await;
        refused(at("nobody", port, "postgres"), Kind::Config, &["rights", "semel.record"]).await;
        run_at(
            &server.url(),
            "GRANT SELECT, INSERT, UPDATE, DELETE ON semel.record TO nobody;
             GRANT USAGE ON SEQUENCE semel.fence TO nobody",
        )
        .await;
        let store = at("nobody", port, "postgres").migrate(false).open().await.unwrap();
        completed(&store, 1, "x").await;
        assert_eq!(store.sweep(10).await.unwrap().removed, 0);
        store.health().await.unwrap();

        run_at(&server.url(), "UPDATE semel.meta SET version = 99, oldest = 99").await;
        refused(at("postgres", port, "postgres"), Kind::NewerSchema, &[&place, "99"]).await;
        run_at(&server.url(), "CREATE SCHEMA other; CREATE TABLE other.meta (version text)").await;
        refused(at("postgres", port, "postgres").schema("other"), Kind::Config, &[&place, "other"]).await;
    });
}

// A claim at a standby fails at the first payment, and what is read there may be old.
#[test]
fn a_standby_is_refused() {
    private(async || {
        let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        let store = PostgresStore::open(server.url()).await.unwrap();
        completed(&store, 1, "x").await;
        let standby = server.standby(server.address()).await.unwrap();
        refused(PostgresStore::builder(standby.url()), Kind::Unavailable, &["standby"]).await;
        let pooled = PostgresStore::builder(standby.url()).transaction_pooling();
        refused(pooled, Kind::Unavailable, &["standby"]).await;
        // And it is one.
        let rows = crate::support::number_at(&standby.url(), "SELECT count(*) FROM semel.record").await;
        assert_eq!(rows, 1);
    });
}

#[test]
fn a_configured_secret_is_not_in_the_schema_and_no_other_opens_it() {
    test(async || {
        let schema = Schema::new();
        let secret = Secret::from_bytes(*b"thirty-two bytes of a real key!!");
        let open = |secret: &Secret| schema.builder().secret(secret.clone()).open();
        assert!(open(&secret).await.unwrap().secret() == &secret);
        assert_eq!(schema.number("SELECT count(secret) FROM {s}.meta").await, 0);
        assert!(open(&secret).await.is_ok());
        let other = schema.builder().secret(Secret::from_bytes([1; 32]));
        refused(other, Kind::Config, &["another secret"]).await;
        refused(schema.builder(), Kind::Config, &["configured secret"]).await;
    });
}

// A record that cannot be read is not an absent one: its request ran.
#[test]
fn a_damaged_record_is_an_error_and_is_never_claimed() {
    test(async || {
        let schema = Schema::new();
        let store = schema.open().await;
        completed(&store, 1, "paid: 10").await;
        let damages = [
            "completion = set_byte(completion, octet_length(completion) - 1, 49)",
            "completion = substr(completion, 1, 20)",
            "completion = NULL",
            "claim = '\\x00'",
            "recovery = 9",
            "state = 17",
        ];
        for damage in damages {
            schema.run(&format!("UPDATE {{s}}.record SET {damage}")).await;
            let error = store.begin(&ask(1)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Undecodable, "{damage}: {error}");
            assert!(!error.can_retry());
            assert!(store.read(&id(1)).await.is_err() || damage == "state = 17", "{damage}");
        }
        assert_eq!(store.inspect(&id(1)).await.unwrap_err().kind(), Kind::Undecodable);
        // A sweep leaves it where it is, and the other records do not suffer for it.
        schema.run("UPDATE {s}.record SET due = '-infinity', expires = '-infinity'").await;
        assert_eq!(store.sweep(10).await.unwrap(), semel_core::store::Swept::default());
        let lease = claimed(&store, 2).await;
        let settled =
            store.complete(lease.as_ref(), &crate::support::answer("x"), &Retention::default()).await;
        assert_eq!(settled.unwrap(), semel_core::store::Settled::Applied);
        let query = Query { state: Some(State::Completed), after: Some(id(1)), limit: 10 };
        assert_eq!(store.list(&query).await.unwrap().records.len(), 1);
        assert!(matches!(store.begin(&ask(2)).await.unwrap(), Begun::Settled(_)));
    });
}
