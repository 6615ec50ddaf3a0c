//! The transactional level: the application's own transaction, in which the record is completed too.

mod by_hand;
mod slot;
mod undertaking;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use semel_core::record::RecordId;
use semel_core::store::{LeaseRef, StoreError, StoreErrorKind, Undertaking};
use semel_store_kit::random;
use sqlx::{AssertSqlSafe, PgPool, Row as _};

pub(crate) use by_hand::statement;
pub use by_hand::{ByHand, Statement, Value};
pub use slot::{Lent, Postgres, TxSlot};

use crate::operate::{self, Question};
use crate::{NAME, PostgresStore};

/// How much of others' work a transaction sees.
///
/// From [`RepeatableRead`](Self::RepeatableRead) on, a transaction that others got in the way of fails with SQLSTATE
/// 40001: give the route [`reruns`](semel_core::policy::PolicyBuilder::reruns). Its lease is not renewed then, so it has
/// to be longer than the run; and a duplicate that waits marks the record once, which costs such a run a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the levels of the SQL standard that PostgreSQL tells apart")]
pub enum Isolation {
    /// Each statement sees what was committed before it. PostgreSQL's own default.
    #[default]
    ReadCommitted,
    /// All statements see one moment.
    RepeatableRead,
    /// As if there were no others. Completions of records that lie side by side may be in each other's way.
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

/// How runs get their transactions. Made by [`PostgresStore::transactions`].
#[must_use]
pub struct TransactionsBuilder<'s> {
    store: &'s PostgresStore,
    pool: PgPool,
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

    /// How long the completion, the commit and a rollback may take, each. A connection that is half open at the commit
    /// holds its record for so long. Default 5 seconds; at least one.
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most.max(Duration::from_secs(1));
        self
    }

    /// Looks whether the pool leads to the very database that the store is in, and whether its user may complete
    /// records.
    ///
    /// # Errors
    ///
    /// `Config` where the pool leads elsewhere or its user lacks a right, which the text names; `Unavailable` where either
    /// of the two cannot be reached.
    pub async fn open(self) -> Result<PgTransactions, StoreError> {
        self.same_database().await?;
        let hand = self.store.by_hand();
        Ok(PgTransactions {
            shared: Arc::new(Shared {
                pool: self.pool,
                isolation: self.isolation,
                timeout: self.timeout,
                hand,
            }),
        })
    }

    /// A lock that one side holds and the other one meets: names and settings can be the same in two databases, such as
    /// a copy of one.
    async fn same_database(&self) -> Result<(), StoreError> {
        let unreachable = |error: sqlx::Error| {
            let what = "the application's pool gives no connection";
            StoreError::new(NAME, StoreErrorKind::Unavailable, what).with_source(error)
        };
        let lock = i64::from_be_bytes(random::<8>(NAME)?);
        let mut open = self.pool.begin().await.map_err(unreachable)?;
        let text = format!("SELECT pg_advisory_xact_lock({lock})");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *open).await.map_err(unreachable)?;
        let text = format!("SELECT pg_try_advisory_xact_lock({lock})");
        if self.store.desk.ask(Question(text), operate::asks).await? {
            return Err(StoreError::new(
                NAME,
                StoreErrorKind::Config,
                "the pool of the transactions leads to another database than the store: the records and what the \
                 application writes have to be in one",
            ));
        }
        let row = sqlx::raw_sql(AssertSqlSafe(self.store.schema.write(RIGHTS)))
            .fetch_one(&mut *open)
            .await
            .map_err(unreachable)?;
        let missing = row.try_get::<Option<String>, _>(0).map_err(unreachable)?;
        if let Some(missing) = missing {
            let what = format!("the user of the transactions' pool lacks rights: {missing}");
            return Err(StoreError::new(NAME, StoreErrorKind::Config, what));
        }
        // Nothing was written; an error of the rollback says nothing that would matter.
        let _ = open.rollback().await;
        Ok(())
    }
}

/// What the pool's user lacks, as statements that grant it; NULL if nothing.
const RIGHTS: &str = "
SELECT nullif(concat_ws('; ',
    CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE')
        THEN format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user) END,
    CASE WHEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE'))
        THEN format('GRANT SELECT, UPDATE ON %I.record TO %I', n.nspname, current_user) END
), '')
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = '{name}' AND c.relname = 'record'";

/// A name that no other handle of a store has.
pub(crate) fn origin() -> Result<RecordId, StoreError> {
    random(NAME).map(RecordId::from_bytes)
}

/// Transactions of an application's pool, in which the records of one [`PostgresStore`] are completed.
///
/// The application takes them as [`Postgres`]: in axum as `Tx<Postgres>`. They use the pool's connections and no others;
/// claims, renewals and releases use the store's own.
#[derive(Clone)]
pub struct PgTransactions {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pool: PgPool,
    isolation: Isolation,
    timeout: Duration,
    hand: ByHand,
}

impl fmt::Debug for PgTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTransactions").field("isolation", &self.shared.isolation).finish_non_exhaustive()
    }
}

impl semel_core::store::Transactions for PgTransactions {
    fn origin(&self) -> &RecordId {
        self.shared.hand.origin()
    }

    fn tolerates_renewals(&self) -> bool {
        self.shared.isolation == Isolation::ReadCommitted
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = TxSlot::new(Arc::clone(&self.shared), lease);
        extensions.insert(slot.clone());
        Box::new(undertaking::Run::new(slot, lease))
    }
}

impl PostgresStore {
    /// To have runs write through a pool of the application's, in the transaction in which their record is completed.
    /// The pool has to lead to the database that this store is in.
    ///
    /// ```no_run
    /// # async fn demo(pool: sqlx::PgPool) -> Result<(), semel_core::store::StoreError> {
    /// use semel_store_postgres::{Isolation, PostgresStore};
    /// let store = PostgresStore::open("postgres://semel@db.example/app").await?;
    /// let transactions = store.transactions(pool).isolation(Isolation::Serializable).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transactions(&self, pool: PgPool) -> TransactionsBuilder<'_> {
        let (isolation, timeout) = (Isolation::default(), Duration::from_secs(5));
        TransactionsBuilder { store: self, pool, isolation, timeout }
    }

    /// The completion as SQL and parameters, for applications that do not use this version of sqlx.
    pub fn by_hand(&self) -> ByHand {
        ByHand::new(self)
    }
}

/// Whether an error of the database says that other transactions were in the way: a serialization failure (40001) or a
/// deadlock (40P01). The same work may succeed in a new transaction, so answer with
/// [`Override::conflict`](semel_core::engine::Override::conflict).
pub fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01"))
}
