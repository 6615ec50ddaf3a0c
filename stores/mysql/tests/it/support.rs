//! A database for each test, claims and answers with numbers for names.

use std::future::Future;
use std::net::ToSocketAddrs as _;
use std::sync::OnceLock;

use semel_core::record::Retention;
use semel_core::store::{Lease, Settled, Store as _};
use semel_store_mysql::{Builder, MySqlStore};
use semel_testkit::cable::Cable;
pub(crate) use semel_testkit::records::{answer, ask, body, id};
pub(crate) use semel_testkit::running::{bounded as private, wait_for};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// The server that tests share, without a database.
pub(crate) fn server() -> String {
    let url = std::env::var("SEMEL_TEST_MYSQL").unwrap_or_else(|_| "mysql://root@127.0.0.1:3306".into());
    url.trim_end_matches('/').to_owned()
}

/// Whether it is there. Says so once if it is not; on the build server that is a failure.
pub(crate) fn available() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let connected = wait_for(async { MySqlConnection::connect(&server()).await.map(|_| ()) });
        if let Err(error) = &connected {
            let why = format!("no MariaDB at SEMEL_TEST_MYSQL ({error})");
            semel_testkit::skip::skip("semel-store-mysql", &why).unwrap();
        }
        connected.is_ok()
    })
}

/// A test over the shared server.
pub(crate) fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        private(body);
    }
}

/// A database that nobody else has, and its end.
pub(crate) struct Database(pub(crate) String);

impl Database {
    pub(crate) fn new() -> Self {
        let name = format!("semel_test_{}_{:012x}", std::process::id(), fastrand::u64(..1 << 48));
        let text = format!("CREATE DATABASE {name}");
        wait_for(async { run_at(&server(), &text).await });
        Self(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", server(), self.0)
    }

    pub(crate) fn builder(&self) -> Builder {
        MySqlStore::builder(self.url())
    }

    pub(crate) async fn open(&self) -> MySqlStore {
        self.builder().open().await.unwrap()
    }

    /// A number that the server computes; `{s}` is the database.
    pub(crate) async fn number(&self, text: &str) -> i64 {
        number_at(&self.url(), &text.replace("{s}", &self.0)).await
    }

    /// Statements; `{s}` is the database.
    pub(crate) async fn run(&self, text: &str) {
        run_at(&self.url(), &text.replace("{s}", &self.0)).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let text = format!("DROP DATABASE IF EXISTS {}", self.0);
        wait_for(async { run_at(&server(), &text).await });
    }
}

pub(crate) async fn number_at(url: &str, text: &str) -> i64 {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap();
    row.try_get_unchecked(0).unwrap()
}

pub(crate) async fn run_at(url: &str, text: &str) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
}

/// A cable to the server that tests share, and the URL of the cable's end, without a database.
pub(crate) fn through() -> (Cable, String) {
    let at: MySqlConnectOptions = server().parse().unwrap();
    let mut addresses = (at.get_host(), at.get_port()).to_socket_addrs().unwrap();
    let cable = Cable::to(addresses.next().unwrap()).unwrap();
    let user = server().split_once("://").unwrap().1.rsplit_once('@').unwrap().0.to_owned();
    let url = format!("mysql://{user}@{}", cable.address());
    (cable, url)
}

/// A claim that has to be granted.
pub(crate) async fn claimed(store: &MySqlStore, n: u32) -> Lease {
    semel_testkit::records::claimed(store, n).await
}

pub(crate) async fn completed(store: &MySqlStore, n: u32, text: &'static str) {
    let lease = claimed(store, n).await;
    let settled = store.complete(lease.as_ref(), &answer(text), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
}
