//! The end of a run's transaction.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Completion, Retention};
use semel_core::store::{Committed, LeaseRef, Opened, Pending, RolledBack, Undertaking, Writes};
use sqlx::postgres::{PgArguments, PgDatabaseError, PgSeverity};
use sqlx::{Arguments as _, AssertSqlSafe, Database, Executor as _, PgConnection};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::timeout;

use super::by_hand::{Statement, Value};
use super::slot::{Held, TxSlot};

/// A run, and its transaction once it was given back.
pub(super) struct Run {
    slot: TxSlot,
    lease: LeaseRef,
    held: Option<Held>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Run {
    pub(super) fn new(slot: TxSlot, lease: LeaseRef) -> Self {
        Self { slot, lease, held: None }
    }
}

/// A run that is dropped closes its place, so that nobody takes what was given up.
impl Drop for Run {
    fn drop(&mut self) {
        drop(self.slot.close());
    }
}

impl Undertaking for Run {
    fn opened(&mut self) -> Opened {
        let (opened, held) = self.slot.close();
        self.held = held;
        opened
    }

    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed> {
        Box::pin(async move {
            let Some(mut held) = self.held.take() else { return Committed::Never };
            let shared = self.slot.shared();
            let Ok(step) = shared.hand.complete(self.lease, completion, keep, shared.timeout) else {
                return refused(held, shared.timeout, Committed::Rejected).await;
            };
            let Some(connection) = held.connection() else { return Committed::Never };
            match timeout(shared.timeout, complete(connection, &step, writes)).await {
                // Nothing was asked to commit, and the connection is closed.
                Err(_) | Ok(Completed::Gone) => return Committed::Never,
                Ok(Completed::Refused(why)) => return refused(held, shared.timeout, why).await,
                Ok(Completed::Torn) => return Committed::Torn,
                Ok(Completed::Done) => {}
            }
            let Some(connection) = held.connection() else { return Committed::Never };
            match timeout(shared.timeout, commit::<sqlx::Postgres>(connection)).await {
                Ok(Ok(())) => {
                    held.ended();
                    shared.hand.wake(&self.lease.id);
                    Committed::Applied
                }
                Ok(Err(error)) => match meaning(&error) {
                    Meaning::Gone => Committed::Unheard,
                    Meaning::Conflict => end(held, shared.timeout, Committed::Conflict).await,
                    Meaning::Refused => end(held, shared.timeout, Committed::Rejected).await,
                },
                Err(_) => Committed::Unheard,
            }
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            let Some(mut held) = self.held.take() else { return RolledBack::Undone };
            let within = self.slot.shared().timeout;
            let Some(connection) = held.connection() else { return RolledBack::Undone };
            match timeout(within, undo(connection)).await {
                Ok(Undo::Done) => {
                    let _ended = end(held, within, Committed::Never).await;
                    RolledBack::Undone
                }
                Ok(Undo::Torn) => RolledBack::Torn,
                // Its connection is closed: it is never committed.
                Ok(Undo::Gone) | Err(_) => RolledBack::Undone,
            }
        })
    }
}

/// What became of the completion's statement.
enum Completed {
    Done,
    Torn,
    /// The server refused it, and the connection is as good as before.
    Refused(Committed),
    Gone,
}

async fn complete(connection: &mut PgConnection, step: &Statement, writes: Writes) -> Completed {
    if writes == Writes::RollBack {
        match undo(connection).await {
            Undo::Done => {}
            Undo::Torn => return Completed::Torn,
            Undo::Gone => return Completed::Gone,
        }
    }
    let Ok(values) = bound(step) else { return Completed::Refused(Committed::Rejected) };
    let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&step.sql)), values);
    match query.fetch_optional(connection).await {
        Ok(Some(_)) => Completed::Done,
        Ok(None) => Completed::Refused(Committed::Lost),
        Err(error) => match meaning(&error) {
            Meaning::Gone => Completed::Gone,
            Meaning::Conflict => Completed::Refused(Committed::Conflict),
            Meaning::Refused => Completed::Refused(Committed::Rejected),
        },
    }
}

fn bound(step: &Statement) -> Result<PgArguments, sqlx::error::BoxDynError> {
    let mut bound = PgArguments::default();
    for value in &step.values {
        match value {
            Value::Bytes(bytes) => bound.add(&bytes[..])?,
            Value::Long(value) => bound.add(*value)?,
            Value::Int(value) => bound.add(*value)?,
            Value::Text(text) => bound.add(text.as_str())?,
        }
    }
    Ok(bound)
}

/// The completion was refused. Whether for a reason of the record, or since the transaction is not ours any more, is
/// known by the savepoint.
async fn refused(mut held: Held, within: Duration, why: Committed) -> Committed {
    let Some(connection) = held.connection() else { return why };
    match timeout(within, undo(connection)).await {
        Ok(Undo::Done) => end(held, within, why).await,
        Ok(Undo::Torn) => Committed::Torn,
        Ok(Undo::Gone) | Err(_) => why,
    }
}

/// Has the server forget the transaction. Where that fails its connection is closed, with the same result.
async fn end(mut held: Held, within: Duration, came: Committed) -> Committed {
    if let Some(connection) = held.connection()
        && let Ok(Ok(())) = timeout(within, roll_back::<sqlx::Postgres>(connection)).await
    {
        held.ended();
    }
    came
}

enum Undo {
    Done,
    /// There is no such savepoint: the handler ended the transaction that it was in.
    Torn,
    Gone,
}

async fn undo(connection: &mut PgConnection) -> Undo {
    match connection.execute(sqlx::raw_sql("ROLLBACK TO SAVEPOINT semel_run")).await {
        Ok(_) => Undo::Done,
        Err(error) => match code(&error) {
            Some("3B001" | "25P01") => Undo::Torn,
            _ => Undo::Gone,
        },
    }
}

/// Savepoints that the handler left open are part of its work.
async fn commit<D: Database>(connection: &mut D::Connection) -> Result<(), sqlx::Error> {
    while D::TransactionManager::get_transaction_depth(connection) > 1 {
        D::TransactionManager::commit(connection).await?;
    }
    D::TransactionManager::commit(connection).await
}

async fn roll_back<D: Database>(connection: &mut D::Connection) -> Result<(), sqlx::Error> {
    while D::TransactionManager::get_transaction_depth(connection) > 0 {
        D::TransactionManager::rollback(connection).await?;
    }
    Ok(())
}

enum Meaning {
    /// Rolled back, and worth another try.
    Conflict,
    /// Rolled back.
    Refused,
    /// Not known: the connection is of no use any more.
    Gone,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    let Some(database) = error.as_database_error() else { return Meaning::Gone };
    // An error that is FATAL may follow a commit.
    let severity = database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    if severity != Some(PgSeverity::Error) {
        return Meaning::Gone;
    }
    match code(error) {
        Some("40001" | "40P01" | "55P03") => Meaning::Conflict,
        // Those of poolers and of servers that go away.
        Some(code) if ["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
            Meaning::Gone
        }
        Some("40003") | None => Meaning::Gone,
        Some(_) => Meaning::Refused,
    }
}

fn code(error: &sqlx::Error) -> Option<&str> {
    let database = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    Some(database.code())
}
