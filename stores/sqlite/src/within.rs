//! Claim, effects and completion in one commit, on the writer's thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, Params, Row, Statement};
use semel_core::record::Completion;
use semel_core::store::{Acquired, Begin, Begun, Ended, Ending, ReleaseBy, Settled, StoreErrorKind, Writes};

use crate::error::Fault;
use semel_store_kit::Encoded;

use crate::ops::{self, Claimed};
use crate::tx::Tx;

/// What a run writes through, into the file that holds the records: tables of the application, which it makes itself.
///
/// Everything is part of one transaction, together with the claim and the answer. Statements that begin, end or nest
/// transactions are refused, as are those that attach other files, whose part SQLite could not commit in one step with
/// this one.
///
/// The tables `record` and `meta` are Semel's.
#[derive(Debug)]
pub struct Effects<'t>(&'t Connection);

impl Effects<'_> {
    /// Runs one statement, and says how many rows it changed.
    ///
    /// # Errors
    ///
    /// Those of SQLite, and for a statement that is refused.
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> rusqlite::Result<usize> {
        self.prepare(sql)?.execute(params)
    }

    /// Runs one statement that gives a row, and reads its first.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); `QueryReturnedNoRows` if it gives none.
    pub fn query_row<T, P, F>(&self, sql: &str, params: P, read: F) -> rusqlite::Result<T>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.prepare(sql)?.query_row(params, read)
    }

    /// Prepares one statement.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        self.0.prepare(sql).and_then(allowed)
    }

    /// The row number of the last row that was inserted.
    pub fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }
}

/// Refuses what would end the transaction of everybody who is in it, half done and with its counters unwritten.
///
/// SQLite counts as read-only what begins or ends transactions or attaches files (sqlite3_stmt_readonly), and nothing
/// else of that kind gives no rows.
fn allowed(statement: Statement<'_>) -> rusqlite::Result<Statement<'_>> {
    if statement.readonly() && statement.column_count() == 0 {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_AUTH),
            Some("the transaction is Semel's: nothing may begin, end or nest one, nor attach a file".into()),
        ));
    }
    Ok(statement)
}

/// What came of it, before its commit.
pub(crate) enum Took<T> {
    Ran(T),
    Not(Box<Claimed>),
    Panicked(Box<dyn Any + Send>),
}

pub(crate) fn transact<T, F>(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    encode: impl Fn(&Completion) -> Result<Encoded, Fault>,
    run: &mut F,
) -> Result<Took<T>, Fault>
where
    F: for<'t> FnMut(&Effects<'t>, Acquired) -> Ended<T>,
{
    // Around the claim too: a run that panics, or whose answer does not fit, leaves no claim behind.
    tx.savepoint()?;
    let took = claim_and_run(tx, ask, request, encode, run);
    match &took {
        Ok(Took::Ran(_) | Took::Not(_)) => tx.keep()?,
        Ok(Took::Panicked(_)) | Err(Fault::Refused(_)) => tx.undo()?,
        Err(Fault::Sqlite(_)) => {}
    }
    took
}

fn claim_and_run<T, F>(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    encode: impl Fn(&Completion) -> Result<Encoded, Fault>,
    run: &mut F,
) -> Result<Took<T>, Fault>
where
    F: for<'t> FnMut(&Effects<'t>, Acquired) -> Ended<T>,
{
    let acquired = match ops::begin(tx, ask, request)? {
        Claimed::Begun(Begun::Acquired(acquired)) => acquired,
        other => return Ok(Took::Not(Box::new(other))),
    };
    let lease = acquired.lease.as_ref();
    tx.savepoint()?;
    let ended = catch_unwind(AssertUnwindSafe(|| run(&Effects(tx.connection()), acquired)));
    if tx.is_over() {
        return Err(self::ended());
    }
    let Ended { record, with } = match ended {
        Ok(ended) => ended,
        Err(panic) => {
            tx.undo()?;
            return Ok(Took::Panicked(panic));
        }
    };
    let settled = match record {
        Ending::Complete(completion, keep, writes) => {
            match writes {
                Writes::Commit => tx.keep()?,
                Writes::RollBack => tx.undo()?,
            }
            ops::complete(tx, lease, &encode(&completion)?, &keep)?
        }
        Ending::Release(how, keep) => {
            tx.undo()?;
            ops::release(tx, ReleaseBy::Lease(lease), how, &keep)?
        }
        Ending::Abandon => {
            tx.undo()?;
            ops::abandon(tx, lease)?
        }
    };
    match settled {
        Settled::Applied => Ok(Took::Ran(with)),
        // Nobody else has been in this transaction.
        Settled::Superseded(_) | Settled::Absent => {
            Err(Fault::refused(StoreErrorKind::Internal, "a run's own record changed inside its transaction"))
        }
    }
}

/// Statements of an application's own, in a transaction of the writer's.
pub(crate) fn tables(tx: &mut Tx<'_, '_>, statements: &str) -> Result<(), Fault> {
    tx.savepoint()?;
    let mut batch = Batch::new(tx.connection(), statements);
    let done = (|| {
        while let Some(statement) = batch.next()? {
            allowed(statement)?.raw_execute()?;
        }
        Ok::<(), rusqlite::Error>(())
    })();
    if tx.is_over() {
        return Err(ended());
    }
    if let Err(error) = done {
        tx.undo()?;
        return Err(Fault::refused(StoreErrorKind::Config, error.to_string()));
    }
    tx.touch();
    tx.keep()
}

/// SQLite ends a transaction by itself where a conflict clause or a trigger says ROLLBACK, or the disk fails, and with it
/// the steps of others that were in it: all are run again, each by itself.
fn ended() -> Fault {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    let why = "a statement ended the whole transaction (ON CONFLICT ROLLBACK, RAISE(ROLLBACK))";
    Fault::Sqlite(rusqlite::Error::SqliteFailure(code, Some(why.into())))
}
