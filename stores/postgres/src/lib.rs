//! Semel's records in PostgreSQL 13 or later: one round trip a step, judged by the server's clock.
//!
//! ```no_run
//! # async fn demo() -> Result<(), semel_core::store::StoreError> {
//! use semel_store_postgres::PostgresStore;
//! let store = PostgresStore::open("postgres://semel@db.example/app").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Durability and failover
//!
//! A step is answered after its commit is on the server's disk: the store's own transactions run with
//! `synchronous_commit = on`, whatever the default of server, database or user. What a caller was shown survives a
//! crash of the server, if the disk keeps its word and `fsync` is on.
//!
//! It survives the **loss of the server** only with synchronous replication: `synchronous_standby_names` has to
//! name the standbys of which one takes over. With asynchronous replication, a failover takes back the last
//! moments before it: a claim or an answer in them is gone, its request **may run a second time**, and fences may go
//! back to a number that was handed out. The same is true of a restored backup.
//!
//! A standby is refused, when it is opened and after each new connection: nothing can be claimed there, and what
//! is read there may be old.
//!
//! # Time
//!
//! Leases and lives are counted by `clock_timestamp()` of the server, read after the wait for a row. A step of the
//! server's wall clock moves them: keep it disciplined (NTP, slewing). After a failover the new server's clock counts.
//!
//! # Connections
//!
//! The store has a thread and [connections](Builder::connections) of its own, which handlers cannot use up. A
//! caller that goes away does not interrupt its step. A connection that is lost is made anew; a step that was lost
//! with it is sent again once, since each step recognises itself, and then is `Unavailable`. A step that takes longer
//! than the [time-out](Builder::timeout) is `Timeout`.
//!
//! Claims and completions that queue while others are at the server go with the next statement, and share its commit.
//! Nobody waits for others to come. A batch that is refused is sent one by one.
//!
//! One more connection listens for the ends of records that somebody waits for ([`Store::watch`]); nobody holds a
//! connection while waiting. A record that is waited for is marked, and only such a record is notified, since a
//! `NOTIFY` makes commits wait for each other in the whole server.
//!
//! # TLS
//!
//! With the feature `tls` (rustls with aws-lc) the URL's `sslmode` and `sslrootcert` mean what they do elsewhere:
//! `postgres://db.example/app?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem`. Use `verify-full`. Public authorities
//! are known beside the one of `sslrootcert`; `verify-ca`, and `require` with an `sslrootcert`, take any name, and so
//! any certificate of either. `require` alone takes any certificate at all. `prefer`, the default, is encrypted where
//! the server can, and protects from nobody who can change what is sent. Without the feature `prefer` is not encrypted,
//! and what asks for more is refused.
//!
//! # PgBouncer
//!
//! [`Builder::transaction_pooling`] is for a pooler that gives each transaction to another connection: then nothing
//! is prepared, and each step is one message. A pooler cannot `LISTEN`, so give the server's own address as
//! [`Builder::listen_url`]; without it those who wait look again by themselves.
//!
//! # The schema
//!
//! All lies in a [schema](Builder::schema) of its own, `semel` by default. It is made and brought up to date when it
//! is opened, by one of those who open it, while the others wait. For that the user needs `CREATE` on the database. To
//! do it by other means, run [`PostgresStore::migrations`] in their order and switch
//! [`Builder::migrate`] off; then the user needs, with `semel` as the schema,
//!
//! ```sql
//! GRANT USAGE ON SCHEMA semel TO app;
//! GRANT SELECT, INSERT, UPDATE, DELETE ON semel.record TO app;
//! GRANT SELECT, UPDATE ON semel.meta TO app;
//! GRANT USAGE ON SEQUENCE semel.fence TO app;
//! ```
//!
//! A newer schema is used if it says that it can be: a step only adds, so that running programs go on, and programs of
//! the version before start beside it. What it no longer can is refused (`NewerSchema`).
//!
//! It holds answers as they are, and the secret of its identities unless one is [configured](Builder::secret).
//!
//! # Limits
//!
//! * A claim with a quota counts the records of its principal, as many rows as that one keeps; without a principal it
//!   reads all.
//! * A claim of a record that is released, over, or a takeover whose lease is over takes two round trips, and so does one
//!   that meets the first claim of its record in a batch. All else takes one.
//! * A claim of a new key that waits for another one of the same key, which then fails, has a lease that is shorter by
//!   its wait.
//! * Behind a pooler there are no batches.
//! * A deleted record is emptied at once, and its row removed by a sweep a minute later.
//!
//! # Errors
//!
//! [`StoreError`]: its kind says whether a step may have taken effect, and its text names the
//! setting and the fix, and never the password. What cannot be used as it is, is told when it is opened.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tls` | TLS to the server, by rustls with aws-lc |

