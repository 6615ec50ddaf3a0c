//! Claims and answers with numbers for names, prefixes that clean up after themselves, and servers of one's own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, LeaseRef, Store as _};
use semel_store_redis::{Clock, RedisStore};

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

pub(crate) fn id(n: u32) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn ask(n: u32) -> Begin {
    Begin {
        id: id(n),
        fingerprint: Fingerprint::from_bytes([7; 32]),
        settings: "test".into(),
        principal: None,
        claim: ClaimId::from_u128(u128::from(fastrand::u64(1..)) << 64 | u128::from(fastrand::u64(..))),
        lease_for: Duration::from_hours(1),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Arc<Completion> {
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers: http::HeaderMap::new(),
            body: StoredBody::Kept(body.into()),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

pub(crate) fn body(completion: &Completion) -> Bytes {
    match &completion.response.as_ref().unwrap().body {
        StoredBody::Kept(body) => body.clone(),
        StoredBody::NotKept(why) => panic!("not kept: {why:?}"),
    }
}

/// A claim that has to be granted.
pub(crate) async fn claimed(store: &RedisStore, n: u32) -> LeaseRef {
    match store.begin(&ask(n)).await.unwrap() {
        Begun::Acquired(acquired) => acquired.lease.as_ref(),
        other => panic!("{n}: {other:?}"),
    }
}

/// A test over the shared server.
pub(crate) fn test<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    if available() {
        private(body);
    }
}

/// A test over a server of its own, in a runtime with two workers.
pub(crate) fn private<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let bounded = async { tokio::time::timeout(Duration::from_mins(2), body()).await };
    assert!(built.unwrap().block_on(bounded).is_ok(), "the test came to no end");
}

/// Starts many tasks at once and gathers what they answer.
pub(crate) async fn together<T: Send + 'static, Fut: Future<Output = T> + Send + 'static>(
    tasks: impl IntoIterator<Item = Fut>,
) -> Vec<T> {
    let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        answers.push(task.await.unwrap());
    }
    answers
}
