//! The laws of every store, on a file each.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::{AnyStore, Begun, Store as _};
use semel_store_sqlite::{Clock, SqliteStore};
use tempfile::TempDir;

use crate::support::ask;

/// On a clock that is moved by hand.
pub(crate) struct Manual {
    store: AnyStore,
    clock: Arc<AtomicI64>,
    folder: TempDir,
}

impl Manual {
    fn open_in(folder: TempDir, clock: Arc<AtomicI64>) -> Self {
        let path = folder.path().join("semel.db");
        let store = SqliteStore::builder(path).clock(Clock::manual(Arc::clone(&clock))).open().unwrap();
        Self { store: AnyStore::new(store), clock, folder }
    }
}

impl Fixture for Manual {
    async fn open() -> Self {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
        Self::open_in(tempfile::tempdir().unwrap(), clock)
    }

    fn store(&self) -> AnyStore {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn reopen(self) -> Self {
        let Self { store, clock, folder } = self;
        drop(store);
        Self::open_in(folder, clock)
    }
}

semel_conformance::laws!(open = Manual);
semel_testkit::failpoints!(open = Manual);

// The clock that users get is not the one of the laws: it has to move, too.
#[tokio::test]
async fn a_lease_ends_by_the_machines_clock() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("semel.db")).unwrap();
    let mut ask = ask(1);
    ask.lease_for = Duration::from_millis(150);
    let Begun::Acquired(_) = store.begin(&ask).await.unwrap() else { panic!("not acquired") };
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    while !matches!(store.begin(&ask).await.unwrap(), Begun::Unknown(_)) {
        assert!(std::time::Instant::now() < give_up, "it never ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let view = store.inspect(&ask.id).await.unwrap().unwrap();
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let off = i64::try_from(wall.as_millis()).unwrap() - view.now.as_millis();
    assert!(off.abs() < 60_000, "the file's clock is {off} ms off");
    assert!(view.changed.since(view.created) >= Duration::from_millis(150));
}

// Edge of the contract: an operator sets the clock an hour back, then right again.
#[tokio::test]
async fn a_clock_that_is_set_back_neither_prolongs_nor_revives() {
    let clock = Arc::new(AtomicI64::new(7_200_000));
    let fixture = Manual::open_in(tempfile::tempdir().unwrap(), Arc::clone(&clock));
    let mut ask = ask(1);
    ask.lease_for = Duration::from_secs(30);
    let Begun::Acquired(_) = fixture.store.begin(&ask).await.unwrap() else { panic!("not acquired") };
    clock.store(3_600_000, Ordering::SeqCst);
    let view = fixture.store.inspect(&ask.id).await.unwrap().unwrap();
    assert_eq!(view.lease_remaining(), Duration::from_secs(30));
    let fixture = fixture.reopen().await;
    clock.store(7_230_000, Ordering::SeqCst);
    let Begun::Unknown(_) = fixture.store.begin(&ask).await.unwrap() else { panic!("not over") };
    clock.store(3_600_000, Ordering::SeqCst);
    let Begun::Unknown(_) = fixture.store.begin(&ask).await.unwrap() else { panic!("revived") };
}
