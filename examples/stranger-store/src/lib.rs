//! A store by somebody else: a map behind one lock, written from the documentation of [`Store`] and nothing else.
//!
//! It is the worked example of `semel-conformance`: `tests/laws.rs` is all it takes to find out whether it is right.
//! Every method is one locked step, so the whole question is what that step does; `Row` has the answers.

mod row;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use row::Row;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Fence, Record, RecordId, RecordView, Retention, State, Timestamp};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolution,
    Resolved, Settled, Store, StoreError, Swept, Watch,
};
use tokio::sync::Notify;

/// A map behind a lock.
pub struct StrangerStore {
    table: Mutex<Table>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    changed: Arc<Notify>,
    secret: Secret,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<RecordId, Row>,
    /// The last fence that was handed out. It outlives the rows.
    fence: u64,
}

impl StrangerStore {
    /// An empty store that reads this clock. A real one would read its database's.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static, secret: Secret) -> Self {
        Self { table: Mutex::default(), clock: Box::new(clock), changed: Arc::default(), secret }
    }

    /// One step: the time and the table belong together, so the lock comes first.
    fn step<T>(&self, step: impl FnOnce(&mut Table, Timestamp) -> T) -> T {
        let mut table = self.table();
        let now = (self.clock)();
        let done = step(&mut table, now);
        drop(table);
        // A hint to all: who waits looks again by itself, so it may come for nothing.
        self.changed.notify_waiters();
        done
    }

    /// A step on a record that is there, as it is now.
    fn on<T>(&self, id: &RecordId, step: impl FnOnce(Option<&mut Row>, &mut u64, Timestamp) -> T) -> T {
        self.step(|table, now| {
            if table.rows.get(id).is_some_and(|row| row.is_over(now)) {
                table.rows.remove(id);
            }
            let mut row = table.rows.get_mut(id);
            if let Some(row) = &mut row {
                row.lapse(now);
            }
            step(row, &mut table.fence, now)
        })
    }

    fn settle(&self, id: &RecordId, step: impl FnOnce(&mut Row, Timestamp) -> bool) -> Settled {
        self.on(id, |row, _, now| {
            let Some(row) = row else { return Settled::Absent };
            if step(row, now) { Settled::Applied } else { Settled::Superseded(Box::new(row.view(now))) }
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_over_quota(&self, ask: &Begin, now: Timestamp) -> bool {
        let Some(quota) = ask.quota else { return false };
        let views = self.rows.values().filter(|row| !row.is_over(now)).map(|row| row.view(now));
        let (records, bytes) = views
            .filter(|view| view.principal == ask.principal)
            .fold((0, 0), |(records, bytes), view| (records + 1, bytes + view.body_bytes));
        quota.records.is_some_and(|most| records >= most) || quota.bytes.is_some_and(|most| bytes >= most)
    }
}

/// Numbers that only grow. `u64` is not used up before the sun is.
fn next(fence: &mut u64) -> Fence {
    loop {
        *fence = fence.saturating_add(1);
        if let Some(fence) = Fence::new(*fence) {
            return fence;
        }
    }
}

impl Store for StrangerStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        Ok(self.step(|table, now| {
            if let Some(row) = table.rows.get_mut(&ask.id).filter(|row| !row.is_over(now)) {
                row.lapse(now);
                return row.claim_again(ask, now, || next(&mut table.fence));
            }
            if table.is_over_quota(ask, now) {
                return Begun::OverQuota;
            }
            if ask.minted.is_some_and(|minted| now.since(minted) > ask.retention.record) {
                return Begun::Expired;
            }
            let row = Row::claimed(ask, now, next(&mut table.fence));
            let acquired = row.acquired();
            table.rows.insert(ask.id, row);
            Begun::Acquired(acquired)
        }))
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        let renew = |lease: &LeaseRef| self.settle(&lease.id, |row, now| row.renew(*lease, lease_for, now));
        Ok(leases.iter().map(renew).collect())
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        Ok(self.settle(&lease.id, |row, now| row.complete(lease, completion, keep, now)))
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let id = match by {
            ReleaseBy::Lease(lease) => lease.id,
            ReleaseBy::Claim(id, _) => id,
        };
        Ok(self.settle(&id, |row, now| row.release(by, how, keep, now)))
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        Ok(self.settle(&lease.id, |row, now| row.abandon(lease, now)))
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        Ok(self.settle(&lease.id, |row, _| row.note(lease, progress)))
    }

    async fn watch(&self, _: &RecordId) -> Result<Watch, StoreError> {
        // Subscribed from here on, not from when it is first polled.
        let changed = Arc::clone(&self.changed).notified_owned();
        Ok(Watch::new(changed))
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        Ok(self.on(id, |row, _, now| row.map(|row| row.view(now))))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        Ok(self.on(id, |row, _, now| row.and_then(|row| row.record(now))))
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        Ok(self.step(|table, now| {
            let mut found = Vec::new();
            for row in table.rows.values_mut().filter(|row| !row.is_over(now)) {
                row.lapse(now);
                found.push(row.view(now));
            }
            found.retain(|view| {
                query.state.is_none_or(|state| state == view.state)
                    && query.after.is_none_or(|after| after < view.id)
            });
            let more = found.len() > query.limit;
            found.truncate(query.limit);
            let next = found.last().filter(|_| more).map(|view| view.id);
            Page { records: found, next }
        }))
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        Ok(self.on(id, |row, fence, now| {
            let Some(row) = row else { return Resolved::Absent };
            let applied = row.resolve(resolution, now, || next(fence));
            let view = Box::new(row.view(now));
            if applied { Resolved::Applied(view) } else { Resolved::Refused(view) }
        }))
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        Ok(self.step(|table, now| {
            let Some(row) = table.rows.get_mut(id).filter(|row| !row.is_over(now)) else {
                return Deleted::Absent;
            };
            row.lapse(now);
            let view = row.view(now);
            if which == Delete::Settled && matches!(view.state, State::InFlight | State::Unknown) {
                return Deleted::Refused(Box::new(view));
            }
            table.rows.remove(id);
            Deleted::Gone
        }))
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        Ok(self.step(|table, now| {
            let mut swept = Swept::default();
            let mut left = limit;
            table.rows.retain(|_, row| {
                let is_due = row.is_due(now);
                if is_due && left == 0 {
                    swept.more = true;
                } else if is_due {
                    left -= 1;
                    return row.sweep(now, &mut swept);
                }
                true
            });
            swept
        }))
    }

    async fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("stranger");
        capabilities.quotas = semel_core::store::Quotas::All;
        capabilities
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for StrangerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrangerStore").field("records", &self.table().rows.len()).finish_non_exhaustive()
    }
}
