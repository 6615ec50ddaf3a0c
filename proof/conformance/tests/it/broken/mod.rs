//! A store that does one thing wrong, and the rest as the memory store does.

mod begin;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use semel_conformance::Fixture;
use semel_core::identity::Secret;
use semel_core::record::{
    ClaimId, Completion, Fence, NotKept, Record, RecordId, RecordView, Recovery, Retention, State, StoredBody,
};
use semel_core::store::{
    AnyStore, Begin, Begun, Capabilities, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolution, Resolved, Settled, Store, StoreError, Swept, Verdict, Watch,
};
use semel_store_memory::{ManualClock, MemoryStore};

use crate::breaks::Break;

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    inner: MemoryStore,
    how: Break,
    memo: Arc<Mutex<Memo>>,
}

#[derive(Debug, Default)]
struct Memo {
    claimed: Vec<RecordId>,
    overwritten: HashMap<RecordId, Arc<Completion>>,
    deleted: HashSet<RecordId>,
    notes: HashMap<RecordId, Bytes>,
    resolutions: HashSet<(RecordId, ClaimId)>,
    resolved: HashSet<RecordId>,
    last_step: &'static str,
    reopened: bool,
    watches: u32,
}

pub(crate) struct Bench {
    store: Broken,
    clock: ManualClock,
}

impl Bench {
    pub(crate) fn new(how: Break) -> Self {
        let clock = ManualClock::new();
        let inner = MemoryStore::builder().clock(clock.clone()).build();
        Self { store: Broken { inner, how, memo: Arc::default() }, clock }
    }
}

impl Fixture for Bench {
    async fn open() -> Self {
        Self::new(Break::Nothing)
    }

    fn store(&self) -> AnyStore {
        AnyStore::new(self.store.clone())
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn reopen(self) -> Self {
        self.store.memo().reopened = true;
        if self.store.how == Break::DurableInNameOnly { Self::new(self.store.how) } else { self }
    }
}

fn fence(value: u64) -> Fence {
    Fence::new(value).unwrap()
}

fn lapsed(view: &RecordView) -> bool {
    view.lease_until.is_some_and(|until| until <= view.now)
}

/// Long enough for the other tasks of a race to get to the same place.
async fn dawdle() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

const YEAR: Duration = Duration::from_hours(365 * 24);

impl Broken {
    fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap()
    }

    fn is(&self, how: Break) -> bool {
        self.how == how
    }

    async fn see(&self, id: &RecordId) -> Option<RecordView> {
        self.inner.inspect(id).await.unwrap()
    }

    /// What it keeps instead of the answer.
    fn damage(&self, completion: &Arc<Completion>) -> Arc<Completion> {
        let mut damaged = Completion::clone(completion);
        if self.is(Break::DropsReference) {
            damaged.reference = None;
        }
        let Some(response) = &mut damaged.response else { return Arc::new(damaged) };
        let body = match &response.body {
            StoredBody::Kept(bytes) => Some(bytes.clone()),
            StoredBody::NotKept(_) => None,
        };
        match (self.how, body) {
            (Break::BodiesAreText, Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).into_owned();
                let rest = bytes.slice(bytes.len().min(1000)..);
                response.body = StoredBody::Kept([text.into_bytes(), rest.to_vec()].concat().into());
            }
            (Break::EmptyIsNothing, Some(bytes)) if bytes.is_empty() => {
                response.body = StoredBody::NotKept(NotKept::ByChoice);
            }
            (Break::CutsLargeBodies, Some(bytes)) => {
                response.body = StoredBody::Kept(bytes.slice(..bytes.len().min(65_535)));
            }
            (Break::HeadersDoNotRepeat, _) => {
                let mut single = HeaderMap::new();
                for (name, value) in &response.headers {
                    single.insert(name.clone(), value.clone());
                }
                response.headers = single;
            }
            (Break::DropsTrailers, _) => response.trailers = None,
            (Break::DropsOrigin, _) => response.origin = None,
            (Break::OneReasonForAll, None) => response.body = StoredBody::NotKept(NotKept::TooLarge),
            _ => {}
        }
        Arc::new(damaged)
    }

    /// How it shows a record.
    fn show(&self, mut view: RecordView) -> RecordView {
        match self.how {
            Break::TellsNoStatus => view.status = None,
            Break::CreatedMoves => view.created = view.changed,
            Break::KeepsProgress => view.progress = self.memo().notes.get(&view.id).cloned(),
            Break::LapseIsUnseen
                if view.state == State::Unknown && lapsed(&view) && view.now.since(view.changed) < YEAR =>
            {
                view.state = State::InFlight;
            }
            _ => {}
        }
        view
    }

    fn told(&self, settled: Settled) -> Settled {
        match settled {
            Settled::Superseded(view) => Settled::Superseded(Box::new(self.show(*view))),
            settled => settled,
        }
    }

    /// Undoes what [`Break::FencesFall`] does to a lease.
    fn straighten(&self, lease: LeaseRef) -> LeaseRef {
        if self.is(Break::FencesFall) {
            LeaseRef { fence: fence(u64::MAX - lease.fence.get()), ..lease }
        } else {
            lease
        }
    }
}

