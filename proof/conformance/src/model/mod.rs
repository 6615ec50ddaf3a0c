//! What a store is, without a store: the contract as a small sequential model, pure and without I/O.
//!
//! [`Slot`] is one key, [`Model`] all of them. [`Slot::after`] takes a [`Call`] and what it was answered, and says what the key may be
//! afterwards, or which answer the contract demands instead. Time is a number of milliseconds, moved by
//! [`Slot::advance`] and by nothing else. [`sequences`](crate::sequences) holds whole stores against it,
//! [`histories`](crate::histories) each key of concurrent ones.
//!
//! A call whose answer was lost is given no answer: the model then says what the key is if the call took effect. The
//! number of a claim that nobody was told is not known, only that it is higher than all before; the first answer that
//! shows it pins it.
//!
//! # What the contract leaves open
//!
//! The model demands nothing about: the settings a record shows; the fingerprint's and principal's traces on a record
//! that binds nothing; whether a record counts against a quota that was claimed without one; whether a resolution is still known once its record was bound to nothing; an instant to the
//! last [`Clock::tolerance`].

mod answer;
mod begin;
mod settle;
mod store;
mod view;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{
    ClaimId, Completion, Fingerprint, PrincipalTag, RecordId, Recovery, Retention, State, StoredBody,
};
use semel_core::store::{AnyStore, Begin, Delete, LeaseRef, ReleaseAs, ReleaseBy, Resolution, StoreError};

pub use answer::{Answer, Refusal, Room};
pub use store::Model;

/// A call on one record.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// [`Store::begin`](semel_core::store::Store::begin).
    Begin(Box<Begin>),
    /// [`Store::renew`](semel_core::store::Store::renew), of one lease.
    Renew(LeaseRef, Duration),
    /// [`Store::complete`](semel_core::store::Store::complete).
    Complete(LeaseRef, Arc<Completion>, Retention),
    /// [`Store::release`](semel_core::store::Store::release).
    Release(ReleaseBy, ReleaseAs, Retention),
    /// [`Store::abandon`](semel_core::store::Store::abandon).
    Abandon(LeaseRef),
    /// [`Store::note`](semel_core::store::Store::note).
    Note(LeaseRef, Bytes),
    /// [`Store::inspect`](semel_core::store::Store::inspect).
    Inspect(RecordId),
    /// [`Store::read`](semel_core::store::Store::read).
    Read(RecordId),
    /// [`Store::resolve`](semel_core::store::Store::resolve).
    Resolve(RecordId, Resolution),
    /// [`Store::delete`](semel_core::store::Store::delete).
    Delete(RecordId, Delete),
}

impl Call {
    /// Which record it is about.
    pub fn id(&self) -> RecordId {
        match self {
            Self::Begin(ask) => ask.id,
            Self::Renew(lease, _)
            | Self::Complete(lease, ..)
            | Self::Release(ReleaseBy::Lease(lease), ..)
            | Self::Abandon(lease)
            | Self::Note(lease, _) => lease.id,
            Self::Release(ReleaseBy::Claim(id, _), ..)
            | Self::Inspect(id)
            | Self::Read(id)
            | Self::Resolve(id, _)
            | Self::Delete(id, _) => *id,
        }
    }

    /// Sends it to a store.
    pub async fn send(&self, store: &AnyStore) -> Result<Answer, StoreError> {
        Ok(match self {
            Self::Begin(ask) => Answer::Begun(store.begin(ask).await?),
            Self::Renew(lease, lease_for) => {
                let mut settled = store.renew(&[*lease], *lease_for).await?;
                assert_eq!(settled.len(), 1, "one answer a lease");
                Answer::Settled(settled.remove(0))
            }
            Self::Complete(lease, completion, keep) => {
                Answer::Settled(store.complete(*lease, completion, keep).await?)
            }
            Self::Release(by, how, keep) => Answer::Settled(store.release(*by, *how, keep).await?),
            Self::Abandon(lease) => Answer::Settled(store.abandon(*lease).await?),
            Self::Note(lease, progress) => Answer::Settled(store.note(*lease, progress).await?),
            Self::Inspect(id) => Answer::View(store.inspect(id).await?),
            Self::Read(id) => Answer::Read(store.read(id).await?),
            Self::Resolve(id, resolution) => Answer::Resolved(store.resolve(id, resolution).await?),
            Self::Delete(id, which) => Answer::Deleted(store.delete(id, *which).await?),
        })
    }
}

/// The time of a model: milliseconds of the store's clock, as the model has moved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    millis: i64,
}

impl Clock {
    /// How far an instant that a store shows may be from the model's: a minute. It is what may really pass, on a clock
    /// that also runs by itself, while a test is under way.
    pub const fn tolerance() -> Duration {
        Duration::from_mins(1)
    }

    /// Shows what a store's clock shows.
    pub const fn at(millis: i64) -> Self {
        Self { millis }
    }

    /// Milliseconds.
    pub const fn millis(self) -> i64 {
        self.millis
    }

