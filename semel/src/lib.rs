//! A retried HTTP request runs once: the `Idempotency-Key` header for Rust servers.
//!
//! A client that got no answer cannot know whether its request was done. It has to send it again, and what must not
//! happen twice, a payment, an order, happens twice. With Semel it sends the same `Idempotency-Key` with every try:
//! the first one runs, each later one gets the answer of the first.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::post};
//! use semel::{Idempotency, IdempotencyLayer, MemoryStore};
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let app: Router = Router::new()
//!     .route("/orders", post(|| async { "made" }))
//!     .layer(IdempotencyLayer::new(idempotency));
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! | store | a duplicate |
//! |---|---|
//! | durable ([`sqlite`](#sqlite)), recovery *hold* (the default) | never runs beside the original. A run that ended without an answer (crash, reset, time-out, panic) is *unknown*, and is not repeated until somebody [resolves](Idempotency::resolve) it |
//! | [`postgres`](#postgres), the handler writing through its `Tx` | does nothing: one commit, after any crash |
//! | durable, recovery *takeover* | is repeated once the lease of the original is over, and may overlap one that lost its lease |
//! | [`memory`](#memory) | as above while the process lives; after a restart it runs again |
//!
//! One thing runs again by design: an answer by which the application itself says "not done, try again", such as 500,
//! 503 and 429. Applications that answer 500 after they took effect choose [`Keep::careful`](policy::Keep::careful) or
//! say so with the response header `Idempotency-Outcome`.
//!
//! # In this order
//!
//! A host ([axum](#axum), [any tower service](#tower), [actix](#actix), or the [gateway](#gateway) before an application in any
//! language), a store ([memory](#memory), [sqlite](#sqlite), [postgres](#postgres), [mysql](#mysql), [redis](#redis), with
//! [layers](#layers) over it), and rules where the defaults do not fit ([where things are](#where-things-are)). [Tests](#test) need no
//! server and no waiting. What is the same in every language (which answers are kept, what clients are told, how to operate it) is
//! told in [the book](https://semel-rs.github.io/semel/).
//!
//! # axum
//!
//! The feature `axum` adds axum's body and the extractor `Run`, which tells a handler its key, its attempt and its fence.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use semel::{Idempotency, IdempotencyLayer, MemoryStore, Run};
//! use tower::ServiceExt as _;
//!
//! async fn create(run: Run) -> String {
//!     format!("made by attempt {}", run.attempt)
//! }
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let app: Router = Router::new()
//!     .route("/orders", post(create))
//!     .layer(IdempotencyLayer::new(idempotency));
//!
//! let order = || Request::post("/orders").header("Idempotency-Key", "\"order-1\"").body(Body::empty());
//! let first = app.clone().oneshot(order()?).await?;
//! let retry = app.oneshot(order()?).await?;
//! assert_eq!(retry.headers()["idempotency-replayed"], "true");
//! assert_eq!(retry.status(), first.status());
//! # Ok(()) }
//! # #[cfg(not(all(feature = "axum", feature = "memory")))]
//! # fn main() {}
//! ```
//!
//! # tower
//!
//! Any tower service takes the layer, without a feature. On bare hyper, wrap the body first:
//! `request.map(semel::Body::passed)`.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use semel::{Idempotency, IdempotencyLayer, Idempotent, MemoryStore};
//! use tower::{ServiceBuilder, ServiceExt as _, service_fn};
//!
//! type Bytes = Full<bytes::Bytes>;
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let service = ServiceBuilder::new().layer(IdempotencyLayer::new(idempotency)).service(service_fn(
//!     async |request: Request<Bytes>| {
//!         let run = request.extensions().get::<Idempotent>().ok_or("not guarded")?;
//!         Ok::<_, &str>(Response::new(Bytes::from(format!("made by attempt {}", run.attempt))))
//!     },
//! ));
//! let order = || Request::post("/orders").header("Idempotency-Key", "\"order-1\"").body(Bytes::default());
//! assert_eq!(service.clone().oneshot(order()?).await?.status(), 200);
//! assert_eq!(service.oneshot(order()?).await?.headers()["idempotency-replayed"], "true");
//! # Ok(()) }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! # gRPC
//!
//! In tonic the layer goes around the whole server, and the unary calls that change something are named:
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, IdempotencyLayer, MemoryStore};
//!
//! let rules = Idempotency::builder(MemoryStore::new()).only_paths(["/shop.Orders/Place"]).require_key();
//! let layer = IdempotencyLayer::new(rules.build()?).for_any_body();
//! // tonic::transport::Server::builder().layer(layer).add_service(OrdersServer::new(orders))
//! # drop(layer);
//! # Ok(()) }
//! ```
//!
//! # actix
//!
//! The feature `actix` adds a middleware for actix-web, in the module `semel::actix` with extractors of its own.
//!
//! ```
//! # #[cfg(all(feature = "actix", feature = "memory"))]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::actix::{IdempotencyMiddleware, Run};
//! use semel::{Idempotency, MemoryStore};
//!
//! async fn create(run: Run) -> String {
//!     format!("made by attempt {}", run.attempt)
//! }
//!
//! // One handle for all workers; `App::new().wrap(guard.clone())` in each of them.
//! let guard = IdempotencyMiddleware::new(Idempotency::builder(MemoryStore::new()).require_key().build()?);
//! # Ok(()) }
//! ```
//!
//! # rocket
//!
//! The feature `rocket` adds a fairing for Rocket, in the module `semel::rocket` with guards of its own.
//!
//! ```
//! # #[cfg(all(feature = "rocket", feature = "memory"))]
//! # fn demo(routes: Vec<::rocket::Route>) -> Result<(), Box<dyn std::error::Error>> {
//! use semel::rocket::IdempotencyFairing;
//! use semel::{Idempotency, MemoryStore};
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! let guarded = IdempotencyFairing::new(idempotency).mount("/orders", routes);
//! let rocket = ::rocket::build().attach(guarded);
//! # Ok(()) }
//! ```
//!
//! # memory
//!
//! The feature `memory` (a default) keeps records in this process: for one instance that may forget, and for tests.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, MemoryStore};
//!
//! let store = MemoryStore::builder().max_entries(100_000).build();
//! let idempotency = Idempotency::builder(store).build()?;
//! # Ok(()) }
//! ```
//!
//! # sqlite
//!
//! The feature `sqlite` keeps records in a file that survives crashes, and that several processes of one machine may
//! share.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, SqliteStore};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("semel.db");
//!
//! let idempotency = Idempotency::builder(SqliteStore::open(path)?).namespace("orders").build()?;
//! assert!(idempotency.store().capabilities().durable);
//! # Ok(()) }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # postgres
//!
//! The feature `postgres` keeps records in a schema of their own in a PostgreSQL database, for any number of machines;
//! with `tls` also over TLS. `open` makes the schema, and returns an error that says what to change.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, PostgresStore};
//!
//! let store = PostgresStore::open("postgres://semel@db.example/app").await?;
//! let idempotency = Idempotency::builder(store).namespace("orders").build()?;
//! for finding in idempotency.store().examine().await? {
//!     println!("{}: {}", finding.severity.as_str(), finding.what);
//! }
//! # Ok(()) }
//! ```
//!
//! A handler can write through the very transaction in which its record is completed: `Tx<Postgres>`. Its writes and its
//! answer are one commit, so a duplicate can do nothing, after any crash.
//!
//! ```no_run
//! # #[cfg(all(feature = "postgres", feature = "axum"))]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::post};
//! use semel::{Idempotency, IdempotencyLayer, Postgres, PostgresStore, Tx};
//!
//! async fn pay(mut tx: Tx<Postgres>) -> &'static str {
//!     // sqlx::query("INSERT INTO ledger …").execute(&mut *tx).await …
//!     "paid"
//! }
//!
//! let pool = sqlx::PgPool::connect("postgres://app@db.example/app").await?;
//! let store = PostgresStore::open("postgres://app@db.example/app").await?;
//! let transactions = store.transactions(pool).open().await?;
//! let idempotency = Idempotency::builder(store).require_key().transactional(transactions).build()?;
//! let app: Router = Router::new().route("/payments", post(pay)).layer(IdempotencyLayer::new(idempotency));
//! # Ok(()) }
//! ```
//!
//! A handler that calls others first has two phases, and its arguments say so: the transaction is opened for what
//! ends the steps. Its route has both rules, and its error both reasons: [`StepsError`] and [`LendError`](store::LendError).
//!
//! ```
//! # #[cfg(all(feature = "postgres", feature = "axum"))]
//! # mod demo {
//! use axum::response::{IntoResponse, Response};
//! use semel::store::{LendError, Transactions};
//! use semel::{BuildError, Idempotency, LaterTx, NoTransaction, Postgres, PostgresStore, Steps, StepsError};
//!
//! fn guarding(store: PostgresStore, transactions: impl Transactions) -> Result<Idempotency, BuildError> {
//!     Idempotency::builder(store).require_key().steps().transactional(transactions).build()
//! }
//!
//! async fn order(mut steps: Steps, later: LaterTx<Postgres>) -> Result<String, Failed> {
//!     let charge = steps.run("charge", async |key| Ok(format!("charged under {key}"))).await?;
//!     let mut tx = later.begin(steps.finish()).await?;
//!     // sqlx::query("INSERT INTO ledger …").bind(&charge).execute(&mut *tx).await …
//!     Ok(charge)
//! }
//!
//! struct Failed(Response);
//!
//! impl From<StepsError> for Failed {
//!     fn from(error: StepsError) -> Self {
//!         Self(error.into_response())
//!     }
//! }
//!
//! impl From<LendError> for Failed {
//!     fn from(error: LendError) -> Self {
//!         Self(NoTransaction(error).into_response())
//!     }
//! }
//!
//! impl IntoResponse for Failed {
//!     fn into_response(self) -> Response {
//!         self.0
//!     }
//! }
//! # }
//! ```
//!
//! # mysql
//!
//! The feature `mysql` keeps records in tables of their own in MariaDB (MySQL 8 is untested), for any number of machines; with
//! `tls` also over TLS. Handlers write through `Tx<MySql>` as they do with PostgreSQL.
//!
//! ```no_run
//! # #[cfg(feature = "mysql")]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, MySqlStore};
//!
//! let store = MySqlStore::open("mysql://semel@db.example/app").await?;
//! let idempotency = Idempotency::builder(store).namespace("orders").build()?;
//! # Ok(()) }
//! ```
//!
//! # redis
//!
//! The feature `redis` keeps records in Redis or Valkey: a single server, behind Sentinels, or a cluster; with `tls` also
//! over TLS. What a server forgets runs a second time: [`RedisStore::warnings`] says what its settings mean.
//!
//! ```no_run
//! # #[cfg(feature = "redis")]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::{Idempotency, RedisStore};
//!
//! let store = RedisStore::open("redis://cache.example:6379/0").await?;
//! for warning in store.warnings() {
//!     eprintln!("{warning}");
//! }
//! let idempotency = Idempotency::builder(store).namespace("orders").build()?;
//! # Ok(()) }
//! ```
//!
//! # tls
//!
//! The feature `tls` lets the stores on servers that are chosen use TLS, by rustls with aws-lc; how much of it is in each store's
//! URL.
//!
//! ```no_run
//! # #[cfg(all(feature = "tls", feature = "postgres"))]
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://semel@db.example/app?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem";
//! let store = semel::PostgresStore::open(url).await?;
//! # Ok(()) }
//! ```
//!
//! # layers
//!
//! The feature `layers` puts more between the rules and any store: encryption at rest, compression, a local cache of
//! settled records, and time-outs with a circuit breaker.
//!
//! ```
//! # #[cfg(all(feature = "layers", feature = "memory"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::layers::{Compress, Guard, KeyId, Layers, Seal, SealingKey, Tier};
//! use semel::{Idempotency, MemoryStore};
//!
//! # let secret = [7; 32];
//! let store = Layers::new(MemoryStore::new()) // a store on a server, as a rule
//!     .tier(Tier::new())
//!     .compress(Compress::new())
//!     .seal(Seal::new(KeyId(1), SealingKey::from_bytes(secret)))
//!     .guard(Guard::new())
//!     .build()?;
//! let idempotency = Idempotency::builder_any(store).build()?;
//! idempotency.store().health().await?;
//! # Ok(()) }
//! # #[cfg(not(all(feature = "layers", feature = "memory")))]
//! # fn main() {}
//! ```
//!
//! # gateway
//!
//! The feature `gateway` adds the reverse proxy of `semel proxy` as a library.
//!
//! ```
//! # #[cfg(all(feature = "gateway", feature = "memory"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::gateway::{Gateway, GatewayConfig};
//! use semel::{Idempotency, MemoryStore};
//!
//! let mut config = GatewayConfig::new("http://127.0.0.1:3000".parse()?);
//! config.listen = ([127, 0, 0, 1], 0).into();
//! let gateway = Gateway::bind(config)?;
//! println!("listening on http://{}", gateway.local_addr());
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).namespace("proxy:orders").build()?;
//! let shutdown = std::future::ready(()); // a signal, as a rule
//! gateway.run_guarded(idempotency, shutdown).await?;
//! # Ok(()) }
//! # #[cfg(not(all(feature = "gateway", feature = "memory")))]
//! # fn main() {}
//! ```
//!
//! # test
//!
//! The feature `test` gives a store and a clock that is moved by hand, for tests of what happens days later.
//!
//! ```
//! # #[cfg(all(feature = "test", feature = "axum"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use semel::{Idempotency, IdempotencyLayer};
//! use tower::ServiceExt as _;
//!
//! let tested = Idempotency::test();
//! let app: Router = Router::new()
//!     .route("/orders", post(|| async { "made" }))
//!     .layer(IdempotencyLayer::new(tested.builder.build()?));
//! let order = || Request::post("/orders").header("Idempotency-Key", "\"order-1\"").body(Body::empty());
//! app.clone().oneshot(order()?).await?;
//!
//! tested.clock.advance(Duration::from_secs(25 * 60 * 60)).await;
//! let retry = app.oneshot(order()?).await?;
//! assert_eq!(retry.status(), 409, "the body is kept for a day, the record for a week");
//! # Ok(()) }
//! # #[cfg(not(all(feature = "test", feature = "axum")))]
//! # fn main() {}
//! ```
//!
//! # blake3
//!
//! The feature `blake3` adds BLAKE3 to the hashes of bodies. A record is compared by the hash it was made with, so either
//! may follow the other.
//!
//! ```
//! # #[cfg(all(feature = "blake3", feature = "memory"))]
//! # fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::fingerprint::{FingerprintSettings, Hash};
//! use semel::{Idempotency, MemoryStore};
//!
//! let settings = FingerprintSettings { hash: Hash::Blake3, ..Default::default() };
//! let idempotency = Idempotency::builder(MemoryStore::new()).fingerprint(settings).build()?;
//! # Ok(()) }
//! ```
//!
//! # jsonpath
//!
//! The feature `jsonpath` takes JSONPath (RFC 9535) beside JSON Pointer, for members that may differ between two tries.
//!
//! ```
//! # #[cfg(all(feature = "jsonpath", feature = "memory"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel::fingerprint::FingerprintSettings;
//! use semel::{Idempotency, MemoryStore};
//!
//! let settings = FingerprintSettings { exclude: vec!["/meta/sent".parse()?, "$..trace_id".parse()?], ..Default::default() };
//! let idempotency = Idempotency::builder(MemoryStore::new()).fingerprint(settings).build()?;
//! # Ok(()) }
//! # #[cfg(not(all(feature = "jsonpath", feature = "memory")))]
//! # fn main() {}
//! ```
//!
//! # openapi
//!
//! The feature `openapi` writes the key's header and the refusals into documents made by utoipa, for axum, actix-web and
//! whatever else it serves: by the rules of a route, or as types for one operation.
//!
//! ```
//! # #[cfg(all(feature = "openapi", feature = "memory"))]
//! # fn demo(mut api: utoipa::openapi::OpenApi) -> Result<(), Box<dyn std::error::Error>> {
//! use semel::openapi::Guarded;
//! use semel::{Idempotency, MemoryStore};
//! use utoipa::Modify as _;
//!
//! let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
//! Guarded::by(idempotency.policy()).modify(&mut api);
//! # Ok(()) }
//! ```
//!
//! # Errors
//!
//! [`BuildError`], when a handle is built: two settings contradict each other, or the store cannot do what they ask for.
//! [`StoreError`](store::StoreError), when a store is opened, and from [`Idempotency::inspect`] and [`Idempotency::resolve`].
//! [`StepsError`] in handlers with steps. A request is never failed by an error: it is answered with what is known, as a
//! [`problem`].
//!
//! # Where things are
//!
//! [`Idempotency`] is what one builds; its builder carries every rule of [`policy`]. [`Scope`](scope::Scope) says who a
//! key belongs to, [`FingerprintSettings`](fingerprint::FingerprintSettings) when two requests are the same,
//! [`Keep`](policy::Keep) which answers are kept, and [`problem`] what clients are told. [`Steps`] are for effects outside the
//! database, [`Tx`] is for those inside. Where to put the layer among others is said
//! [at the layer's crate](semel_tower#where-to-put-it). Each of the crates behind a feature has a front page with its limits.

