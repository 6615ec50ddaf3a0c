//! A schema for each test, claims and answers with numbers for names.

use std::future::Future;
use std::sync::OnceLock;

use semel_core::record::Retention;
use semel_core::store::{Lease, Settled, Store as _};
use semel_store_postgres::{Builder, PostgresStore};
pub(crate) use semel_testkit::records::{answer, ask, body, id};
pub(crate) use semel_testkit::running::{bounded as private, wait_for};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// The server that tests share.
pub(crate) fn url() -> String {
    std::env::var("SEMEL_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// Whether it is there. Says so once if it is not; on the build server that is a failure.
pub(crate) fn available() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let connected = wait_for(async { PgConnection::connect(&url()).await.map(|_| ()) });
        let Err(error) = connected else { return true };
        let text = format!("not tested: no PostgreSQL at SEMEL_TEST_POSTGRES ({error})");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
        eprintln!("{text}");
        false
    })
}

/// A test over the shared server.
pub(crate) fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        private(body);
    }
}

/// A name that nobody else has, and the end of all that lies under it.
pub(crate) struct Schema(pub(crate) String);

impl Schema {
    pub(crate) fn new() -> Self {
        Self(format!("semel_test_{}_{:012x}", std::process::id(), fastrand::u64(..1 << 48)))
    }

    pub(crate) fn builder(&self) -> Builder {
        PostgresStore::builder(url()).schema(&self.0)
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        self.builder().open().await.unwrap()
    }

    /// A number that the server computes; `{s}` is the schema.
    pub(crate) async fn number(&self, text: &str) -> i64 {
        number_at(&url(), &text.replace("{s}", &self.0)).await
    }

    /// Statements; `{s}` is the schema.
    pub(crate) async fn run(&self, text: &str) {
        run_at(&url(), &text.replace("{s}", &self.0)).await;
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let text = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {} CASCADE", self.0);
        wait_for(async { run_at(&url(), &text).await });
    }
}

/// A number that a server computes, as text: it may be of any type.
pub(crate) async fn number_at(url: &str, text: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap();
    row.try_get_raw(0).unwrap().as_str().unwrap().parse().unwrap()
}

pub(crate) async fn run_at(url: &str, text: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
}

/// A claim that has to be granted.
pub(crate) async fn claimed(store: &PostgresStore, n: u32) -> Lease {
    semel_testkit::records::claimed(store, n).await
}

pub(crate) async fn completed(store: &PostgresStore, n: u32, text: &'static str) {
    let lease = claimed(store, n).await;
    let settled = store.complete(lease.as_ref(), &answer(text), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
}