mod batch;
mod connect;
mod desk;
mod error;
mod exam;
mod listen;
mod migrate;
mod operate;
mod ops;
mod row;
mod session;
mod shape;
mod sql;
mod tls;
mod tx;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Migrated, Page, Query, ReleaseAs,
    ReleaseBy, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Swept, Transactions,
    Verdict, Watch,
};
use semel_store_kit::{Encoded, Watchers, blocking};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;

pub use semel_core::store::Migration;
pub use sql::Clock;
pub use tx::{
    ByHand, Isolation, Lent, PgTransactions, Postgres, Statement, TransactionsBuilder, TxSlot, Value,
    is_conflict,
};

use batch::Batches;
use desk::{Connections, Desk};
use error::NAME;
use migrate::Opening;
use operate::Question;
use ops::{Claim, Claimed, Completing, Noting, Releasing, Renewal};
use sql::{Protocol, Schema, Sql};

/// PostgreSQL takes values of 1 GiB; as hexadecimal digits they are twice as long.
const LARGEST_BODY: u64 = 400_000_000;
const DEFAULT_BODY: u64 = 64 << 20;

/// How to open a database.
#[derive(Clone)]
pub struct Builder {
    url: String,
    listen_url: Option<String>,
    schema: String,
    connections: usize,
    timeout: Duration,
    migrate: bool,
    pooled: bool,
    max_body: u64,
    clock: Clock,
    secret: Option<Secret>,
}

impl std::fmt::Debug for Builder {
    /// Without the URLs, which hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Builder {
    /// The schema that holds the records. At most 48 of `a-z`, `0-9` and `_`. Default `semel`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// How many connections do the store's work, beside the one that listens. At least 1, default 4.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most;
        self
    }

    /// How long a step may take, waiting for a connection included. Default 5 seconds.
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most;
        self
    }

    /// Whether to make the schema and bring it up to date. Default yes.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// For a pooler that gives each transaction to another connection, as PgBouncer's `pool_mode = transaction`. Each
    /// step is one message of the simple protocol, with its values written as digits; nothing is prepared, and no
    /// setting is left behind.
    pub fn transaction_pooling(mut self) -> Self {
        self.pooled = true;
        self
    }

    /// The server's own address, for the one connection that listens. Default: the store's URL, and none with
    /// [`transaction_pooling`](Self::transaction_pooling).
    pub fn listen_url(mut self, url: impl Into<String>) -> Self {
        self.listen_url = Some(url.into());
        self
    }

    /// The largest body it keeps, in bytes; larger ones are `TooLarge`. Default 64 MiB, at most 400,000,000.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// Where the time comes from. Default [`Clock::Server`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The secret of the schema's identities. By default one is made when the schema is first opened, and kept in
    /// it. A configured one is not written down; a schema opens only with the one that it was first opened with.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Connects, and makes the schema ready.
    ///
    /// The error is `Config` for a URL, user, database, schema or server that cannot be used as it is, `NewerSchema`
    /// for a schema of a newer version, and `Unavailable` or `Timeout` for a server that cannot be reached or is
    /// read-only. Its text names the server and the database, and never the password.
    pub async fn open(self) -> Result<PostgresStore, StoreError> {
        let Self { migrate, clock, max_body, connections, pooled, .. } = self;
        let (desk, schema, listen) = self.desk()?;
        let opening = Opening { schema: schema.clone(), clock, migrate, secret: self.secret };
        let secret = desk.open(opening).await?;
        let watchers = Arc::<Watchers>::default();
        let mut capabilities = Capabilities::new(NAME);
        capabilities.durable = true;
        capabilities.shared = true;
        capabilities.max_body = Some(max_body);
        capabilities.quotas = semel_core::store::Quotas::All;
        capabilities.notifies_across_processes = listen.is_some();
        if let Some(options) = listen {
            desk.spawn(listen::listen(options, schema.channel(), Arc::clone(&watchers)));
        }
        let lanes = connections.div_ceil(2);
        let batched =
            (!pooled).then(|| Batched { claims: Batches::new(lanes), completions: Batches::new(lanes) });
        let completion = tx::statement(&schema, self.clock);
        let origin = tx::origin()?;
        Ok(PostgresStore { desk, batched, watchers, schema, secret, capabilities, completion, origin })
    }

    /// The same, for a program that is not asynchronous, or not yet. Blocks, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_blocking(self) -> Result<PostgresStore, StoreError> {
        blocking(NAME, || self.open())
    }

    /// Makes the schema, or brings it up to date, and says what was done. Nothing else is written: neither a secret nor
    /// a record.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), but for the rights that only steps need.
    pub async fn bring_up_to_date(self) -> Result<Migrated, StoreError> {
        let (desk, schema, _) = self.desk()?;
        desk.migrate(Opening { schema, clock: self.clock, migrate: true, secret: None }).await
    }

    /// The same, for a program that is not asynchronous. Blocks, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// Those of [`bring_up_to_date`](Self::bring_up_to_date).
    pub fn bring_up_to_date_blocking(self) -> Result<Migrated, StoreError> {
        blocking(NAME, || self.bring_up_to_date())
    }

    /// A thread for a store with these settings, before it has connected to anything.
    fn desk(&self) -> Result<(Desk, Schema, Option<PgConnectOptions>), StoreError> {
        let config = |message: String| Err(StoreError::new(NAME, StoreErrorKind::Config, message));
        if self.max_body > LARGEST_BODY {
            return config(format!("bodies of {} bytes do not fit: at most {LARGEST_BODY}", self.max_body));
        }
        if self.connections == 0 {
            return config("it needs at least one connection".into());
        }
        let schema = plain(&self.schema)?;
        let protocol = if self.pooled { Protocol::Simple } else { Protocol::Prepared };
        let (options, place) = connect::parse(&self.url)?;
        let listen = match &self.listen_url {
            Some(url) => Some(connect::parse(url)?.0),
            None => (!self.pooled).then(|| options.clone()),
        };
        let desk = Desk::start(Arc::new(Connections {
            options: connect::configured(options, protocol, self.timeout),
            sql: Arc::new(Sql::new(&schema, self.clock, protocol)),
            protocol,
            place,
            timeout: self.timeout,
            permits: Semaphore::new(self.connections),
            idle: Mutex::default(),
        }))?;
        Ok((desk, schema, listen))
    }
}

