//! A schema for each test, claims and answers with numbers for names.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, Lease, Settled, Store as _};
use semel_store_postgres::{Builder, PostgresStore};
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

/// Runs a future to its end on a thread of its own, from wherever.
pub(crate) fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(future)
        };
        scope.spawn(work).join().unwrap()
    })
}

/// A test over the shared server.
pub(crate) fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        private(body);
    }
}

/// A test over a server of its own, in a runtime with two workers.
pub(crate) fn private<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let bounded = async { tokio::time::timeout(Duration::from_mins(2), body()).await };
    built.unwrap().block_on(bounded).expect("the test came to no end");
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

pub(crate) fn id(n: u32) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn ask(n: u32) -> Begin {
    Begin {
        id: id(n),
        fingerprint: Fingerprint::from_bytes([7; 32]),
        settings: "test".into(),
        principal: None,
        claim: ClaimId::from_u128(fastrand::u128(1..)),
        lease_for: Duration::from_hours(1),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Arc<Completion> {
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers: http::HeaderMap::new(),
            body: StoredBody::Kept(body.into()),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

pub(crate) fn body(completion: &Completion) -> Bytes {
    match &completion.response.as_ref().unwrap().body {
        StoredBody::Kept(body) => body.clone(),
        StoredBody::NotKept(why) => panic!("not kept: {why:?}"),
    }
}

pub(crate) async fn claimed(store: &PostgresStore, n: u32) -> Lease {
    match store.begin(&ask(n)).await.unwrap() {
        Begun::Acquired(acquired) => acquired.lease,
        other => panic!("{n}: {other:?}"),
    }
}

pub(crate) async fn completed(store: &PostgresStore, n: u32, text: &'static str) {
    let lease = claimed(store, n).await;
    let settled = store.complete(lease.as_ref(), &answer(text), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
}
