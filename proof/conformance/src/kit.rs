//! The laws' common vocabulary.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, PrincipalTag, RecordId, RecordView, Recovery, Retention, State,
    StoredBody, StoredResponse,
};
use semel_core::store::{
    Acquired, AnyStore, Begin, Begun, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolution, Settled,
    Verdict,
};

use crate::{Fixture, Times};

/// A store on the bench.
pub(crate) struct Lab<F> {
    pub(crate) fixture: F,
    pub(crate) store: AnyStore,
    pub(crate) times: Times,
}

impl<F: Fixture> Lab<F> {
    pub(crate) fn new(fixture: F) -> Self {
        Self { store: fixture.store(), times: fixture.times(), fixture }
    }

    pub(crate) async fn reopen(self) -> Self {
        drop(self.store);
        Self::new(self.fixture.reopen().await)
    }

    /// A claim whose lease a law lets run out.
    pub(crate) fn brief(&self, n: u64, recovery: Recovery) -> Begin {
        Begin { lease_for: self.times.lease, recovery, ..ask(n) }
    }

    /// Lives that a law lets end.
    pub(crate) fn lives(&self) -> Retention {
        Retention { body: self.times.body, record: self.times.record, released: self.times.released }
    }

    pub(crate) async fn advance(&self, by: Duration) {
        self.fixture.advance(by + self.times.slack).await;
    }

    pub(crate) async fn lease_ends(&self) {
        self.advance(self.times.lease).await;
    }

    pub(crate) async fn begin(&self, ask: &Begin) -> Begun {
        ok(self.store.begin(ask).await)
    }

    pub(crate) async fn acquire(&self, ask: &Begin) -> Acquired {
        match self.begin(ask).await {
            Begun::Acquired(acquired) => acquired,
            other => panic!("the claim was not granted: {other:?}"),
        }
    }

    pub(crate) async fn claim(&self, ask: &Begin) -> LeaseRef {
        self.acquire(ask).await.lease.as_ref()
    }

    pub(crate) async fn complete(&self, lease: LeaseRef, body: &'static str) -> Settled {
        ok(self.store.complete(lease, &answer(body), &Retention::default()).await)
    }

    pub(crate) async fn release(&self, lease: LeaseRef) -> Settled {
        self.release_as(lease, ReleaseAs::Retry).await
    }

    pub(crate) async fn release_as(&self, lease: LeaseRef, how: ReleaseAs) -> Settled {
        ok(self.store.release(ReleaseBy::Lease(lease), how, &Retention::default()).await)
    }

    pub(crate) async fn release_claim(&self, id: RecordId, claim: ClaimId) -> Settled {
        ok(self.store.release(ReleaseBy::Claim(id, claim), ReleaseAs::Retry, &Retention::default()).await)
    }

    pub(crate) async fn abandon(&self, lease: LeaseRef) -> Settled {
        ok(self.store.abandon(lease).await)
    }

    pub(crate) async fn note(&self, lease: LeaseRef, progress: &'static str) -> Settled {
        ok(self.store.note(lease, &Bytes::from_static(progress.as_bytes())).await)
    }

    pub(crate) async fn renew(&self, lease: LeaseRef, lease_for: Duration) -> Settled {
        let mut settled = ok(self.store.renew(&[lease], lease_for).await);
        assert_eq!(settled.len(), 1, "one answer a lease");
        settled.remove(0)
    }

    pub(crate) async fn inspect(&self, n: u64) -> Option<RecordView> {
        ok(self.store.inspect(&id(n)).await)
    }

    pub(crate) async fn view(&self, n: u64) -> RecordView {
        self.inspect(n).await.unwrap_or_else(|| panic!("record {n} is gone"))
    }

    pub(crate) async fn state(&self, n: u64) -> Option<State> {
        self.inspect(n).await.map(|view| view.state)
    }

