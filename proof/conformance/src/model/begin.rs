//! The claim: the contract's table, row by row.

use std::time::Duration;

use semel_core::record::Recovery;
use semel_core::store::{Begin, Begun};

use super::answer::{Answer, Expected, Room};
use super::{Clock, Kept, Phase, Slot};

impl Slot {
    pub(super) fn begin(&self, ask: &Begin, answer: Option<&Answer>, room: Room) -> (Self, Expected) {
        let now = self.clock.millis;
        let Some(kept) = &self.kept else { return self.claim_new(ask, answer, room) };
        let released = matches!(kept.phase, Phase::Released { .. });
        let same_principal = released || kept.principal == ask.principal;
        if kept.fingerprint.is_some_and(|print| print != ask.fingerprint || !same_principal) {
            let expected = Expected::Differs { fingerprint: kept.fingerprint, same_principal };
            return (self.clone(), expected);
        }
        match kept.phase {
            Phase::Completed { .. } => (self.clone(), Expected::Settled),
            Phase::Unknown { .. } => (self.clone(), Expected::Unknown),
            Phase::InFlight { until, .. } if until > now => {
                let expected = if kept.claim == ask.claim {
                    Expected::Acquired { new: false }
                } else {
                    Expected::Held { remaining: millis(until - now) }
                };
                (self.clone(), expected)
            }
            Phase::Released { .. } if kept.claim == ask.claim => (self.clone(), Expected::Stale),
            Phase::InFlight { .. } | Phase::Released { .. } => self.claim_again(kept, ask),
        }
    }

    fn claim_new(&self, ask: &Begin, answer: Option<&Answer>, room: Room) -> (Self, Expected) {
        let told_over = matches!(answer, Some(Answer::Begun(Begun::OverQuota)));
        if room == Room::None || room == Room::Perhaps && told_over {
            return (self.clone(), Expected::OverQuota);
        }
        let minted = ask.minted.map(|minted| Clock::at(minted.as_millis()));
        if minted.is_some_and(|minted| minted.after(ask.retention.record) < self.clock.millis) {
            return (self.clone(), Expected::Expired);
        }
        let mut after = self.clone();
        let fence = after.next_number();
        after.kept = Some(Kept {
            fingerprint: Some(ask.fingerprint),
            principal: ask.principal,
            recovery: ask.recovery,
            attempt: 1,
            fence,
            claim: ask.claim,
            created: self.clock.millis,
            changed: self.clock.millis,
            progress: None,
            resolved: None,
            limited: ask.quota.is_some(),
            phase: leased(ask, self.clock),
        });
        (after, Expected::Acquired { new: true })
    }

    /// A takeover whose lease is over, or a released record.
    fn claim_again(&self, kept: &Kept, ask: &Begin) -> (Self, Expected) {
        if kept.fingerprint.is_none() {
            let (mut after, expected) =
                self.claim_new(&Begin { minted: None, ..ask.clone() }, None, Room::Enough);
            if let Some(anew) = &mut after.kept {
                anew.resolved = kept.resolved;
                anew.limited &= kept.limited;
            }
            return (after, expected);
        }
        let mut after = self.clone();
        let fence = after.next_number();
        let released = matches!(kept.phase, Phase::Released { .. });
        after.kept = Some(Kept {
            principal: ask.principal,
            recovery: if released { ask.recovery } else { Recovery::Takeover },
            attempt: kept.attempt + 1,
            fence,
            claim: ask.claim,
            changed: self.clock.millis,
            limited: kept.limited && ask.quota.is_some(),
            phase: leased(ask, self.clock),
            ..kept.clone()
        });
        (after, Expected::Acquired { new: true })
    }
}

fn leased(ask: &Begin, clock: Clock) -> Phase {
    Phase::InFlight { until: clock.after(ask.lease_for), keep: ask.retention }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
