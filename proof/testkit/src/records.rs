//! Claims and answers with numbers for names, for the tests of stores.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, Lease, Store};

/// The record of this number. They are in the order of their numbers.
pub fn id(n: u32) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// A claim of that record, by somebody new each time: under hold, for an hour, of the same request.
pub fn ask(n: u32) -> Begin {
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

/// A kept answer of status 201.
pub fn answer(body: impl Into<Bytes>) -> Arc<Completion> {
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

/// The kept body.
///
/// # Panics
///
/// There is none.
pub fn body(completion: &Completion) -> Bytes {
    match completion.response.as_ref().map(|response| &response.body) {
        Some(StoredBody::Kept(body)) => body.clone(),
        other => panic!("not kept: {other:?}"),
    }
}

/// A claim of that record that has to be granted.
///
/// # Panics
///
/// It is not.
pub async fn claimed(store: &impl Store, n: u32) -> Lease {
    match store.begin(&ask(n)).await {
        Ok(Begun::Acquired(acquired)) => acquired.lease,
        other => panic!("{n}: {other:?}"),
    }
}
