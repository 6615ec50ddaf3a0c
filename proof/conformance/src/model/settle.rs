//! What ends a claim, and what an operator does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{Completion, Recovery, Retention, State};
use semel_core::store::{Delete, LeaseRef, ReleaseAs, ReleaseBy, Resolution, Verdict};

use super::answer::{Answer, Expected, Refusal};
use super::{Kept, Phase, Slot};

impl Slot {
    pub(super) fn renew(&self, lease: LeaseRef, lease_for: Duration) -> (Self, Expected) {
        let until = self.clock.after(lease_for);
        self.settle(|kept| match &mut kept.phase {
            Phase::InFlight { until: before, .. } if kept.fence.is(lease) => {
                // A late heartbeat with a shorter lease takes nothing back.
                *before = until.max(*before);
                true
            }
            _ => false,
        })
    }

    pub(super) fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> (Self, Expected) {
        let clock = self.clock;
        self.settle(|kept| match kept.phase {
            Phase::InFlight { .. } | Phase::Unknown { .. } if kept.fence.is(lease) => {
                kept.settle_as_completed(completion, clock.after(keep.body), clock.after(keep.record));
                kept.changed = clock.millis;
                true
            }
            Phase::Completed { .. } => kept.fence.is(lease),
            _ => false,
        })
    }

    pub(super) fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> (Self, Expected) {
        let clock = self.clock;
        self.settle(|kept| {
            let its_own = match by {
                ReleaseBy::Lease(lease) => kept.fence.is(lease),
                ReleaseBy::Claim(_, claim) => kept.claim == claim,
            };
            if its_own && matches!(kept.phase, Phase::InFlight { .. } | Phase::Unknown { .. }) {
                if how == ReleaseAs::Forgotten {
                    kept.fingerprint = None;
                    kept.progress = None;
                    kept.resolved = kept.resolved.map(|(op, _)| (op, false));
                }
                kept.changed = clock.millis;
                kept.phase = Phase::Released { expires: clock.after(keep.released) };
                return true;
            }
            its_own && matches!(kept.phase, Phase::Released { .. })
        })
    }

    pub(super) fn abandon(&self, lease: LeaseRef) -> (Self, Expected) {
        let now = self.clock.millis;
        self.settle(|kept| {
            if !kept.fence.is(lease) {
                return false;
            }
            match (&kept.phase, kept.recovery) {
                (Phase::InFlight { until, .. }, Recovery::Hold) => {
                    kept.phase = Phase::Unknown { until: *until };
                    kept.changed = now;
                    true
                }
                (Phase::InFlight { .. } | Phase::Unknown { .. }, _) => true,
                (Phase::Completed { .. } | Phase::Released { .. }, _) => false,
            }
        })
    }

    pub(super) fn note(&self, lease: LeaseRef, progress: &Bytes) -> (Self, Expected) {
        self.settle(|kept| {
            let its_own = kept.fence.is(lease) && matches!(kept.phase, Phase::InFlight { .. });
            if its_own {
                kept.progress = Some(progress.clone());
            }
            its_own
        })
    }

    pub(super) fn resolve(
        &self,
        resolution: &Resolution,
        answer: Option<&Answer>,
    ) -> Result<Vec<Self>, Refusal> {
        let mut allowed = Vec::new();
        let mut refused = None;
        for (mut after, expected) in self.resolutions(resolution) {
            after.advance(Duration::ZERO);
            match answer.map_or(Ok(()), |answer| expected.admits(answer, &mut after)) {
                Ok(()) => allowed.push(after),
                Err(refusal) => refused = Some(refusal),
            }
        }
        match refused {
            Some(refused) if allowed.is_empty() => Err(refused),
            _ => Ok(allowed),
        }
    }

    fn resolutions(&self, resolution: &Resolution) -> Vec<(Self, Expected)> {
        let Some(kept) = &self.kept else { return vec![(self.clone(), Expected::ResolvedAbsent)] };
        let as_a_new_one = self.resolve_anew(kept, resolution);
        let known = (self.clone(), Expected::ResolvedApplied);
        match kept.resolved {
            Some((op, true)) if op == resolution.op => vec![known],
            // Once a record was bound to nothing, a store may have forgotten this, too.
            Some((op, false)) if op == resolution.op => vec![known, as_a_new_one],
            _ => vec![as_a_new_one],
        }
    }

    fn resolve_anew(&self, kept: &Kept, resolution: &Resolution) -> (Self, Expected) {
        let expected = resolution.expect.is_none_or(|fence| kept.fence == super::Number::Known(fence.get()));
        if kept.state() != State::Unknown || !expected {
            return (self.clone(), Expected::ResolvedRefused);
        }
        let mut after = self.clone();
        let fence = after.next_number();
        if let Some(kept) = &mut after.kept {
            let (clock, keep) = (self.clock, resolution.retention);
            kept.fence = fence;
            kept.resolved = Some((resolution.op, true));
            kept.changed = clock.millis;
            match &resolution.verdict {
                Verdict::Applied(completion) => {
                    kept.settle_as_completed(completion, clock.after(keep.body), clock.after(keep.record));
                }
                Verdict::NotApplied => kept.phase = Phase::Released { expires: clock.after(keep.released) },
            }
        }
        (after, Expected::ResolvedApplied)
    }

    pub(super) fn delete(&self, which: Delete) -> (Self, Expected) {
        let Some(kept) = &self.kept else { return (self.clone(), Expected::DeletedAbsent) };
        let settled = matches!(kept.state(), State::Completed | State::Released);
        if which == Delete::Settled && !settled {
            return (self.clone(), Expected::DeletedRefused);
        }
        (Self { kept: None, ..self.clone() }, Expected::DeletedGone)
    }

    /// A step that is a compare-and-set: `true` from it is applied.
    fn settle(&self, step: impl FnOnce(&mut Kept) -> bool) -> (Self, Expected) {
        let mut after = self.clone();
        let Some(kept) = &mut after.kept else { return (after, Expected::SettledAbsent) };
        let expected = if step(kept) { Expected::Applied } else { Expected::Superseded };
        (after, expected)
    }
}

impl Kept {
    fn settle_as_completed(&mut self, completion: &Arc<Completion>, body_until: i64, expires: i64) {
        self.progress = None;
        self.phase = Phase::Completed { completion: Arc::clone(completion), body_until, expires };
    }
}