/// Records in a PostgreSQL database.
///
/// Dropping it closes its connections, in the background.
pub struct PostgresStore {
    desk: Desk,
    /// Not behind a pooler, where values travel as digits.
    batched: Option<Batched>,
    watchers: Arc<Watchers>,
    schema: Schema,
    secret: Secret,
    capabilities: Capabilities,
    /// The completion in somebody else's transaction.
    completion: Arc<str>,
    /// This handle's own name, which its transactions know.
    origin: RecordId,
}

/// The steps of every request, done together where they meet.
struct Batched {
    claims: Arc<Batches<Claim>>,
    completions: Arc<Batches<Completing>>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.schema.name()).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// The schema that is used where no other is named.
    pub const DEFAULT_SCHEMA: &'static str = "semel";

    /// Opens a database with the defaults: see [`Builder::open`].
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// To open a database with other settings. The URL is `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; what it leaves
    /// out comes from the environment (`PGHOST`, `PGPASSWORD` …) and the password file, as with PostgreSQL's own
    /// programs.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            listen_url: None,
            schema: Self::DEFAULT_SCHEMA.into(),
            connections: 4,
            timeout: Duration::from_secs(5),
            migrate: true,
            pooled: false,
            max_body: DEFAULT_BODY,
            clock: Clock::default(),
            secret: None,
        }
    }

    /// The steps that make a schema and bring it up to date, for those who run them by other means: in their order,
    /// each in one transaction, from the one after the schema's version.
    ///
    /// ```
    /// # use semel_store_postgres::PostgresStore;
    /// for migration in PostgresStore::migrations("semel")? {
    ///     println!("-- version {}\nBEGIN;\n{}\nCOMMIT;", migration.version, migration.sql);
    /// }
    /// # Ok::<(), semel_core::store::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` for a name that [`Builder::schema`] refuses.
    pub fn migrations(schema: &str) -> Result<Vec<Migration>, StoreError> {
        Ok(migrate::migrations(&plain(schema)?))
    }

    /// Moves a [`Clock::Shifted`] forward, for all who share the schema.
    ///
    /// # Errors
    ///
    /// Those of a step; `Config` where the store was opened with another clock.
    pub async fn shift_clock(&self, by: Duration) -> Result<(), StoreError> {
        let text = format!(
            "UPDATE {{schema}}.shift SET by = by + ({}) * interval '1 millisecond' RETURNING true",
            ops::millis(by)
        );
        self.desk.ask(Question(self.schema.write(&text)), operate::asks).await.map(|_| ())
    }

    fn encode(&self, completion: &Completion) -> Result<Encoded, StoreError> {
        Encoded::new(completion, NAME, self.capabilities.max_body)
    }

    /// Those who wait in this process need not wait for the server's word.
    fn woke(&self, id: &RecordId, settled: Result<Settled, StoreError>) -> Result<Settled, StoreError> {
        if matches!(settled, Ok(Settled::Applied)) {
            self.watchers.wake(&[*id]);
        }
        settled
    }
}

