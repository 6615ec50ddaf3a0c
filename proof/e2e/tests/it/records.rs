//! Where the records of a host lie: in memory, in a file, or in a schema of its own on a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use semel_core::store::AnyStore;
use semel_store_memory::{ManualClock, MemoryStore};
use semel_store_postgres::{Builder, Clock as ServerClock, PostgresStore};
use semel_store_sqlite::{Clock as FileClock, SqliteStore};
use semel_testkit::running::wait_for;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Records {
    Memory,
    Sqlite,
    Postgres,
}

impl Records {
    /// Why they cannot be on this machine.
    pub(crate) async fn missing(self) -> Option<String> {
        let Self::Postgres = self else { return None };
        let error = PgConnection::connect(&url()).await.err()?;
        Some(format!("no PostgreSQL at SEMEL_TEST_POSTGRES: {error}"))
    }

    /// A store, and what goes when it goes.
    pub(crate) async fn open(self) -> (AnyStore, Box<dyn Send>) {
        match self {
            Self::Memory => (AnyStore::new(MemoryStore::new()), Box::new(())),
            Self::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(folder.path().join("records.db")).unwrap();
                (AnyStore::new(store), Box::new(folder))
            }
            Self::Postgres => {
                let schema = Schema::new();
                let store = schema.builder().open().await.unwrap();
                (AnyStore::new(store), Box::new(schema))
            }
        }
    }

    /// A store whose clock can be moved forward.
    pub(crate) async fn open_with_clock(self) -> (AnyStore, Clock) {
        match self {
            Self::Memory => {
                let clock = ManualClock::new();
                let store = MemoryStore::builder().clock(clock.clone()).build();
                (AnyStore::new(store), Clock::Memory(clock))
            }
            Self::Sqlite => {
                let (folder, clock) =
                    (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(1_800_000_000_000)));
                let store = SqliteStore::builder(folder.path().join("records.db"));
                let store = store.clock(FileClock::manual(Arc::clone(&clock))).open().unwrap();
                (AnyStore::new(store), Clock::Sqlite { clock, _lies_in: folder })
            }
            Self::Postgres => {
                let schema = Schema::new();
                let open = async || schema.builder().clock(ServerClock::Shifted).open().await.unwrap();
                let (store, clock) = (open().await, open().await);
                (AnyStore::new(store), Clock::Postgres { clock: Box::new(clock), _lies_in: schema })
            }
        }
    }
}

pub(crate) enum Clock {
    Memory(ManualClock),
    Sqlite { clock: Arc<AtomicI64>, _lies_in: TempDir },
    Postgres { clock: Box<PostgresStore>, _lies_in: Schema },
}

impl Clock {
    pub(crate) async fn advance(&self, by: Duration) {
        match self {
            Self::Memory(clock) => clock.advance(by),
            Self::Sqlite { clock, .. } => {
                clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            }
            Self::Postgres { clock, .. } => clock.shift_clock(by).await.unwrap(),
        }
    }
}

fn url() -> String {
    std::env::var("SEMEL_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// A name that nobody else has, and the end of all that lies under it.
pub(crate) struct Schema(String);

impl Schema {
    fn new() -> Self {
        Self(format!("semel_test_{}_{:012x}", std::process::id(), fastrand::u64(..1 << 48)))
    }

    /// With few connections: many tests share the server.
    fn builder(&self) -> Builder {
        PostgresStore::builder(url()).schema(&self.0).connections(4)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let text = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {} CASCADE", self.0);
        wait_for(async {
            let mut connection = PgConnection::connect(&url()).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        });
    }
}
