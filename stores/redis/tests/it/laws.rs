//! The laws of every store, under a prefix each: on a single Redis, on Valkey, on a cluster, and through a Sentinel.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::AnyStore;
use semel_store_redis::{Clock, RedisStore};

use crate::support::{Manual, url};

/// Servers to judge on.
pub(crate) trait Place: Send + Sync + 'static {
    /// Where they are, if there are any. Says so if not.
    fn url() -> Option<String>;

    /// Whether all keys are on one server.
    const WHOLE: bool = true;
}

pub(crate) struct Redis<P> {
    store: AnyStore,
    clock: Manual,
    place: PhantomData<P>,
}

impl<P: Place> Redis<P> {
    async fn over(clock: Manual) -> Self {
        // A second opening: one prefix, two stores.
        let shifted = Clock::shifted(Arc::clone(&clock.ahead));
        let builder = RedisStore::builder(&clock.url).prefix(&*clock.prefix.0).clock(shifted);
        Self { store: AnyStore::new(builder.open().await.unwrap()), clock, place: PhantomData }
    }
}

impl<P: Place> Fixture for Redis<P> {
    fn available() -> bool {
        P::url().is_some()
    }

    async fn open() -> Self {
        Self::over(Manual::open_at(P::url().unwrap()).await).await
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, place: _ } = self;
        drop(store);
        Self::over(clock).await
    }

    fn quotas(&self) -> bool {
        P::WHOLE
    }
}

/// What a variable names: `tests/servers` starts them, and `.ci/run` with it.
fn named(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        let why = format!("{variable} names no server: see stores/redis/tests/servers");
        semel_testkit::skip::skip("semel-store-redis", &why).unwrap();
    }
    url
}

pub(crate) struct Single;

impl Place for Single {
    fn url() -> Option<String> {
        crate::support::available().then(url)
    }
}

semel_conformance::laws!(open = Redis<Single>);
semel_testkit::failpoints!(open = Redis<Single>);

mod on_valkey {
    pub(crate) struct Valkey;

    impl super::Place for Valkey {
        fn url() -> Option<String> {
            super::named("SEMEL_TEST_VALKEY")
        }
    }

    semel_conformance::laws!(open = super::Redis<Valkey>);
}

mod on_a_cluster {
    pub(crate) struct Cluster;

    impl super::Place for Cluster {
        fn url() -> Option<String> {
            super::named("SEMEL_TEST_REDIS_CLUSTER")
        }

        const WHOLE: bool = false;
    }

    semel_conformance::laws!(open = super::Redis<Cluster>);
}

mod through_a_sentinel {
    pub(crate) struct Sentinel;

    impl super::Place for Sentinel {
        fn url() -> Option<String> {
            super::named("SEMEL_TEST_REDIS_SENTINEL")
        }
    }

    semel_conformance::laws!(open = super::Redis<Sentinel>);
}