impl Store for Broken {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let seen = self.see(&ask.id).await;
        let ask = self.bend(ask);
        if let Some(wrong) = self.before_begin(&ask, seen.as_ref()).await? {
            return Ok(wrong);
        }
        let begun = self.inner.begin(&ask).await?;
        self.memo().claimed.push(ask.id);
        let begun = self.after_begin(&ask, seen.as_ref(), begun).await?;
        Ok(match begun {
            Begun::Settled(record) => {
                let overwritten = self.memo().overwritten.get(&ask.id).cloned();
                let view = self.show(record.view);
                Begun::Settled(Record { view, completion: overwritten.unwrap_or(record.completion) })
            }
            Begun::Unknown(view) if !self.is(Break::LapseIsUnseen) => Begun::Unknown(self.show(view)),
            begun => begun,
        })
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        let mut leases: Vec<_> = leases.iter().map(|lease| self.straighten(*lease)).collect();
        if self.is(Break::RenewsSorted) {
            leases.sort_by_key(|lease| lease.id);
        }
        if self.is(Break::RenewsNothing) {
            return Ok(leases.iter().map(|_| Settled::Applied).collect());
        }
        if self.is(Break::RenewsTheSuccessor) {
            dawdle().await;
        }
        let mut answers = Vec::new();
        for lease in leases {
            let late = self
                .see(&lease.id)
                .await
                .filter(|view| view.fence == lease.fence && view.state == State::InFlight && lapsed(view));
            if let Some(view) = late.filter(|_| self.is(Break::RefusesLateRenewals)) {
                answers.push(Settled::Superseded(Box::new(view)));
                continue;
            }
            let settled = self.inner.renew(&[lease], lease_for).await?.remove(0);
            answers.push(match (self.how, settled) {
                (Break::RenewsTheSuccessor, Settled::Superseded(view)) if view.state == State::InFlight => {
                    Settled::Applied
                }
                (Break::RenewsLapsedHold, Settled::Superseded(view))
                    if view.state == State::Unknown && lapsed(&view) =>
                {
                    Settled::Applied
                }
                (Break::RenewsSettled, Settled::Superseded(view)) if view.state == State::Completed => {
                    Settled::Applied
                }
                (Break::RenewsTheAbsent, Settled::Absent) => Settled::Applied,
                (_, settled) => self.told(settled),
            });
        }
        Ok(answers)
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        self.memo().last_step = "complete";
        let lease = self.straighten(lease);
        let mut keep = *keep;
        match self.how {
            Break::BodiesNeverEnd => keep.body = keep.record,
            Break::RecordsNeverEnd => keep.record = 1000 * YEAR,
            _ => {}
        }
        let seen = self.see(&lease.id).await;
        if let Some(view) = &seen {
            let own = view.fence == lease.fence;
            let late = match self.how {
                Break::LateCompletionLoses => own && view.state == State::Unknown,
                Break::LateTakeoverLoses => own && view.state == State::InFlight && lapsed(view),
                Break::RepeatedCompletionLoses => own && view.state == State::Completed,
                _ => false,
            };
            if late {
                return Ok(Settled::Superseded(Box::new(view.clone())));
            }
            if self.is(Break::CompletesTwice) && own && view.state == State::Completed {
                self.memo().overwritten.insert(lease.id, Arc::clone(completion));
            }
            if self.is(Break::CompletesTheSuccessorsRun) && !own && view.state == State::InFlight {
                let theirs = LeaseRef { fence: view.fence, ..lease };
                return self.inner.complete(theirs, completion, &keep).await;
            }
        }
        let settled = self.inner.complete(lease, &self.damage(completion), &keep).await?;
        let resolved = self.memo().resolved.contains(&lease.id);
        Ok(match (self.how, settled) {
            (Break::LateAnswerIsApplied, Settled::Superseded(view))
                if view.state == State::Completed && !resolved =>
            {
                Settled::Applied
            }
            (Break::CompletesReleased, Settled::Superseded(view))
                if view.state == State::Released && view.fence == lease.fence =>
            {
                Settled::Applied
            }
            (Break::OverrulesTheOperator, Settled::Superseded(_)) if resolved => Settled::Applied,
            (Break::CompletesTheAbsent, Settled::Absent) => Settled::Applied,
            (_, settled) => self.told(settled),
        })
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        self.memo().last_step = "release";
        let mut keep = *keep;
        if self.is(Break::ReleasedNeverEnds) {
            keep.released = 1000 * YEAR;
        }
        let how = match self.how {
            Break::ReleasedBindsNothing => ReleaseAs::Forgotten,
            Break::ForgottenBinds => ReleaseAs::Retry,
            _ => how,
        };
        let (id, by) = match by {
            ReleaseBy::Lease(lease) => (lease.id, ReleaseBy::Lease(self.straighten(lease))),
            ReleaseBy::Claim(id, claim) => (id, ReleaseBy::Claim(id, claim)),
        };
        if let Some(view) = self.see(&id).await {
            let own = match by {
                ReleaseBy::Lease(lease) => lease.fence == view.fence,
                ReleaseBy::Claim(_, claim) => claim == view.claim,
            };
            let current = ReleaseBy::Lease(LeaseRef { id, claim: view.claim, fence: view.fence });
            let by_claim = matches!(by, ReleaseBy::Claim(..));
            match self.how {
                Break::LateReleaseLoses if own && view.state == State::Unknown => {
                    return Ok(Settled::Superseded(Box::new(view)));
                }
                Break::LateTakeoverLoses if own && view.state == State::InFlight && lapsed(&view) => {
                    return Ok(Settled::Superseded(Box::new(view)));
                }
                Break::RepeatedReleaseLoses if own && view.state == State::Released => {
                    return Ok(Settled::Superseded(Box::new(view)));
                }
                Break::ReleasesTheSuccessor if !own && !by_claim && view.state == State::InFlight => {
                    return self.inner.release(current, how, &keep).await;
                }
                Break::ReleasesAnyClaim if !own && by_claim => {
                    return self.inner.release(current, how, &keep).await;
                }
                Break::ReleasesCompleted if own && view.state == State::Completed => {
                    let _ = self.inner.delete(&id, Delete::Any).await?;
                    return Ok(Settled::Applied);
                }
                Break::ReleasesNoClaims if by_claim => return Ok(Settled::Superseded(Box::new(view))),
                _ => {}
            }
        }
        let settled = self.inner.release(by, how, &keep).await?;
        Ok(if self.is(Break::ReleasesTheAbsent) && settled == Settled::Absent {
            Settled::Applied
        } else {
            settled
        })
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.memo().last_step = "abandon";
        let lease = self.straighten(lease);
        let seen = self.see(&lease.id).await;
        let takeover = seen
            .as_ref()
            .is_some_and(|view| view.recovery == Recovery::Takeover && view.fence == lease.fence);
        if self.is(Break::AbandonsNothing) && !takeover {
            return Ok(Settled::Applied);
        }
        if self.is(Break::AbandonFreesTakeovers) && takeover {
            return self
                .inner
                .release(ReleaseBy::Lease(lease), ReleaseAs::Retry, &Retention::default())
                .await;
        }
        let settled = self.inner.abandon(lease).await?;
        Ok(match (self.how, settled) {
            (Break::LateAbandonIsApplied, Settled::Superseded(view)) if view.state == State::InFlight => {
                Settled::Applied
            }
            (Break::AbandonsTheAbsent, Settled::Absent) => Settled::Applied,
            (_, settled) => self.told(settled),
        })
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        let settled = self.inner.note(self.straighten(lease), progress).await?;
        if settled == Settled::Applied {
            self.memo().notes.insert(lease.id, progress.clone());
        }
        let late = self.is(Break::LateNoteIsApplied) && matches!(settled, Settled::Superseded(_));
        Ok(if late { Settled::Applied } else { settled })
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        let watch = self.inner.watch(id).await?;
        let deaf_to = match self.how {
            Break::DeafToCompletion => "complete",
            Break::DeafToRelease => "release",
            Break::DeafToAbandonment => "abandon",
            Break::DeafToResolution => "resolve",
            Break::DeafToDeletion => "delete",
            _ => "",
        };
        let mut memo = self.memo();
        memo.watches += 1;
        if self.is(Break::WakesOne) && memo.watches > 1 {
            return Ok(Watch::never());
        }
        drop(memo);
        let memo = Arc::clone(&self.memo);
        Ok(Watch::new(async move {
            watch.await;
            let deaf = memo.lock().unwrap().last_step == deaf_to;
            if deaf {
                std::future::pending::<()>().await;
            }
        }))
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        Ok(self.see(id).await.map(|view| self.show(view)))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let overwritten = self.memo().overwritten.get(id).cloned();
        let record = self.inner.read(id).await?;
        Ok(record.map(|record| Record { completion: overwritten.unwrap_or(record.completion), ..record }))
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        let state = query.state.filter(|_| !self.is(Break::ListsEveryState));
        let mut page = self.inner.list(&Query { state, ..query.clone() }).await?;
        if self.is(Break::PagesHaveGaps) && query.after.is_some() && page.records.len() > 1 {
            page.records.remove(0);
        }
        page.records = page.records.into_iter().map(|view| self.show(view)).collect();
        Ok(page)
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        self.memo().last_step = "resolve";
        let mut resolution = resolution.clone();
        let op = resolution.op;
        let again = self.memo().resolutions.contains(&(*id, op));
        let Some(view) = self.see(id).await else { return self.inner.resolve(id, &resolution).await };
        let refuse = match (self.how, &resolution.verdict) {
            (Break::RepeatedResolutionLoses, _) => again,
            (Break::ResolvesNoLapse, _) => view.state == State::Unknown && lapsed(&view),
            (Break::ResolutionsNeedAnAnswer, Verdict::Applied(completion)) => completion.response.is_none(),
            (Break::ResolvesOnlyAsApplied, Verdict::NotApplied) => true,
            _ => false,
        };
        if refuse {
            return Ok(Resolved::Refused(Box::new(view)));
        }
        match (self.how, &resolution.verdict) {
            (Break::ResolutionsLoseTheAnswer, Verdict::Applied(_)) => {
                resolution.verdict = Verdict::Applied(Arc::default());
            }
            (Break::IgnoresExpect, _) => resolution.expect = None,
            (Break::TakesAnOldResolutionForANewOne, _) if again && view.state == State::Unknown => {
                resolution.op = ClaimId::from_u128(u128::MAX);
            }
            _ => {}
        }
        let resolved = self.inner.resolve(id, &resolution).await?;
        Ok(match resolved {
            Resolved::Applied(view) => {
                let mut memo = self.memo();
                memo.resolved.insert(*id);
                memo.resolutions.insert((*id, op));
                drop(memo);
                Resolved::Applied(Box::new(self.show(*view)))
            }
            Resolved::Refused(view)
                if self.is(Break::ResolvesTheRunning) && view.state == State::InFlight =>
            {
                Resolved::Applied(view)
            }
            Resolved::Refused(view) => Resolved::Refused(Box::new(self.show(*view))),
            Resolved::Absent => Resolved::Absent,
        })
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        self.memo().last_step = "delete";
        let which = match self.how {
            Break::DeletesTheRunning => Delete::Any,
            Break::DeletesSettledOnly
                if self.see(id).await.is_some_and(|view| view.state == State::Unknown) =>
            {
                Delete::Settled
            }
            _ => which,
        };
        self.memo().deleted.insert(*id);
        self.inner.delete(id, which).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        let limit = if self.is(Break::SweepsWithoutLimit) { usize::MAX } else { limit };
        let mut swept = self.inner.sweep(limit).await?;
        match self.how {
            Break::SweepsMiscount => swept.bodies = 0,
            Break::SweepsTheLiving | Break::SweepsTheRunning => {
                let all = self.inner.list(&Query { state: None, after: None, limit: 100 }).await?.records;
                for view in all {
                    let age = view.now.since(view.created);
                    let old = view.state == State::InFlight && age > YEAR;
                    let fresh = view.state == State::Completed && age < Duration::from_hours(1);
                    if if self.is(Break::SweepsTheRunning) { old } else { fresh } {
                        let _ = self.inner.delete(&view.id, Delete::Any).await?;
                    }
                }
            }
            _ => {}
        }
        Ok(swept)
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.inner.health().await
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        can.durable = self.is(Break::DurableInNameOnly);
        can
    }

    fn secret(&self) -> &Secret {
        self.inner.secret()
    }
}
