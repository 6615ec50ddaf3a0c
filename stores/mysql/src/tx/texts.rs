//! What is sent to a handler's connection. Its session is the application's, so nothing relies on its settings: not on
//! `sql_mode`, the time zone or the default database.

use std::time::Duration;

use semel_core::record::Retention;
use semel_core::store::{LeaseRef, Writes};
use semel_store_kit::{Encoded, int};

use super::Isolation;
use crate::ops::Lives;
use crate::sql::{Names, hex, maybe_int};

/// Names one transaction: its savepoint, and its row in the table of marks. Made by [`ByHand::begin`](super::ByHand::begin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(i64);

impl Mark {
    pub(super) fn new() -> Self {
        Self(fastrand::i64(1..))
    }
}

/// The statements for one store's tables, by their full names.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    pub(super) names: Names,
    /// The longest answer that is written into the message, in bytes.
    pub(super) inline: usize,
}

/// The answer in a message, which is too long for one as digits: it was sent before.
const SENT: &str = "@semel_answer";

impl Texts {
    /// Whatever the handler sends after this transaction has ended is not committed behind our back: after a commit or a
    /// rollback of its own the session is read-only, and after a deadlock, which leaves the access mode as it was,
    /// nothing commits by itself. The mark is committed with the handler's writes, or gone with them; the savepoint
    /// is there as long as the transaction is.
    pub(super) fn begin(&self, Mark(n): Mark, isolation: Isolation) -> String {
        self.names.write(&format!(
            "SET @semel_auto = @@session.autocommit, autocommit = 0; SET SESSION TRANSACTION READ ONLY; SET TRANSACTION ISOLATION LEVEL {}; START TRANSACTION READ WRITE; \
             INSERT INTO {{p}}mark (n) VALUES ({n}); SAVEPOINT semel_{n}",
            isolation.as_sql()
        ))
    }

    pub(super) fn is_inline(&self, answer: &Encoded) -> bool {
        answer.blob.len() <= self.inline
    }

    /// Sends an answer ahead, with one parameter. No row is locked by it.
    pub(super) const AHEAD: &str = "SET @semel_answer = ?";

    /// The whole end of a run in one message, at whose first error the server stops:
    ///
    /// 1. the savepoint: error 1305 if the transaction is not the one that was begun;
    /// 2. the completion, which is a current read at every isolation level: it compares with what is committed, not with
    ///    what the transaction saw;
    /// 3. error 1242 unless that found the record in the run's hands;
    /// 4. the commit.
    ///
    /// A record's row is locked by nobody who waits for a client, so a connection that is half open holds up nothing.
    pub(super) fn end(
        &self,
        Mark(n): Mark,
        lease: LeaseRef,
        answer: &Encoded,
        keep: &Retention,
        writes: Writes,
    ) -> String {
        let lives = Lives::new(answer, keep);
        let blob = if self.is_inline(answer) { hex(&answer.blob) } else { SENT.to_owned() };
        let savepoint = match writes {
            Writes::Commit => "RELEASE",
            Writes::RollBack => "ROLLBACK TO",
        };
        self.names.write(&format!(
            "{savepoint} SAVEPOINT semel_{n}; SET @semel_zone = @@session.time_zone, time_zone = '+00:00'; \
             UPDATE {{p}}record SET changed = {{now}}, state = 1, lease_until = NULL, expires = {{now}} + {life}, \
             body_until = {{now}} + {body}, due = {{now}} + {due}, status = {status}, body_bytes = {bytes}, \
             progress = NULL, request = NULL, completion = {blob} \
             WHERE id = {id} AND fence = {fence} AND state IN (0, 3); SET @semel_found = ROW_COUNT(); \
             SELECT (SELECT x.n FROM (SELECT 1 AS n UNION ALL SELECT 2) AS x WHERE @semel_found <> 1); \
             DELETE FROM {{p}}mark WHERE n = {n}; COMMIT; SET time_zone = @semel_zone, @semel_answer = NULL; {AS_BEFORE}",
            life = lives.life,
            body = maybe_int(lives.body),
            due = lives.due,
            status = maybe_int(lives.status),
            bytes = lives.bytes,
            id = hex(lease.id.as_bytes()),
            fence = int(lease.fence.get()),
        ))
    }

    /// Ends it without a commit; error 1305 as above.
    pub(super) fn undo(Mark(n): Mark) -> String {
        format!("ROLLBACK TO SAVEPOINT semel_{n}; ROLLBACK; {AS_BEFORE}")
    }

    /// Ends whatever is open. One row with one number: 0 if the transaction that was begun was rolled back.
    pub(super) fn look(&self, Mark(n): Mark) -> String {
        self.names.write(&format!("ROLLBACK; SELECT COUNT(*) FROM {{p}}mark WHERE n = {n}"))
    }

    /// Takes away what a handler's own commit left.
    pub(super) fn forget(&self, Mark(n): Mark) -> String {
        let text =
            format!("ROLLBACK; {AS_BEFORE}; START TRANSACTION; DELETE FROM {{p}}mark WHERE n = {n}; COMMIT");
        self.names.write(&text)
    }

    /// None of them finds a row.
    pub(super) fn try_rights(&self) -> String {
        self.names.write(
            "UPDATE {p}record SET due = due WHERE id = ''; INSERT INTO {p}mark SELECT * FROM {p}mark WHERE n = 0; \
             DELETE FROM {p}mark WHERE n = 0; SELECT {now}",
        )
    }
}

/// For the pool's next user.
const AS_BEFORE: &str = "SET SESSION TRANSACTION READ WRITE; SET autocommit = @semel_auto";

/// The shortest and the longest that an end may take: a reader takes what changed ten seconds ago for written to the disk.
pub(super) const LIMITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
