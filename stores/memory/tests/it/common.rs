use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, NotKept, PrincipalTag, RecordId, Recovery, Retention, StoredBody,
    StoredResponse,
};
use semel_core::store::{Begin, Begun, LeaseRef, Settled, Store as _};
use semel_store_memory::MemoryStore;

pub(crate) fn id(n: u64) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn ask(n: u64) -> Begin {
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

pub(crate) fn answer(bytes: usize) -> Arc<Completion> {
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: StoredBody::Kept(Bytes::from(vec![7; bytes])),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

pub(crate) async fn claim(store: &MemoryStore, n: u64) -> LeaseRef {
    match store.begin(&ask(n)).await.unwrap() {
        Begun::Acquired(acquired) => acquired.lease.as_ref(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn run(store: &MemoryStore, n: u64, bytes: usize) {
    let lease = claim(store, n).await;
    let settled = store.complete(lease, &answer(bytes), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
}

pub(crate) async fn body(store: &MemoryStore, n: u64) -> Result<usize, NotKept> {
    let record = store.read(&id(n)).await.unwrap().expect("it is completed");
    match &record.completion.response.as_ref().unwrap().body {
        StoredBody::Kept(bytes) => Ok(bytes.len()),
        StoredBody::NotKept(why) => Err(*why),
    }
}
