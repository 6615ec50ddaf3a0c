//! The handle that users build, and what all its clones share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Body as HttpBody;
use semel_core::observe::{Event, Observer, Observers};
use semel_core::policy::{Policy, PolicyBuilder, PolicyError};
use semel_core::problem::Problem;
use semel_core::record::{ClaimId, RecordId, RecordView, Recovery};
use semel_core::store::{
    AnyStore, Resolution, Resolved, Store, StoreError, StoreErrorKind, Transactions, Verdict,
};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::address::Address;
use crate::again::{self, BoxError, Remake};
use crate::body::Whole;
use crate::bounds::{Bounds, Contradiction};
use crate::budget::{Budget, Limits};
use crate::heartbeat::{self, Heart};
use crate::persist::Parked;
use crate::runtime::{Runtime, TokioRuntime, within};
use crate::sweep;
use crate::trace::{self, Trace};
use crate::wait::Waiters;

/// The most completions that wait for a store to come back.
const PARKED: usize = 1024;
/// The most claims without an answer that are being released.
const UNANSWERED: usize = 4096;

/// A store, the rules of a route, and the bookkeeping that all routes share. Cheap to clone.
///
/// ```
/// # fn demo() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use semel_driver::Idempotency;
/// use semel_store_memory::MemoryStore;
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
/// let patient = idempotency.route(|policy| policy.wait(Duration::from_secs(5)))?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Idempotency {
    shared: Arc<Shared>,
    route: Arc<Route>,
}

pub(crate) struct Shared {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) heart: Arc<Heart>,
    store: AnyStore,
    store_name: &'static str,
    observers: Observers,
    budget: Arc<Budget>,
    waiters: Waiters,
    bounds: Bounds,
    parked: Arc<AtomicUsize>,
    unanswered: Arc<AtomicUsize>,
    call_within: Duration,
    settle_within: Duration,
    ids: Ids,
    default_route: Arc<Route>,
}

impl Shared {
    fn fits(&self, policy: &Policy, transactional: bool) -> Result<(), BuildError> {
        self.bounds.fit(&self.store.capabilities(), policy, transactional)
    }
}

struct Route {
    policy: Policy,
    /// What runs usually take, in microseconds: a moving average, 0 before the first.
    typical: AtomicU64,
    transactions: Option<Arc<dyn Transactions>>,
    remake: Option<Arc<Remake>>,
    /// It was said that an extension is missing.
    lacked: AtomicBool,
}

impl Route {
    fn new(policy: Policy, transactions: Option<Arc<dyn Transactions>>) -> Arc<Self> {
        let lacked = AtomicBool::new(false);
        Arc::new(Self { policy, typical: AtomicU64::new(0), transactions, remake: None, lacked })
    }
}

impl Idempotency {
    /// Starts from a store, with every rule at its default.
    pub fn builder(store: impl Store) -> Builder {
        Builder::new(AnyStore::new(store))
    }

    /// Starts from a store whose type is not known here.
    pub fn builder_any(store: AnyStore) -> Builder {
        Builder::new(store)
    }

