//! Semel's records in MariaDB 10.6 or later, or MySQL 8: one round trip a step, judged by the server's clock.
//!
//! ```no_run
//! # async fn demo() -> Result<(), semel_core::store::StoreError> {
//! use semel_store_mysql::MySqlStore;
//! let store = MySqlStore::open("mysql://semel@db.example/app").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Durability and failover
//!
//! A step is answered after its commit. With `innodb_flush_log_at_trx_commit = 1`, which is the default, that is on the
//! server's disk; where there is a binary log, `sync_binlog = 1` is needed too, which is MySQL's default and not MariaDB's.
//! Both are the whole server's settings, so a store opens without them: it then says so in
//! [`Store::examine`] and is not [`durable`](semel_core::store::Capabilities::durable), and after a crash of the machine
//! the keys of the last moments **may run a second time**.
//!
//! InnoDB shows a commit to others before its log is on the disk. Whoever reads a record that changed within the last ten
//! seconds therefore commits a row of its own before it answers, in the same round trip.
//!
//! With asynchronous replication a failover takes back the last moments, and so does a restored backup. A server that is
//! read-only is refused, when the store is opened and after each new connection. Galera and group replication
//! are untested.
//!
//! # Time
//!
//! Leases and lives are counted by the server's `SYSDATE` in UTC, read after the wait for a row, in milliseconds; no time
//! zone and no DST enters. A server with `sysdate-is-now` is refused. A step of the server's wall clock moves
//! leases: keep it disciplined.
//!
//! # Round trips
//!
//! A claim of a new key, of one that is held, completed or unknown, and renewals, completions, releases and deletions
//! take one; statements are sent together in one message, as values that are digits. A claim that takes a record
//! over, or writes down that its lease ended, takes two. A settlement that came too late takes two.
//!
//! The store has a thread and [connections](Builder::connections) of its own, which handlers cannot use up. Deadlocks and
//! waits for a lock that took too long changed nothing, and are sent again.
//!
//! MySQL tells nobody of a change: those who wait in another process look again by themselves.
//!
//! # The tables
//!
//! They begin with a [prefix](Builder::prefix), `semel_` by default, and are made and brought up to date when the store
//! is opened, by one of those who open it. To do it by other means, run [`MySqlStore::migrations`] in their order and
//! switch [`Builder::migrate`] off; then the user needs
//!
//! ```sql
//! GRANT SELECT, INSERT, UPDATE, DELETE ON app.semel_record TO app;
//! GRANT SELECT, INSERT, DELETE ON app.semel_fence TO app;
//! GRANT SELECT, INSERT, UPDATE ON app.semel_slot TO app;
//! GRANT SELECT, UPDATE ON app.semel_meta TO app;
//! ```
//!
//! Handlers that write through [transactions](MySqlStore::transactions) need `SELECT, UPDATE ON app.semel_record` and
//! `SELECT, INSERT, DELETE ON app.semel_mark`, as the user of their own pool. For other drivers than this version of sqlx there
//! are the texts themselves: [`ByHand`].
//!
//! Each opening looks whether the tables are what the statements need, whoever made them: columns and their types, engine,
//! keys and indexes. What differs is named with the statement that mends it, all at once, and the error is `Config`. Columns
//! and indexes of somebody else's are left alone as long as they hinder no claim.
//!
//! They hold answers as they are, and the secret of their identities unless one is [configured](Builder::secret).
//!
//! # Limits
//!
//! * MySQL is untested; MariaDB 10.11 is tested.
//! * A body has to fit into the server's `max_allowed_packet`, with 256 KiB beside it for fields; by default as much as
//!   fits, at most 64 MiB.
//! * A claim with a quota counts the records of its principal, by an index; claims of principals that share one of 1024
//!   slots wait for each other.
//! * A claim of a new key that waits for another one of the same key, which then fails, has a lease that is shorter by
//!   its wait.
//! * A deleted record is emptied at once, and its row removed by a sweep a minute later.
//! * `caching_sha2_password`, MySQL's way to sign in, needs TLS (`tls`) or a socket. Without the feature `tls`,
//!   `ssl-mode=REQUIRED` is refused.
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

