//! What a record allows. The table of [`Store::begin`](semel_core::store::Store::begin) and the rules of the steps after
//! it, for stores that look at a record before they write.

use semel_core::record::{ClaimId, Fence, Recovery, State, Timestamp};
use semel_core::store::{Acquired, Begin, Begun, Delete, Differs, Lease, LeaseRef, ReleaseBy, Settled};

use crate::Row;

/// What a claim finds in a record whose life is not over.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a store has to do each")]
#[expect(clippy::large_enum_variant, reason = "one at a time, for as long as it takes to answer")]
pub enum Judged {
    /// Nothing is written.
    Answer(Begun),
    /// It is completed: to be answered with what it keeps.
    Settled,
    /// Its lease ended under hold, which is to be written down; then the answer is [`Begun::Unknown`].
    Lapse,
    /// The claim's, as the record's next attempt; the first of a new life where the record binds nothing
    /// ([`Row::fingerprint`] is `None`).
    Take,
}

/// What a record is to somebody who wants to settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store has to do each")]
pub enum Standing {
    /// The step may take effect.
    Open,
    /// It took effect when it was first sent.
    Done,
    /// The record is somebody else's, or in a state that refuses the step.
    Lost,
}

/// Whether the key was minted longer ago than a record lives, so that no new record is made for it.
pub fn is_expired(ask: &Begin, now: Timestamp) -> bool {
    ask.minted.is_some_and(|minted| now.since(minted) > ask.retention.record)
}

impl Row {
    /// What a claim may do with this record, whose life is not over.
    pub fn judge(&self, ask: &Begin, now: Timestamp) -> Judged {
        if self.written == State::Released && self.fingerprint.is_none() {
            return if self.claim == ask.claim { Judged::Answer(Begun::Stale) } else { Judged::Take };
        }
        // A released record binds nobody.
        let same_principal = self.written == State::Released || self.principal == ask.principal;
        if self.fingerprint != Some(ask.fingerprint) || !same_principal {
            return Judged::Answer(Begun::Differs(Differs {
                fingerprint: self.fingerprint,
                settings: self.settings.clone(),
                same_principal,
            }));
        }
        match self.state_at(now) {
            State::Completed => Judged::Settled,
            State::Unknown if self.written == State::InFlight => Judged::Lapse,
            State::Unknown => Judged::Answer(Begun::Unknown(self.view(now))),
            State::InFlight if self.lease_over(now) => Judged::Take,
            State::InFlight if self.claim == ask.claim => Judged::Answer(self.acquired()),
            State::InFlight => Judged::Answer(Begun::Held { remaining: self.view(now).lease_remaining() }),
            State::Released if self.claim == ask.claim => Judged::Answer(Begun::Stale),
            State::Released => Judged::Take,
        }
    }

    /// The answer to the claim that holds it.
    pub fn acquired(&self) -> Begun {
        let lease = Lease::new(self.id, self.claim, self.fence);
        Begun::Acquired(Acquired { lease, attempt: self.attempt, progress: self.progress.clone() })
    }

    /// What it is to a worker with an answer.
    pub fn completes(&self, lease: &LeaseRef) -> Standing {
        match self.written {
            State::Completed if self.fence == lease.fence => Standing::Done,
            State::InFlight | State::Unknown if self.fence == lease.fence => Standing::Open,
            _ => Standing::Lost,
        }
    }

    /// What it is to somebody who gives a claim back.
    pub fn releases(&self, by: &ReleaseBy) -> Standing {
        let its_own = match by {
            ReleaseBy::Lease(lease) => self.fence == lease.fence,
            ReleaseBy::Claim(_, claim) => self.claim == *claim,
        };
        match self.written {
            State::Released if its_own => Standing::Done,
            State::InFlight | State::Unknown if its_own => Standing::Open,
            _ => Standing::Lost,
        }
    }

    /// What it is to a worker that does not know the outcome. A takeover is left as it is, and is done.
    pub fn abandons(&self, lease: &LeaseRef) -> Standing {
        match (self.written, self.recovery) {
            _ if self.fence != lease.fence => Standing::Lost,
            (State::Unknown, _) | (State::InFlight, Recovery::Takeover) => Standing::Done,
            (State::InFlight, Recovery::Hold) => Standing::Open,
            (State::Completed | State::Released, _) => Standing::Lost,
        }
    }

    /// What it is to a worker that renews its lease, or notes its progress.
    pub fn runs(&self, lease: &LeaseRef, now: Timestamp) -> Standing {
        let running = self.fence == lease.fence && self.state_at(now) == State::InFlight;
        if running { Standing::Open } else { Standing::Lost }
    }

    /// What it is to somebody who knows what became of it.
    pub fn resolves(&self, op: ClaimId, expect: Option<Fence>, now: Timestamp) -> Standing {
        let expected = expect.is_none_or(|fence| fence == self.fence);
        match self.state_at(now) {
            _ if self.op == Some(op) => Standing::Done,
            State::Unknown if expected => Standing::Open,
            _ => Standing::Lost,
        }
    }

    /// Whether such a deletion may remove it.
    pub fn may_go(&self, which: Delete) -> bool {
        which == Delete::Any || !matches!(self.written, State::InFlight | State::Unknown)
    }

    /// The answer to those who came too late.
    pub fn superseded(&self, now: Timestamp) -> Settled {
        Settled::Superseded(Box::new(self.view(now)))
    }
}
