//! Everything a store has to prove: how it is opened, how its clock moves, and one line.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::identity::Secret;
use semel_core::record::Timestamp;
use semel_core::store::AnyStore;
use semel_example_stranger_store::StrangerStore;

/// A store of its own for each law, on a clock that only the law moves.
struct Fresh {
    store: AnyStore,
    clock: Arc<AtomicI64>,
}

impl Fixture for Fresh {
    async fn open() -> Self {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
        let now = Arc::clone(&clock);
        let read = move || Timestamp::from_millis(now.load(Ordering::SeqCst));
        Self { store: AnyStore::new(StrangerStore::new(read, Secret::from_bytes([7; 32]))), clock }
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4), Ordering::SeqCst);
    }

    /// What it knows ends with its process, and it says so: `Capabilities::durable` is not set.
    async fn reopen(self) -> Self {
        self
    }
}

semel_conformance::laws!(open = Fresh);
