//! A store that fails as its script says: before a step, after it, late, or never.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    AnyStore, Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Page, Query, ReleaseAs,
    ReleaseBy, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Swept, Transactions, Watch,
};

/// A step of a store that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "tests name each")]
pub enum Step {
    /// [`Store::begin`].
    Begin,
    /// [`Store::renew`].
    Renew,
    /// [`Store::complete`].
    Complete,
    /// [`Store::release`].
    Release,
    /// [`Store::abandon`].
    Abandon,
    /// [`Store::note`].
    Note,
    /// [`Store::watch`].
    Watch,
    /// [`Store::read`].
    Read,
    /// Every other step.
    Other,
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests name each")]
pub enum Fault {
    /// It is not applied, and the caller is told so.
    Refused,
    /// It is applied, and its answer is lost.
    AnswerLost,
    /// The caller is told of a time-out, and it is applied after the next call that works.
    Late,
    /// It is not applied, and no answer comes.
    NeverApplied,
    /// It is applied, and no answer comes.
    NeverAnswered,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Refused, Self::AnswerLost, Self::Late, Self::NeverApplied, Self::NeverAnswered];
}

/// What a watch is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests name each")]
pub enum Watching {
    /// As the store has it.
    #[default]
    Honest,
    /// No wake-up ever comes.
    Deaf,
    /// Each watch wakes at once, whatever happened.
    Wolf,
}

type Later = Pin<Box<dyn Future<Output = ()> + Send>>;
type Hook = Arc<dyn Fn() -> Later + Send + Sync>;

#[derive(Default)]
struct Script {
    next: HashMap<Step, VecDeque<Option<Fault>>>,
    always: HashMap<Step, Fault>,
    hooks: HashMap<Step, Hook>,
    late: Vec<Later>,
    held: bool,
    watching: Watching,
    calls: Vec<Step>,
    renewed: Vec<Vec<RecordId>>,
    below: usize,
}

/// A call that the store below works on.
struct Below(Faults);

impl Drop for Below {
    fn drop(&mut self) {
        self.0.locked().below -= 1;
    }
}

/// The script of a [`Faulty`] store. Clones are the same script.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Script>>);

impl Faults {
    /// The next call of a step that has no fault yet fails so.
    pub fn next(&self, step: Step, fault: Fault) {
        self.push(step, Some(fault));
    }

    /// The next call of a step that has no fault yet works: to put a fault behind it.
    pub fn pass(&self, step: Step) {
        self.push(step, None);
    }

    /// Every call of a step fails so, after those that [`next`](Self::next) named.
    pub fn always(&self, step: Step, fault: Fault) {
        self.locked().always.insert(step, fault);
    }

    /// From now on everything works.
    pub fn heal(&self) {
        let mut script = self.locked();
        script.next.clear();
        script.always.clear();
    }

    /// Keeps what is late until [`deliver`](Self::deliver).
    pub fn hold_late(&self) {
        self.locked().held = true;
    }

    /// Applies what is late now.
    pub async fn deliver(&self) {
        let late = std::mem::take(&mut self.locked().late);
        for applied in late {
            applied.await;
        }
    }

    /// What watches are worth.
    pub fn watching(&self, watching: Watching) {
        self.locked().watching = watching;
    }

    /// Runs something before each call of a step.
    pub fn before<F>(&self, step: Step, hook: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.locked().hooks.insert(step, Arc::new(move || Box::pin(hook())));
    }

    /// How often a step was called.
    pub fn calls(&self, step: Step) -> usize {
        self.locked().calls.iter().filter(|called| **called == step).count()
    }

    /// The records of each renewal, in the order they were named.
    pub fn renewed(&self) -> Vec<Vec<RecordId>> {
        self.locked().renewed.clone()
    }

    /// How many calls the store below works on now: for who moves a clock by hand, and not while it does.
    pub fn below(&self) -> usize {
        self.locked().below
    }

    fn push(&self, step: Step, fault: Option<Fault>) {
        self.locked().next.entry(step).or_default().push_back(fault);
    }

