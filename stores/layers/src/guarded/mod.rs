//! Time-outs, retries, and a circuit breaker for claims.

mod breaker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    AnyStore, Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Page, Query, ReleaseAs,
    ReleaseBy, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Swept, Transactions, Watch,
};

use crate::timer::{Timer, within};
use breaker::{Breaker, News, Outcome, Trip};

/// Lists and sweeps look at many records: they get so many times as long as other calls.
const LONGER: u32 = 10;

/// The longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Settings of the guarding layer: how long a call may take, how often it is tried, and when claims are no
/// longer sent at all.
///
/// | step | time-out | tries | breaker |
/// |---|---|---|---|
/// | `begin` | yes | up to [`tries`](Self::tries) | yes |
/// | `renew`, `complete`, `release`, `abandon`, `note`, `watch`, `inspect`, `read`, `resolve` | yes | up to `tries` | no |
/// | `list` | ten times as long | up to `tries` | no |
/// | `sweep` | ten times as long | one | no |
/// | `examine` | ten times as long | one | no |
/// | `delete`, `health` | yes | one | no |
///
/// Only errors for which [`StoreError::can_retry`] is true are tried again; the store's steps are safe to repeat.
/// `delete` is not tried again all the same: the key may have been claimed anew since the first try, and the
/// second would remove that run. A lost answer to a `sweep` loses its counts, and the next sweep does the rest.
///
/// # The breaker
///
/// It counts the tries of claims. `Unavailable` and `Timeout` are failures; every other error is an answer of a
/// store that is there. When at least [`trip_at`](Self::trip_at)'s share of a window failed, claims get
/// `Unavailable` at once, without a call. After [`open_for`](Self::open_for) one claim is let through as a probe,
/// and decides. What settles a run is never held back: a run that has taken effect must be recorded.
///
/// # Under the driver
///
/// The driver has a time-out (2 s) and tries (a claim three times) of its own, which surround this layer's. With
/// both defaults a claim is sent nine times at most, a settling step as often as three times the driver's, and
/// [`longest`](Self::longest) (1.56 s) stays below the driver's time-out, so that neither cuts the other short. To
/// have the breaker alone, say [`tries(1)`](Self::tries). While the breaker is open the driver's tries are
/// refused without a call. Without a driver, a claim that failed here may still have been applied: release it by
/// its claim id ([`ReleaseBy::Claim`]) before you forget it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Guard {
    call_within: Duration,
    tries: u32,
    pause: Duration,
    trip: Trip,
}

impl Guard {
    /// 500 ms a call, three tries, open for 2 s at 50 % failures of at least ten calls within 10 s.
    ///
    /// Two requests that meet a store on its way down are enough to open it, so it must not outlast the restart of a
    /// database by much; and a claim every 2 s is no load.
    pub const fn new() -> Self {
        let trip = Trip {
            percent: 50,
            calls: 10,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(2),
        };
        Self { call_within: Duration::from_millis(500), tries: 3, pause: Duration::from_millis(20), trip }
    }

    /// How long one try may take. Default 500 ms; not zero.
    pub const fn call_within(mut self, limit: Duration) -> Self {
        self.call_within = limit;
        self
    }

    /// How often a step is sent, the first time included. Default 3; not zero.
    pub const fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The most that is waited before the second try; twice as much before each further one, up to 1 s. How
    /// long it is in fact is drawn evenly from zero to that. Default 20 ms.
    pub const fn pause(mut self, most: Duration) -> Self {
        self.pause = most;
        self
    }

    /// Opens the breaker when of at least `calls` claims within `window` at least `percent` of a hundred
    /// failed. Default 50, 10, 10 s. `percent` is from 1 to 100, `calls` and `window` are not zero.
    pub const fn trip_at(mut self, percent: u32, calls: u32, window: Duration) -> Self {
        self.trip = Trip { percent, calls, window, ..self.trip };
        self
    }

    /// How long an open breaker waits for its probe. Default 2 s.
    pub const fn open_for(mut self, length: Duration) -> Self {
        self.trip.open_for = length;
        self
    }

    /// The longest that a step other than `list` and `sweep` takes under these settings, all tries and pauses
    /// included.
    pub fn longest(&self) -> Duration {
        let pauses = (1..self.tries).map(|done| self.most_before_next(done));
        pauses.fold(self.call_within.saturating_mul(self.tries), Duration::saturating_add)
    }

    fn most_before_next(&self, done: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(done.saturating_sub(1));
        self.pause.saturating_mul(doubled).min(LONGEST_PAUSE)
    }

