//! What stands in for a store that is not open yet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    AnyStore, Begin, Begun, Capabilities, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Swept, Watch,
};

/// A store that is not open yet: every step is refused, nothing is sent anywhere, and its health is the reason.
///
/// It never becomes the store that it stands in for. A record's identity is made with the secret that the store keeps,
/// which nobody knows before it is open; this one has a random secret, and what is computed with it reaches no store. So
/// a request that met the stand-in is answered 503, also when the store comes a moment later. Clones are the same
/// stand-in.
#[derive(Clone, Debug)]
pub struct NotOpen {
    name: &'static str,
    secret: Secret,
    reason: Arc<Mutex<String>>,
}

impl NotOpen {
    /// For a store that could not be opened yet, for this reason.
    ///
    /// # Errors
    ///
    /// The operating system gives no random numbers.
    pub fn new(reason: &StoreError) -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let name = reason.store();
        let reason = Arc::new(Mutex::new(reason.message().to_owned()));
        Ok(Self { name, secret: Secret::from_bytes(bytes), reason })
    }

    /// The last try failed, for this reason. Answers whether that is another one than before.
    pub fn failed(&self, reason: &StoreError) -> bool {
        let mut last = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *last != reason.message();
        if is_new {
            reason.message().clone_into(&mut last);
        }
        is_new
    }

    /// Behind the common type.
    pub fn store(&self) -> AnyStore {
        AnyStore::new(self.clone())
    }

    fn refuse<T>(&self) -> Result<T, StoreError> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        Err(StoreError::new(self.name, StoreErrorKind::NotOpen, format!("not open yet: {reason}")))
    }
}

impl Store for NotOpen {
    async fn begin(&self, _: &Begin) -> Result<Begun, StoreError> {
        self.refuse()
    }

    async fn renew(&self, _: &[LeaseRef], _: Duration) -> Result<Vec<Settled>, StoreError> {
        self.refuse()
    }

    async fn complete(&self, _: LeaseRef, _: &Arc<Completion>, _: &Retention) -> Result<Settled, StoreError> {
        self.refuse()
    }

    async fn release(&self, _: ReleaseBy, _: ReleaseAs, _: &Retention) -> Result<Settled, StoreError> {
        self.refuse()
    }

    async fn abandon(&self, _: LeaseRef) -> Result<Settled, StoreError> {
        self.refuse()
    }

    async fn note(&self, _: LeaseRef, _: &Bytes) -> Result<Settled, StoreError> {
        self.refuse()
    }

    async fn watch(&self, _: &RecordId) -> Result<Watch, StoreError> {
        self.refuse()
    }

    async fn inspect(&self, _: &RecordId) -> Result<Option<RecordView>, StoreError> {
        self.refuse()
    }

    async fn read(&self, _: &RecordId) -> Result<Option<Record>, StoreError> {
        self.refuse()
    }

    async fn list(&self, _: &Query) -> Result<Page, StoreError> {
        self.refuse()
    }

    async fn resolve(&self, _: &RecordId, _: &Resolution) -> Result<Resolved, StoreError> {
        self.refuse()
    }

    async fn delete(&self, _: &RecordId, _: Delete) -> Result<Deleted, StoreError> {
        self.refuse()
    }

    async fn sweep(&self, _: usize) -> Result<Swept, StoreError> {
        self.refuse()
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.refuse()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.name)
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }
}
