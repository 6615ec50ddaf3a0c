use std::time::Duration;

use semel_conformance::{Fixture, Times};
use semel_core::store::AnyStore;
use semel_store_memory::{ManualClock, MemoryStore};

pub(crate) struct Manual {
    store: MemoryStore,
    clock: ManualClock,
}

impl Fixture for Manual {
    async fn open() -> Self {
        let clock = ManualClock::new();
        Self { store: MemoryStore::builder().clock(clock.clone()).build(), clock }
    }

    fn store(&self) -> AnyStore {
        AnyStore::new(self.store.clone())
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// What it knows ends with its process, so there is nothing to open again.
    async fn reopen(self) -> Self {
        self
    }
}

/// The same laws by the clock that users get.
pub(crate) struct Real(MemoryStore);

impl Fixture for Real {
    async fn open() -> Self {
        Self(MemoryStore::new())
    }

    fn store(&self) -> AnyStore {
        AnyStore::new(self.0.clone())
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    async fn reopen(self) -> Self {
        self
    }

    fn times(&self) -> Times {
        Times::real()
    }
}

mod with_a_manual_clock {
    semel_conformance::laws!(open = super::Manual);
    semel_testkit::failpoints!(open = super::Manual);
}

mod with_the_systems_clock {
    semel_conformance::laws!(open = super::Real);
}
