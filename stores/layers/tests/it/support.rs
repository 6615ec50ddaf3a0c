use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, PrincipalTag, Record, RecordId, Recovery, Retention, StoredBody,
    StoredResponse,
};
use semel_core::store::{AnyStore, Begin, Begun, LeaseRef, Settled};
use semel_store_layers::{KeyId, Seal, SealingKey, Sleep, Timer};

/// Pauses are over at once, and what is longer than this never is: a test's time-outs.
pub(crate) const NEVER: Duration = Duration::from_hours(1);

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManualTimer(Arc<AtomicU64>);

impl ManualTimer {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Timer for ManualTimer {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, length: Duration) -> Sleep {
        if length >= NEVER { Box::pin(std::future::pending()) } else { Box::pin(tokio::task::yield_now()) }
    }
}

pub(crate) fn key(byte: u8) -> SealingKey {
    SealingKey::from_bytes([byte; 32])
}

pub(crate) fn seal() -> Seal {
    Seal::new(KeyId(1), key(1))
}

pub(crate) fn id(n: u8) -> RecordId {
    RecordId::from_bytes([n; 32])
}

pub(crate) fn ask(n: u8) -> Begin {
    Begin {
        id: id(n),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        settings: "v1".into(),
        principal: Some(PrincipalTag::from_bytes([2; 32])),
        claim: ClaimId::from_u128(u128::from(n)),
        lease_for: Duration::from_secs(30),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}

/// The same request, sent again by somebody else.
pub(crate) fn retry(n: u8) -> Begin {
    Begin { claim: ClaimId::from_u128(1 << 64 | u128::from(n)), ..ask(n) }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Completion {
    let mut headers = HeaderMap::new();
    headers.insert("location", HeaderValue::from_static("/orders/secret-17"));
    Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: StoredBody::Kept(body.into()),
            trailers: None,
            origin: None,
        }),
        reference: None,
    }
}

pub(crate) fn body(completion: &Completion) -> &StoredBody {
    &completion.response.as_ref().unwrap().body
}

pub(crate) fn bytes(completion: &Completion) -> &Bytes {
    match body(completion) {
        StoredBody::Kept(bytes) => bytes,
        StoredBody::NotKept(why) => panic!("{why:?}"),
    }
}

pub(crate) async fn claim(store: &AnyStore, ask: &Begin) -> LeaseRef {
    match store.begin(ask).await.unwrap() {
        Begun::Acquired(acquired) => acquired.lease.as_ref(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn complete(store: &AnyStore, n: u8, completion: Completion) -> LeaseRef {
    let lease = claim(store, &ask(n)).await;
    let keep = Retention::default();
    assert_eq!(store.complete(lease, &Arc::new(completion), &keep).await.unwrap(), Settled::Applied);
    lease
}

pub(crate) async fn replay(store: &AnyStore, n: u8) -> Record {
    match store.begin(&retry(n)).await.unwrap() {
        Begun::Settled(record) => record,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn read(store: &AnyStore, n: u8) -> Completion {
    Completion::clone(&store.read(&id(n)).await.unwrap().unwrap().completion)
}
