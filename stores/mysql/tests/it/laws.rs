//! The laws of every store, on a database each.

use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::AnyStore;
use semel_store_mysql::{Clock, MySqlStore};

use crate::support::{self, Database};

/// On the server's clock, moved by hand.
pub(crate) struct Shifted {
    store: AnyStore,
    clock: MySqlStore,
    database: Database,
}

impl Shifted {
    async fn open_in(database: Database) -> Self {
        let open = || database.builder().clock(Clock::Shifted).open();
        Self { store: AnyStore::new(open().await.unwrap()), clock: open().await.unwrap(), database }
    }
}

impl Fixture for Shifted {
    fn available() -> bool {
        support::available()
    }

    async fn open() -> Self {
        Self::open_in(Database::new()).await
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.shift_clock(by).await.unwrap();
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, database } = self;
        drop((store, clock));
        Self::open_in(database).await
    }
}

semel_conformance::laws!(open = Shifted);
semel_testkit::failpoints!(open = Shifted);