    /// The kept answer's body, as text.
    pub(crate) async fn body(&self, n: u64) -> Option<StoredBody> {
        let record = ok(self.store.read(&id(n)).await)?;
        record.completion.response.as_ref().map(|response| response.body.clone())
    }

    pub(crate) async fn list(&self, state: Option<State>, after: Option<RecordId>, limit: usize) -> Page {
        ok(self.store.list(&Query { state, after, limit }).await)
    }

    /// A record of another claim under each state, by the number of its id.
    pub(crate) async fn put(&self, n: u64, state: State) -> LeaseRef {
        let lease = self.claim(&ask(n)).await;
        match state {
            State::InFlight => {}
            State::Completed => applied(&self.complete(lease, "done").await),
            State::Released => applied(&self.release(lease).await),
            State::Unknown => applied(&self.abandon(lease).await),
        }
        lease
    }

    /// Sweeps until nothing is left to do, and adds up what was done.
    pub(crate) async fn sweep_all(&self) -> semel_core::store::Swept {
        let mut sum = ok(self.store.sweep(1000).await);
        let mut rounds = 0;
        while sum.more {
            let next = ok(self.store.sweep(1000).await);
            sum.removed += next.removed;
            sum.bodies += next.bodies;
            sum.unknown += next.unknown;
            sum.released += next.released;
            sum.more = next.more;
            rounds += 1;
            assert!(rounds < 100, "a sweep without end");
        }
        sum
    }
}

pub(crate) fn ok<T>(result: Result<T, semel_core::store::StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error} ({:?})", error.kind()))
}

/// Spread over the id's bytes, so that nobody finds them by a prefix or a suffix alone.
pub(crate) fn id(n: u64) -> RecordId {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn print(byte: u8) -> Fingerprint {
    Fingerprint::from_bytes([byte; 32])
}

pub(crate) fn principal(byte: u8) -> PrincipalTag {
    PrincipalTag::from_bytes([byte; 32])
}

/// A claim under hold, with a lease that no law waits for.
pub(crate) fn ask(n: u64) -> Begin {
    Begin {
        id: id(n),
        fingerprint: print(1),
        settings: "laws/1".into(),
        principal: Some(principal(2)),
        claim: ClaimId::from_u128(u128::from(n) << 64 | 1),
        lease_for: Duration::from_hours(1),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}

/// The same request, sent again by somebody else.
pub(crate) fn retry(ask: &Begin, attempt: u128) -> Begin {
    Begin { claim: ClaimId::from_u128(ask.claim.as_u128() + (attempt << 32)), ..ask.clone() }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Arc<Completion> {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::LOCATION, HeaderValue::from_static("/orders/1"));
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: StoredBody::Kept(body.into()),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

pub(crate) fn resolution(op: u128, verdict: Verdict) -> Resolution {
    Resolution { op: ClaimId::from_u128(op), expect: None, verdict, retention: Retention::default() }
}

pub(crate) fn kept(body: &'static str) -> StoredBody {
    StoredBody::Kept(Bytes::from_static(body.as_bytes()))
}

#[track_caller]
pub(crate) fn applied(settled: &Settled) {
    assert_eq!(*settled, Settled::Applied);
}

/// The view of the record that a worker which lost is told.
#[track_caller]
pub(crate) fn superseded(settled: Settled) -> RecordView {
    match settled {
        Settled::Superseded(view) => *view,
        other => panic!("the late worker was not told that it is late: {other:?}"),
    }
}

/// Two views of a record that nothing has changed in between.
#[track_caller]
pub(crate) fn unchanged(before: &RecordView, after: &RecordView) {
    assert_eq!(RecordView { now: before.now, ..after.clone() }, *before, "the record was changed");
}

/// Starts many tasks at once and gathers what they answer.
pub(crate) async fn together<T: Send + 'static, Fut: Future<Output = T> + Send + 'static>(
    tasks: impl IntoIterator<Item = Fut>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let start = Arc::new(tokio::sync::Barrier::new(tasks.len()));
    let running: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        answers.push(task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    answers
}
