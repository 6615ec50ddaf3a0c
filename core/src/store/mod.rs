//! The store: where records live. Its methods are the only place where Semel meets a database.
//!
//! Every method is one atomic step at the backend, judged by the backend's clock, and safe to repeat.
//! What each step must answer is written down as laws in the crate `semel-conformance`, which runs them
//! against any implementation.

mod any;
mod exam;
mod transact;
mod within;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use any::AnyStore;
pub use exam::{Finding, Migrated, Migration, Severity};
pub use transact::{
    Committed, LendError, Lender, Opened, Pending, RolledBack, Transactions, Undertaking, Writes,
};
pub use within::{Ended, Ending, Transact, Transacted};

use crate::identity::Secret;
use crate::record::{
    ClaimId, Completion, Fence, Fingerprint, PrincipalTag, Record, RecordId, RecordView, Recovery, Retention,
    Settings, State, StoredRequest, Timestamp,
};

/// Where records live.
///
/// Authors write each method as a native `async fn`. Callers use [`AnyStore`].
///
/// # What every implementation owes
///
/// * **One atomic step a call.** Two callers at once see some order of two whole calls.
/// * **The store's clock.** No instant of a caller enters a comparison.
/// * **Safe to repeat.** A call whose answer was lost may be sent again; a step that already took effect
///   answers as it did the first time.
/// * **Durable when it answers**, where [`Capabilities::durable`] says so, reads included: what a caller was
///   shown is not taken back by a crash.
/// * **A record that does not decode is an error**, never an absent record.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Claims a record, or says why not. Fingerprint and principal are compared in the same step; an existing
    /// record is taken only when they are equal.
    ///
    /// In this precedence, with `L` the record's own recovery rule and "equal" meaning equal fingerprint and,
    /// but for a released record, equal principal (`None` equals only `None`):
    ///
    /// | record | answer |
    /// |---|---|
    /// | absent, or its life is over; over quota | [`Begun::OverQuota`], nothing changes |
    /// | absent, or its life is over; [`Begin::minted`] is more than `retention.record` ago | [`Begun::Expired`], nothing changes |
    /// | absent, or its life is over | [`Begun::Acquired`], attempt 1 |
    /// | not equal, whatever its state | [`Begun::Differs`], nothing changes, also when its lease is over |
    /// | completed | [`Begun::Settled`] |
    /// | unknown; or in flight, lease over, hold (which is written down as unknown) | [`Begun::Unknown`] |
    /// | in flight, lease running, same claim id | [`Begun::Acquired`], same fence and attempt |
    /// | in flight, lease running | [`Begun::Held`] |
    /// | in flight, lease over, takeover | [`Begun::Acquired`], higher fence, attempt + 1, with its progress |
    /// | released, its last claim id is this one | [`Begun::Stale`], nothing changes |
    /// | released | [`Begun::Acquired`], higher fence, attempt + 1, principal and recovery of this claim |
    /// | released and bound to nothing ([`ReleaseAs::Forgotten`]) | the same, but attempt 1, for any fingerprint and principal |
    fn begin(&self, ask: &Begin) -> impl Future<Output = Result<Begun, StoreError>> + Send;

    /// Extends leases, by a compare-and-set on each fence. One answer a lease, in the order asked.
    ///
    /// [`Settled::Superseded`] if the record is no longer in flight under that fence, which includes one that
    /// is unknown because its lease ran out under [`Recovery::Hold`]. Under [`Recovery::Takeover`] a lease that
    /// is over and not yet taken is extended.
    ///
    /// [`Settled::Absent`] if there is no such record.
    fn renew(
        &self,
        leases: &[LeaseRef],
        lease_for: Duration,
    ) -> impl Future<Output = Result<Vec<Settled>, StoreError>> + Send;

    /// Settles a claim with its answer: in flight or unknown, under this fence, becomes completed.
    ///
    /// [`Settled::Applied`] also when this lease has completed the record before. At most one completed
    /// transition a record, ever. Progress is dropped.
    fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Settles a claim as not done: in flight or unknown, under this fence or claim id, becomes released.
    ///
    /// [`Settled::Applied`] also when this very claim has released the record before. A released record
    /// remembers its last claim id, so that a delayed packet of that claim is answered [`Begun::Stale`].
    fn release(
        &self,
        by: ReleaseBy,
        how: ReleaseAs,
        keep: &Retention,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Gives a claim up without knowing its outcome. Under [`Recovery::Hold`] the record becomes unknown; under
    /// [`Recovery::Takeover`] it stays in flight until its lease is over.
    ///
    /// [`Settled::Applied`] also when it is unknown under this fence already.
    fn abandon(&self, lease: LeaseRef) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Records what a run's steps have done so far, while it is in flight under this fence. A takeover or
    /// rerun hands it to the next claimant.
    fn note(
        &self,
        lease: LeaseRef,
        progress: &Bytes,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Subscribes to changes of a record. Subscribe *before* asking again. A wake-up is a hint: it may be
    /// lost, and it may come without a change.
    fn watch(&self, id: &RecordId) -> impl Future<Output = Result<Watch, StoreError>> + Send;

    /// The record without its answer; `None` if there is none or its life is over.
    fn inspect(&self, id: &RecordId) -> impl Future<Output = Result<Option<RecordView>, StoreError>> + Send;

    /// The record with its answer, if it is completed and its life is not over.
    fn read(&self, id: &RecordId) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Some records, in the order of their ids.
    fn list(&self, query: &Query) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Settles an unknown record by the word of somebody who knows. Advances the fence, so that a late worker is
    /// superseded.
    fn resolve(
        &self,
        id: &RecordId,
        resolution: &Resolution,
    ) -> impl Future<Output = Result<Resolved, StoreError>> + Send;

    /// Removes a record. The store's fences go on growing.
    fn delete(
        &self,
        id: &RecordId,
        which: Delete,
    ) -> impl Future<Output = Result<Deleted, StoreError>> + Send;

    /// Removes up to `limit` records whose life is over, drops bodies whose life is over, writes down leases that
    /// ran out, and releases takeovers nobody claimed for a record's life. Never ends a record that is in flight
    /// or unknown.
    fn sweep(&self, limit: usize) -> impl Future<Output = Result<Swept, StoreError>> + Send;

    /// Whether the store can take claims now: asks the backend.
    fn health(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What whoever runs the store should know: durability, eviction, replication, its schema and its room, each with
    /// what to do about it. Asks the backend, for operators and not for requests. What the backend does not let the
    /// store see is a finding, and no error. Default: nothing.
    fn examine(&self) -> impl Future<Output = Result<Vec<Finding>, StoreError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// What this store can do. Does not change while it is open.
    fn capabilities(&self) -> Capabilities;

    /// The secret that keys this store's identities: made by compare-and-set when the store was first opened,
    /// or configured.
    fn secret(&self) -> &Secret;

    /// Whether these transactions complete this very store's records, in the form in which it reads them. A store
    /// that changes what it keeps, or keeps copies of it, says no.
    fn commits_with(&self, transactions: &dyn Transactions) -> bool {
        let _ = transactions;
        false
    }
}

/// A claim, as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// Which record.
    pub id: RecordId,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
    /// The settings that made the fingerprint.
    pub settings: Settings,
    /// Who asks; `None` for a public endpoint.
    pub principal: Option<PrincipalTag>,
    /// This claim's own number, the same each time the same claim is sent.
    pub claim: ClaimId,
    /// How long the lease runs, from the store's now.
    pub lease_for: Duration,
    /// What happens when the lease is over.
    pub recovery: Recovery,
    /// The lives of the record.
    pub retention: Retention,
    /// When the key says it was minted (UUIDv7): a key older than the record's life is not claimed anew.
    pub minted: Option<Timestamp>,
    /// A limit on what the principal may keep. Only new records count against it.
    pub quota: Option<Quota>,
    /// The request, where a completer may have to finish it.
    pub request: Option<StoredRequest>,
}

/// A limit on what one principal may keep in the store, judged inside the claim.
///
/// Where [`Capabilities::quotas`] says [`Quotas::Limited`], only those records of the principal count that were
/// themselves claimed with a quota. For a host that sets one on each claim of a principal there is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Records of the same principal tag, in any state. `None`: no limit.
    pub records: Option<u64>,
    /// Bytes of kept bodies of the same principal tag. `None`: no limit.
    pub bytes: Option<u64>,
}

