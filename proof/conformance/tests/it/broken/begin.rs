//! What it does wrong when it is asked for a claim.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{ClaimId, Record, RecordId, RecordView, Recovery, State};
use semel_core::store::{
    Acquired, Begin, Begun, Delete, Differs, Lease, LeaseRef, Query, Quota, Store as _, StoreError,
};

use super::{Broken, YEAR, dawdle, fence, lapsed};
use crate::breaks::Break;

impl Broken {
    async fn begin_anew(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let _ = self.inner.delete(&ask.id, Delete::Any).await?;
        self.inner.begin(ask).await
    }

    /// Judges by what it saw a while ago: whoever was faster is overrun.
    async fn begin_late(&self, ask: &Begin) -> Result<Begun, StoreError> {
        dawdle().await;
        match self.inner.begin(ask).await? {
            Begun::Held { .. } => self.begin_anew(ask).await,
            begun => Ok(begun),
        }
    }

    /// What it asks the inner store instead.
    pub(super) fn bend(&self, ask: &Begin) -> Begin {
        let mut ask = ask.clone();
        match self.how {
            Break::ExpiresNoKey => ask.minted = None,
            Break::UnclaimedTakeoversStay if ask.recovery == Recovery::Takeover => {
                ask.retention.record = 1000 * YEAR;
            }
            Break::CountsNoRecords => ask.quota = ask.quota.map(|q| Quota { records: None, ..q }),
            Break::CountsNoBytes => ask.quota = ask.quota.map(|q| Quota { bytes: None, ..q }),
            _ => {}
        }
        ask
    }

    /// What is wrong before the inner store is asked.
    pub(super) async fn before_begin(
        &self,
        ask: &Begin,
        seen: Option<&RecordView>,
    ) -> Result<Option<Begun>, StoreError> {
        let Some(view) = seen else {
            let near = |other: &RecordId| *other != ask.id && other.as_bytes()[..8] == ask.id.as_bytes()[..8];
            if self.is(Break::LooksAtHalfTheId) && self.memo().claimed.iter().any(near) {
                return Ok(Some(Begun::Held { remaining: Duration::from_secs(1) }));
            }
            if self.is(Break::LooksThenClaims) {
                return self.begin_late(ask).await.map(Some);
            }
            if self.is(Break::RemovedRecordsStillCount)
                && ask.quota.is_some()
                && !self.memo().deleted.is_empty()
            {
                return Ok(Some(Begun::OverQuota));
            }
            if self.is(Break::CountsThenClaims) && ask.quota.is_some() {
                let kept = self.inner.list(&Query { state: None, after: None, limit: 100 }).await?.records;
                let kept = kept.iter().filter(|view| view.principal == ask.principal).count();
                if ask.quota.and_then(|q| q.records).is_some_and(|most| kept as u64 >= most) {
                    return Ok(Some(Begun::OverQuota));
                }
                dawdle().await;
                let quota = ask.quota.map(|q| Quota { records: None, ..q });
                return self.inner.begin(&Begin { quota, ..ask.clone() }).await.map(Some);
            }
            return Ok(None);
        };
        let over = lapsed(view) && view.state == State::InFlight;
        let own = view.claim == ask.claim;
        let equal = view.fingerprint == Some(ask.fingerprint);
        Ok(match self.how {
            Break::ConflictsWithItself if view.state == State::InFlight && own && !over => {
                Some(Begun::Held { remaining: view.lease_remaining() })
            }
            Break::LetsTheSameClaimGoOn if over && own => {
                let lease = LeaseRef { id: ask.id, claim: ask.claim, fence: view.fence };
                let _ = self.inner.renew(&[lease], ask.lease_for).await?;
                self.inner.begin(ask).await.map(Some)?
            }
            Break::ForgetsAttempts if (over || view.state == State::Released) && equal && !own => {
                self.begin_anew(ask).await.map(Some)?
            }
            Break::LooksThenTakesOver if over && equal => self.begin_late(ask).await.map(Some)?,
            Break::LooksThenRunsAgain if view.state == State::Released && equal && !own => {
                self.begin_late(ask).await.map(Some)?
            }
            Break::ReleasedBindsPrincipal
                if view.state == State::Released && equal && view.principal != ask.principal =>
            {
                Some(Begun::Differs(Differs {
                    fingerprint: view.fingerprint,
                    settings: Arc::clone(&view.settings),
                    same_principal: false,
                }))
            }
            Break::NobodyIsNotNobody if ask.principal.is_none() && view.principal.is_none() => {
                Some(Begun::Differs(Differs {
                    fingerprint: view.fingerprint,
                    settings: Arc::clone(&view.settings),
                    same_principal: false,
                }))
            }
            Break::QuotaCountsRetries if ask.quota.and_then(|q| q.records) == Some(0) => {
                Some(Begun::OverQuota)
            }
            Break::UnknownEnds if view.state == State::Unknown && view.now.since(view.changed) > YEAR => {
                self.begin_anew(ask).await.map(Some)?
            }
            _ => None,
        })
    }

