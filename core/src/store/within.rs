//! Stores that claim, run and settle in one transaction of their own.

use std::future::Future;
use std::sync::Arc;

use super::{Acquired, Begin, Begun, ReleaseAs, Store, StoreError, Writes};
use crate::record::{Completion, Retention};

/// A store that can do the whole of a request in one commit: the claim, what the run writes, and its answer.
///
/// Only an embedded database can, since the run takes place inside the store's transaction, and holds up everybody
/// else's: it has to be short, and to do nothing but write.
pub trait Transact: Store {
    /// What a run writes through.
    type Effects<'t>;

    /// Claims; if the claim is granted, calls `run` inside the same transaction, settles the record as it says, and
    /// commits. The answer comes after the commit.
    ///
    /// `run` may be called again, each time in a new transaction, where one could not be committed; what its earlier
    /// calls wrote is gone. If it panics, its writes are undone, its claim with them, and the caller panics.
    ///
    /// The error says that nothing was committed, but for [`Unavailable`](super::StoreErrorKind::Unavailable) and
    /// [`Timeout`](super::StoreErrorKind::Timeout): asking again with the same claim finds out.
    fn transact<T, F>(
        &self,
        ask: &Begin,
        run: F,
    ) -> impl Future<Output = Result<Transacted<T>, StoreError>> + Send
    where
        T: Send + 'static,
        F: for<'t> FnMut(&Self::Effects<'t>, Acquired) -> Ended<T> + Send + 'static;
}

/// What came of it.
#[derive(Debug)]
#[must_use = "an answer may be sent only if it ran"]
#[expect(clippy::exhaustive_enums, reason = "it ran or it did not")]
#[expect(clippy::large_enum_variant, reason = "it lives for one match")]
pub enum Transacted<T> {
    /// It ran, and is committed: what the run brought with it.
    Ran(T),
    /// It did not run: the claim's answer, which is not [`Begun::Acquired`].
    Answered(Begun),
}

/// How a run ended.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "what becomes of the record, and what the caller wants of the run"
)]
pub struct Ended<T> {
    /// What becomes of its record.
    pub record: Ending,
    /// Handed to the caller after the commit.
    pub with: T,
}

/// What becomes of a record whose run has ended.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a store has to write each")]
pub enum Ending {
    /// Completed with this answer, together with the run's writes or without them.
    Complete(Arc<Completion>, Retention, Writes),
    /// Released, and the run's writes undone.
    Release(ReleaseAs, Retention),
    /// Abandoned, and the run's writes undone.
    Abandon,
}