/// The store's answer to a claim.
#[derive(Debug, PartialEq)]
#[must_use = "an acquired lease has to be settled"]
#[expect(clippy::exhaustive_enums, reason = "the engine answers each of them")]
pub enum Begun {
    /// The caller's: run.
    Acquired(Acquired),
    /// Another request or another principal made the record. Nothing was changed.
    Differs(Differs),
    /// Somebody else's run, with what is left of its lease.
    Held {
        /// Time until the lease is over, unless it is renewed.
        remaining: Duration,
    },
    /// Completed before: the answer. Its body may no longer be kept.
    Settled(Record),
    /// Ended without an answer; nobody knows whether it took effect.
    Unknown(RecordView),
    /// A delayed packet of a claim that was released since. It claims nothing.
    Stale,
    /// The key says that it was minted longer ago than a record lives.
    Expired,
    /// The principal keeps as much as it may.
    OverQuota,
}

/// A claim that was granted.
#[derive(Debug, PartialEq, Eq)]
pub struct Acquired {
    /// What to settle it with.
    pub lease: Lease,
    /// 1 for the first run, one more for each takeover or rerun.
    pub attempt: u32,
    /// What an earlier attempt's steps recorded.
    pub progress: Option<Bytes>,
}

/// What a record that differs was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// Its print; `None` never compares equal.
    pub fingerprint: Option<Fingerprint>,
    /// The settings that made the print.
    pub settings: Settings,
    /// Whether the principal was equal. If not, no print can mend it.
    pub same_principal: bool,
}