    /// The same store and bookkeeping under other rules: for one route, or a few.
    ///
    /// # Errors
    ///
    /// The rules contradict each other or the store.
    pub fn route(&self, change: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Result<Self, BuildError> {
        let policy = change(PolicyBuilder::clone(&self.route.policy)).build()?;
        let transactions = self.route.transactions.clone();
        self.shared.fits(&policy, transactions.is_some())?;
        self.shared.heart.expect(policy.renew_every());
        Ok(Self { shared: Arc::clone(&self.shared), route: Route::new(policy, transactions) })
    }

    /// The same store and bookkeeping for a route whose handler writes through a transaction of the application's own
    /// database: its writes and the record of its answer are one commit, and nothing happens twice.
    ///
    /// Recovery is [`Recovery::Takeover`] there, since what was not committed did not happen; `change` may set it
    /// otherwise, and the other rules.
    ///
    /// # Errors
    ///
    /// The transactions are not over the records of this store, or the rules contradict each other.
    pub fn transactional(
        &self,
        transactions: impl Transactions,
        change: impl FnOnce(PolicyBuilder) -> PolicyBuilder,
    ) -> Result<Self, BuildError> {
        let transactions = belongs(&self.shared.store, Arc::new(transactions))?;
        let rules = PolicyBuilder::clone(&self.route.policy).recovery(Recovery::Takeover);
        let policy = change(rules).build()?;
        self.shared.fits(&policy, true)?;
        self.shared.heart.expect(policy.renew_every());
        Ok(Self { shared: Arc::clone(&self.shared), route: Route::new(policy, Some(transactions)) })
    }

    pub(crate) fn transactions(&self) -> Option<&Arc<dyn Transactions>> {
        self.route.transactions.as_ref()
    }

    /// The same route, with what makes an answer again that was kept by a reference
    /// ([`Override::reference`](semel_core::engine::Override::reference)). It gets the reference and the retry's head, and
    /// may take as long as `capture_for`. Its answer goes out with `Idempotency-Replayed: true`.
    ///
    /// If it fails, panics, takes too long, or answers what the route would not keep (a 503, a 401), the client is told
    /// 503 `replay-unavailable` and to ask again with the same key; the record stays as it is. It has to make an answer
    /// without effects: it may be called for every retry, and for several at once. A handle made from this one by
    /// [`route`](Self::route) does not have it: another route's answers are made otherwise.
    ///
    /// ```
    /// # fn demo(idempotency: semel_driver::Idempotency) {
    /// use http::{Response, request::Parts};
    /// use bytes::Bytes;
    ///
    /// let idempotency = idempotency.on_replay(async |order: Bytes, _: Parts| {
    ///     let body = format!("order {}", str::from_utf8(&order)?);
    ///     Ok::<_, std::str::Utf8Error>(Response::new(body))
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn on_replay<F, Fut, B, E>(&self, make: F) -> Self
    where
        F: Fn(Bytes, Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: HttpBody + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let route = Route {
            policy: self.route.policy.clone(),
            typical: AtomicU64::new(self.route.typical.load(Ordering::Relaxed)),
            transactions: self.route.transactions.clone(),
            remake: Some(again::erase(make)),
            lacked: AtomicBool::new(false),
        };
        Self { shared: Arc::clone(&self.shared), route: Arc::new(route) }
    }

    pub(crate) fn lacks_for_the_first_time(&self) -> bool {
        !self.route.lacked.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn remake(&self) -> Option<&Arc<Remake>> {
        self.route.remake.as_ref()
    }

    /// The rules of this route.
    pub fn policy(&self) -> &Policy {
        &self.route.policy
    }

    /// The store.
    pub fn store(&self) -> &AnyStore {
        &self.shared.store
    }

    /// The record's name: what `inspect`, `resolve` and the logs call it.
    pub fn locate(&self, address: &Address) -> RecordId {
        address.record_id(self.store().secret(), &self.policy().namespace)
    }

    /// The record of a key, without its answer.
    ///
    /// # Errors
    ///
    /// The store could not be asked, or the record does not decode.
    pub async fn inspect(&self, address: &Address) -> Result<Option<RecordView>, StoreError> {
        let id = self.locate(address);
        self.asking("inspect", self.claim_tries(), || self.store().inspect(&id)).await
    }

    /// Settles an unknown record by the word of somebody who knows what became of it.
    ///
    /// # Errors
    ///
    /// The store could not be asked, or the record does not decode.
    pub async fn resolve(&self, address: &Address, verdict: Verdict) -> Result<Resolved, StoreError> {
        let id = self.locate(address);
        let resolution =
            Resolution { op: self.mint(), expect: None, verdict, retention: self.policy().retention };
        self.asking("resolve", self.claim_tries(), || self.store().resolve(&id, &resolution)).await
    }

    /// Waits until nothing is under way: neither a request nor a run whose client has gone. Call it after
    /// the server has stopped; `axum::serve`'s graceful shutdown does not wait for detached runs.
    ///
    /// A completion that the store did not take, and that is offered to it again, is not waited for: its client was
    /// told that the outcome is unknown, and so is its record if the process ends first.
    ///
    /// # Errors
    ///
    /// Something is still under way after `limit`. Its records go by their recovery rule.
    pub async fn drain(&self, limit: Duration) -> Result<(), Undrained> {
        within(self.runtime(), limit, self.shared.budget.idle())
            .await
            .map_err(|_| Undrained { running: self.shared.budget.running() })
    }

    /// Requests under way in this process: being read, claimed, run or settled.
    pub fn running(&self) -> usize {
        self.shared.budget.running()
    }

    /// The answer for a client whose run was torn down before it answered: by a runtime that shuts down, or by a
    /// panic in the answer's body. The run settles by policy.
    pub fn torn_down(&self) -> Response<Whole> {
        let policy = self.policy();
        let problem = Problem::outcome_unknown(policy.recovery)
            .with_status(policy.broken_status)
            .with_instance(self.instance());
        policy.render(&problem, &HeaderMap::new()).map(Whole::new)
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        let route = Arc::clone(&shared.default_route);
        Self { shared, route }
    }

    pub(crate) fn runtime_arc(&self) -> &Arc<dyn Runtime> {
        &self.shared.runtime
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        &*self.shared.runtime
    }

    pub(crate) fn heart(&self) -> &Heart {
        &self.shared.heart
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.shared.budget
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.shared.waiters
    }

    pub(crate) fn observe(&self, event: &Event<'_>) {
        self.shared.observers.notify(event);
    }

    /// The same for what happened to the request of this trace.
    pub(crate) fn observe_in(&self, trace: &Trace, event: &Event<'_>) {
        trace.on(event);
        self.observe(event);
    }

    pub(crate) fn call_within(&self) -> Duration {
        self.shared.call_within
    }

    pub(crate) fn mint(&self) -> ClaimId {
        self.shared.ids.next()
    }

    pub(crate) fn instance(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.mint().to_bytes()).into_uuid()
    }

    /// A place for a step that waits for the store to come back; `None` if too many do.
    pub(crate) fn parked(&self) -> Option<Parked> {
        Parked::enter(&self.shared.parked, PARKED)
    }

    /// A place for a claim that is to be released unheard; `None` if too many are.
    pub(crate) fn unanswered(&self) -> Option<Parked> {
        Parked::enter(&self.shared.unanswered, UNANSWERED)
    }

    /// Between four and six fifths of it, so that many do not come at once.
    pub(crate) fn jitter(&self, length: Duration) -> Duration {
        let random = u32::from(self.mint().to_bytes()[0]);
        (length / 5 * 4).saturating_add(length / 640 * random)
    }

    pub(crate) fn typical(&self) -> Option<Duration> {
        match self.route.typical.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    pub(crate) fn ran_for(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.route.typical.load(Ordering::Relaxed);
        let new = if old == 0 { took } else { old - old / 8 + took / 8 };
        // A lost update of an average costs nothing.
        self.route.typical.store(new.max(1), Ordering::Relaxed);
    }

    pub(crate) fn not_a_step(&self) -> StoreError {
        StoreError::new(self.shared.store_name, StoreErrorKind::Internal, "a commit is no step of a store")
    }

    pub(crate) fn claim_tries(&self) -> Tries {
        Tries { most: 3, within: self.shared.call_within.saturating_mul(3) }
    }

    /// How long a transaction may take to commit.
    pub(crate) fn settle_within(&self) -> Duration {
        self.shared.settle_within
    }

    pub(crate) fn settle_tries(&self) -> Tries {
        Tries { most: 20, within: self.shared.settle_within }
    }

    /// Calls the store, again while that can help. Every call is safe to repeat.
    pub(crate) async fn asking<T, F>(
        &self,
        step: &'static str,
        tries: Tries,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let span = trace::of_step(self.shared.store_name, step);
        let answer = self.ask(step, tries, call).instrument(span.clone()).await;
        if let Err(error) = &answer {
            trace::failed(&span, error);
        }
        answer
    }

    async fn ask<T, F>(&self, step: &'static str, tries: Tries, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut started = None;
        let mut pause = Duration::from_millis(10);
        for attempt in 1.. {
            let error = match within(self.runtime(), self.shared.call_within, call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let message = format!("no answer to {step} within {:?}", self.shared.call_within);
                    StoreError::new(self.shared.store_name, StoreErrorKind::Timeout, message)
                }
            };
            let now = self.runtime().now();
            let over = now.saturating_sub(*started.get_or_insert(now)) >= tries.within;
            let will_retry = error.can_retry() && attempt < tries.most && !over;
            self.observe(&Event::StoreFailed { step, kind: error.kind(), will_retry });
            if !will_retry {
                return Err(error);
            }
            self.runtime().sleep(self.jitter(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        // The range above has no end.
        Err(StoreError::new(self.shared.store_name, StoreErrorKind::Internal, "not reached"))
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("store", &self.shared.store)
            .field("policy", &self.route.policy)
            .finish_non_exhaustive()
    }
}

/// How often, and for how long, a step is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    most: u32,
    within: Duration,
}

/// Numbers that no other claim has: 128 random bits to begin with, then steps of an odd constant, so that
/// none comes twice in a process and two processes meet only if their first bits do.
struct Ids {
    base: u128,
    next: AtomicU64,
}

impl Ids {
    const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

    fn new() -> Result<Self, getrandom::Error> {
        let mut base = [0; 16];
        getrandom::fill(&mut base)?;
        Ok(Self { base: u128::from_be_bytes(base), next: AtomicU64::new(0) })
    }

    fn next(&self) -> ClaimId {
        let n = u128::from(self.next.fetch_add(1, Ordering::Relaxed));
        ClaimId::from_u128(self.base.wrapping_add(n.wrapping_mul(Self::STEP)))
    }
}

/// Something was still under way when the time to drain was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{running} requests were still under way; their records go by their recovery rule")]
#[non_exhaustive]
pub struct Undrained {
    /// How many.
    pub running: usize,
}

/// An [`Idempotency`], or a route of one, could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two settings contradict each other, or one means nothing.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A stored body may be larger than the store takes.
    #[error(
        "`capture_limit` is {limit} bytes, but the {store} store keeps at most {most}: lower `capture_limit`"
    )]
    StoreTakesLess {
        /// The store.
        store: &'static str,
        /// The route's limit.
        limit: usize,
        /// The store's.
        most: u64,
    },
    /// A setting of a route contradicts one that all routes share.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The transactions are of other records than the store's.
    #[error(
        "these transactions do not complete the records of this {store} store: make them with `transactions` of the very \
         store that is given here. Of the layers only `guard` may lie over it: `seal`, `compress` and `tier` change or copy \
         answers, which are written past them here"
    )]
    OtherRecords {
        /// The store.
        store: &'static str,
    },
    /// Rules that requests which run inside the store cannot have.
    #[error("{0}")]
    OneCommit(&'static str),
    /// The operating system gave no thread or no randomness.
    #[error("the operating system refused what Semel needs to start: {0}")]
    System(#[source] std::io::Error),
}

fn belongs(
    store: &AnyStore,
    transactions: Arc<dyn Transactions>,
) -> Result<Arc<dyn Transactions>, BuildError> {
    if store.commits_with(&*transactions) {
        return Ok(transactions);
    }
    Err(BuildError::OtherRecords { store: store.capabilities().name })
}

/// Builds an [`Idempotency`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    store: AnyStore,
    policy: PolicyBuilder,
    observers: Observers,
    limits: Limits,
    waiters: usize,
    call_within: Duration,
    settle_within: Duration,
    sweep_every: Duration,
    runtime: Option<Arc<dyn Runtime>>,
    transactions: Option<Arc<dyn Transactions>>,
}

