//! A record as it is written.

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, RecordView, Recovery, Settings, State, Timestamp,
};

/// A record as a store has written it, without its answer. What it means depends on the moment: its methods take the
/// store's `now`, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub id: RecordId,
    /// The state that was written; [`Row::state_at`] is what it means.
    pub written: State,
    /// What happens when its lease is over.
    pub recovery: Recovery,
    /// 1 for the first run, one more for each takeover or rerun.
    pub attempt: u32,
    /// The number of its last claim or resolution.
    pub fence: Fence,
    /// The last claimant's own number.
    pub claim: ClaimId,
    /// The last resolution's own number.
    pub op: Option<ClaimId>,
    /// The print of its request; `None` on a released record that binds nothing.
    pub fingerprint: Option<Fingerprint>,
    /// The settings that made the print.
    pub settings: Settings,
    /// Who claimed it.
    pub principal: Option<PrincipalTag>,
    /// When it was first claimed.
    pub created: Timestamp,
    /// When it last changed state, or was claimed again.
    pub changed: Timestamp,
    /// When the lease ends or ended.
    pub lease_until: Option<Timestamp>,
    /// When the record ends; `None` in flight and unknown.
    pub expires: Option<Timestamp>,
    /// When the kept body ends; `None` where there is none.
    pub body_until: Option<Timestamp>,
    /// Status of the kept answer.
    pub status: Option<StatusCode>,
    /// Bytes of the kept body.
    pub body_bytes: u64,
    /// What the steps of an unfinished run have recorded.
    pub progress: Option<Bytes>,
}

impl Row {
    /// Whether its life is over, so that it is as if it were not there.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether its lease has ended. A record without one has no lease to wait for.
    pub fn lease_over(&self, now: Timestamp) -> bool {
        self.lease_until.is_none_or(|until| until <= now)
    }

    /// A lease that is over under hold is unknown, whether or not that was written.
    pub fn state_at(&self, now: Timestamp) -> State {
        match (self.written, self.recovery) {
            (State::InFlight, Recovery::Hold) if self.lease_over(now) => State::Unknown,
            (state, _) => state,
        }
    }

    /// Whether the body was dropped by time, swept or not.
    pub fn body_over(&self, now: Timestamp) -> bool {
        self.body_until.is_some_and(|until| until <= now)
    }

    /// As readers see it.
    pub fn view(&self, now: Timestamp) -> RecordView {
        let state = self.state_at(now);
        let changed = match (self.written, state, self.lease_until) {
            (State::InFlight, State::Unknown, Some(ended)) => ended,
            _ => self.changed,
        };
        RecordView {
            id: self.id,
            state,
            fingerprint: self.fingerprint,
            settings: self.settings.clone(),
            principal: self.principal,
            recovery: self.recovery,
            attempt: self.attempt,
            fence: self.fence,
            claim: self.claim,
            lease_until: self.lease_until,
            created: self.created,
            changed,
            expires: self.expires,
            status: self.status,
            body_bytes: if self.body_over(now) { 0 } else { self.body_bytes },
            progress: self.progress.clone(),
            now,
        }
    }
}