mod connect;
mod desk;
mod error;
mod exam;
mod migrate;
mod operate;
mod ops;
mod row;
mod shape;
mod sql;
mod tx;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Migrated, Migration, Page, Query,
    ReleaseAs, ReleaseBy, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Swept,
    Transactions, Verdict, Watch,
};
use semel_store_kit::{Encoded, Watchers, blocking};
use tokio::sync::Semaphore;

pub use sql::Clock;
pub use tx::{
    ByHand, End, Isolation, Lent, Mark, MySql, MySqlTransactions, Says, Statement, TransactionsBuilder,
    TxSlot, is_conflict,
};

use desk::{Connections, Desk};
use error::NAME;
use migrate::{Opened, Opening, WITHIN};
use operate::{Ruling, Script};
use ops::{Claim, Claimed, Completing, Noting, Releasing, Renewal};
use sql::Names;

/// How to open a database.
#[derive(Clone)]
pub struct Builder {
    url: String,
    prefix: String,
    connections: usize,
    timeout: Duration,
    migrate: bool,
    max_body: Option<u64>,
    clock: Clock,
    secret: Option<Secret>,
}

impl std::fmt::Debug for Builder {
    /// Without the URL, which holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Builder {
    /// What the tables' names begin with. At most 40 of `a-z`, `0-9` and `_`, a letter first. Default `semel_`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many connections do the store's work. At least 1, default 8: each serves one step at a time.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most;
        self
    }

    /// How long a step may take, waiting for a connection included. Default 5 seconds.
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most;
        self
    }

    /// Whether to make the tables and bring them up to date. Default yes.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// The largest body it keeps, in bytes; larger ones are `TooLarge`. Default: what the server's
    /// `max_allowed_packet` takes, at most 64 MiB. More than it takes is refused when the store is opened.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// Where the time comes from. Default [`Clock::Server`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The secret of the tables' identities. By default one is made when they are first opened, and kept in them. A
    /// configured one is not written down; they open only with the one that they were first opened with.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Connects, and makes the tables ready.
    ///
    /// The error is `Config` for a URL, user, database, prefix, server or tables that cannot be used as they are, `NewerSchema`
    /// for tables of a newer version, and `Unavailable` or `Timeout` for a server that cannot be reached or is read-only. Its
    /// text names the server and the database, and never the password.
    pub async fn open(self) -> Result<MySqlStore, StoreError> {
        let (desk, names) = self.desk()?;
        let opening = self.opening(&desk);
        let Opened { secret, server, max_body } = desk.ask_within(WITHIN, opening, migrate::open).await?;
        let mut capabilities = Capabilities::new(NAME);
        capabilities.durable = server.durable();
        capabilities.shared = true;
        capabilities.max_body = Some(max_body);
        capabilities.quotas = semel_core::store::Quotas::All;
        let origin = tx::origin()?;
        let database = desk.database();
        Ok(MySqlStore { desk, watchers: Arc::default(), names, database, secret, capabilities, origin })
    }

    /// The same, for a program that is not asynchronous, or not yet. Blocks, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_blocking(self) -> Result<MySqlStore, StoreError> {
        blocking(NAME, || self.open())
    }

    /// Makes the tables, or brings them up to date, and says what was done. Nothing else is written: neither a secret
    /// nor a record.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), but for the rights that only steps need.
    pub async fn bring_up_to_date(self) -> Result<Migrated, StoreError> {
        let (desk, _) = self.desk()?;
        let opening = self.opening(&desk);
        desk.ask_within(WITHIN, opening, migrate::bring_up_to_date).await
    }

    /// The same, for a program that is not asynchronous. Blocks, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// Those of [`bring_up_to_date`](Self::bring_up_to_date).
    pub fn bring_up_to_date_blocking(self) -> Result<Migrated, StoreError> {
        blocking(NAME, || self.bring_up_to_date())
    }

    fn opening(self, desk: &Desk) -> Opening {
        let Self { clock, migrate, secret, max_body, .. } = self;
        Opening { clock, migrate, secret, max_body, place: desk.place().clone() }
    }

    /// A thread for a store with these settings, before it has connected to anything.
    fn desk(&self) -> Result<(Desk, Names), StoreError> {
        if self.connections == 0 {
            let message = "it needs at least one connection";
            return Err(StoreError::new(NAME, StoreErrorKind::Config, message));
        }
        let names = plain(&self.prefix, self.clock)?;
        let (options, place) = connect::parse(&self.url)?;
        let desk = Desk::start(Connections {
            options,
            names: names.clone(),
            place,
            timeout: self.timeout,
            permits: Semaphore::new(self.connections),
            idle: Mutex::default(),
        })?;
        Ok((desk, names))
    }
}

