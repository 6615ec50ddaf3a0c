//! The end of a run's transaction.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Completion, Retention};
use semel_core::store::{Committed, LeaseRef, Opened, Pending, RolledBack, Undertaking, Writes};
use semel_store_kit::Encoded;
use sqlx::{AssertSqlSafe, Connection as _, Database, Executor as _, MySqlConnection, Row as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::timeout;

use super::slot::{Held, TxSlot};
use super::texts::{Mark, Texts};
use crate::error::{NAME, number};

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
            let (within, texts, mark) = (shared.timeout, &shared.texts, held.mark);
            let Ok(answer) = Encoded::new(completion, NAME, shared.max_body) else {
                return ended(held, within, texts, Committed::Rejected, Seen::Whatever).await;
            };
            let Some(connection) = held.connection() else { return Committed::Never };
            if let Err(why) = prepare(connection, within, texts, &answer).await {
                return match why {
                    Why::Told(NO_SAVEPOINT) => {
                        ended(held, within, texts, Committed::Conflict, Seen::NoSavepoint).await
                    }
                    Why::Told(_) => ended(held, within, texts, Committed::Rejected, Seen::Whatever).await,
                    Why::Gone => Committed::Never,
                };
            }
            let text = texts.end(mark, self.lease, &answer, keep, writes);
            match send(connection, within, text).await {
                Ok(()) => {
                    give_back(held);
                    shared.watchers.wake(&[self.lease.id]);
                    Committed::Applied
                }
                // A deadlock of the handler's ended it, or the handler did.
                Err(Why::Told(NO_SAVEPOINT)) => {
                    ended(held, within, texts, Committed::Conflict, Seen::NoSavepoint).await
                }
                Err(Why::Told(MORE_THAN_ONE)) => {
                    ended(held, within, texts, Committed::Lost, Seen::Whatever).await
                }
                Err(Why::Told(number)) if is_conflict(number) => {
                    ended(held, within, texts, Committed::Conflict, Seen::Whatever).await
                }
                // Which statement failed is not known, and its connection is closed.
                Err(_) => Committed::Unheard,
            }
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            let Some(mut held) = self.held.take() else { return RolledBack::Undone };
            let shared = self.slot.shared();
            let (within, texts, mark) = (shared.timeout, &shared.texts, held.mark);
            let Some(connection) = held.connection() else { return RolledBack::Undone };
            match send(connection, within, Texts::undo(mark)).await {
                Ok(()) => {
                    give_back(held);
                    RolledBack::Undone
                }
                Err(Why::Told(_)) => {
                    match ended(held, within, texts, Committed::Never, Seen::NoSavepoint).await {
                        Committed::Torn => RolledBack::Torn,
                        _ => RolledBack::Undone,
                    }
                }
                // Its connection is closed: it is never committed.
                Err(Why::Gone) => RolledBack::Undone,
            }
        })
    }
}

/// `ER_SP_DOES_NOT_EXIST`: there is no such savepoint.
const NO_SAVEPOINT: u16 = 1305;
/// `ER_SUBQUERY_NO_1_ROW`: the completion found nothing.
const MORE_THAN_ONE: u16 = 1242;

/// A deadlock, a row that could not be had in time, or one that changed since the transaction's moment.
pub(super) const fn is_conflict(number: u16) -> bool {
    matches!(number, 1020 | 1205 | 1213 | 3572)
}

enum Why {
    /// The server refused a statement, and the connection is as good as before.
    Told(u16),
    /// Not known: the connection is of no use any more.
    Gone,
}

/// Savepoints that the handler left open are part of its work; an answer that is too long for one message goes ahead.
async fn prepare(
    connection: &mut MySqlConnection,
    within: Duration,
    texts: &Texts,
    answer: &Encoded,
) -> Result<(), Why> {
    let prepared = timeout(within, async {
        release_nested::<sqlx::MySql>(connection).await?;
        if !texts.is_inline(answer) {
            sqlx::query(Texts::AHEAD).bind(&answer.blob[..]).execute(connection).await?;
        }
        Ok(())
    });
    prepared.await.map_err(|_| Why::Gone)?.map_err(|error| why(&error))
}

async fn send(connection: &mut MySqlConnection, within: Duration, text: String) -> Result<(), Why> {
    let sent = timeout(within, connection.execute(sqlx::raw_sql(AssertSqlSafe(text))));
    sent.await.map_err(|_| Why::Gone)?.map(|_| ()).map_err(|error| why(&error))
}

fn why(error: &sqlx::Error) -> Why {
    match number(error) {
        // Shutting down, killed.
        Some(1053 | 1317 | 1927) | None => Why::Gone,
        Some(number) => Why::Told(number),
    }
}

/// The transaction has ended by our own text, of which sqlx knows nothing: to it there is one to be rolled back, which it
/// does with the pool's next message.
fn give_back(mut held: Held) {
    if let Some(connection) = held.connection() {
        if depth::<sqlx::MySql>(connection) > 1 {
            // It would look for savepoints that are gone. Closed.
            return;
        }
        start_rollback::<sqlx::MySql>(connection);
    }
    held.ended();
}

/// What makes one look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The savepoint was there, or nothing says that it was not.
    Whatever,
    /// The transaction is not the one that was begun.
    NoSavepoint,
}

/// Ends what is open, sees whether what was begun had been committed by the handler, and closes the connection.
async fn ended(mut held: Held, within: Duration, texts: &Texts, came: Committed, seen: Seen) -> Committed {
    let mark = held.mark;
    let Some(connection) = held.connection() else { return came };
    match timeout(within, was_committed(connection, texts, mark)).await {
        Ok(Ok(true)) => Committed::Torn,
        // It was committed by the handler, or rolled back by the server: what must not happen is a second run.
        Ok(Err(_)) | Err(_) if seen == Seen::NoSavepoint => Committed::Torn,
        _ => came,
    }
}

async fn was_committed(
    connection: &mut MySqlConnection,
    texts: &Texts,
    mark: Mark,
) -> Result<bool, sqlx::Error> {
    // What sqlx had queued for transactions inside this one fails in the place of the messages after it.
    for _ in 0..QUEUED {
        match connection.ping().await {
            Ok(()) => break,
            Err(error) if number(&error).is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let row = sqlx::raw_sql(AssertSqlSafe(texts.look(mark))).fetch_one(&mut *connection).await?;
    let committed = row.try_get_unchecked::<i64, _>(0)? != 0;
    if committed {
        // A row that stays does no harm.
        let _ = connection.execute(sqlx::raw_sql(AssertSqlSafe(texts.forget(mark)))).await;
    }
    Ok(committed)
}

/// Transactions inside one another that a handler may have dropped at once.
const QUEUED: usize = 16;

async fn release_nested<D: Database>(connection: &mut D::Connection) -> Result<(), sqlx::Error> {
    while D::TransactionManager::get_transaction_depth(connection) > 1 {
        D::TransactionManager::commit(connection).await?;
    }
    Ok(())
}

fn depth<D: Database>(connection: &D::Connection) -> usize {
    D::TransactionManager::get_transaction_depth(connection)
}

fn start_rollback<D: Database>(connection: &mut D::Connection) {
    D::TransactionManager::start_rollback(connection);
}
