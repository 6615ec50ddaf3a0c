//! Claims and answers with numbers for names, prefixes that clean up after themselves, and servers of one's own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use semel_core::store::LeaseRef;
use semel_store_redis::{Clock, RedisStore};
pub(crate) use semel_testkit::records::{answer, ask, body, id};
pub(crate) use semel_testkit::running::{bounded as private, together};

/// Where a server for tests is, unless `SEMEL_TEST_REDIS` names another one.
pub(crate) fn url() -> String {
    std::env::var("SEMEL_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379/0".to_owned())
}

/// Whether that server answers. Says so once if it does not; on the build server that is a failure.
pub(crate) fn available() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let client = redis::Client::open(url()).unwrap();
        let there = client.get_connection_with_timeout(Duration::from_secs(2)).is_ok();
        if !there {
            let why = format!("no Redis at {}", client.get_connection_info().addr());
            semel_testkit::skip::skip("semel-store-redis", &why).unwrap();
        }
        there
    })
}

/// A prefix that nobody else uses. Its keys are removed from the shared server when it is dropped; the other servers are
/// the run's own, and end with it.
pub(crate) struct Prefix(pub(crate) String);

impl Prefix {
    pub(crate) fn new() -> Self {
        Self(format!("semel-test-{:016x}", fastrand::u64(..)))
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let Ok(mut connection) = redis::Client::open(url()).and_then(|client| client.get_connection()) else {
            return;
        };
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

/// A store under a prefix of its own, on a clock that is moved by hand.
pub(crate) struct Manual {
    pub(crate) store: RedisStore,
    pub(crate) ahead: Arc<AtomicI64>,
    pub(crate) prefix: Prefix,
    pub(crate) url: String,
}

impl Manual {
    pub(crate) async fn open() -> Self {
        Self::open_at(url()).await
    }

    pub(crate) async fn open_at(url: String) -> Self {
        let (prefix, ahead) = (Prefix::new(), Arc::default());
        let builder = RedisStore::builder(&url).prefix(&*prefix.0).clock(Clock::shifted(Arc::clone(&ahead)));
        Self { store: builder.open().await.unwrap(), ahead, prefix, url }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// A claim that has to be granted.
pub(crate) async fn claimed(store: &RedisStore, n: u32) -> LeaseRef {
    semel_testkit::records::claimed(store, n).await.as_ref()
}

/// A test over the shared server.
pub(crate) fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        private(body);
    }
}