/// Records in a MariaDB or MySQL database.
///
/// Dropping it closes its connections, in the background.
pub struct MySqlStore {
    desk: Desk,
    watchers: Arc<Watchers>,
    names: Names,
    database: String,
    secret: Secret,
    capabilities: Capabilities,
    origin: RecordId,
}

impl std::fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlStore").field("prefix", &self.names.prefix()).finish_non_exhaustive()
    }
}

impl MySqlStore {
    /// What the tables' names begin with, unless [`Builder::prefix`] says otherwise.
    pub const DEFAULT_PREFIX: &str = "semel_";

    /// Opens a database with the defaults: see [`Builder::open`].
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// To open a database with other settings. The URL is `mysql://USER:PASSWORD@HOST:PORT/DATABASE`; `?socket=PATH` names
    /// a socket, `?ssl-mode=VERIFY_IDENTITY&ssl-ca=FILE` asks for TLS.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            prefix: Self::DEFAULT_PREFIX.into(),
            connections: 8,
            timeout: Duration::from_secs(5),
            migrate: true,
            max_body: None,
            clock: Clock::default(),
            secret: None,
        }
    }

    /// The steps that make the tables and bring them up to date, for those who run them by other means: in their order,
    /// from the one after the version of the tables. A step may be run again.
    ///
    /// ```
    /// # use semel_store_mysql::MySqlStore;
    /// for migration in MySqlStore::migrations("semel_")? {
    ///     println!("-- version {}\n{}", migration.version, migration.sql);
    /// }
    /// # Ok::<(), semel_core::store::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` for a prefix that [`Builder::prefix`] refuses.
    pub fn migrations(prefix: &str) -> Result<Vec<Migration>, StoreError> {
        Ok(migrate::migrations(&plain(prefix, Clock::Server)?))
    }

    /// Moves a [`Clock::Shifted`] forward, for all who share the tables.
    ///
    /// # Errors
    ///
    /// Those of a step; `Config` where the store was opened with another clock.
    pub async fn shift_clock(&self, by: Duration) -> Result<(), StoreError> {
        let text = format!("UPDATE {{p}}shift SET ahead = ahead + {}", ops::millis(by));
        self.desk.ask(Script(text), operate::run).await
    }

    fn encode(&self, completion: &Completion) -> Result<Encoded, StoreError> {
        Encoded::new(completion, NAME, self.capabilities.max_body)
    }

    fn woke(&self, id: &RecordId, settled: Result<Settled, StoreError>) -> Result<Settled, StoreError> {
        if matches!(settled, Ok(Settled::Applied)) {
            self.watchers.wake(&[*id]);
        }
        settled
    }
}

impl Store for MySqlStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        match self.desk.ask(Claim::new(ask.clone()), ops::begin).await? {
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
        self.woke(&lease.id, self.desk.ask(step, ops::complete).await)
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let id = match by {
            ReleaseBy::Lease(lease) => lease.id,
            ReleaseBy::Claim(id, _) => id,
        };
        self.woke(&id, self.desk.ask(Releasing { by, how, keep: *keep }, ops::release).await)
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.woke(&lease.id, self.desk.ask(lease, ops::abandon).await)
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.desk.ask(Noting { lease, progress: progress.clone() }, ops::note).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        Ok(self.watchers.watch(*id))
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
        let resolved = self.desk.ask(Ruling { id: *id, op, expect, keep, done }, operate::resolve).await?;
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

    /// Commits, so that a full or read-only server is seen here and not by the first claim.
    async fn health(&self) -> Result<(), StoreError> {
        let script = Script("INSERT INTO {p}fence (n) VALUES (NULL)".into());
        self.desk.ask(script, operate::run).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        self.desk.ask(self.desk.place().clone(), exam::examine).await
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

fn plain(prefix: &str, clock: Clock) -> Result<Names, StoreError> {
    Names::new(prefix, clock).ok_or_else(|| {
        let message = format!("{prefix:?} is no prefix: at most 40 of a-z, 0-9 and _, a letter first");
        StoreError::new(NAME, StoreErrorKind::Config, message)
    })
}
