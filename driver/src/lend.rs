//! The transaction of a run, before it is opened: never while the run's steps are under way. A transaction that waits for
//! the network holds its locks for as long as somebody else takes.

use std::fmt;

use http::Extensions;
use semel_core::record::RecordId;
use semel_core::store::{LendError, Lender};

use crate::steps::{Steps, StepsOver};

/// A transaction that is opened next: asking for it has ended the run's steps.
pub struct NextTx<D: Lender>(D::Slot);

impl<D: Lender> NextTx<D> {
    /// The transaction of a request, by its extensions. Ends its steps, if it has any.
    ///
    /// # Errors
    ///
    /// The request has none, or its steps are in use.
    pub fn of(extensions: &Extensions) -> Result<Self, LendError> {
        let slot = slot::<D>(extensions)?;
        Steps::close(extensions)?;
        Ok(Self(slot))
    }

    /// Opens it, or takes it again after it was given back.
    ///
    /// # Errors
    ///
    /// Somebody has taken it, or the database gives none.
    pub async fn open(self) -> Result<D::Guard, LendError> {
        D::take(&self.0).await
    }
}

impl<D: Lender> fmt::Debug for NextTx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextTx")
    }
}

/// A transaction that is opened when the run's steps are over. Asking for it opens nothing and ends nothing.
pub struct LaterTx<D: Lender> {
    slot: D::Slot,
    record: RecordId,
}

impl<D: Lender> LaterTx<D> {
    /// The transaction of a request, by its extensions.
    ///
    /// # Errors
    ///
    /// The request has none, or no steps for it to come after.
    pub fn of(extensions: &Extensions) -> Result<Self, LendError> {
        let slot = slot::<D>(extensions)?;
        let record = Steps::record_of(extensions).ok_or(LendError::NoSteps)?;
        Ok(Self { slot, record })
    }

    /// Opens it: the steps are over, says what [`Steps::finish`] gave.
    ///
    /// # Errors
    ///
    /// The steps were another request's, somebody has taken it, or the database gives none.
    pub async fn begin(self, over: StepsOver) -> Result<D::Guard, LendError> {
        if *over.record() != self.record {
            return Err(LendError::StepsOpen);
        }
        D::take(&self.slot).await
    }
}

impl<D: Lender> fmt::Debug for LaterTx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaterTx").field("record", &self.record).finish_non_exhaustive()
    }
}

fn slot<D: Lender>(extensions: &Extensions) -> Result<D::Slot, LendError> {
    extensions.get::<D::Slot>().cloned().ok_or(LendError::NotTransactional)
}
