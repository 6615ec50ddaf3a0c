//! A local cache of completed records.

mod cache;

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Completion, Record, RecordId, Retention};
use semel_core::store::{
    AnyStore, Begin, Begun, Delete, Deleted, LeaseRef, ReleaseAs, ReleaseBy, Resolution, Resolved, Settled,
    Store, StoreError,
};

use crate::forward::forward;
use crate::timer::Timer;
use cache::{Cache, Change};

/// Settings of the caching layer: replays without a round trip.
///
/// A completed record is kept here when the store has answered a claim or a read with it, and answers further
/// claims for [`max_age`](Self::max_age). So the first replay in a process still asks the store, and a burst of
/// retries does not. A completion itself does not fill the cache: "applied" may mean that an *earlier* answer of
/// the same run is the stored one, and only the stored one may be shown.
///
/// A claim is answered from here only if its fingerprint and principal are those of the record. Everything
/// else goes to the store: a mismatch, every other state, every attempt, every view, every read.
///
/// # How late it may be
///
/// What this process deletes, resolves, completes or releases through this layer is forgotten here before the call
/// returns. What *another* process deletes or resolves may be replayed here for up to `max_age` (default 5 s)
/// longer, counted from when the store was asked. A body may be replayed for as long after its own life. A
/// record is forgotten [`margin`](Self::margin) before the store's own time for it is over, by this machine's
/// monotonic clock. That clock stands still while a machine is suspended.
///
/// # Cost and limits
///
/// Up to [`max_bytes`](Self::max_bytes) of memory; records that weigh more than [`max_entry`](Self::max_entry)
/// are not kept. What was longest not asked for leaves first, in one of 64 groups of records. What is over
/// leaves when another record of its group comes. What is kept is what passes here: above the sealing layer
/// answers lie in memory in the clear, below it they stay sealed and are opened at each replay.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Tier {
    max_bytes: u64,
    max_entry: u64,
    max_age: Duration,
    margin: Duration,
}

impl Tier {
    /// 64 MiB, records of up to 2 MiB, for 5 s.
    pub const fn new() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_entry: 2 << 20,
            max_age: Duration::from_secs(5),
            margin: Duration::from_millis(250),
        }
    }

    /// The most that all records together take, in bytes. Default 64 MiB.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The most that one record takes, in bytes. Default 2 MiB.
    pub const fn max_entry(mut self, bytes: u64) -> Self {
        self.max_entry = bytes;
        self
    }

    /// How long a record is answered from here without asking the store: the longest that another process's
    /// deletion goes unnoticed. Default 5 s; not zero.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long before its end by the store's clock a record is forgotten here. Default 250 ms.
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// What makes no sense about them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match () {
            () if self.max_age.is_zero() => {
                Some("`max_age` is zero: nothing would be answered from the cache")
            }
            () if self.max_bytes < self.max_entry => Some("one record may weigh more than all together"),
            () => None,
        }
    }
}

impl Default for Tier {
    fn default() -> Self {
        Self::new()
    }
}

/// A store whose completed records are answered from memory for a while.
#[derive(Debug)]
pub(crate) struct Tiered {
    inner: AnyStore,
    cache: Cache,
    timer: Arc<dyn Timer>,
}

impl Tiered {
    pub(crate) fn new(inner: AnyStore, settings: Tier, timer: Arc<dyn Timer>) -> Self {
        Self { inner, cache: Cache::new(settings), timer }
    }

    /// To be held while a call may change the record.
    fn changing(&self, id: &RecordId) -> Change<'_> {
        self.cache.change(*id)
    }
}

impl Store for Tiered {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let now = self.timer.now();
        if let Some(record) = self.cache.answer(ask, now) {
            return Ok(Begun::Settled(record));
        }
        let asked = self.cache.ask(&ask.id, now);
        let begun = self.inner.begin(ask).await?;
        if let Begun::Settled(record) = &begun {
            self.cache.keep(asked, record);
        }
        Ok(begun)
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let _changing = self.changing(&lease.id);
        self.inner.complete(lease, completion, keep).await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let id = match by {
            ReleaseBy::Lease(lease) => lease.id,
            ReleaseBy::Claim(id, _) => id,
        };
        let _changing = self.changing(&id);
        self.inner.release(by, how, keep).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let asked = self.cache.ask(id, self.timer.now());
        let read = self.inner.read(id).await?;
        if let Some(record) = &read {
            self.cache.keep(asked, record);
        }
        Ok(read)
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let _changing = self.changing(id);
        self.inner.resolve(id, resolution).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        let _changing = self.changing(id);
        self.inner.delete(id, which).await
    }

    forward!(renew abandon note watch inspect list sweep health examine capabilities secret);
}
