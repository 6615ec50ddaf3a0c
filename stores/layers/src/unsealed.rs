//! A store without sealing keys, over records that may be sealed.

use semel_core::record::{Record, RecordId};
use semel_core::store::{
    AnyStore, Begin, Begun, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Transactions,
};

use crate::forward::forward;
use crate::sealed::is_sealed;

/// Refuses answers and notes that are sealed: without the keys they would be replayed as they lie there.
#[derive(Debug)]
pub(crate) struct Unsealed {
    inner: AnyStore,
}

impl Unsealed {
    pub(crate) const fn new(inner: AnyStore) -> Self {
        Self { inner }
    }

    fn plain(&self, record: Record) -> Result<Record, StoreError> {
        match &record.completion.reference {
            Some(reference) if is_sealed(reference) => Err(self.refused()),
            _ => Ok(record),
        }
    }

    fn refused(&self) -> StoreError {
        let name = self.inner.capabilities().name;
        let why =
            "a record is sealed, and there are no keys here: give them, as its other processes have them";
        StoreError::new(name, StoreErrorKind::Undecodable, why)
    }
}

impl Store for Unsealed {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        match self.inner.begin(ask).await? {
            Begun::Settled(record) => self.plain(record).map(Begun::Settled),
            // A run that does not see the notes of the one before repeats its steps.
            Begun::Acquired(acquired) if acquired.progress.as_ref().is_some_and(|notes| is_sealed(notes)) => {
                Err(self.refused())
            }
            begun => Ok(begun),
        }
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.inner.read(id).await?.map(|record| self.plain(record)).transpose()
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        self.inner.resolve(id, resolution).await
    }

    fn commits_with(&self, transactions: &dyn Transactions) -> bool {
        self.inner.commits_with(transactions)
    }

    forward!(renew complete release abandon note watch inspect list delete sweep health examine capabilities secret);
}
