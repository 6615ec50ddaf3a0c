//! Records of the doctor's own: made, replayed, measured, and removed again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{AnyStore, Begin, Begun, Delete, Deleted, Finding, LeaseRef, Settled, StoreError};

/// The doctor's records end by themselves soon, should it be killed before it removes them.
const LIFE: Duration = Duration::from_mins(2);
/// How often the clock is read. The shortest of these round trips counts.
const READINGS: u32 = 8;
/// What a proof that fails means.
const REPORT: &str = "do not use this store: it breaks the contract; report it with this output";

/// A random name under which all records of one examination lie.
pub(super) struct Test<'a> {
    store: &'a AnyStore,
    base: u128,
}

/// The store's clock against this machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// How far the store's clock is ahead, in milliseconds.
    pub(super) ahead: i64,
    /// Half the round trip, and the millisecond that the clock is read to.
    pub(super) uncertainty: i64,
}

/// How long steps took.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    pub(super) claims: Vec<Duration>,
    pub(super) completions: Vec<Duration>,
}

impl<'a> Test<'a> {
    pub(super) fn new(store: &'a AnyStore) -> Result<Self, Finding> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            let what = format!("the system gives no random numbers: {error}");
            Finding::unusable("self-test", what, "run it on another machine")
        })?;
        Ok(Self { store, base: u128::from_be_bytes(bytes) })
    }

    /// Claims, completes, and replays: the same bytes to an equal request, a refusal to another one.
    pub(super) async fn prove_replay(&self) -> Result<Clock, Finding> {
        let id = self.id(0);
        let proved = self.prove(&id).await;
        if proved.is_err() {
            // Whatever is left of it: the proof's own error says more than this one's.
            let _left = self.store.delete(&id, Delete::Any).await;
        }
        proved
    }

    async fn prove(&self, id: &RecordId) -> Result<Clock, Finding> {
        let (ask, answer) = (self.ask(*id, 1), answer());
        let lease = granted(self.begin(&ask).await?)?;
        let again = Begin { claim: ClaimId::from_u128(self.base ^ 2), ..ask.clone() };
        if !matches!(self.begin(&again).await?, Begun::Held { .. }) {
            return Err(broken("a second claim was not told that the first one is running"));
        }
        if self.store.complete(lease, &answer, &ask.retention).await.map_err(|e| Finding::from(&e))?
            != Settled::Applied
        {
            return Err(broken("a completion under the claim's own lease did not apply"));
        }
        match self.begin(&again).await? {
            Begun::Settled(record) if record.completion.response == answer.response => {}
            Begun::Settled(_) => return Err(broken("a replay gave another answer than was recorded")),
            _ => return Err(broken("an equal request got no replay of a completed record")),
        }
        let other = Begin { fingerprint: Fingerprint::from_bytes([9; 32]), ..again };
        if !matches!(self.begin(&other).await?, Begun::Differs(_)) {
            return Err(broken("another request under the same key was not refused"));
        }
        let clock = self.clock(id).await?;
        match self.store.delete(id, Delete::Settled).await.map_err(|error| Finding::from(&error))? {
            Deleted::Gone => {}
            _ => return Err(broken("a completed record could not be removed")),
        }
        match self.store.inspect(id).await.map_err(|error| Finding::from(&error))? {
            None => Ok(clock),
            Some(_) => Err(broken("a removed record is still there")),
        }
    }

    async fn begin(&self, ask: &Begin) -> Result<Begun, Finding> {
        self.store.begin(ask).await.map_err(|error| Finding::from(&error))
    }

    /// The store writes its own time into each view of a record.
    async fn clock(&self, id: &RecordId) -> Result<Clock, Finding> {
        let mut best: Option<(Duration, Clock)> = None;
        for _ in 0..READINGS {
            let (here, sent) = (SystemTime::now(), Instant::now());
            let view = self.store.inspect(id).await.map_err(|error| Finding::from(&error))?;
            let took = sent.elapsed();
            let Some(view) = view else { return Err(broken("a completed record is not there")) };
            let middle = here.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2;
            let millis = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
            let clock = Clock {
                ahead: view.now.as_millis().saturating_sub(millis(middle)),
                uncertainty: millis(took / 2) + 1,
            };
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, clock));
            }
        }
        best.map(|(_, clock)| clock).ok_or_else(|| broken("the clock was not read"))
    }

    /// Times claims of new keys and their completions, one after the other.
    pub(super) async fn measure(&self, rounds: u32) -> Result<Latency, StoreError> {
        let mut latency = Latency::default();
        let answer = answer();
        for round in 1..=rounds {
            let id = self.id(round);
            let ask = self.ask(id, u128::from(round) + 2);
            let sent = Instant::now();
            let begun = self.store.begin(&ask).await;
            latency.claims.push(sent.elapsed());
            if let Begun::Acquired(acquired) = begun? {
                let lease = acquired.lease.as_ref();
                let sent = Instant::now();
                let settled = self.store.complete(lease, &answer, &ask.retention).await;
                latency.completions.push(sent.elapsed());
                let removed = self.store.delete(&id, Delete::Any).await;
                let (_settled, _removed) = (settled?, removed?);
            }
        }
        Ok(latency)
    }

    fn id(&self, number: u32) -> RecordId {
        self.store.secret().record_id("semel doctor", None, None, &format!("{:032x}-{number}", self.base))
    }

    fn ask(&self, id: RecordId, number: u128) -> Begin {
        Begin {
            id,
            fingerprint: Fingerprint::from_bytes([7; 32]),
            settings: "doctor".into(),
            principal: None,
            claim: ClaimId::from_u128(self.base ^ number),
            lease_for: LIFE,
            // Under takeover a record that is left behind ends by itself.
            recovery: Recovery::Takeover,
            retention: Retention { body: LIFE, record: LIFE, released: LIFE },
            minted: None,
            quota: None,
            request: None,
        }
    }
}

fn granted(begun: Begun) -> Result<LeaseRef, Finding> {
    match begun {
        Begun::Acquired(acquired) => Ok(acquired.lease.as_ref()),
        _ => Err(broken("a new key was not granted to its first claim")),
    }
}

fn broken(what: &str) -> Finding {
    Finding::unusable("self-test", what, REPORT)
}

/// Every byte value, and a field twice: what a store may not change.
fn answer() -> Arc<Completion> {
    let mut headers = HeaderMap::new();
    headers.append("x-semel-doctor", HeaderValue::from_static("one"));
    headers.append("x-semel-doctor", HeaderValue::from_static("two"));
    let body: Vec<u8> = (0..=u8::MAX).collect();
    let response = StoredResponse {
        status: StatusCode::CREATED,
        headers,
        body: StoredBody::Kept(Bytes::from(body)),
        trailers: None,
        origin: None,
    };
    Arc::new(Completion { response: Some(response), reference: None })
}