/// The right to settle one claim. Not `Clone`: whoever holds it settles it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not settled leaves its record in flight until it is over"]
pub struct Lease {
    id: RecordId,
    claim: ClaimId,
    fence: Fence,
}

impl Lease {
    /// For stores: the lease of a claim they granted.
    pub const fn new(id: RecordId, claim: ClaimId, fence: Fence) -> Self {
        Self { id, claim, fence }
    }

    /// Which record.
    pub const fn id(&self) -> &RecordId {
        &self.id
    }

    /// The claimant's own number.
    pub const fn claim(&self) -> ClaimId {
        self.claim
    }

    /// The store's number.
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Its names, to ask the store with.
    pub const fn as_ref(&self) -> LeaseRef {
        LeaseRef { id: self.id, claim: self.claim, fence: self.fence }
    }
}

/// The names of a lease: enough to ask a store, not the right to settle it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// Which record.
    pub id: RecordId,
    /// The claimant's own number.
    pub claim: ClaimId,
    /// The store's number.
    pub fence: Fence,
}

/// What a settling step came to. An outcome, not an error.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a superseded worker's answer must not be sent"]
#[expect(clippy::exhaustive_enums, reason = "the engine answers each of them")]
pub enum Settled {
    /// It took effect, now or when it was first sent.
    Applied,
    /// Somebody else holds or has settled the record: what it is now.
    Superseded(Box<RecordView>),
    /// There is no such record any more: deleted by an operator, or its life is over.
    Absent,
}

/// Whose claim to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two ways to name a claim")]
pub enum ReleaseBy {
    /// By its lease.
    Lease(LeaseRef),
    /// By the claimant's own number, where the answer to the claim never came. If the claim never arrived
    /// the answer is [`Settled::Absent`] or [`Settled::Superseded`], and nothing is changed.
    Claim(RecordId, ClaimId),
}

/// What a released record binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store has to write each")]
pub enum ReleaseAs {
    /// Its fingerprint: only an equal request may run again.
    Retry,
    /// Nothing: the key is as free as if it had never been used (307, 308). All that is remembered is the
    /// claim id, against delayed packets.
    Forgotten,
}

/// A wake-up to come.
pub struct Watch(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Watch {
    /// From a future that is ready when the record may have changed.
    pub fn new(changed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(changed))
    }

    /// Never wakes: for stores without notification, whose waiters look again by themselves.
    pub fn never() -> Self {
        Self::new(std::future::pending())
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only records in this state; `None`: all.
    pub state: Option<State>,
    /// Only records after this one, from [`Page::next`].
    pub after: Option<RecordId>,
    /// At most so many.
    pub limit: usize,
}

/// Some records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order of their ids.
    pub records: Vec<RecordView>,
    /// Where to go on; `None` at the end.
    pub next: Option<RecordId>,
}

