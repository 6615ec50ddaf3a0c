//! One record, and what each step makes of it: the table in the documentation of `Store::begin`, and the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{
    ClaimId, Completion, Fence, NotKept, Record, RecordView, Recovery, Retention, State, StoredBody,
    Timestamp, codec,
};
use semel_core::store::{
    Acquired, Begin, Begun, Differs, Lease, LeaseRef, ReleaseAs, ReleaseBy, Resolution, Swept, Verdict,
};

/// The view that readers are shown, and what they are not.
pub(crate) struct Row {
    view: RecordView,
    completion: Option<Arc<Completion>>,
    body_until: Option<Timestamp>,
    /// As its last claim set them, for a takeover that nobody claims.
    lives: Retention,
    /// The last resolution that took effect.
    resolved: Option<ClaimId>,
}

impl Row {
    pub(crate) fn claimed(ask: &Begin, now: Timestamp, fence: Fence) -> Self {
        let view = RecordView {
            id: ask.id,
            state: State::InFlight,
            fingerprint: Some(ask.fingerprint),
            settings: Arc::clone(&ask.settings),
            principal: ask.principal,
            recovery: ask.recovery,
            attempt: 1,
            fence,
            claim: ask.claim,
            lease_until: Some(now.plus(ask.lease_for)),
            created: now,
            changed: now,
            expires: None,
            status: None,
            body_bytes: 0,
            progress: None,
            now,
        };
        Self { view, completion: None, body_until: None, lives: ask.retention, resolved: None }
    }

    /// The rows of the table for a record that is there.
    pub(crate) fn claim_again(
        &mut self,
        ask: &Begin,
        now: Timestamp,
        fence: impl FnOnce() -> Fence,
    ) -> Begun {
        let view = &self.view;
        let same_principal = view.state == State::Released || view.principal == ask.principal;
        if view.fingerprint.is_some_and(|print| print != ask.fingerprint || !same_principal) {
            let (fingerprint, settings) = (view.fingerprint, Arc::clone(&view.settings));
            return Begun::Differs(Differs { fingerprint, settings, same_principal });
        }
        match view.state {
            State::Completed => {
                if let Some(record) = self.record(now) {
                    return Begun::Settled(record);
                }
            }
            State::Unknown => return Begun::Unknown(self.view(now)),
            State::InFlight if view.lease_until > Some(now) && view.claim == ask.claim => {
                return Begun::Acquired(self.acquired());
            }
            State::InFlight if view.lease_until > Some(now) => {
                return Begun::Held { remaining: self.view(now).lease_remaining() };
            }
            State::Released if view.claim == ask.claim => return Begun::Stale,
            State::InFlight | State::Released => {}
        }
        let before = std::mem::replace(self, Self::claimed(ask, now, fence()));
        self.resolved = before.resolved;
        if before.view.fingerprint.is_some() {
            self.view.attempt = before.view.attempt.saturating_add(1);
            self.view.created = before.view.created;
            self.view.progress = before.view.progress;
            if before.view.state == State::InFlight {
                self.view.recovery = before.view.recovery;
            }
        }
        Begun::Acquired(self.acquired())
    }

    pub(crate) fn renew(&mut self, lease: LeaseRef, lease_for: Duration, now: Timestamp) -> bool {
        let its_own = self.view.fence == lease.fence && self.view.state == State::InFlight;
        if its_own {
            self.view.lease_until = self.view.lease_until.max(Some(now.plus(lease_for)));
        }
        its_own
    }

    pub(crate) fn complete(
        &mut self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
        now: Timestamp,
    ) -> bool {
        if self.view.fence != lease.fence || self.view.state == State::Released {
            return false;
        }
        if self.view.state != State::Completed {
            self.completed(completion, keep, now);
        }
        true
    }

    pub(crate) fn release(
        &mut self,
        by: ReleaseBy,
        how: ReleaseAs,
        keep: &Retention,
        now: Timestamp,
    ) -> bool {
        let its_own = match by {
            ReleaseBy::Lease(lease) => self.view.fence == lease.fence,
            ReleaseBy::Claim(_, claim) => self.view.claim == claim,
        };
        if !its_own || self.view.state == State::Completed {
            return false;
        }
        if self.view.state != State::Released {
            self.released(keep, now);
            if how == ReleaseAs::Forgotten {
                self.view.fingerprint = None;
                self.view.progress = None;
            }
        }
        true
    }

    pub(crate) fn abandon(&mut self, lease: LeaseRef, now: Timestamp) -> bool {
        if self.view.fence != lease.fence {
            return false;
        }
        if self.view.state == State::InFlight && self.view.recovery == Recovery::Hold {
            self.view.state = State::Unknown;
            self.view.changed = now;
        }
        matches!(self.view.state, State::InFlight | State::Unknown)
    }

