//! One record and what time does to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use semel_core::record::{
    ClaimId, Completion, Fence, Fingerprint, NotKept, PrincipalTag, Record, RecordId, RecordView, Recovery,
    Retention, Settings, State, StoredBody, Timestamp,
};
use semel_core::store::{Acquired, Begin, Lease, ReleaseAs};

pub(crate) struct Entry {
    pub(crate) id: RecordId,
    /// `None` once it was released as forgotten.
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) settings: Settings,
    pub(crate) principal: Option<PrincipalTag>,
    pub(crate) recovery: Recovery,
    pub(crate) attempt: u32,
    pub(crate) fence: Fence,
    pub(crate) claim: ClaimId,
    pub(crate) created: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) progress: Option<Bytes>,
    /// The last resolution that took effect: a delayed copy of it must not settle a later run.
    pub(crate) resolved: Option<ClaimId>,
    pub(crate) phase: Phase,
}

pub(crate) enum Phase {
    InFlight { lease_until: Timestamp, keep: Retention },
    Unknown { lease_until: Timestamp },
    Completed(Answer),
    Released { expires: Timestamp },
}

pub(crate) struct Answer {
    pub(crate) completion: Arc<Completion>,
    pub(crate) body_until: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) weight: Weight,
    /// Completions in their order: names this one in its shard's queue of bodies.
    pub(crate) order: u64,
}

/// What of a record counts against the bounds and the quotas.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weight {
    /// Everything but the kept body.
    pub(crate) rest: u64,
    pub(crate) body: u64,
}

impl Weight {
    pub(crate) fn total(self) -> u64 {
        self.rest.saturating_add(self.body)
    }
}

impl Entry {
    pub(crate) fn claimed(ask: &Begin, fence: Fence, now: Timestamp) -> Self {
        Self {
            id: ask.id,
            fingerprint: Some(ask.fingerprint),
            settings: Arc::clone(&ask.settings),
            principal: ask.principal,
            recovery: ask.recovery,
            attempt: 1,
            fence,
            claim: ask.claim,
            created: now,
            changed: now,
            progress: None,
            resolved: None,
            phase: Phase::leased(ask, now),
        }
    }

    /// The same request claims it again: after a release, or after a takeover's lease.
    pub(crate) fn claim_again(&mut self, ask: &Begin, fence: Fence, now: Timestamp) {
        if self.fingerprint.is_none() {
            *self = Self { resolved: self.resolved, ..Self::claimed(ask, fence, now) };
            return;
        }
        if matches!(self.phase, Phase::Released { .. }) {
            self.principal = ask.principal;
            self.recovery = ask.recovery;
        }
        self.settings = Arc::clone(&ask.settings);
        self.attempt = self.attempt.saturating_add(1);
        self.fence = fence;
        self.claim = ask.claim;
        self.changed = now;
        self.phase = Phase::leased(ask, now);
    }

