//! The laws of every store, on a schema each.

use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::AnyStore;
use semel_store_postgres::{Clock, PostgresStore};

use crate::server::Bouncer;
use crate::support::{self, Schema};

/// On the server's clock, moved by hand: with prepared statements, and behind PgBouncer in transaction mode.
pub(crate) struct Shifted<const POOLED: bool> {
    store: AnyStore,
    clock: PostgresStore,
    schema: Schema,
    bouncer: Option<Bouncer>,
}

impl<const POOLED: bool> Shifted<POOLED> {
    async fn open_in(schema: Schema, bouncer: Option<Bouncer>) -> Self {
        let store = || async {
            let url = bouncer.as_ref().map_or_else(support::url, |bouncer| bouncer.url().to_owned());
            let builder = PostgresStore::builder(url).schema(&schema.0).clock(Clock::Shifted).connections(3);
            let builder =
                if POOLED { builder.transaction_pooling().listen_url(support::url()) } else { builder };
            builder.open().await.unwrap()
        };
        Self { store: AnyStore::new(store().await), clock: store().await, schema, bouncer }
    }
}

impl<const POOLED: bool> Fixture for Shifted<POOLED> {
    fn available() -> bool {
        support::available() && (!POOLED || Bouncer::available())
    }

    async fn open() -> Self {
        let bouncer = if POOLED { Some(Bouncer::start().await) } else { None };
        Self::open_in(Schema::new(), bouncer).await
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.shift_clock(by).await.unwrap();
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, schema, bouncer } = self;
        drop((store, clock));
        Self::open_in(schema, bouncer).await
    }
}

mod prepared {
    semel_conformance::laws!(open = super::Shifted<false>);
    semel_testkit::failpoints!(open = super::Shifted<false>);
}

mod pooled {
    semel_conformance::laws!(open = super::Shifted<true>);
}