    pub(crate) fn note(&mut self, lease: LeaseRef, progress: &Bytes) -> bool {
        let its_own = self.view.fence == lease.fence && self.view.state == State::InFlight;
        if its_own {
            self.view.progress = Some(progress.clone());
        }
        its_own
    }

    pub(crate) fn resolve(&mut self, by: &Resolution, now: Timestamp, fence: impl FnOnce() -> Fence) -> bool {
        if self.resolved == Some(by.op) {
            return true;
        }
        let expected = by.expect.is_none_or(|fence| fence == self.view.fence);
        if self.view.state != State::Unknown || !expected {
            return false;
        }
        self.resolved = Some(by.op);
        self.view.fence = fence();
        match &by.verdict {
            Verdict::Applied(completion) => self.completed(completion, &by.retention, now),
            Verdict::NotApplied => self.released(&by.retention, now),
        }
        true
    }

    /// Whether its life is over: then it counts as absent.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.view.expires.is_some_and(|expires| expires <= now)
    }

    /// A lease that ran out under hold is unknown, and has been since then.
    pub(crate) fn lapse(&mut self, now: Timestamp) {
        if self.lapses(now) {
            self.view.state = State::Unknown;
            self.view.changed = self.view.lease_until.unwrap_or(now);
        }
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.is_over(now) || self.body_is_over(now) || self.lapses(now) || self.is_unclaimed(now)
    }

    /// Does what is due. `false`: the record is to be removed.
    pub(crate) fn sweep(&mut self, now: Timestamp, swept: &mut Swept) -> bool {
        if self.is_over(now) {
            swept.removed += 1;
            return false;
        }
        if self.body_is_over(now) {
            swept.bodies += 1;
            self.completion = self.completion_at(now);
            self.body_until = None;
        } else if self.lapses(now) {
            swept.unknown += 1;
            self.lapse(now);
        } else {
            swept.released += 1;
            let lives = self.lives;
            self.released(&lives, now);
        }
        true
    }

    pub(crate) fn acquired(&self) -> Acquired {
        let lease = Lease::new(self.view.id, self.view.claim, self.view.fence);
        Acquired { lease, attempt: self.view.attempt, progress: self.view.progress.clone() }
    }

    pub(crate) fn record(&self, now: Timestamp) -> Option<Record> {
        Some(Record { view: self.view(now), completion: self.completion_at(now)? })
    }

    pub(crate) fn view(&self, now: Timestamp) -> RecordView {
        let completion = self.completion_at(now);
        let response = completion.as_ref().and_then(|completion| completion.response.as_ref());
        let body_bytes = match response.map(|response| &response.body) {
            Some(StoredBody::Kept(body)) => u64::try_from(body.len()).unwrap_or(u64::MAX),
            _ => 0,
        };
        let status = response.map(|response| response.status);
        RecordView { status, body_bytes, now, ..self.view.clone() }
    }

    /// The answer, without a body whose life is over.
    fn completion_at(&self, now: Timestamp) -> Option<Arc<Completion>> {
        let completion = self.completion.as_ref()?;
        if self.body_is_over(now) {
            return Some(Arc::new(codec::without_body(completion, NotKept::Expired)));
        }
        Some(Arc::clone(completion))
    }

    fn completed(&mut self, completion: &Arc<Completion>, keep: &Retention, now: Timestamp) {
        self.settled(State::Completed, now.plus(keep.record), now);
        self.view.progress = None;
        let response = completion.response.as_ref();
        let kept = response.is_some_and(|response| matches!(response.body, StoredBody::Kept(_)));
        self.body_until = kept.then(|| now.plus(keep.body));
        self.completion = Some(Arc::clone(completion));
    }

    fn released(&mut self, keep: &Retention, now: Timestamp) {
        self.settled(State::Released, now.plus(keep.released), now);
    }

    fn settled(&mut self, state: State, expires: Timestamp, now: Timestamp) {
        (self.view.state, self.view.changed) = (state, now);
        (self.view.expires, self.view.lease_until) = (Some(expires), None);
    }

    fn lapses(&self, now: Timestamp) -> bool {
        self.view.state == State::InFlight
            && self.view.recovery == Recovery::Hold
            && self.view.lease_until <= Some(now)
    }

    fn body_is_over(&self, now: Timestamp) -> bool {
        self.body_until.is_some_and(|until| until <= now)
    }

    /// Whether nobody claimed this takeover for a record's life.
    fn is_unclaimed(&self, now: Timestamp) -> bool {
        self.view.state == State::InFlight
            && self.view.recovery == Recovery::Takeover
            && self.view.lease_until.is_some_and(|until| until.plus(self.lives.record) <= now)
    }
}