impl Builder {
    fn new(store: AnyStore) -> Self {
        Self {
            store,
            policy: PolicyBuilder::default(),
            observers: Observers::default(),
            limits: Limits::default(),
            waiters: 10_000,
            call_within: Duration::from_secs(2),
            settle_within: Duration::from_secs(10),
            sweep_every: Duration::from_mins(1),
            runtime: None,
            transactions: None,
        }
    }

    semel_core::policy_setters!(self => self.policy);

    /// Takes the rules from a builder of their own, in place of those set so far.
    pub fn policy(mut self, policy: PolicyBuilder) -> Self {
        self.policy = policy;
        self
    }

    /// Makes all routes transactional: see [`Idempotency::transactional`]. Sets the recovery rule to
    /// [`Recovery::Takeover`]; a rule set after this call stays.
    pub fn transactional(mut self, transactions: impl Transactions) -> Self {
        self.transactions = Some(Arc::new(transactions));
        self.policy.recovery = Recovery::Takeover;
        self
    }

    /// Adds an observer: metrics, audit logs.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// The most bytes of request bodies in flight. Default 256 MiB; above it requests get 503 `overloaded`.
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// The most guarded requests under way. Default 10,000; above it requests get 503 `overloaded`.
    pub fn max_runs(mut self, runs: usize) -> Self {
        self.limits.runs = runs;
        self
    }

