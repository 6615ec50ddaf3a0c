//! The laws of every store, under a prefix each.

use std::sync::Arc;
use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::AnyStore;
use semel_store_redis::{Clock, RedisStore};

use crate::support::{Manual, Prefix, url};

pub(crate) struct Redis {
    store: AnyStore,
    clock: Manual,
}

impl Redis {
    async fn over(clock: Manual) -> Self {
        // A second opening: one prefix, two stores.
        let shifted = Clock::shifted(Arc::clone(&clock.ahead));
        let store = RedisStore::builder(&url()).prefix(&*clock.prefix.0).clock(shifted).open().await.unwrap();
        Self { store: AnyStore::new(store), clock }
    }
}

impl Fixture for Redis {
    fn available() -> bool {
        crate::support::available()
    }

    async fn open() -> Self {
        Self::over(Manual::open_under(Prefix::new(), Arc::default()).await).await
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn reopen(self) -> Self {
        let Self { store, clock } = self;
        drop(store);
        Self::over(clock).await
    }
}

semel_conformance::laws!(open = Redis);
