//! The completion as SQL and parameters.

use std::fmt;
use std::sync::Arc;

use semel_core::record::{Completion, RecordId, Retention};
use semel_core::store::{LeaseRef, StoreError, Writes};
use semel_store_kit::{Encoded, Watchers};

use super::Isolation;
use super::texts::{Mark, Texts};
use crate::{MySqlStore, NAME};

/// What a driver of MariaDB or MySQL needs to complete a record in its own transaction: for SeaORM, mysql_async and
/// other versions of sqlx. [`Transactions`](semel_core::store::Transactions) made of it go into
/// `Idempotency::transactional` as those of [`MySqlStore::transactions`] do.
///
/// Each text is several statements in **one** message of the text protocol (sqlx's `raw_sql`, mysql_async's `query_drop`),
/// at whose first error the server stops. All go over the connection that the handler has.
///
/// 1. [`begin`](Self::begin), before the handler's first statement.
/// 2. To commit: [`end`](Self::end). First what is to be sent [ahead](End::ahead), then the [message](End::sql). If all of it
///    succeeded the run is `Applied`: [`wake`](Self::wake) those who wait in this process.
/// 3. Not to commit: [`undo`](Self::undo).
/// 4. What a server's error says in 2 and 3: [`says`](Self::says). Any other end, such as a lost connection or a time-out,
///    says nothing of the message of 2 (`Unheard`), and `Never` of all before it.
/// 5. After [`Says::Over`], [`Says::Lost`] and [`Says::Conflict`]: [`look`](Self::look). One row with one number. Another
///    one than 0: the handler committed by itself (`Torn`), then [`forget`](Self::forget). Where `look` fails after
///    [`Says::Over`], it may have (`Torn`).
///
/// Only a connection whose `end` or `undo` succeeded goes back to its pool: any other one is to be closed, since its session is
/// read-only and commits nothing by itself.
///
/// `Transactions::tolerates_renewals` is `true` at [`Isolation::ReadCommitted`]; above it where
/// `innodb_snapshot_isolation` is off, as on MySQL and by default before MariaDB 11.6.
///
/// ```no_run
/// # use semel_core::{record::{Completion, Retention}, store::{Committed, LeaseRef, Writes}};
/// # use semel_store_mysql::{ByHand, Isolation, MySqlStore, Says};
/// # trait Driver {
/// #     async fn script(&mut self, sql: &str) -> Result<(), u16>;
/// #     async fn prepared(&mut self, sql: &str, value: &[u8]) -> Result<(), u16>;
/// # }
/// # async fn demo(store: &MySqlStore, mut driver: impl Driver, lease: LeaseRef, answer: &Completion) -> Option<Committed> {
/// let hand = store.by_hand();
/// let (mark, begin) = hand.begin(Isolation::ReadCommitted);
/// driver.script(&begin).await.ok()?;
/// // What the handler does.
/// let end = hand.end(mark, lease, answer, &Retention::default(), Writes::Commit).ok()?;
/// if let Some(ahead) = end.ahead {
///     driver.prepared(ahead.sql, &ahead.value).await.ok()?;
/// }
/// let came = match driver.script(&end.sql).await.map_err(ByHand::says) {
///     Ok(()) => Committed::Applied,
///     Err(Says::Over | Says::Conflict) => Committed::Conflict, // after `look`
///     Err(Says::Lost) => Committed::Lost, // likewise
///     Err(Says::Nothing) => Committed::Unheard,
/// };
/// # Some(came)
/// # }
/// ```
///
/// What [`MySqlStore::transactions`] looks at when it is opened, nobody looks at here: the connection has to lead to the
/// store's server, and its user needs `SELECT, UPDATE` on the table `record` and `SELECT, INSERT, DELETE` on `mark`.
#[derive(Clone)]
pub struct ByHand {
    origin: RecordId,
    pub(super) texts: Texts,
    max_body: Option<u64>,
    watchers: Arc<Watchers>,
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The end of a run, that commits.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// An answer that is too long for one message: to be sent before, as a prepared statement.
    pub ahead: Option<Statement>,
    /// The statements, in one message.
    pub sql: String,
}

/// Without the answer.
impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("ahead", &self.ahead).finish_non_exhaustive()
    }
}

