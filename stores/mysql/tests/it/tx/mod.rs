//! The transactional level over an axum application and a real server.

mod by_hand;
mod commits;
mod conflicts;
mod doubt;
mod misuse;
mod start;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::handler::Handler;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use semel_core::policy::PolicyBuilder;
use semel_core::store::Transactions;
use semel_store_mysql::{Isolation, MySqlStore, MySqlTransactions};
use semel_tower::{Idempotency, IdempotencyLayer};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::support::{Database, server as url};

/// A database with a ledger beside the records.
pub(crate) struct Bank {
    pub(crate) schema: Database,
    pub(crate) pool: MySqlPool,
}

impl Bank {
    pub(crate) async fn open() -> Self {
        Self::with_pool(5, &url()).await
    }

    pub(crate) async fn with_pool(connections: u32, url: &str) -> Self {
        let schema = Database::new();
        // What the store makes its own tables in.
        drop(schema.open().await);
        schema.run("CREATE TABLE {s}.ledger (note VARCHAR(40) NOT NULL)").await;
        Self { schema, pool: pool(connections, url).await }
    }

    /// Connections that are set up by a statement.
    pub(crate) async fn with_session(text: &'static str) -> Self {
        let bank = Self::open().await;
        let options = MySqlPoolOptions::new().max_connections(5).test_before_acquire(false);
        let options = options
            .after_connect(move |connection, _| Box::pin(async move { execute(connection, text).await }));
        Self { pool: options.connect(&url()).await.unwrap(), ..bank }
    }

    pub(crate) async fn store(&self) -> MySqlStore {
        self.schema.open().await
    }

    /// An application of one handler.
    pub(crate) async fn serve<H, T>(&self, handler: H) -> App
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        self.serve_with(Isolation::ReadCommitted, |policy| policy, handler).await
    }

    pub(crate) async fn serve_with<H, T>(
        &self,
        isolation: Isolation,
        rules: impl FnOnce(PolicyBuilder) -> PolicyBuilder,
        handler: H,
    ) -> App
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        let store = self.store().await;
        let transactions = self.transactions(&store, isolation).await;
        app(store, transactions, rules, handler)
    }

    pub(crate) async fn transactions(&self, store: &MySqlStore, isolation: Isolation) -> MySqlTransactions {
        let builder = store.transactions(self.pool.clone()).isolation(isolation);
        builder.timeout(Duration::from_secs(1)).open().await.unwrap()
    }

    /// Lines of the ledger that are committed.
    pub(crate) async fn lines(&self) -> i64 {
        self.schema.number("SELECT count(*) FROM {s}.ledger").await
    }

    /// How many records there are in this state.
    pub(crate) async fn records(&self, state: u8) -> i64 {
        self.schema.number(&format!("SELECT count(*) FROM {{s}}.semel_record WHERE state = {state}")).await
    }

    /// What is left of transactions that handlers committed.
    pub(crate) async fn marks(&self) -> i64 {
        self.schema.number("SELECT count(*) FROM {s}.semel_mark").await
    }

    /// For handlers.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::from(self.schema.0.as_str())
    }
}

pub(crate) const COMPLETED: u8 = 1;
pub(crate) const RELEASED: u8 = 2;

pub(crate) async fn pool(connections: u32, url: &str) -> MySqlPool {
    let options = MySqlPoolOptions::new().max_connections(connections).test_before_acquire(false);
    options.connect(url).await.unwrap()
}

pub(crate) fn app<H, T>(
    store: MySqlStore,
    transactions: impl Transactions,
    rules: impl FnOnce(PolicyBuilder) -> PolicyBuilder,
    handler: H,
) -> App
where
    H: Handler<T, ()>,
    T: 'static,
{
    let idempotency =
        Idempotency::builder(store).build().unwrap().transactional(transactions, rules).unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let router = Router::new()
        .route("/pay", post(handler))
        .layer(axum::middleware::map_request(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(request)
        }))
        .layer(IdempotencyLayer::new(idempotency.clone()));
    App { router, runs, idempotency }
}

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) router: Router,
    runs: Arc<AtomicUsize>,
    pub(crate) idempotency: Idempotency,
}

#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Told {
    pub(crate) fn replayed(&self) -> bool {
        self.headers.contains_key("idempotency-replayed")
    }

    /// Status and code of a problem, or the body.
    pub(crate) fn brief(&self) -> (u16, &str) {
        let code = self.body.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
        (self.status, code.unwrap_or(&self.body))
    }
}

impl App {
    /// How often the handler was called.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) async fn send(&self, key: &str) -> Told {
        self.send_body(key, "7").await
    }

    pub(crate) async fn send_body(&self, key: &str, body: &'static str) -> Told {
        let request = Request::post("/pay")
            .header("host", "bank.test")
            .header("idempotency-key", format!("\"{key}\""))
            .body(Body::from(body))
            .unwrap();
        self.send_request(request).await
    }

    pub(crate) async fn send_request(&self, request: Request<Body>) -> Told {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Told { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// One line in the ledger.
pub(crate) async fn write(tx: &mut MySqlConnection, schema: &str, note: &str) -> Result<(), sqlx::Error> {
    let text = format!("INSERT INTO {schema}.ledger (note) VALUES ('{note}')");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(tx).await.map(|_| ())
}

/// Whatever a handler has in mind.
pub(crate) async fn execute(tx: &mut MySqlConnection, text: impl Into<String>) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(text.into())).execute(tx).await.map(|_| ())
}

pub(crate) fn created() -> (StatusCode, &'static str) {
    (StatusCode::CREATED, "paid")
}

/// Something that a handler waits for, and that it has come so far.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// The handler's side: says that it is here, and waits.
    pub(crate) async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }

    pub(crate) async fn reached(&self) {
        self.0.0.acquire().await.unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.0.1.add_permits(1);
    }
}