    /// What is wrong about the inner store's answer.
    pub(super) async fn after_begin(
        &self,
        ask: &Begin,
        seen: Option<&RecordView>,
        begun: Begun,
    ) -> Result<Begun, StoreError> {
        let state = seen.map(|view| view.state);
        let over = seen.is_some_and(lapsed);
        let other = Begin { claim: ClaimId::from_u128(u128::MAX), ..ask.clone() };
        Ok(match (self.how, begun) {
            (Break::ZeroIsTheFirstAttempt, Begun::Acquired(acquired)) => {
                Begun::Acquired(Acquired { attempt: acquired.attempt - 1, ..acquired })
            }
            (Break::HandsNoProgressOn, Begun::Acquired(acquired)) => {
                Begun::Acquired(Acquired { progress: None, ..acquired })
            }
            (Break::KeepsTheFence, Begun::Acquired(acquired)) if seen.is_some() => {
                let old = seen.map_or(acquired.lease.fence(), |view| view.fence);
                Begun::Acquired(Acquired { lease: Lease::new(ask.id, ask.claim, old), ..acquired })
            }
            (Break::FencesFall, Begun::Acquired(acquired)) => {
                let falling = fence(u64::MAX - acquired.lease.fence().get());
                Begun::Acquired(Acquired { lease: Lease::new(ask.id, ask.claim, falling), ..acquired })
            }
            (Break::FencesRestartWithTheRecord, Begun::Acquired(acquired))
                if self.memo().deleted.contains(&ask.id) =>
            {
                Begun::Acquired(Acquired { lease: Lease::new(ask.id, ask.claim, fence(1)), ..acquired })
            }
            (Break::FencesRestartWithTheStore, Begun::Acquired(acquired)) if self.memo().reopened => {
                Begun::Acquired(Acquired { lease: Lease::new(ask.id, ask.claim, fence(1)), ..acquired })
            }
            (Break::TellsNoRemaining, Begun::Held { .. }) => Begun::Held { remaining: Duration::ZERO },
            (Break::ReplaysNothing, Begun::Settled(record)) => {
                Begun::Settled(Record { completion: Arc::default(), ..record })
            }
            (Break::RunsUnknown, Begun::Unknown(_)) => self.begin_anew(ask).await?,
            (Break::HoldYieldsToALaterRule, Begun::Unknown(_)) if ask.recovery == Recovery::Takeover => {
                self.begin_anew(ask).await?
            }
            (Break::TakesOverEarly, Begun::Held { .. })
                if seen.is_some_and(|v| v.recovery == Recovery::Takeover) =>
            {
                self.begin_anew(ask).await?
            }
            (Break::NeverRunsReleased, Begun::Acquired(_)) if state == Some(State::Released) => {
                Begun::Held { remaining: Duration::from_secs(1) }
            }
            (Break::RunsStale, Begun::Stale) if seen.is_some_and(|v| v.fingerprint.is_some()) => {
                self.inner.begin(&other).await?
            }
            (Break::RunsStaleForgotten, Begun::Stale) if seen.is_some_and(|v| v.fingerprint.is_none()) => {
                self.inner.begin(&other).await?
            }
            (Break::IgnoresPrincipal, Begun::Differs(differs)) if !differs.same_principal && !over => {
                match seen {
                    Some(view) if view.fingerprint == Some(ask.fingerprint) => {
                        self.inner.begin(&Begin { principal: view.principal, ..ask.clone() }).await?
                    }
                    _ => Begun::Differs(differs),
                }
            }
            (Break::MismatchTakesRunning, Begun::Differs(differs))
                if differs.same_principal && state == Some(State::InFlight) && !over =>
            {
                self.begin_anew(ask).await?
            }
            (Break::MismatchTakesOver, Begun::Differs(_)) if state == Some(State::InFlight) && over => {
                self.begin_anew(ask).await?
            }
            (Break::LapseBeforeMismatch, Begun::Differs(differs))
                if state == Some(State::Unknown) && over =>
            {
                seen.map_or(Begun::Differs(differs), |view| Begun::Unknown(view.clone()))
            }
            (Break::MismatchIsReplayed, Begun::Differs(differs))
                if differs.same_principal && state == Some(State::Completed) =>
            {
                self.inner.read(&ask.id).await?.map_or(Begun::Stale, Begun::Settled)
            }
            (Break::MismatchRemovesUnknown, Begun::Differs(differs))
                if differs.same_principal && state == Some(State::Unknown) && !over =>
            {
                self.begin_anew(ask).await?
            }
            (Break::MismatchTakesReleased, Begun::Differs(_)) if state == Some(State::Released) => {
                self.begin_anew(ask).await?
            }
            (_, begun) => begun,
        })
    }
}
