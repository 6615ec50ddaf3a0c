//! The transactional level: the application's own transaction, in which the record is completed too.

mod by_hand;
mod slot;
mod texts;
mod undertaking;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use semel_core::record::RecordId;
use semel_core::store::{LeaseRef, StoreError, StoreErrorKind, Undertaking};
use semel_store_kit::random;
use semel_store_kit::shape::told;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool, Row as _};

pub use by_hand::{ByHand, End, Says, Statement};
pub use slot::{Lent, MySql, TxSlot};
pub use texts::Mark;

use crate::MySqlStore;
use crate::connect::Session;
use crate::desk::Step;
use crate::error::{Fault, NAME, number};
use crate::row::flag;
use crate::shape::{MARK, differences};
use crate::sql::hex;
use texts::{LIMITS, Texts};

/// How much of others' work a transaction sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the levels of the SQL standard but the one that reads what is not committed"
)]
pub enum Isolation {
    /// Each statement sees what was committed before it, and there are no gap locks. Not the server's own default.
    #[default]
    ReadCommitted,
    /// What is read without a lock is of one moment; what is written is the newest. The server's own default.
    RepeatableRead,
    /// As [`RepeatableRead`](Self::RepeatableRead), and what is read is locked against change.
    Serializable,
}

impl Isolation {
    const fn as_sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// How runs get their transactions. Made by [`MySqlStore::transactions`].
#[must_use]
pub struct TransactionsBuilder<'s> {
    store: &'s MySqlStore,
    pool: MySqlPool,
    isolation: Isolation,
    timeout: Duration,
}

impl fmt::Debug for TransactionsBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionsBuilder").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

impl TransactionsBuilder<'_> {
    /// The isolation level, whatever the default of the server or of the pool. Default
    /// [`Isolation::ReadCommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How long the completion with its commit and a rollback may take, each. Default 5 seconds; at least one and at
    /// most eight.
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most.clamp(LIMITS.0, LIMITS.1);
        self
    }

    /// Looks whether the pool leads to the very server that the store is on, and whether its user may complete records.
    /// Its database may be another one of that server.
    ///
    /// # Errors
    ///
    /// `Config` where the pool leads elsewhere or its user lacks a right, which the text names; `Unavailable` where either
    /// of the two cannot be reached.
    pub async fn open(self) -> Result<MySqlTransactions, StoreError> {
        let Self { store, pool, isolation, timeout } = self;
        let lock = format!("semel {}", RecordId::from_bytes(random(NAME)?));
        let mut open = pool.acquire().await.map_err(unreachable)?;
        // What is left of this connection is not the pool's business: it holds a lock.
        open.close_on_drop();
        hold(&mut open, &lock).await.map_err(unreachable)?;
        let there = store.desk.ask(lock, meets).await?;
        if !there {
            return Err(config(
                "the pool of the transactions leads to another server than the store: the records and what the \
                 application writes have to be on one",
            ));
        }
        let hand = store.by_hand();
        fits(&mut open, &hand.texts).await?;
        may(&mut open, &hand.texts).await?;
        let strict = keeps_to_its_moment(&mut open).await.map_err(unreachable)?;
        Ok(MySqlTransactions {
            shared: Arc::new(Shared {
                pool,
                isolation,
                timeout,
                tolerates_renewals: isolation == Isolation::ReadCommitted || !strict,
                hand,
            }),
        })
    }
}

fn config(what: impl Into<String>) -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Config, what.into())
}

fn unreachable(error: sqlx::Error) -> StoreError {
    let what = "the application's pool gives no connection of use";
    StoreError::new(NAME, StoreErrorKind::Unavailable, what).with_source(error)
}

/// A lock that one side holds and the other one meets: names and settings can be the same on two servers, such as a
/// copy of one.
async fn hold(connection: &mut MySqlConnection, lock: &str) -> Result<(), sqlx::Error> {
    let text = format!("SELECT GET_LOCK({}, 0)", hex(lock.as_bytes()));
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(|_| ())
}

fn meets<'s>(session: &'s mut Session, lock: &'s String) -> Step<'s, bool> {
    Box::pin(async move {
        let text = format!("SELECT IS_USED_LOCK({}) IS NOT NULL", hex(lock.as_bytes()));
        let rows = session.script(&text).await?;
        flag(rows.first().ok_or(sqlx::Error::RowNotFound)?, 0)
    })
}

