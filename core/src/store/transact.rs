//! Transactions of the application in which its records are completed: the writes of a run and its answer are one
//! commit.
//!
//! Only databases that hold both can do it, so this is a companion of [`Store`](super::Store), not a part of it. The
//! order of the calls, and what each outcome means for the record, is decided in [`engine`](crate::engine).

use std::fmt;
use std::future::Future;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;

use http::Extensions;

use super::LeaseRef;
use crate::record::{Completion, RecordId, Retention};

/// A future on the heap, as the object-safe traits here need it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where runs get their transactions from: a pool of connections to the database that holds the records.
pub trait Transactions: fmt::Debug + Send + Sync + 'static {
    /// Names the records that its transactions complete: equal for a store and the transactions over the same
    /// records, and for no others.
    fn origin(&self) -> &RecordId;

    /// Whether a lease may be renewed while its run's transaction is open. Where a transaction sees one moment only
    /// (REPEATABLE READ and above), a renewal is a change behind its back, and it could never complete the record.
    fn tolerates_renewals(&self) -> bool;

    /// A transaction for one run, not opened yet. What the handler opens and takes it by goes into the request's
    /// extensions.
    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking>;
}

/// The transaction of one run. Nobody but its holder can commit it; dropping it rolls back.
pub trait Undertaking: fmt::Debug + Send {
    /// What became of it while the handler ran. From here on it can neither be opened nor taken.
    fn opened(&mut self) -> Opened;

    /// Completes the record inside the transaction, if it is still in flight or unknown under the run's fence, and
    /// commits. Whatever comes of it, the transaction is over for this process, or its connection is closed.
    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed>;

    /// Ends it without a commit. Whatever comes of it, it is over for this process, or its connection is closed.
    fn roll_back(&mut self) -> Pending<'_, RolledBack>;
}

/// What a handler did with its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the engine answers each of them")]
pub enum Opened {
    /// It never asked for it, or it could not be opened.
    Never,
    /// It opened it and gave it back.
    Back,
    /// Somebody still holds it: a task that the handler spawned, or the body of its answer. It can never be committed.
    Lent,
}

/// What becomes of the handler's writes when its answer is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Writes {
    /// They are committed with the answer.
    Commit,
    /// They are undone, and the answer is committed alone.
    RollBack,
}

/// What came of completing and committing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an answer must not be sent before its commit is known"]
#[expect(clippy::exhaustive_enums, reason = "the engine answers each of them")]
pub enum Committed {
    /// Writes and record are committed, and the database said so.
    Applied,
    /// Rolled back: the record was no longer the run's to complete.
    Lost,
    /// Rolled back: other transactions were in the way (serialization failure, deadlock), or the record was changed by
    /// somebody meanwhile. Another run may succeed.
    Conflict,
    /// Rolled back: the database refuses these writes (a constraint that is checked at the commit, a transaction that
    /// failed before).
    Rejected,
    /// The connection failed before the commit was asked for: it will never be committed.
    Never,
    /// The commit was asked for, and no answer came. It was committed, or it was not.
    Unheard,
    /// The handler ended the transaction itself. What it committed cannot be undone.
    Torn,
}

/// What came of rolling back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a record is not released while something of its run was committed"]
#[expect(clippy::exhaustive_enums, reason = "the engine answers each of them")]
pub enum RolledBack {
    /// Nothing of it was committed, or ever will be.
    Undone,
    /// The handler had ended the transaction itself. What it committed cannot be undone.
    Torn,
}

/// A kind of transaction that a handler can take: what makes an extractor of a host generic over databases.
pub trait Lender: Send + Sync + 'static {
    /// What lies in the request's extensions.
    type Slot: Clone + Send + Sync + 'static;
    /// What statements are sent on.
    type Connection;
    /// The transaction, on loan. Dropping it gives it back.
    type Guard: DerefMut<Target = Self::Connection> + Send + 'static;

    /// Opens the transaction, or takes it again.
    fn take(slot: &Self::Slot) -> Pending<'_, Result<Self::Guard, LendError>>;
}

/// A handler could not be given its transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LendError {
    /// The request carries none: its route is not transactional, or the request has no key.
    #[error(
        "this request has no transaction: make its route transactional and require a key, or the transaction is one of \
         another database"
    )]
    NotTransactional,
    /// It is taken.
    #[error(
        "the transaction of this request is taken: drop the `Tx` before taking it again, or hand on `&mut tx` instead"
    )]
    Taken,
    /// A transaction after the steps, of a request that has none.
    #[error(
        "this request has no steps for the transaction to come after: set `steps` on its route, or ask for `Tx`"
    )]
    NoSteps,
    /// The run's steps are not over: a transaction would be open for as long as somebody else takes to answer.
    #[error(
        "the steps of this request are still in use: end them with `steps.finish()`, and open the transaction then (`LaterTx` \
         beside `Steps` in the handler's arguments, and not `Tx`)"
    )]
    StepsOpen,
    /// The run is over: whoever asks is a task that outlived it.
    #[error("the run is over, and with it its transaction: do the work before the handler returns")]
    Over,
    /// The pool has no connection free.
    #[error(
        "no connection came free in the application's pool in time: raise `max_connections`, or run fewer at once"
    )]
    Exhausted,
    /// The database could not be reached, or refused to begin.
    #[error("the transaction could not be begun: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LendError {
    /// Whether the same request may succeed later.
    pub const fn can_retry(&self) -> bool {
        matches!(self, Self::Exhausted | Self::Database(_))
    }
}