    fn after(self, by: Duration) -> i64 {
        self.millis.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
    }
}

/// One key of a store: a record or none, its time, and the highest fence that was ever seen on it.
///
/// Always as every reader sees it: a lease that is over under hold *is* unknown here, and a record whose life is over
/// is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    clock: Clock,
    top: u64,
    kept: Option<Kept>,
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// `None`: bound to nothing.
    fingerprint: Option<Fingerprint>,
    principal: Option<PrincipalTag>,
    recovery: Recovery,
    attempt: u32,
    fence: Number,
    claim: ClaimId,
    created: i64,
    changed: i64,
    progress: Option<Bytes>,
    /// The last resolution that took effect, and whether a store has to know it still.
    resolved: Option<(ClaimId, bool)>,
    /// Whether every claim of it had a quota.
    limited: bool,
    phase: Phase,
}

/// A fence, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    Known(u64),
    /// Of a claim whose answer was lost: higher than this.
    Above(u64),
}

impl Number {
    /// A fence that nobody was told is nobody's lease.
    fn is(self, lease: LeaseRef) -> bool {
        self == Self::Known(lease.fence.get())
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    InFlight { until: i64, keep: Retention },
    Unknown { until: i64 },
    Completed { completion: Arc<Completion>, body_until: i64, expires: i64 },
    Released { expires: i64 },
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fence.hash(state);
        self.claim.hash(state);
        self.attempt.hash(state);
        self.progress.hash(state);
        self.state().hash(state);
        if let Phase::Completed { completion, .. } = &self.phase {
            kept_body(completion).hash(state);
        }
    }
}

impl Slot {
    /// A key that was never used.
    pub const fn new(clock: Clock) -> Self {
        Self { clock, top: 0, kept: None }
    }

    /// Its time.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The state of its record; `None` if there is none.
    pub fn state(&self) -> Option<State> {
        self.kept.as_ref().map(Kept::state)
    }

    /// Moves its time.
    pub fn advance(&mut self, by: Duration) {
        self.clock.millis = self.clock.after(by);
        let now = self.clock.millis;
        let Some(kept) = &mut self.kept else { return };
        match kept.phase {
            Phase::InFlight { until, .. } if kept.recovery == Recovery::Hold && until <= now => {
                kept.phase = Phase::Unknown { until };
                kept.changed = until;
            }
            Phase::Completed { expires, .. } | Phase::Released { expires } if expires <= now => {
                self.kept = None;
            }
            _ => {}
        }
    }

    /// What a sweep that gets to this key makes of it. `true`: it released a takeover that nobody claimed for a
    /// record's life. All else that a sweep does cannot be seen from outside.
    pub fn sweep(&mut self) -> bool {
        let clock = self.clock;
        let Some(kept) = &mut self.kept else { return false };
        let Phase::InFlight { until, keep } = kept.phase else { return false };
        let over = Clock::at(until).after(keep.record) <= clock.millis;
        if kept.recovery != Recovery::Takeover || !over {
            return false;
        }
        kept.changed = clock.millis;
        kept.phase = Phase::Released { expires: clock.after(keep.released) };
        self.advance(Duration::ZERO);
        true
    }

    /// What the key may be after a call that was answered so; with no answer, what it is if the call took effect.
    ///
    /// There is more than one where the contract leaves a choice that the answer does not tell.
    pub fn after(&self, call: &Call, answer: Option<&Answer>, room: Room) -> Result<Vec<Self>, Refusal> {
        let (mut after, expected) = match call {
            Call::Begin(ask) => self.begin(ask, answer, room),
            Call::Renew(lease, lease_for) => self.renew(*lease, *lease_for),
            Call::Complete(lease, completion, keep) => self.complete(*lease, completion, keep),
            Call::Release(by, how, keep) => self.release(*by, *how, keep),
            Call::Abandon(lease) => self.abandon(*lease),
            Call::Note(lease, progress) => self.note(*lease, progress),
            Call::Inspect(_) => (self.clone(), answer::Expected::View),
            Call::Read(_) => (self.clone(), answer::Expected::Read),
            Call::Resolve(_, resolution) => return self.resolve(resolution, answer),
            Call::Delete(_, which) => self.delete(*which),
        };
        after.advance(Duration::ZERO);
        if let Some(answer) = answer {
            expected.admits(answer, &mut after)?;
        }
        Ok(vec![after])
    }

    fn next_number(&mut self) -> Number {
        Number::Above(self.top)
    }
}

impl Kept {
    fn state(&self) -> State {
        match self.phase {
            Phase::InFlight { .. } => State::InFlight,
            Phase::Unknown { .. } => State::Unknown,
            Phase::Completed { .. } => State::Completed,
            Phase::Released { .. } => State::Released,
        }
    }
}

fn kept_body(completion: &Completion) -> Option<&Bytes> {
    match &completion.response.as_ref()?.body {
        StoredBody::Kept(bytes) => Some(bytes),
        StoredBody::NotKept(_) => None,
    }
}