/// The table of marks may be out of the sight of the store's own user.
async fn fits(connection: &mut MySqlConnection, texts: &Texts) -> Result<(), StoreError> {
    let found = differences(connection, &texts.names, &[MARK]).await.map_err(|fault| match fault {
        Fault::Refused(error) => error,
        Fault::Sqlx(error) => unreachable(error),
    })?;
    let holder = format!("the schema of the tables {}*", texts.names.prefix());
    told(&holder, &found).map_or(Ok(()), |what| Err(config(what)))
}

/// Before the first payment, not at it.
async fn may(connection: &mut MySqlConnection, texts: &Texts) -> Result<(), StoreError> {
    let tried = sqlx::raw_sql(AssertSqlSafe(texts.try_rights())).execute(connection).await;
    let Err(error) = tried else { return Ok(()) };
    if !matches!(number(&error), Some(1044 | 1142 | 1143)) {
        return Err(unreachable(error));
    }
    let what = texts.names.write(
        "the user of the transactions' pool lacks rights: GRANT SELECT, UPDATE ON {p}record; GRANT SELECT, INSERT, \
         DELETE ON {p}mark",
    );
    Err(config(what).with_source(error))
}

/// MariaDB's `innodb_snapshot_isolation`, the default from 11.6 on: from REPEATABLE READ on a transaction may not write
/// what others changed since its moment.
async fn keeps_to_its_moment(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let text = "SHOW SESSION VARIABLES LIKE 'innodb\\_snapshot\\_isolation'";
    let row = sqlx::raw_sql(text).fetch_optional(connection).await?;
    Ok(match row {
        Some(row) => row.try_get_unchecked::<String, _>(1)?.eq_ignore_ascii_case("ON"),
        None => false,
    })
}

/// A name that no other handle of a store has.
pub(crate) fn origin() -> Result<RecordId, StoreError> {
    random(NAME).map(RecordId::from_bytes)
}

/// Transactions of an application's pool, in which the records of one [`MySqlStore`] are completed.
///
/// The application takes them as [`MySql`]: in axum as `Tx<MySql>`. They use the pool's connections and no others;
/// claims, renewals and releases use the store's own.
#[derive(Clone)]
pub struct MySqlTransactions {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pool: MySqlPool,
    isolation: Isolation,
    timeout: Duration,
    tolerates_renewals: bool,
    hand: ByHand,
}

impl fmt::Debug for MySqlTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlTransactions").field("isolation", &self.shared.isolation).finish_non_exhaustive()
    }
}

impl semel_core::store::Transactions for MySqlTransactions {
    fn origin(&self) -> &RecordId {
        self.shared.hand.origin()
    }

    fn tolerates_renewals(&self) -> bool {
        self.shared.tolerates_renewals
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = TxSlot::new(Arc::clone(&self.shared), lease);
        extensions.insert(slot.clone());
        Box::new(undertaking::Run::new(slot, lease))
    }
}

impl MySqlStore {
    /// To have runs write through a pool of the application's, in the transaction in which their record is completed.
    /// The pool has to lead to the server that this store is on. What is written to tables of engines without transactions
    /// (`MyISAM`, `Aria`) is no part of it.
    ///
    /// ```no_run
    /// # async fn demo(pool: sqlx::MySqlPool) -> Result<(), semel_core::store::StoreError> {
    /// use semel_store_mysql::{Isolation, MySqlStore};
    /// let store = MySqlStore::open("mysql://semel@db.example/app").await?;
    /// let transactions = store.transactions(pool).isolation(Isolation::RepeatableRead).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transactions(&self, pool: MySqlPool) -> TransactionsBuilder<'_> {
        let (isolation, timeout) = (Isolation::default(), Duration::from_secs(5));
        TransactionsBuilder { store: self, pool, isolation, timeout }
    }

    /// The completion as SQL and parameters, for applications that do not use this version of sqlx.
    pub fn by_hand(&self) -> ByHand {
        ByHand::new(self)
    }
}

/// Whether an error of the database says that other transactions were in the way: a deadlock (1213), a row that could
/// not be had in time (1205, 3572), or one that changed since the transaction's moment (1020). The same work may succeed in
/// a new transaction, so answer with [`Override::conflict`](semel_core::engine::Override::conflict).
pub fn is_conflict(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| ByHand::says(number) == Says::Conflict)
}
