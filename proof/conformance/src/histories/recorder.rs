//! Callers at work on the same keys at once, and what they saw.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use semel_core::record::{ClaimId, RecordId, Recovery, Retention};
use semel_core::store::{
    AnyStore, Begin, Begun, Delete, LeaseRef, ReleaseAs, ReleaseBy, Resolution, StoreError, Verdict,
};

use super::checker::{Event, What};
use crate::kit::{answer, ask, id, principal, print};
use crate::model::{Answer, Call};

/// How far time moves between two rounds. Leases and lives end a quarter of it and more away from any such move.
pub(crate) const TICK: Duration = Duration::from_hours(1);

/// What happened to each key of a batch.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: AtomicU64,
    fresh: AtomicU64,
    keys: Mutex<HashMap<RecordId, Key>>,
}

/// What callers of one key know of each other: a worker that was superseded goes on with its old lease.
#[derive(Default)]
struct Key {
    events: Vec<Event>,
    leases: Vec<LeaseRef>,
    asks: Vec<Begin>,
    resolutions: Vec<Resolution>,
}

impl Recorder {
    /// A key that is used from here on.
    pub(crate) fn open(&self, id: RecordId) {
        self.keys().entry(id).or_default();
    }

    /// One caller's calls on one key.
    pub(crate) async fn call(
        &self,
        store: &AnyStore,
        caller: usize,
        id: RecordId,
        rng: &mut Rng,
    ) -> Result<(), StoreError> {
        let call = self.choose(id, rng);
        let sent = self.tick();
        let answered = call.send(store).await;
        let returned = self.tick();
        let mut keys = self.keys();
        let Some(key) = keys.get_mut(&id) else { return Ok(()) };
        match answered {
            Ok(answer) => {
                if let Answer::Begun(Begun::Acquired(acquired)) = &answer {
                    key.leases.push(acquired.lease.as_ref());
                }
                let what = What::Call(call, Some(answer));
                key.events.push(Event { caller, sent, returned: Some(returned), what });
                Ok(())
            }
            // It may have taken effect, or may yet: that is what these kinds mean.
            Err(error) => {
                key.events.push(Event { caller, sent, returned: None, what: What::Call(call, None) });
                Err(error)
            }
        }
    }

    /// Sweeps, while others call.
    pub(crate) async fn sweep(&self, store: &AnyStore) -> Result<(), StoreError> {
        let sent = self.tick();
        let swept = store.sweep(1000).await;
        let returned = swept.is_ok().then(|| self.tick());
        self.everywhere(sent, returned, || What::Sweep);
        swept.map(|_| ())
    }

    /// Time passes while nobody calls.
    pub(crate) async fn advance(&self, by: Duration, advance: impl Future<Output = ()>) {
        let sent = self.tick();
        advance.await;
        let returned = self.tick();
        self.everywhere(sent, Some(returned), || What::Advance(by));
    }

    /// The history of each key, in the order in which calls were sent.
    pub(crate) fn histories(&self) -> Vec<(RecordId, Vec<Event>)> {
        let mut histories: Vec<_> = self.keys().drain().map(|(id, key)| (id, key.events)).collect();
        histories.sort_by_key(|(id, _)| *id);
        for (_, events) in &mut histories {
            events.sort_by_key(|event| event.sent);
        }
        histories
    }

    fn everywhere(&self, sent: u64, returned: Option<u64>, what: impl Fn() -> What) {
        for key in self.keys().values_mut() {
            key.events.push(Event { caller: usize::MAX, sent, returned, what: what() });
        }
    }

    fn choose(&self, id: RecordId, rng: &mut Rng) -> Call {
        let mut keys = self.keys();
        let key = keys.entry(id).or_default();
        // The last lease mostly, and one that was lost often enough.
        let lease = match key.leases.as_slice() {
            [] => None,
            [.., last] if rng.u8(..3) > 0 => Some(*last),
            leases => Some(leases[rng.usize(..leases.len())]),
        };
        let fresh = || self.0.fresh.fetch_add(1, Ordering::Relaxed) + 1;
        match (rng.u8(..32), lease) {
            (9..=13, Some(lease)) => Call::Complete(lease, answer(format!("answer {}", fresh())), lives()),
            (14..=17, Some(lease)) => {
                let how = if rng.u8(..4) == 0 { ReleaseAs::Forgotten } else { ReleaseAs::Retry };
                Call::Release(ReleaseBy::Lease(lease), how, lives())
            }
            (18..=19, _) if !key.asks.is_empty() => {
                let ask = &key.asks[rng.usize(..key.asks.len())];
                Call::Release(ReleaseBy::Claim(id, ask.claim), ReleaseAs::Retry, lives())
            }
            (20..=21, Some(lease)) => Call::Abandon(lease),
            (22, Some(lease)) => Call::Renew(lease, TICK * u32::from(rng.u8(..3)) + TICK / 4),
            (23, Some(lease)) => Call::Note(lease, Bytes::from(format!("step {}", fresh()))),
            (24, _) => Call::Read(id),
            (25..=26, _) => Call::Inspect(id),
            (27, _) if !key.resolutions.is_empty() => {
                Call::Resolve(id, key.resolutions[rng.usize(..key.resolutions.len())].clone())
            }
            (27..=28, _) => {
                let verdict =
                    if rng.bool() { Verdict::Applied(answer("resolved")) } else { Verdict::NotApplied };
                let op = ClaimId::from_u128(u128::from(fresh()));
                let resolution = Resolution { op, expect: None, verdict, retention: lives() };
                key.resolutions.push(resolution.clone());
                Call::Resolve(id, resolution)
            }
            (29, _) => Call::Delete(id, if rng.u8(..3) == 0 { Delete::Any } else { Delete::Settled }),
            // A claim that is sent again, since its answer was lost or late.
            (7..=8, _) if !key.asks.is_empty() => {
                Call::Begin(Box::new(key.asks[rng.usize(..key.asks.len())].clone()))
            }
            _ => {
                let ask = Begin {
                    id,
                    fingerprint: print(u8::from(rng.u8(..12) == 0)),
                    principal: Some(principal(u8::from(rng.u8(..12) == 0))),
                    claim: ClaimId::from_u128(u128::from(fresh())),
                    lease_for: TICK * u32::from(rng.u8(1..3)) + TICK / 4,
                    recovery: if rng.bool() { Recovery::Hold } else { Recovery::Takeover },
                    retention: lives(),
                    ..ask(0)
                };
                key.asks.push(ask.clone());
                Call::Begin(Box::new(ask))
            }
        }
    }

    fn tick(&self) -> u64 {
        self.0.now.fetch_add(1, Ordering::SeqCst)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<RecordId, Key>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn key(seed: u64, batch: u32, number: u64) -> RecordId {
    id(seed ^ u64::from(batch) << 16 ^ number)
}

fn lives() -> Retention {
    Retention { body: TICK + TICK / 3, record: TICK * 2 + TICK / 3, released: TICK + TICK / 3 }
}
