//! Wake-ups for those who wait for a record.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use semel_core::record::RecordId;
use semel_core::store::Watch;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::shard::Shards;

/// Beyond so many watched records a watch never wakes: its waiter looks again by itself.
const MOST: usize = 65_536;

#[derive(Default)]
pub(crate) struct Watchers {
    watched: Mutex<HashMap<RecordId, Arc<Notify>>>,
    /// How many there are, so that a step which nobody waits for takes no lock.
    count: AtomicUsize,
}

impl Watchers {
    /// Called after the change, with no shard locked. Who subscribed before it and saw the old record had the
    /// record's lock before this caller did, so its subscription is seen here.
    pub(crate) fn wake(&self, id: &RecordId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let woken = {
            let mut watched = self.lock();
            let woken = watched.remove(id);
            self.count.store(watched.len(), Ordering::Release);
            woken
        };
        if let Some(notify) = woken {
            notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Arc<Notify>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn watch(shards: &Arc<Shards>, id: RecordId) -> Watch {
    let mut watched = shards.watchers.lock();
    if watched.len() >= MOST && !watched.contains_key(&id) {
        return Watch::never();
    }
    let notify = Arc::clone(watched.entry(id).or_default());
    shards.watchers.count.store(watched.len(), Ordering::Release);
    // It is subscribed from here on, not from its first poll.
    let waiter = Waiter { notified: Some(Box::pin(notify.notified_owned())), id, shards: Arc::clone(shards) };
    drop(watched);
    Watch::new(waiter.woken())
}

/// Forgets the record when its last waiter goes away unwoken.
struct Waiter {
    notified: Option<std::pin::Pin<Box<OwnedNotified>>>,
    id: RecordId,
    shards: Arc<Shards>,
}

impl Waiter {
    async fn woken(mut self) {
        if let Some(notified) = &mut self.notified {
            notified.await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.notified = None;
        let watchers = &self.shards.watchers;
        let mut watched = watchers.lock();
        if watched.get(&self.id).is_some_and(|notify| Arc::strong_count(notify) == 1) {
            watched.remove(&self.id);
            watchers.count.store(watched.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    // Clients that hang up while they wait once left an entry each behind.
    #[test]
    fn nothing_is_left_when_the_waiters_have_gone() {
        let store = MemoryStore::new();
        let id = RecordId::from_bytes([1; 32]);
        let one = watch(&store.0, id);
        let other = watch(&store.0, id);
        drop(one);
        assert_eq!(store.0.watchers.lock().len(), 1);
        drop(other);
        assert!(store.0.watchers.lock().is_empty());
        assert_eq!(store.0.watchers.count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn watches_are_bounded() {
        let store = MemoryStore::new();
        let watches: Vec<_> = (0..MOST + 10)
            .map(|n| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&u64::try_from(n).unwrap().to_be_bytes());
                watch(&store.0, RecordId::from_bytes(bytes))
            })
            .collect();
        assert_eq!(store.0.watchers.lock().len(), MOST);
        drop(watches);
        assert!(store.0.watchers.lock().is_empty());
    }
}
