//! The completion as SQL and parameters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use semel_core::record::{Completion, RecordId, Retention};
use semel_core::store::{LeaseRef, StoreError};

use super::Isolation;
use crate::ops::millis;
use crate::sql::{Clock, Protocol, Schema, complete_in_transaction};
use crate::{NAME, PostgresStore};
use semel_store_kit::{Encoded, Watchers, int};

/// The savepoint before the handler's first statement, to which its writes are rolled back. It does not outlive the
/// transaction, so its absence shows that the handler ended that.
pub(super) const SAVEPOINT: &str = "semel_run";

/// What a driver of PostgreSQL needs to complete a record in its own transaction: for diesel, SeaORM, tokio-postgres and
/// other versions of sqlx. [`Transactions`](semel_core::store::Transactions) made of it go into
/// `Idempotency::transactional` as those of [`PostgresStore::transactions`] do. `examples/tokio-postgres` is a whole one.
///
/// 1. [`begin`](Self::begin), one message of the simple protocol, before the handler's first statement.
/// 2. Where the writes are to be rolled back and the answer kept: [`undo`](Self::undo). Error 3B001 or 25P01 says that the
///    handler ended the transaction itself.
/// 3. [`complete`](Self::complete), which has to return one row. None: `undo` tells whether the handler ended the
///    transaction (an error, as above) or somebody else has the record.
/// 4. `COMMIT`. An error with severity `ERROR` of a class other than 08, 53, 57 and 58 says that it was rolled back; every
///    other end of it says nothing.
/// 5. [`wake`](Self::wake) those who wait in this process.
#[derive(Clone)]
pub struct ByHand {
    origin: RecordId,
    sql: Arc<str>,
    max_body: Option<u64>,
    watchers: Arc<Watchers>,
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand").field("sql", &self.sql).finish_non_exhaustive()
    }
}

/// A statement and its parameters, `$1` first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// The text, always the same for one store.
    pub sql: Arc<str>,
    /// The values.
    pub values: Vec<Value>,
}

/// A parameter.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever sends them has to know each")]
pub enum Value {
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `bigint`.
    Long(Option<i64>),
    /// `integer`.
    Int(Option<i32>),
    /// `text`.
    Text(String),
}

/// Without the bytes, which are an answer.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Long(value) => write!(f, "Long({value:?})"),
            Self::Int(value) => write!(f, "Int({value:?})"),
            Self::Text(text) => write!(f, "Text({text:?})"),
        }
    }
}

impl ByHand {
    pub(crate) fn new(store: &PostgresStore) -> Self {
        Self {
            origin: store.origin,
            sql: Arc::clone(&store.completion),
            max_body: store.capabilities.max_body,
            watchers: Arc::clone(&store.watchers),
        }
    }

    /// For [`Transactions::origin`](semel_core::store::Transactions::origin).
    pub const fn origin(&self) -> &RecordId {
        &self.origin
    }

    /// Begins, marks the transaction as this claim's, and sets the savepoint: three statements for one message of the
    /// simple protocol.
    pub fn begin(&self, lease: LeaseRef, isolation: Isolation) -> String {
        format!(
            "BEGIN ISOLATION LEVEL {} READ WRITE; SET LOCAL semel.tx = '{}'; SAVEPOINT {SAVEPOINT}",
            isolation.as_sql(),
            lease.fence.get()
        )
    }

    /// Rolls the handler's writes back, and leaves the transaction open for the completion.
    pub const fn undo(&self) -> &'static str {
        // The same text as `SAVEPOINT`.
        "ROLLBACK TO SAVEPOINT semel_run"
    }

    /// Completes the record: returns one row if it was in flight or unknown under this lease, and the transaction is
    /// the one that [`begin`](Self::begin) began. It has the commit wait for the disk, and the server end a transaction
    /// whose client says nothing for `half_open` from then on.
    ///
    /// # Errors
    ///
    /// `TooLarge`: the body is larger than the store takes.
    pub fn complete(
        &self,
        lease: LeaseRef,
        completion: &Completion,
        keep: &Retention,
        half_open: Duration,
    ) -> Result<Statement, StoreError> {
        let answer = Encoded::new(completion, NAME, self.max_body)?;
        let values = vec![
            Value::Bytes(lease.id.as_bytes().to_vec()),
            Value::Long(Some(int(lease.fence.get()))),
            Value::Long(Some(millis(keep.record))),
            Value::Long(Some(millis(keep.body))),
            Value::Long(answer.body_bytes.map(int)),
            Value::Int(answer.status.map(|status| status.as_u16().into())),
            Value::Bytes(answer.blob),
            Value::Text(lease.fence.get().to_string()),
            // 0 would be no limit at all.
            Value::Text(half_open.as_millis().max(1).to_string()),
        ];
        Ok(Statement { sql: Arc::clone(&self.sql), values })
    }

    /// Wakes those who wait in this process for the record. Others are told by the server, at the commit.
    pub fn wake(&self, id: &RecordId) {
        self.watchers.wake(&[*id]);
    }
}

/// The statement for one schema.
pub(crate) fn statement(schema: &Schema, clock: Clock) -> Arc<str> {
    complete_in_transaction(schema, clock, Protocol::Prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A completion without the mark once took a transaction that the handler had begun anew for its own.
    #[test]
    fn the_completion_is_that_of_the_store_and_wants_its_mark() {
        let schema = Schema::new("s").unwrap_or_else(|| panic!("refused"));
        let sql = statement(&schema, Clock::Server);
        for part in [
            "r.fence = $2::bigint AND r.state IN (0, 3)",
            "current_setting('semel.tx', true) = $8::text",
            "idle_in_transaction_session_timeout",
            "synchronous_commit",
        ] {
            assert!(sql.contains(part), "{part}: {sql}");
        }
        assert!(!sql.contains('{') && !sql.contains("now()"), "{sql}");
    }

    #[test]
    fn values_do_not_print_an_answer() {
        let value = Value::Bytes(b"secret".to_vec());
        assert_eq!(format!("{value:?}"), "Bytes(6 bytes)");
    }
}