    /// The most runs whose clients have gone. Default 1,000; above it requests get 503 `overloaded`.
    pub fn max_detached(mut self, runs: usize) -> Self {
        self.limits.detached = runs;
        self
    }

    /// The most guarded requests of one [`Peer`](crate::Peer) under way. Default: no limit; above it requests
    /// get 429 `quota-exceeded`.
    pub fn max_per_peer(mut self, requests: usize) -> Self {
        self.limits.per_peer = Some(requests);
        self
    }

    /// The most duplicates that wait at once. Default 10,000; above it they get 409 `in-flight`.
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.waiters = waiters;
        self
    }

    /// How long one call to the store may take. Default 2 s; a claim is tried three times.
    pub fn store_within(mut self, limit: Duration) -> Self {
        self.call_within = limit;
        self
    }

    /// How long an answer is offered to a store that does not take it. Its completion without a body is then
    /// offered for as long again, before the client is told that the outcome is unknown. Default 10 s.
    pub fn settle_within(mut self, limit: Duration) -> Self {
        self.settle_within = limit;
        self
    }

    /// How often the store is swept. Default about every minute; zero: never by this process.
    pub fn sweep_every(mut self, every: Duration) -> Self {
        self.sweep_every = every;
        self
    }

    /// Brings clocks and tasks of one's own. Default: Tokio's timer, and a thread for bookkeeping.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Checks the settings and starts the bookkeeping.
    ///
    /// # Errors
    ///
    /// Settings contradict each other or the store, or the operating system refuses a thread.
    pub fn build(self) -> Result<Idempotency, BuildError> {
        let policy = self.policy.build()?;
        let bounds = Bounds { limits: self.limits, waiters: self.waiters };
        bounds.make_sense()?;
        for (setting, limit) in [("store_within", self.call_within), ("settle_within", self.settle_within)] {
            if limit.is_zero() {
                return Err(Contradiction::nothing(setting).into());
            }
        }
        let capabilities = self.store.capabilities();
        bounds.fit(&capabilities, &policy, self.transactions.is_some())?;
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Arc::new(TokioRuntime::start().map_err(BuildError::System)?),
        };
        let ids = Ids::new().map_err(|error| BuildError::System(error.into()))?;
        let transactions = self.transactions.map(|those| belongs(&self.store, those)).transpose()?;
        let route = Route::new(policy, transactions);
        let shared = Arc::new(Shared {
            runtime,
            heart: Arc::new(Heart::new()),
            store_name: capabilities.name,
            store: self.store,
            observers: self.observers,
            budget: Arc::new(Budget::new(self.limits)),
            waiters: Waiters::new(self.waiters),
            bounds,
            parked: Arc::default(),
            unanswered: Arc::default(),
            call_within: self.call_within,
            settle_within: self.settle_within,
            ids,
            default_route: Arc::clone(&route),
        });
        shared.heart.expect(route.policy.renew_every());
        shared.runtime.spawn(Box::pin(heartbeat::run(Arc::downgrade(&shared))));
        if !self.sweep_every.is_zero() {
            shared.runtime.spawn(Box::pin(sweep::run(Arc::downgrade(&shared), self.sweep_every)));
        }
        Ok(Idempotency { shared, route })
    }
}