    fn enter(&self, step: Step) -> (Option<Fault>, Option<Hook>) {
        let mut script = self.locked();
        script.calls.push(step);
        let scripted = script.next.get_mut(&step).and_then(VecDeque::pop_front);
        let fault = scripted.unwrap_or_else(|| script.always.get(&step).copied());
        (fault, script.hooks.get(&step).cloned())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

/// A store that fails as [`Faults`] say.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: AnyStore,
    faults: Faults,
}

impl Faulty {
    /// Wraps a store. Without a script nothing fails.
    pub fn new(inner: impl Store) -> (Self, Faults) {
        Self::over(AnyStore::new(inner))
    }

    /// As [`new`](Self::new), over a store that is behind the common type already.
    pub fn over(inner: AnyStore) -> (Self, Faults) {
        let faults = Faults::default();
        (Self { inner, faults: faults.clone() }, faults)
    }

    async fn step<T, F>(&self, step: Step, call: impl FnOnce(AnyStore) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (fault, hook) = self.faults.enter(step);
        if let Some(hook) = hook {
            hook().await;
        }
        // Not applied before it is polled.
        let (call, faults) = (call(self.inner.clone()), self.faults.clone());
        let call = async move {
            faults.locked().below += 1;
            let _below = Below(faults.clone());
            call.await
        };
        match fault {
            None => {
                let answer = call.await;
                if !self.faults.locked().held {
                    self.faults.deliver().await;
                }
                answer
            }
            Some(Fault::Refused) => Err(error(StoreErrorKind::Unavailable)),
            Some(Fault::AnswerLost) => {
                let _lost = call.await;
                Err(error(StoreErrorKind::Unavailable))
            }
            Some(Fault::Late) => {
                self.faults.locked().late.push(Box::pin(async move {
                    let _lost = call.await;
                }));
                Err(error(StoreErrorKind::Timeout))
            }
            Some(Fault::NeverApplied) => std::future::pending().await,
            Some(Fault::NeverAnswered) => {
                let _lost = call.await;
                std::future::pending().await
            }
        }
    }
}

fn error(kind: StoreErrorKind) -> StoreError {
    StoreError::new("faulty", kind, "as the script says")
}

impl Store for Faulty {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let ask = ask.clone();
        self.step(Step::Begin, |store| async move { store.begin(&ask).await }).await
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        let leases = leases.to_vec();
        self.faults.locked().renewed.push(leases.iter().map(|lease| lease.id).collect());
        self.step(Step::Renew, |store| async move { store.renew(&leases, lease_for).await }).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let (completion, keep) = (Arc::clone(completion), *keep);
        self.step(Step::Complete, |store| async move { store.complete(lease, &completion, &keep).await })
            .await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let keep = *keep;
        self.step(Step::Release, |store| async move { store.release(by, how, &keep).await }).await
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.step(Step::Abandon, |store| async move { store.abandon(lease).await }).await
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        let progress = progress.clone();
        self.step(Step::Note, |store| async move { store.note(lease, &progress).await }).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        let id = *id;
        let watch = self.step(Step::Watch, |store| async move { store.watch(&id).await }).await?;
        let watching = self.faults.locked().watching;
        Ok(match watching {
            Watching::Honest => watch,
            Watching::Deaf => Watch::never(),
            Watching::Wolf => Watch::new(std::future::ready(())),
        })
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        let id = *id;
        self.step(Step::Other, |store| async move { store.inspect(&id).await }).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = *id;
        self.step(Step::Read, |store| async move { store.read(&id).await }).await
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        let query = query.clone();
        self.step(Step::Other, |store| async move { store.list(&query).await }).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let (id, resolution) = (*id, resolution.clone());
        self.step(Step::Other, |store| async move { store.resolve(&id, &resolution).await }).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        let id = *id;
        self.step(Step::Other, |store| async move { store.delete(&id, which).await }).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.step(Step::Other, |store| async move { store.sweep(limit).await }).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.step(Step::Other, |store| async move { store.health().await }).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        self.step(Step::Other, |store| async move { store.examine().await }).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn secret(&self) -> &Secret {
        self.inner.secret()
    }

    /// Whatever a test brings: transactions of its own complete records by this store's steps.
    fn commits_with(&self, _: &dyn Transactions) -> bool {
        true
    }
}
