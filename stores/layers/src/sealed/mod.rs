//! Encryption at rest, bound to the record.

mod answer;
mod envelope;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention, StoredRequest, codec};
use semel_core::store::{
    AnyStore, Begin, Begun, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolution,
    Resolved, Settled, Store, StoreError, Verdict,
};

use crate::forward::forward;
pub(crate) use envelope::is_sealed;
use envelope::{Bound, SealError, What};
use keys::Keyring;
pub use keys::{KeyId, SealingKey};

/// Settings of the sealing layer: the keys.
///
/// ```
/// use semel_store_layers::{KeyId, Seal, SealingKey};
///
/// # let (new, old) = ([1; 32], [2; 32]);
/// let seal = Seal::new(KeyId(2), SealingKey::from_bytes(new)).old(KeyId(1), SealingKey::from_bytes(old));
/// ```
///
/// # What is sealed, and what stays readable
///
/// XChaCha20-Poly1305, a random nonce each, bound to the [`RecordId`]: bytes that were changed, or moved to
/// another record, do not open.
///
/// | sealed | readable in the store |
/// |---|---|
/// | the body's bytes | how many they are, and why there are none |
/// | headers, trailers, the first request's origin | the status (bound to the answer: changing it is noticed) |
/// | the application's reference | that there is an answer, and the size of all that |
/// | progress of steps | its size |
/// | target, headers and body of a kept request | its method and its size |
/// | | id, fingerprint, settings, principal tag, state, recovery, attempt, fence, claim id, times |
///
/// Id, fingerprint and principal tag are keyed hashes already: without the store's secret nobody can test guesses
/// against them. That secret lies in the store, unless it is configured; the sealing keys never do.
///
/// Somebody who can write to the store can still remove a record or a body, or put an earlier sealed answer of the
/// *same* record back. Put the store under the guard of its own access rules.
///
/// # Rotation
///
/// Seal by a new key ([`Seal::new`]) and keep the one before among the [`old`](Self::old) ones for a record's life
/// (7 days by default; unknown records live until they are resolved). Give every process the new key as an old one
/// first, and make it current afterwards: a process that meets an unknown key id cannot replay. What does not
/// open is [`Undecodable`](semel_core::store::StoreErrorKind::Undecodable), never absent, so its request does not
/// run a second time.
///
/// # Progress that does not open
///
/// A claim that would hand it to a run fails as `Undecodable`. In the views of an operator, or of a worker that
/// lost its lease, it is left sealed, so that one retired key does not hide every record.
///
/// # Cost and limits
///
/// One pass over body and head at each completion and replay, on the task of the caller. A kept body keeps its
/// length, so the store's `max_body` and quotas are what they were; beside it a completion grows by
/// [`Seal::OVERHEAD`] bytes.
#[derive(Debug)]
#[must_use]
pub struct Seal {
    current: (KeyId, SealingKey),
    old: Vec<(KeyId, SealingKey)>,
    unsealed: Unsealed,
}

/// What becomes of a record that is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsealed {
    Refused,
    Accepted,
}

impl Seal {
    /// What a sealed completion has more, in bytes, than its parts without the body as
    /// [`codec::encode`] writes them.
    pub const OVERHEAD: usize = envelope::Seal::HEAD_OVERHEAD;

    /// Seals by this key.
    pub const fn new(id: KeyId, key: SealingKey) -> Self {
        Self { current: (id, key), old: Vec::new(), unsealed: Unsealed::Refused }
    }

    /// Opens what this key has sealed.
    pub fn old(mut self, id: KeyId, key: SealingKey) -> Self {
        self.old.push((id, key));
        self
    }

    /// Reads records that are not sealed as they are. Default: they are undecodable, since anybody who can
    /// write to the store could plant one. For the life of the records from before sealing began.
    pub const fn accept_unsealed(mut self) -> Self {
        self.unsealed = Unsealed::Accepted;
        self
    }

    /// Keys without a store, for what reads kept requests. `None` if a key's number was given twice.
    pub fn opener(self) -> Option<Opener> {
        self.ready().ok()
    }

    /// `Err` with the number that two keys have.
    pub(crate) fn ready(self) -> Result<Opener, KeyId> {
        Ok(Opener { keys: Keyring::new(self.current, self.old)?, unsealed: self.unsealed })
    }
}

/// The keys, ready to open kept requests.
#[derive(Clone, Debug)]
pub struct Opener {
    keys: Keyring,
    unsealed: Unsealed,
}

impl Opener {
    /// A request as it was given to [`Store::begin`] above the sealing layer, from what the store below it keeps.
    ///
    /// # Errors
    ///
    /// [`Undecodable`](semel_core::store::StoreErrorKind::Undecodable) if it does not open.
    pub fn request(&self, id: &RecordId, kept: &StoredRequest) -> Result<StoredRequest, StoreError> {
        self.open_request(id, kept).map_err(|error| error.of("sealed"))
    }

    fn seal_request(&self, id: &RecordId, plain: &StoredRequest) -> Result<StoredRequest, SealError> {
        let bound = Bound { what: What::Request, id, status: None };
        let body = self.keys.seal_whole(bound, codec::encode_request(plain))?.into();
        let headers = HeaderMap::new();
        Ok(StoredRequest { method: plain.method.clone(), uri: Uri::from_static("/"), headers, body })
    }

    fn open_request(&self, id: &RecordId, kept: &StoredRequest) -> Result<StoredRequest, SealError> {
        let bound = Bound { what: What::Request, id, status: None };
        match self.keys.open_whole(bound, &kept.body) {
            Ok((_, plain)) => codec::decode_request(&plain.into()).map_err(|_| SealError::Malformed),
            Err(SealError::NotSealed) if self.unsealed == Unsealed::Accepted => Ok(kept.clone()),
            Err(error) => Err(error),
        }
    }

