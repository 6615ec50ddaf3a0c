//! Callers that claim and complete one fresh key after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, Settled, Store};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::measure::median;

/// What was done in a time.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Did {
    pub(crate) pairs: u32,
    pub(crate) seconds: f64,
    /// Microseconds that a pair took, in the middle.
    pub(crate) median: f64,
}

impl Did {
    pub(crate) fn speed(&self) -> f64 {
        f64::from(self.pairs) / self.seconds
    }
}

/// Claims and completes until the time is over. `series` tells the keys of one call from those of another.
pub(crate) async fn run<S: Store>(
    store: Arc<S>,
    series: u16,
    callers: u16,
    body: usize,
    time: Duration,
) -> Result<Did, Failure> {
    let completion = completion(body);
    let start = Instant::now();
    let until = start + time;
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, completion) = (Arc::clone(&store), Arc::clone(&completion));
            tokio::spawn(async move { call(&*store, series, caller, &completion, until).await })
        })
        .collect();
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Did { pairs: u32::try_from(took.len())?, seconds, median: median(took) })
}

async fn call(
    store: &impl Store,
    series: u16,
    caller: u16,
    completion: &Arc<Completion>,
    until: Instant,
) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let ask = begin(series, caller, u32::try_from(took.len())?);
        let start = Instant::now();
        let Begun::Acquired(acquired) = store.begin(&ask).await? else {
            return Err("a fresh key was not acquired".into());
        };
        let settled = store.complete(acquired.lease.as_ref(), completion, &ask.retention).await?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
        if settled != Settled::Applied {
            return Err("a completion was not applied".into());
        }
    }
    Ok(took)
}

/// An answer with a body of so many bytes.
pub(crate) fn completion(body: usize) -> Arc<Completion> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: StoredBody::Kept(Bytes::from(vec![b'x'; body])),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

/// Spread over the index, as hashes of keys are.
pub(crate) fn begin(series: u16, caller: u16, number: u32) -> Begin {
    let count = u64::from(series) << 48 | u64::from(caller) << 32 | u64::from(number);
    let mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&mixed.to_be_bytes());
    Begin {
        id: RecordId::from_bytes(id),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        settings: "1;json".into(),
        principal: None,
        claim: ClaimId::from_u128(u128::from(mixed)),
        lease_for: Duration::from_secs(30),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}