/// A statement with one parameter.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// The text, always the same.
    pub sql: &'static str,
    /// The value of its `?`, as `BLOB`.
    pub value: Vec<u8>,
}

/// Without the bytes, which are an answer.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = format!("{} bytes", self.value.len());
        f.debug_struct("Statement").field("sql", &self.sql).field("value", &value).finish()
    }
}

/// What an error of the server's says of a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever ends a run has to do something with each")]
pub enum Says {
    /// The transaction is not the one that was begun: the handler ended it, or a deadlock did. `Conflict`, unless
    /// [`ByHand::look`] finds that it was committed.
    Over,
    /// The record is not in this run's hands any more: `Lost`.
    Lost,
    /// Other transactions were in the way: `Conflict`.
    Conflict,
    /// Nothing: the connection is to be closed, and the commit is `Unheard`.
    Nothing,
}

impl ByHand {
    pub(super) fn new(store: &MySqlStore) -> Self {
        let max_body = store.capabilities.max_body;
        Self {
            origin: store.origin,
            texts: Texts {
                names: store.names.within(&store.database),
                // As digits it takes twice its length.
                inline: max_body.map_or(0, |most| usize::try_from(most / 4).unwrap_or(0)),
            },
            max_body,
            watchers: Arc::clone(&store.watchers),
        }
    }

    /// For [`Transactions::origin`](semel_core::store::Transactions::origin).
    pub const fn origin(&self) -> &RecordId {
        &self.origin
    }

    /// Begins a transaction, and the mark by which the other texts know it.
    pub fn begin(&self, isolation: Isolation) -> (Mark, String) {
        let mark = Mark::new();
        (mark, self.texts.begin(mark, isolation))
    }

    /// Completes the record if it is in flight or unknown under this lease, and commits with it what the handler wrote.
    /// [`Writes::RollBack`]: undoes that before, and commits the completion alone.
    ///
    /// # Errors
    ///
    /// `TooLarge`: the body is larger than the store takes.
    pub fn end(
        &self,
        mark: Mark,
        lease: LeaseRef,
        completion: &Completion,
        keep: &Retention,
        writes: Writes,
    ) -> Result<End, StoreError> {
        let answer = Encoded::new(completion, NAME, self.max_body)?;
        let sql = self.texts.end(mark, lease, &answer, keep, writes);
        let ahead =
            (!self.texts.is_inline(&answer)).then_some(Statement { sql: Texts::AHEAD, value: answer.blob });
        Ok(End { ahead, sql })
    }

    /// Rolls back, and ends the transaction.
    pub fn undo(&self, mark: Mark) -> String {
        Texts::undo(mark)
    }

    /// Ends whatever is open. One row with one number: 0 if the transaction that was begun was rolled back.
    pub fn look(&self, mark: Mark) -> String {
        self.texts.look(mark)
    }

    /// Takes away what is left of a transaction that the handler committed by itself.
    pub fn forget(&self, mark: Mark) -> String {
        self.texts.forget(mark)
    }

    /// What an error says by its number.
    pub const fn says(number: u16) -> Says {
        match number {
            NO_SAVEPOINT => Says::Over,
            MORE_THAN_ONE => Says::Lost,
            1020 | 1205 | 1213 | 3572 => Says::Conflict,
            _ => Says::Nothing,
        }
    }

    /// Wakes those who wait in this process for the record. MySQL tells nobody of a change: those in others look again by
    /// themselves.
    pub fn wake(&self, id: &RecordId) {
        self.watchers.wake(&[*id]);
    }
}

/// `ER_SP_DOES_NOT_EXIST`: there is no such savepoint.
const NO_SAVEPOINT: u16 = 1305;
/// `ER_SUBQUERY_NO_1_ROW`: the completion found nothing.
const MORE_THAN_ONE: u16 = 1242;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_does_not_print_an_answer() {
        let statement = Statement { sql: Texts::AHEAD, value: b"secret".to_vec() };
        let end = End { ahead: Some(statement), sql: "secret".into() };
        let shown = format!("{end:?}");
        assert!(shown.contains("6 bytes") && !shown.contains("secret") && !shown.contains("115"), "{shown}");
    }
}