    fn open_answer(&self, id: &RecordId, kept: &Arc<Completion>) -> Result<Arc<Completion>, SealError> {
        match answer::open(&self.keys, id, kept) {
            Ok(plain) => Ok(Arc::new(plain)),
            Err(SealError::NotSealed) if self.unsealed == Unsealed::Accepted => Ok(Arc::clone(kept)),
            Err(error) => Err(error),
        }
    }

    fn seal_progress(&self, id: &RecordId, plain: &Bytes) -> Result<Bytes, SealError> {
        let bound = Bound { what: What::Progress, id, status: None };
        self.keys.seal_whole(bound, plain.to_vec()).map(Bytes::from)
    }

    fn open_progress(&self, id: &RecordId, kept: &Bytes) -> Result<Bytes, SealError> {
        let bound = Bound { what: What::Progress, id, status: None };
        match self.keys.open_whole(bound, kept) {
            Ok((_, plain)) => Ok(plain.into()),
            Err(SealError::NotSealed) if self.unsealed == Unsealed::Accepted => Ok(kept.clone()),
            Err(error) => Err(error),
        }
    }
}

/// A store that sees sealed answers only.
#[derive(Debug)]
pub(crate) struct Sealed {
    inner: AnyStore,
    name: &'static str,
    seals: Opener,
}

impl Sealed {
    pub(crate) fn new(inner: AnyStore, seals: Opener) -> Self {
        let name = inner.capabilities().name;
        Self { inner, name, seals }
    }

    fn seal(&self, id: &RecordId, plain: &Completion) -> Result<Arc<Completion>, StoreError> {
        answer::seal(&self.seals.keys, id, plain).map(Arc::new).map_err(|error| error.of(self.name))
    }

    fn open(&self, record: Record) -> Result<Record, StoreError> {
        let opened = self.seals.open_answer(&record.view.id, &record.completion);
        let completion = opened.map_err(|error| error.of(self.name))?;
        Ok(Record { view: self.view(record.view), completion })
    }

    /// Progress that does not open stays sealed here: the view says what the record is all the same.
    fn view(&self, mut view: RecordView) -> RecordView {
        if let Some(kept) = &view.progress
            && let Ok(plain) = self.seals.open_progress(&view.id, kept)
        {
            view.progress = Some(plain);
        }
        view
    }

    fn boxed(&self, view: Box<RecordView>) -> Box<RecordView> {
        Box::new(self.view(*view))
    }

    fn settled(&self, settled: Settled) -> Settled {
        match settled {
            Settled::Superseded(view) => Settled::Superseded(self.boxed(view)),
            Settled::Applied | Settled::Absent => settled,
        }
    }

    fn begun(&self, id: &RecordId, begun: Begun) -> Result<Begun, StoreError> {
        match begun {
            Begun::Settled(record) => Ok(Begun::Settled(self.open(record)?)),
            Begun::Unknown(view) => Ok(Begun::Unknown(self.view(view))),
            Begun::Acquired(mut acquired) => {
                if let Some(kept) = &acquired.progress {
                    // A run that does not see the notes of the one before repeats its steps.
                    let plain = self.seals.open_progress(id, kept).map_err(|error| error.of(self.name))?;
                    acquired.progress = Some(plain);
                }
                Ok(Begun::Acquired(acquired))
            }
            begun @ (Begun::Differs(_)
            | Begun::Held { .. }
            | Begun::Stale
            | Begun::Expired
            | Begun::OverQuota) => Ok(begun),
        }
    }
}

impl Store for Sealed {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let Some(request) = &ask.request else {
            return self.begun(&ask.id, self.inner.begin(ask).await?);
        };
        let sealed = self.seals.seal_request(&ask.id, request).map_err(|error| error.of(self.name))?;
        let ask = Begin { request: Some(sealed), ..ask.clone() };
        self.begun(&ask.id, self.inner.begin(&ask).await?)
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        let settled = self.inner.renew(leases, lease_for).await?;
        Ok(settled.into_iter().map(|settled| self.settled(settled)).collect())
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let sealed = self.seal(&lease.id, completion)?;
        Ok(self.settled(self.inner.complete(lease, &sealed, keep).await?))
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        Ok(self.settled(self.inner.release(by, how, keep).await?))
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        Ok(self.settled(self.inner.abandon(lease).await?))
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        let sealed = self.seals.seal_progress(&lease.id, progress).map_err(|error| error.of(self.name))?;
        Ok(self.settled(self.inner.note(lease, &sealed).await?))
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        Ok(self.inner.inspect(id).await?.map(|view| self.view(view)))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.inner.read(id).await?.map(|record| self.open(record)).transpose()
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        let Page { records, next } = self.inner.list(query).await?;
        Ok(Page { records: records.into_iter().map(|view| self.view(view)).collect(), next })
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let verdict = match &resolution.verdict {
            Verdict::Applied(plain) => Verdict::Applied(self.seal(id, plain)?),
            Verdict::NotApplied => Verdict::NotApplied,
        };
        let resolution = Resolution { verdict, ..resolution.clone() };
        Ok(match self.inner.resolve(id, &resolution).await? {
            Resolved::Applied(view) => Resolved::Applied(self.boxed(view)),
            Resolved::Refused(view) => Resolved::Refused(self.boxed(view)),
            Resolved::Absent => Resolved::Absent,
        })
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        Ok(match self.inner.delete(id, which).await? {
            Deleted::Refused(view) => Deleted::Refused(self.boxed(view)),
            deleted @ (Deleted::Gone | Deleted::Absent) => deleted,
        })
    }

    forward!(watch sweep health examine capabilities secret);
}