    /// Whether its life is over: then it counts as absent.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    fn expires(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::InFlight { .. } | Phase::Unknown { .. } => None,
            Phase::Completed(answer) => Some(answer.expires),
            Phase::Released { expires } => Some(*expires),
        }
    }

    /// The next instant at which a claim elsewhere could gain room from it.
    pub(crate) fn frees_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Completed(answer) if answer.weight.body > 0 => Some(answer.body_until.min(answer.expires)),
            _ => self.expires(),
        }
    }

    /// Whether it is in flight with a lease that ran out under hold, and so unknown.
    pub(crate) fn lapses(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::InFlight { lease_until, .. }
            if self.recovery == Recovery::Hold && lease_until <= now)
    }

    /// Writes down that it is unknown, if its lease ran out under hold.
    pub(crate) fn lapse(&mut self, now: Timestamp) {
        if let Phase::InFlight { lease_until, .. } = self.phase
            && self.lapses(now)
        {
            self.phase = Phase::Unknown { lease_until };
            // It has been unknown since then, whenever somebody looks.
            self.changed = lease_until;
        }
    }

    /// Frees a takeover that nobody claimed.
    pub(crate) fn release_unclaimed(&mut self, now: Timestamp) {
        if let Phase::InFlight { keep, .. } = self.phase {
            self.release(ReleaseAs::Retry, keep.released, now);
        }
    }

    pub(crate) fn release(&mut self, how: ReleaseAs, life: Duration, now: Timestamp) {
        if how == ReleaseAs::Forgotten {
            self.fingerprint = None;
            self.progress = None;
        }
        self.changed = now;
        self.phase = Phase::Released { expires: now.plus(life) };
    }

    /// Whether its kept body has outlived its life.
    pub(crate) fn body_is_over(&self, now: Timestamp) -> bool {
        match &self.phase {
            Phase::Completed(answer) => answer.body_until <= now && answer.keeps_body(),
            _ => false,
        }
    }

    /// Whether nobody claimed this takeover for a record's life.
    pub(crate) fn is_unclaimed(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::InFlight { lease_until, keep } => {
                self.recovery == Recovery::Takeover && lease_until.plus(keep.record) <= now
            }
            _ => false,
        }
    }

    /// Whether this completion is the one it holds, with its body.
    pub(crate) fn holds_body(&self, order: u64) -> bool {
        matches!(&self.phase, Phase::Completed(answer) if answer.order == order && answer.weight.body > 0)
    }

    /// Its place in its shard's queue of bodies.
    pub(crate) fn queued(&self) -> Option<(u64, RecordId)> {
        match &self.phase {
            Phase::Completed(answer) if answer.weight.body > 0 => Some((answer.order, self.id)),
            _ => None,
        }
    }

    pub(crate) fn drop_body(&mut self, why: NotKept) {
        if let Phase::Completed(answer) = &mut self.phase {
            answer.drop_body(why);
        }
    }

    pub(crate) fn weight(&self) -> Weight {
        let own = ENTRY_BYTES + len(self.settings.len()) + self.progress.as_ref().map_or(0, |p| len(p.len()));
        match &self.phase {
            Phase::Completed(answer) => {
                Weight { rest: own.saturating_add(answer.weight.rest), body: answer.weight.body }
            }
            _ => Weight { rest: own, body: 0 },
        }
    }

    pub(crate) fn acquired(&self) -> Acquired {
        Acquired {
            lease: Lease::new(self.id, self.claim, self.fence),
            attempt: self.attempt,
            progress: self.progress.clone(),
        }
    }

    pub(crate) fn record(&self, now: Timestamp) -> Option<Record> {
        match &self.phase {
            Phase::Completed(answer) => {
                Some(Record { view: self.view(now), completion: Arc::clone(&answer.completion) })
            }
            _ => None,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::InFlight { .. } => State::InFlight,
            Phase::Unknown { .. } => State::Unknown,
            Phase::Completed(_) => State::Completed,
            Phase::Released { .. } => State::Released,
        }
    }

    /// As every reader sees it; [`lapse`](Self::lapse) comes first.
    pub(crate) fn view(&self, now: Timestamp) -> RecordView {
        let (lease_until, answer) = match &self.phase {
            Phase::InFlight { lease_until, .. } | Phase::Unknown { lease_until } => {
                (Some(*lease_until), None)
            }
            Phase::Completed(answer) => (None, Some(answer)),
            Phase::Released { .. } => (None, None),
        };
        RecordView {
            id: self.id,
            state: self.state(),
            fingerprint: self.fingerprint,
            settings: Arc::clone(&self.settings),
            principal: self.principal,
            recovery: self.recovery,
            attempt: self.attempt,
            fence: self.fence,
            claim: self.claim,
            lease_until,
            created: self.created,
            changed: self.changed,
            expires: self.expires(),
            status: answer.and_then(|answer| answer.completion.response.as_ref().map(|kept| kept.status)),
            // A list drops no bodies by the way, and shows the same as who looks at one record.
            body_bytes: answer.filter(|_| !self.body_is_over(now)).map_or(0, |answer| answer.weight.body),
            progress: self.progress.clone(),
            now,
        }
    }
}

impl Phase {
    fn leased(ask: &Begin, now: Timestamp) -> Self {
        Self::InFlight { lease_until: now.plus(ask.lease_for), keep: ask.retention }
    }
}

impl Answer {
    pub(crate) fn new(completion: Arc<Completion>, keep: &Retention, order: u64, now: Timestamp) -> Self {
        let expires = now.plus(keep.record);
        let weight = weigh(&completion);
        Self { completion, body_until: now.plus(keep.body), expires, weight, order }
    }

    pub(crate) fn keeps_body(&self) -> bool {
        let response = self.completion.response.as_ref();
        response.is_some_and(|kept| matches!(kept.body, StoredBody::Kept(_)))
    }

    pub(crate) fn drop_body(&mut self, why: NotKept) {
        // Whoever is sending the old answer keeps it whole.
        if let Some(response) = &mut Arc::make_mut(&mut self.completion).response {
            response.body = StoredBody::NotKept(why);
        }
        self.weight.body = 0;
    }
}

/// What a completion weighs.
pub(crate) fn weigh(completion: &Completion) -> Weight {
    let mut rest = len(size_of::<Completion>()) + completion.reference.as_ref().map_or(0, |r| len(r.len()));
    let mut body = 0;
    if let Some(response) = &completion.response {
        rest += fields(&response.headers) + response.trailers.as_ref().map_or(0, fields);
        if let StoredBody::Kept(bytes) = &response.body {
            body = len(bytes.len());
        }
    }
    Weight { rest, body }
}

/// What a record weighs before it has settings, progress or an answer.
///
/// The table is between half and seven eighths full, and grows by doubling.
pub(crate) const ENTRY_BYTES: u64 = 512;
const _: () = assert!(size_of::<Entry>() * 8 / 7 + 64 <= 512, "a record weighs more than is counted for it");

fn fields(map: &HeaderMap) -> u64 {
    // The map's own bookkeeping for a field, beside its name and value.
    const FIELD_BYTES: usize = 64;
    map.iter().map(|(name, value)| len(name.as_str().len() + value.len() + FIELD_BYTES)).sum()
}

pub(crate) fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