pub use semel_core::{
    engine, fingerprint, identity, key, observe, policy, problem, record, scope, steps, store,
};
pub use semel_tower::{
    Address, AnyBodyLayer, AnyBodyService, Body, BoxError, BuildError, Builder, Contradiction, Idempotency,
    IdempotencyLayer, IdempotencyService, Idempotent, LaterTx, NoSteps, OneCommit, OneCommitService, Peer,
    Rebuild, ResponseFuture, StepError, Steps, StepsError, StepsOver, Tx, Undrained, Whole,
};

#[cfg(feature = "axum")]
pub use semel_tower::{NoTransaction, NotGuarded, Run};

#[cfg(feature = "actix")]
pub use semel_actix as actix;

#[cfg(feature = "rocket")]
pub use semel_rocket as rocket;

#[cfg(feature = "memory")]
pub use semel_store_memory::MemoryStore;

#[cfg(feature = "sqlite")]
pub use semel_store_sqlite::{Effects, SqliteStore};

#[cfg(feature = "mysql")]
pub use semel_store_mysql::{self as mysql, MySql, MySqlStore};
#[cfg(feature = "postgres")]
pub use semel_store_postgres as postgres;
#[cfg(feature = "postgres")]
pub use semel_store_postgres::{Postgres, PostgresStore};

#[cfg(feature = "redis")]
pub use semel_store_redis::RedisStore;

#[cfg(feature = "layers")]
pub use semel_store_layers as layers;

#[cfg(feature = "openapi")]
pub use semel_openapi as openapi;

#[cfg(feature = "gateway")]
pub use semel_gateway as gateway;
