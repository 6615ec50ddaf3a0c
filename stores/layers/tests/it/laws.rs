//! The laws of every store, over each layer and over all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use semel_conformance::Fixture;
use semel_core::store::AnyStore;
use semel_store_layers::{Compress, Guard, Layers, Tier};
use semel_store_memory::{ManualClock, MemoryStore};
use semel_store_sqlite::{Clock, SqliteStore};
use semel_testkit::faulty::{Fault, Faulty, Step};
use tempfile::TempDir;

use crate::support::{ManualTimer, NEVER, seal};

fn guard(layers: Layers) -> Layers {
    layers.guard(Guard::new().call_within(NEVER))
}

fn compress(layers: Layers) -> Layers {
    layers.compress(Compress::new().at_least(1))
}

fn all(layers: Layers) -> Layers {
    guard(compress(layers.tier(Tier::new())).seal(seal()))
}

/// The cache holds what the store below it keeps, sealed.
fn cache_below(layers: Layers) -> Layers {
    guard(compress(layers).seal(seal()).tier(Tier::new()))
}

macro_rules! over_memory {
    ($name:ident, $layers:expr) => {
        mod $name {
            use super::*;

            struct Layered {
                store: AnyStore,
                clock: ManualClock,
                timer: ManualTimer,
            }

            impl Fixture for Layered {
                async fn open() -> Self {
                    let clock = ManualClock::new();
                    let timer = ManualTimer::default();
                    let memory = MemoryStore::builder().clock(clock.clone()).build();
                    let layers: fn(Layers) -> Layers = $layers;
                    let store = layers(Layers::new(memory).timer(timer.clone())).build().unwrap();
                    Self { store, clock, timer }
                }

                fn store(&self) -> AnyStore {
                    self.store.clone()
                }

                async fn advance(&self, by: Duration) {
                    self.clock.advance(by);
                    self.timer.advance(by);
                }

                /// What memory knows ends with its process.
                async fn reopen(self) -> Self {
                    self
                }
            }

            semel_conformance::laws!(open = Layered);
        }
    };
}

over_memory!(guarded, guard);
over_memory!(sealed, |layers| layers.seal(seal()));
over_memory!(compressed, compress);
over_memory!(tiered, |layers| layers.tier(Tier::new()));
over_memory!(all_layers, all);
over_memory!(all_with_the_cache_below, cache_below);

/// All layers over a file.
mod all_on_sqlite {
    use super::*;

    struct OnFile {
        store: AnyStore,
        clock: Arc<AtomicI64>,
        timer: ManualTimer,
        folder: TempDir,
    }

    impl OnFile {
        fn open_in(folder: TempDir, clock: Arc<AtomicI64>, timer: ManualTimer) -> Self {
            let path = folder.path().join("semel.db");
            let file = SqliteStore::builder(path).clock(Clock::manual(Arc::clone(&clock))).open().unwrap();
            let store = all(Layers::new(file).timer(timer.clone())).build().unwrap();
            Self { store, clock, timer, folder }
        }
    }

    impl Fixture for OnFile {
        async fn open() -> Self {
            let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
            Self::open_in(tempfile::tempdir().unwrap(), clock, ManualTimer::default())
        }

        fn store(&self) -> AnyStore {
            self.store.clone()
        }

        async fn advance(&self, by: Duration) {
            self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            self.timer.advance(by);
        }

        async fn reopen(self) -> Self {
            let Self { store, clock, timer, folder } = self;
            drop(store);
            Self::open_in(folder, clock, timer)
        }
    }

    semel_conformance::laws!(open = OnFile);
}

/// All layers over a server.
mod all_on_redis {
    use std::sync::OnceLock;

    use semel_store_redis::{Clock, RedisStore};
    use semel_testkit::skip::skip;

    use super::*;

    fn url() -> String {
        std::env::var("SEMEL_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379/0".to_owned())
    }

    fn connect() -> redis::RedisResult<redis::Connection> {
        redis::Client::open(url())?.get_connection_with_timeout(Duration::from_secs(2))
    }