/// The word of somebody who knows what became of an unknown record.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// This resolution's own number, so that sending it again finds itself.
    pub op: ClaimId,
    /// Only if the record still has this fence; `None`: whatever it has.
    pub expect: Option<Fence>,
    /// What became of it.
    pub verdict: Verdict,
    /// How long the settled record lives.
    pub retention: Retention,
}

/// What became of an unknown record.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "it was done or it was not")]
pub enum Verdict {
    /// It was done. Without a response, a retry is told `replay-unavailable`.
    Applied(Arc<Completion>),
    /// It was not done: the next equal request may run.
    NotApplied,
}

/// What a resolution came to.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "an operator is told each")]
pub enum Resolved {
    /// It took effect, now or when it was first sent: the record now.
    Applied(Box<RecordView>),
    /// The record is not unknown, or has another fence than expected: the record as it is.
    Refused(Box<RecordView>),
    /// There is no such record.
    Absent,
}

/// Which records may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an operator chooses")]
pub enum Delete {
    /// Completed and released ones.
    Settled,
    /// Any, also one in flight or unknown: its request may then run a second time.
    Any,
}

/// What a deletion came to.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "an operator is told each")]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It is in flight or unknown: as it is.
    Refused(Box<RecordView>),
    /// There was none.
    Absent,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Records whose life was over.
    pub removed: usize,
    /// Bodies whose life was over.
    pub bodies: usize,
    /// Leases that ran out under hold, written down as unknown.
    pub unknown: usize,
    /// Takeovers nobody claimed for a record's life, released.
    pub released: usize,
    /// Whether there was more than the limit allowed.
    pub more: bool,
}

/// What a store can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The kind of store, as in its URL: `memory`, `sqlite`.
    pub name: &'static str,
    /// Whether an answered step survives a crash of the store.
    pub durable: bool,
    /// Whether other processes can use the same records.
    pub shared: bool,
    /// The largest body it can keep, in bytes; `None`: no limit of its own.
    pub max_body: Option<u64>,
    /// Whether [`Store::watch`] wakes for changes made by other processes too.
    pub notifies_across_processes: bool,
    /// Which records a [`Quota`] counts.
    pub quotas: Quotas,
}

/// Which records a [`Quota`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quotas {
    /// None: a claim with a quota is refused, as [`StoreErrorKind::Config`].
    #[default]
    Refused,
    /// Those of the principal that were claimed with a quota. Records from before quotas were set, or from a program that
    /// sets none, do not count.
    Limited,
    /// All of the principal.
    All,
}

impl Capabilities {
    /// A store of this name that promises nothing else.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            durable: false,
            shared: false,
            max_body: None,
            notifies_across_processes: false,
            quotas: Quotas::Refused,
        }
    }
}

/// A store could not do a step.
///
/// Its text names the store and what to do, never a key, a credential or a body.
#[derive(Debug, thiserror::Error)]
#[error("{store} store: {message}")]
pub struct StoreError {
    store: &'static str,
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A new error of a store.
    pub fn new(store: &'static str, kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { store, kind, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of store, as in its URL.
    pub const fn store(&self) -> &'static str {
        self.store
    }

    /// What is wrong and what to do, without the store's kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed when it is sent again.
    pub const fn can_retry(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Timeout | StoreErrorKind::Contended)
    }
}

/// The kinds of store errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Not reachable, shutting down, or read-only. The step may or may not have taken effect.
    Unavailable,
    /// No answer in time. The step may or may not have taken effect.
    Timeout,
    /// Others were in the way for longer than the store waits.
    Contended,
    /// No room for another record, or the disk is full.
    Full,
    /// The body is larger than the store takes.
    TooLarge,
    /// A record does not decode: corrupted, or written by a newer version.
    Undecodable,
    /// The store's schema is newer than this program.
    NewerSchema,
    /// The store's settings or its file are not usable as they are.
    Config,
    /// The store is not open yet: nothing was sent anywhere.
    NotOpen,
    /// Anything else. The step may or may not have taken effect.
    Internal,
}

impl StoreErrorKind {
    /// The kind's name for logs and traces: one of a fixed few.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Contended => "contended",
            Self::Full => "full",
            Self::TooLarge => "too-large",
            Self::Undecodable => "undecodable",
            Self::NewerSchema => "newer-schema",
            Self::Config => "config",
            Self::NotOpen => "not-open",
            Self::Internal => "internal",
        }
    }
}