impl Store for PostgresStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let claim = Claim::new(ask.clone());
        let claimed = match &self.batched {
            Some(batched) if claim.is_plain() => batched.claims.ask(&self.desk, claim).await?,
            _ => self.desk.ask(claim, ops::begin).await?,
        };
        match claimed {
            Claimed::Settled(sealed) => Ok(Begun::Settled(sealed.open(NAME)?)),
            Claimed::Begun(begun) => Ok(begun),
        }
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.desk.ask(Renewal { leases: leases.to_vec(), by: lease_for }, ops::renew).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let step = Completing { lease, answer: self.encode(completion)?, keep: *keep };
        let settled = match &self.batched {
            Some(batched) => batched.completions.ask(&self.desk, step).await,
            None => self.desk.ask(step, ops::complete).await,
        };
        self.woke(&lease.id, settled)
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let id = match by {
            ReleaseBy::Lease(lease) => lease.id,
            ReleaseBy::Claim(id, _) => id,
        };
        let step = Releasing { by, how, keep: *keep };
        self.woke(&id, self.desk.ask(step, ops::release).await)
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.woke(&lease.id, self.desk.ask(lease, ops::abandon).await)
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.desk.ask(Noting { lease, progress: progress.clone() }, ops::note).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        let watch = self.watchers.watch(*id);
        if self.capabilities.notifies_across_processes {
            // It is a hint: whoever waits looks again by itself, and is told then what is wrong with the store.
            let _ = self.desk.ask(*id, operate::mark).await;
        }
        Ok(watch)
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        self.desk.ask(*id, operate::inspect).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.desk.ask(*id, operate::read).await?.map(|sealed| sealed.open(NAME)).transpose()
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.desk.ask(query.clone(), operate::list).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let done = match &resolution.verdict {
            Verdict::Applied(completion) => Some(self.encode(completion)?),
            Verdict::NotApplied => None,
        };
        let Resolution { op, expect, retention: keep, .. } = *resolution;
        let resolved =
            self.desk.ask(operate::Ruling { id: *id, op, expect, keep, done }, operate::resolve).await?;
        self.watchers.wake(&[*id]);
        Ok(resolved)
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        let deleted = self.desk.ask((*id, which), operate::delete).await?;
        self.watchers.wake(&[*id]);
        Ok(deleted)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.desk.ask(limit, operate::sweep).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        let text = self.schema.write(
            "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
                AND (SELECT count(*) FROM {schema}.meta) = 1",
        );
        if self.desk.ask(Question(text), operate::asks).await? {
            return Ok(());
        }
        Err(self.desk.error(StoreErrorKind::Unavailable, "the server is read-only: it takes no claims"))
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        let exam = exam::Exam {
            text: self.schema.write(exam::FACTS),
            place: self.desk.place().clone(),
            port: self.desk.port(),
            schema: format!("schema {}", self.schema.name()),
            beyond: self.schema.write(shape::BEYOND),
        };
        self.desk.ask(exam, exam::examine).await
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn commits_with(&self, transactions: &dyn Transactions) -> bool {
        *transactions.origin() == self.origin
    }
}

fn plain(schema: &str) -> Result<Schema, StoreError> {
    Schema::new(schema).ok_or_else(|| {
        let message =
            format!("{schema:?} is no name for a schema: at most 48 of a-z, 0-9 and _, no digit first");
        StoreError::new(NAME, StoreErrorKind::Config, message)
    })
}