    /// Its keys are removed with it.
    struct Prefix(String);

    impl Drop for Prefix {
        fn drop(&mut self) {
            let Ok(mut connection) = connect() else { return };
            let mut cursor = 0;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.0)).arg("COUNT").arg(1000);
                let keys: Vec<Vec<u8>>;
                (cursor, keys) = scan.query(&mut connection).unwrap();
                if !keys.is_empty() {
                    redis::cmd("UNLINK").arg(keys).exec(&mut connection).unwrap();
                }
                if cursor == 0 {
                    return;
                }
            }
        }
    }

    struct OnServer {
        store: AnyStore,
        ahead: Arc<AtomicI64>,
        timer: ManualTimer,
        prefix: Prefix,
    }

    impl OnServer {
        async fn open_under(prefix: Prefix, ahead: Arc<AtomicI64>, timer: ManualTimer) -> Self {
            let builder =
                RedisStore::builder(&url()).prefix(&*prefix.0).clock(Clock::shifted(Arc::clone(&ahead)));
            let server = builder.open().await.unwrap();
            let store = all(Layers::new(server).timer(timer.clone())).build().unwrap();
            Self { store, ahead, timer, prefix }
        }
    }

    impl Fixture for OnServer {
        fn available() -> bool {
            static THERE: OnceLock<bool> = OnceLock::new();
            *THERE.get_or_init(|| match connect() {
                Ok(_) => true,
                Err(error) => {
                    skip("semel-store-layers", &format!("no Redis at SEMEL_TEST_REDIS: {error}")).unwrap();
                    false
                }
            })
        }

        async fn open() -> Self {
            let prefix = Prefix(format!("semel-test-{:016x}", fastrand::u64(..)));
            Self::open_under(prefix, Arc::default(), ManualTimer::default()).await
        }

        fn store(&self) -> AnyStore {
            self.store.clone()
        }

        async fn advance(&self, by: Duration) {
            self.ahead.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            self.timer.advance(by);
        }

        async fn reopen(self) -> Self {
            let Self { store, ahead, timer, prefix } = self;
            drop(store);
            Self::open_under(prefix, ahead, timer).await
        }
    }

    semel_conformance::laws!(open = OnServer);
}

/// Every second call of each step that is tried again fails: with enough tries no law notices.
macro_rules! guarded_over_faults {
    ($name:ident, $fault:expr $(, $but:ident = $histories:ident)?) => {
        mod $name {
            use super::*;

            struct Failing {
                store: AnyStore,
                clock: ManualClock,
            }

            impl Fixture for Failing {
                async fn open() -> Self {
                    let clock = ManualClock::new();
                    let memory = MemoryStore::builder().clock(clock.clone()).build();
                    let (failing, faults) = Faulty::new(memory);
                    let steps =
                        [Step::Begin, Step::Renew, Step::Complete, Step::Release, Step::Abandon, Step::Read];
                    for step in steps {
                        for _ in 0..1000 {
                            faults.next(step, $fault);
                            faults.pass(step);
                        }
                    }
                    // The breaker would do its work here, and is not what is judged.
                    let guard = Guard::new().call_within(NEVER).tries(100).trip_at(
                        100,
                        10_000,
                        Duration::from_secs(10),
                    );
                    let store =
                        Layers::new(failing).timer(ManualTimer::default()).guard(guard).build().unwrap();
                    Self { store, clock }
                }

                fn store(&self) -> AnyStore {
                    self.store.clone()
                }

                async fn advance(&self, by: Duration) {
                    self.clock.advance(by);
                }

                async fn reopen(self) -> Self {
                    self
                }
            }

            semel_conformance::laws!(open = Failing $(, $but = $histories)?);
        }
    };
}

guarded_over_faults!(guarded_over_refusals, Fault::Refused);
// What is sent again here has been, or will be, applied twice.
guarded_over_faults!(guarded_over_lost_answers, Fault::AnswerLost, without = histories);
guarded_over_faults!(guarded_over_late_steps, Fault::Late, without = histories);
