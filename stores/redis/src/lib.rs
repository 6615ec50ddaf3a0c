//! Semel's records in Redis: atomic Lua steps, one multiplexed connection, honest about durability.
//!
//! ```no_run
//! # async fn demo() -> Result<(), semel_core::store::StoreError> {
//! use semel_store_redis::RedisStore;
//! let store = RedisStore::open("redis://:password@127.0.0.1:6379/0").await?;
//! for warning in store.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A single node of Redis 7.0 or later. Sentinel, Cluster and TLS are not spoken. Needs a Tokio runtime with timers.

mod builder;
mod clock;
mod error;
mod keys;
mod link;
mod preflight;
mod row;
mod scan;
mod scripts;
mod secret;
mod steps;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolution,
    Resolved, Settled, Store, StoreError, Swept, Watch,
};

pub use builder::Builder;
pub use clock::Clock;
pub use preflight::Warning;

use link::{Bookkeeping, Server};
use scan::Cursor;
use steps::Steps;
use watch::Watchers;

/// Records in Redis.
pub struct RedisStore {
    steps: Arc<Steps>,
    watchers: Arc<Watchers>,
    cursor: Cursor,
    secret: Secret,
    capabilities: Capabilities,
    warnings: Vec<Warning>,
    server: Server,
    _bookkeeping: Bookkeeping,
}

impl RedisStore {
    /// Connects with the defaults: see [`Builder::open`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// To open a store with other settings. `url` is `redis://[user:password@]host[:port][/database]` or
    /// `redis+unix:///path/to/socket`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// What the server's operator should know, as found when it was opened.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &format_args!("{}", self.server)).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        self.steps.begin(ask).await
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        self.steps.renew(leases, lease_for).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        self.steps.complete(lease, completion, keep).await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        self.steps.release(by, how, keep).await
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.steps.abandon(lease).await
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.steps.note(lease, progress).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        Ok(self.watchers.watch(*id).await)
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        self.steps.inspect(id).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.steps.read(id).await
    }

    /// Redis has no order of keys and no index by state, so each page is a pass of `SCAN` over the whole database, and a
    /// look at up to 4,096 records: for operators, not for requests. A page may hold fewer records than asked for and
    /// still have a next one.
    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.steps.list(query).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        self.steps.resolve(id, resolution).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        self.steps.delete(id, which).await
    }

    /// Records end by Redis' own time-to-live. A sweep passes over the keys with `SCAN`, up to 65,536 a call, and goes on
    /// where the last one stopped: it writes down leases that ran out, frees takeovers, and drops bodies.
    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.steps.sweep_some(&self.cursor, limit).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.steps.health().await
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }
}
