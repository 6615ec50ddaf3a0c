//! Semel's records in this process's memory: bounded, sharded, not durable.
//!
//! After a restart it knows nothing, so a retry that comes then runs again. It is for tests, for trying Semel
//! out, and for services that can live with that.
//!
//! ```
//! # async fn demo() -> Result<(), semel_core::store::StoreError> {
//! use semel_core::store::Store as _;
//! use semel_store_memory::MemoryStore;
//!
//! let store = MemoryStore::builder().max_bytes(64 << 20).max_entries(100_000).build();
//! store.health().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does when it is full
//!
//! It never removes a record whose life is not over: a key that it forgot early would run twice. When a bound
//! is reached it first removes records whose life is over, then drops kept bodies, the oldest completion first
//! (a retry of those is told that the answer is no longer kept), and then refuses new claims with
//! [`StoreErrorKind::Full`](semel_core::store::StoreErrorKind::Full). A completion is never refused: where its
//! body finds no room, the record is completed without it.
//!
//! # Fences
//!
//! They come from one counter, which starts at the clock's milliseconds times 1024. So a process that starts
//! later hands out higher fences than an earlier one did, as long as the wall clock did not go back and the
//! earlier one claimed less than a thousand times per millisecond of its life.
//!
//! # Errors
//!
//! Only [`StoreErrorKind::Full`](semel_core::store::StoreErrorKind::Full), of a claim for which there is no room.

mod budget;
mod builder;
mod clock;
mod entry;
mod owners;
mod room;
mod shard;
mod steps;
mod watchers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolution, Resolved, Settled, Store, StoreError, Swept, Watch,
};

pub use builder::Builder;
pub use clock::{Clock, ManualClock, SystemClock};

use shard::Shards;

/// Records in this process's memory. Cheap to clone: clones are the same store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shards>);

impl MemoryStore {
    /// A store with the default bounds and a random secret.
    ///
    /// # Panics
    ///
    /// Where the operating system gives no random numbers, as the standard library's `HashMap` does.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// How many records there are, those included whose life is over and which no sweep has removed yet.
    pub fn len(&self) -> usize {
        self.0.budget.entries()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that count against [`Builder::max_bytes`].
    pub fn bytes(&self) -> u64 {
        self.0.budget.bytes()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

// No step waits for anything, so each future is ready at its first poll and holds no lock afterwards.
impl Store for MemoryStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        self.0.begin(ask)
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        Ok(leases.iter().map(|lease| self.0.renew(*lease, lease_for)).collect())
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        Ok(self.0.complete(lease, completion, keep))
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        Ok(self.0.release(by, how, keep))
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        Ok(self.0.abandon(lease))
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.0.note(lease, progress)
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        Ok(watchers::watch(&self.0, *id))
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        Ok(self.0.inspect(id))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        Ok(self.0.read(id))
    }

    /// A page is gathered shard by shard: a record that is there all the while is listed once; one that
    /// comes, goes or changes its state meanwhile may be on the page or not.
    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        Ok(self.0.list(query))
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        Ok(self.0.resolve(id, resolution))
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        Ok(self.0.delete(id, which))
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        Ok(self.0.sweep(limit))
    }

    async fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(vec![
            Finding::warning(
                "durability",
                "records are in this process's memory: a restart forgets every key, and a retry then runs a second time",
                "keep them in a durable store, such as sqlite:PATH",
            ),
            Finding::warning(
                "sharing",
                "no other process can use the same records: a duplicate at another one runs",
                "run one process only, or use a store that is shared",
            ),
        ])
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::new(NAME);
        can.max_body = Some(self.0.budget.max_bytes());
        can.quotas = semel_core::store::Quotas::All;
        can
    }

    fn secret(&self) -> &Secret {
        &self.0.secret
    }
}

/// As in its URL, `memory:`.
const NAME: &str = "memory";
