//! Wake-ups for those who wait in this process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use semel_core::record::RecordId;
use semel_core::store::Watch;
use tokio::sync::Notify;

/// Who waits for which record. Holds an entry only while somebody does.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<HashMap<RecordId, Waiting>>);

#[derive(Debug)]
struct Waiting {
    watchers: usize,
    notify: Arc<Notify>,
}

impl Watchers {
    /// Is ready at the first change after this call. Ends its entry when it is dropped.
    pub fn watch(self: &Arc<Self>, id: RecordId) -> Watch {
        let notify = {
            let mut map = self.map();
            let waiting =
                map.entry(id).or_insert_with(|| Waiting { watchers: 0, notify: Arc::new(Notify::new()) });
            waiting.watchers += 1;
            Arc::clone(&waiting.notify)
        };
        // Counts from here, not from its first poll: a change between the two must not be lost.
        let changed = notify.notified_owned();
        let entry = Entry { watchers: Arc::clone(self), id };
        Watch::new(async move {
            let _entry = entry;
            changed.await;
        })
    }

    /// Wakes those who wait for these records.
    pub fn wake(&self, ids: &[RecordId]) {
        let map = self.map();
        if map.is_empty() {
            return;
        }
        for waiting in ids.iter().filter_map(|id| map.get(id)) {
            waiting.notify.notify_waiters();
        }
    }

    /// Wakes everybody, for when nobody knows what was missed.
    pub fn wake_all(&self) {
        self.map().values().for_each(|waiting| waiting.notify.notify_waiters());
    }

    /// Whether somebody waits for this record.
    pub fn is_waited_for(&self, id: &RecordId) -> bool {
        self.map().contains_key(id)
    }

    /// The records that somebody waits for.
    pub fn all(&self) -> HashSet<RecordId> {
        self.map().keys().copied().collect()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<RecordId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry {
    watchers: Arc<Watchers>,
    id: RecordId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut map = self.watchers.map();
        if let Some(waiting) = map.get_mut(&self.id) {
            waiting.watchers -= 1;
            if waiting.watchers == 0 {
                map.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_between_subscribing_and_waiting_arrives() {
        let watchers = Arc::new(Watchers::default());
        let id = RecordId::from_bytes([1; 32]);
        let watch = watchers.watch(id);
        watchers.wake(&[id]);
        tokio::time::timeout(std::time::Duration::from_secs(5), watch).await.unwrap();
    }

    #[test]
    fn nothing_is_left_of_watchers_that_gave_up() {
        let watchers = Arc::new(Watchers::default());
        let id = RecordId::from_bytes([1; 32]);
        let (one, two) = (watchers.watch(id), watchers.watch(id));
        drop(one);
        assert_eq!(watchers.0.lock().unwrap().len(), 1);
        drop(two);
        assert!(watchers.0.lock().unwrap().is_empty());
    }
}