    /// What makes no sense about them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let Trip { percent, calls, window, .. } = self.trip;
        match () {
            () if self.tries == 0 => Some("`tries` is 0: nothing would ever be sent"),
            () if self.call_within.is_zero() => {
                Some("`call_within` is zero: no call could be answered in it")
            }
            () if !(1..=100).contains(&percent) => Some("the breaker's share is not from 1 to 100 percent"),
            () if calls == 0 || window.is_zero() => Some("the breaker's calls or its window are zero"),
            () => None,
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

/// A store that is asked in time, again, or not at all.
#[derive(Debug)]
pub(crate) struct Guarded {
    inner: AnyStore,
    name: &'static str,
    guard: Guard,
    breaker: Breaker,
    timer: Arc<dyn Timer>,
}

impl Guarded {
    pub(crate) fn new(inner: AnyStore, guard: Guard, timer: Arc<dyn Timer>) -> Self {
        let name = inner.capabilities().name;
        Self { inner, name, guard, breaker: Breaker::new(guard.trip), timer }
    }

    async fn retrying<T, F>(
        &self,
        step: &'static str,
        limit: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut done = 0;
        loop {
            let answer = self.once(step, limit, call()).await;
            done += 1;
            match answer {
                Err(error) if error.can_retry() && done < self.guard.tries => self.pause(done).await,
                answer => return answer,
            }
        }
    }

    /// Most steps: the usual time, and again where that may help.
    async fn asking<T, F>(&self, step: &'static str, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.retrying(step, self.guard.call_within, call).await
    }

    async fn once<T>(
        &self,
        step: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        within(&*self.timer, limit, call).await.unwrap_or_else(|_| {
            let message = format!("no answer to {step} within {limit:?}");
            Err(StoreError::new(self.name, StoreErrorKind::Timeout, message))
        })
    }

    /// Full jitter: callers that failed together do not come back together.
    async fn pause(&self, done: u32) {
        let most = self.guard.most_before_next(done);
        let pause = most.mul_f64(fastrand::f64());
        if !pause.is_zero() {
            self.timer.sleep(pause).await;
        }
    }

    fn longer(&self) -> Duration {
        self.guard.call_within.saturating_mul(LONGER)
    }

    fn report(&self, news: News, error: Option<&StoreError>) {
        let store = self.name;
        match (news, error) {
            (News::Opened, Some(error)) => tracing::warn!(
                store, %error, refused_for = ?self.guard.trip.open_for,
                "the circuit breaker opens: claims are refused until one that is let through is answered"
            ),
            (News::Opened, None) => tracing::warn!(store, "the circuit breaker opens: claims are refused"),
            (News::Closed, _) => tracing::info!(store, "the circuit breaker closes: the store answers again"),
        }
    }

    fn is_open(&self) -> StoreError {
        let message =
            "its circuit breaker is open: too many claims failed lately, and none is sent meanwhile";
        StoreError::new(self.name, StoreErrorKind::Unavailable, message)
    }
}

fn outcome<T>(answer: &Result<T, StoreError>) -> Outcome {
    match answer.as_ref().map_err(StoreError::kind) {
        Err(StoreErrorKind::Unavailable | StoreErrorKind::Timeout) => Outcome::Failed,
        _ => Outcome::Answered,
    }
}

impl Store for Guarded {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let mut done = 0;
        let mut failed = None;
        loop {
            let Some(permit) = self.breaker.admit(self.timer.now()) else {
                // What the store said says more than that it is no longer asked.
                return Err(failed.unwrap_or_else(|| self.is_open()));
            };
            let answer = self.once("begin", self.guard.call_within, self.inner.begin(ask)).await;
            if let Some(news) = permit.tell(self.timer.now(), outcome(&answer)) {
                self.report(news, answer.as_ref().err());
            }
            done += 1;
            match answer {
                Err(error) if error.can_retry() && done < self.guard.tries => failed = Some(error),
                answer => return answer,
            }
            self.pause(done).await;
        }
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        self.asking("renew", || self.inner.renew(leases, lease_for)).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        self.asking("complete", || self.inner.complete(lease, completion, keep)).await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        self.asking("release", || self.inner.release(by, how, keep)).await
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.asking("abandon", || self.inner.abandon(lease)).await
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.asking("note", || self.inner.note(lease, progress)).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        self.asking("watch", || self.inner.watch(id)).await
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        self.asking("inspect", || self.inner.inspect(id)).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.asking("read", || self.inner.read(id)).await
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.retrying("list", self.longer(), || self.inner.list(query)).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        self.asking("resolve", || self.inner.resolve(id, resolution)).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        self.once("delete", self.guard.call_within, self.inner.delete(id, which)).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.once("sweep", self.longer(), self.inner.sweep(limit)).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.once("health", self.guard.call_within, self.inner.health()).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        self.once("examine", self.longer(), self.inner.examine()).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn secret(&self) -> &Secret {
        self.inner.secret()
    }

    /// What is asked more than once or given up is asked and given up by the driver in the same way, and records are
    /// as the store below has them.
    fn commits_with(&self, transactions: &dyn Transactions) -> bool {
        self.inner.commits_with(transactions)
    }
}
