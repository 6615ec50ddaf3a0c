//! The end of a run's transaction.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Completion, Retention};
use semel_core::store::{Committed, LeaseRef, Opened, Pending, RolledBack, Undertaking, Writes};
use sqlx::{AssertSqlSafe, Connection as _, Database, Executor as _, MySqlConnection, Row as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::timeout;

use super::by_hand::{ByHand, Says, Statement};
use super::slot::{Held, TxSlot};
use super::texts::Mark;
use crate::error::number;

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
            let (within, hand, mark) = (shared.timeout, &shared.hand, held.mark);
            let Ok(end) = hand.end(mark, self.lease, completion, keep, writes) else {
                return ended(held, within, hand, Committed::Rejected, Seen::Whatever).await;
            };
            let Some(connection) = held.connection() else { return Committed::Never };
            if let Err(why) = prepare(connection, within, end.ahead).await {
                return match why {
                    Why::Told(Says::Over) => {
                        ended(held, within, hand, Committed::Conflict, Seen::NoSavepoint).await
                    }
                    Why::Told(_) => ended(held, within, hand, Committed::Rejected, Seen::Whatever).await,
                    Why::Gone => Committed::Never,
                };
            }
            match send(connection, within, end.sql).await {
                Ok(()) => {
                    give_back(held);
                    hand.wake(&self.lease.id);
                    Committed::Applied
                }
                // A deadlock of the handler's ended it, or the handler did.
                Err(Why::Told(Says::Over)) => {
                    ended(held, within, hand, Committed::Conflict, Seen::NoSavepoint).await
                }
                Err(Why::Told(Says::Lost)) => {
                    ended(held, within, hand, Committed::Lost, Seen::Whatever).await
                }
                Err(Why::Told(Says::Conflict)) => {
                    ended(held, within, hand, Committed::Conflict, Seen::Whatever).await
                }
                // Which statement failed is not known, and its connection is closed.
                Err(Why::Told(Says::Nothing) | Why::Gone) => Committed::Unheard,
            }
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            let Some(mut held) = self.held.take() else { return RolledBack::Undone };
            let shared = self.slot.shared();
            let (within, hand, mark) = (shared.timeout, &shared.hand, held.mark);
            let Some(connection) = held.connection() else { return RolledBack::Undone };
            match send(connection, within, hand.undo(mark)).await {
                Ok(()) => {
                    give_back(held);
                    RolledBack::Undone
                }
                Err(Why::Told(_)) => {
                    match ended(held, within, hand, Committed::Never, Seen::NoSavepoint).await {
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

enum Why {
    /// The server refused a statement, and the connection is as good as before.
    Told(Says),
    /// Not known: the connection is of no use any more.
    Gone,
}

/// Savepoints that the handler left open are part of its work; an answer that is too long for one message goes ahead.
async fn prepare(
    connection: &mut MySqlConnection,
    within: Duration,
    ahead: Option<Statement>,
) -> Result<(), Why> {
    let prepared = timeout(within, async {
        release_nested::<sqlx::MySql>(connection).await?;
        if let Some(Statement { sql, value }) = ahead {
            sqlx::query(sql).bind(value).execute(connection).await?;
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
        Some(number) => Why::Told(ByHand::says(number)),
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
async fn ended(mut held: Held, within: Duration, hand: &ByHand, came: Committed, seen: Seen) -> Committed {
    let mark = held.mark;
    let Some(connection) = held.connection() else { return came };
    match timeout(within, was_committed(connection, hand, mark)).await {
        Ok(Ok(true)) => Committed::Torn,
        // It was committed by the handler, or rolled back by the server: what must not happen is a second run.
        Ok(Err(_)) | Err(_) if seen == Seen::NoSavepoint => Committed::Torn,
        _ => came,
    }
}

async fn was_committed(
    connection: &mut MySqlConnection,
    hand: &ByHand,
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
    let row = sqlx::raw_sql(AssertSqlSafe(hand.look(mark))).fetch_one(&mut *connection).await?;
    let committed = row.try_get_unchecked::<i64, _>(0)? != 0;
    if committed {
        // A row that stays does no harm.
        let _ = connection.execute(sqlx::raw_sql(AssertSqlSafe(hand.forget(mark)))).await;
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
