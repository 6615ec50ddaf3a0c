//! One transaction as the steps see it: prepared statements, the time, the counters.

use rusqlite::{Connection, Statement};
use semel_core::record::{Fence, RecordId, Timestamp};
use semel_core::store::StoreErrorKind;
use semel_store_kit::int;

use crate::clock::{Clock, FileTime};
use crate::error::Fault;
use crate::row::Row;

/// Every statement, prepared once a connection.
pub(crate) struct Statements<'c> {
    pub(crate) connection: &'c Connection,
    begin_read: Statement<'c>,
    begin_write: Statement<'c>,
    commit: Statement<'c>,
    meta: Statement<'c>,
    save_meta: Statement<'c>,
    find: Statement<'c>,
    completion: Statement<'c>,
    insert: Statement<'c>,
    save: Statement<'c>,
    settle: Statement<'c>,
    delete: Statement<'c>,
    list: Statement<'c>,
    due: Statement<'c>,
    quota: Statement<'c>,
    savepoint: Statement<'c>,
    undo: Statement<'c>,
    keep: Statement<'c>,
    quota_index: bool,
}

impl<'c> Statements<'c> {
    pub(crate) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            begin_read: connection.prepare("BEGIN DEFERRED")?,
            begin_write: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            meta: connection.prepare("SELECT fence, seen, boot, base FROM meta")?,
            save_meta: connection.prepare("UPDATE meta SET fence = ?1, seen = ?2, boot = ?3, base = ?4")?,
            find: connection.prepare(include_str!("sql/find.sql"))?,
            completion: connection.prepare("SELECT completion FROM record WHERE n = ?1")?,
            insert: connection.prepare(include_str!("sql/insert.sql"))?,
            save: connection.prepare(include_str!("sql/save.sql"))?,
            settle: connection.prepare(include_str!("sql/settle.sql"))?,
            delete: connection.prepare("DELETE FROM record WHERE n = ?1")?,
            list: connection.prepare(include_str!("sql/list.sql"))?,
            due: connection.prepare(include_str!("sql/due.sql"))?,
            quota: connection.prepare(include_str!("sql/quota.sql"))?,
            savepoint: connection.prepare("SAVEPOINT semel")?,
            undo: connection.prepare("ROLLBACK TO semel")?,
            keep: connection.prepare("RELEASE semel")?,
            quota_index: false,
        })
    }

    /// Ends whatever transaction is open, and says whether none is.
    pub(crate) fn roll_back(&self) -> bool {
        self.connection.is_autocommit()
            || self.connection.execute_batch("ROLLBACK").is_ok()
            || self.connection.is_autocommit()
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// An open transaction.
pub(crate) struct Tx<'s, 'c> {
    sql: &'s mut Statements<'c>,
    time: FileTime,
    fence: i64,
    wrote: bool,
    indexed: bool,
    changed: Vec<RecordId>,
    pub(crate) now: Timestamp,
}

impl<'s, 'c> Tx<'s, 'c> {
    /// For questions that are no step, and for what an application writes.
    pub(crate) fn connection(&self) -> &'c Connection {
        self.sql.connection
    }

    /// Opens it and then reads the clock: after the wait for the lock, not before.
    pub(crate) fn begin(
        sql: &'s mut Statements<'c>,
        access: Access,
        clock: &Clock,
    ) -> rusqlite::Result<Self> {
        match access {
            Access::Read => sql.begin_read.raw_execute()?,
            Access::Write => sql.begin_write.raw_execute()?,
        };
        let (fence, mut time) = sql.meta.query_row((), |row| {
            Ok((row.get(0)?, FileTime { seen: row.get(1)?, boot: row.get(2)?, base: row.get(3)? }))
        })?;
        let now = time.at(&clock.read());
        Ok(Self { sql, time, fence, wrote: false, indexed: false, changed: Vec::new(), now })
    }

    /// Commits, and says which records changed. On an error the transaction may or may not have taken effect.
    pub(crate) fn commit(self) -> rusqlite::Result<Vec<RecordId>> {
        if self.wrote {
            let FileTime { seen, boot, base } = self.time;
            self.sql.save_meta.execute((self.fence, seen, boot, base))?;
        }
        self.sql.commit.raw_execute()?;
        self.sql.quota_index |= self.indexed;
        Ok(self.changed)
    }

    /// The next fence of this file.
    pub(crate) fn next_fence(&mut self) -> Result<Fence, Fault> {
        self.fence = self.fence.saturating_add(1);
        let fence =
            u64::try_from(self.fence).ok().filter(|fence| int(*fence) < i64::MAX).and_then(Fence::new);
        fence.ok_or_else(|| Fault::refused(StoreErrorKind::Internal, "this file has no fences left"))
    }

    /// Makes the commit write even if no step did: it asks the disk.
    pub(crate) fn touch(&mut self) {
        self.wrote = true;
    }

    /// From here on writes can be undone. Nests.
    pub(crate) fn savepoint(&mut self) -> Result<(), Fault> {
        self.sql.savepoint.raw_execute()?;
        Ok(())
    }

    /// Keeps what was written since the last savepoint.
    pub(crate) fn keep(&mut self) -> Result<(), Fault> {
        self.sql.keep.raw_execute()?;
        Ok(())
    }

    /// Undoes what was written since the last savepoint.
    pub(crate) fn undo(&mut self) -> Result<(), Fault> {
        self.sql.undo.raw_execute()?;
        self.indexed = false;
        self.keep()
    }

    /// Whether SQLite has ended the transaction by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.sql.connection.is_autocommit()
    }

    fn wrote(&mut self, id: RecordId) {
        self.wrote = true;
        self.changed.push(id);
    }

    pub(crate) fn find(&mut self, id: &RecordId) -> Result<Option<Row>, Fault> {
        let mut rows = self.sql.find.query([&id.as_bytes()[..]])?;
        rows.next()?.map(Row::read).transpose()
    }

    /// The record, unless its life is over.
    pub(crate) fn live(&mut self, id: &RecordId) -> Result<Option<Row>, Fault> {
        let now = self.now;
        Ok(self.find(id)?.filter(|row| !row.record.is_over(now)))
    }

    pub(crate) fn completion(&mut self, row: &Row) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.sql.completion.query_row([row.n], |found| found.get(0))?)
    }

    pub(crate) fn insert(&mut self, row: &Row, request: Option<&[u8]>) -> Result<(), Fault> {
        let sql = &mut self.sql.insert;
        row.bind(sql)?;
        sql.raw_bind_parameter(21, &row.record.id.as_bytes()[..])?;
        sql.raw_bind_parameter(22, request)?;
        sql.raw_execute()?;
        self.wrote(row.record.id);
        Ok(())
    }

    /// Writes the row, and leaves completion and request as they are.
    pub(crate) fn save(&mut self, row: &Row) -> Result<(), Fault> {
        let sql = &mut self.sql.save;
        row.bind(sql)?;
        sql.raw_bind_parameter(21, row.n)?;
        sql.raw_execute()?;
        self.wrote(row.record.id);
        Ok(())
    }

    /// Writes the row with both blobs.
    pub(crate) fn settle(
        &mut self,
        row: &Row,
        completion: Option<&[u8]>,
        request: Option<&[u8]>,
    ) -> Result<(), Fault> {
        let sql = &mut self.sql.settle;
        row.bind(sql)?;
        sql.raw_bind_parameter(21, row.n)?;
        sql.raw_bind_parameter(22, completion)?;
        sql.raw_bind_parameter(23, request)?;
        sql.raw_execute()?;
        self.wrote(row.record.id);
        Ok(())
    }

    pub(crate) fn delete(&mut self, row: &Row) -> Result<(), Fault> {
        self.sql.delete.execute([row.n])?;
        self.wrote(row.record.id);
        Ok(())
    }

    /// Up to `limit` rows after an id, in the order of ids.
    pub(crate) fn after(&mut self, id: Option<&RecordId>, limit: usize) -> Result<Vec<Row>, Fault> {
        let after: &[u8] = id.map_or(&[], |id| id.as_bytes());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = self.sql.list.query((after, limit))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Row::read(row)?);
        }
        Ok(found)
    }

    /// Up to `limit` rows that a sweep has to look at, the longest due first. Rows that do not decode are left
    /// out: a sweep neither removes nor changes what it cannot read.
    pub(crate) fn due(&mut self, limit: usize) -> Result<Vec<Row>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = self.sql.due.query((self.now.as_millis(), limit))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            match Row::read(row) {
                Ok(row) => found.push(row),
                Err(Fault::Refused(_)) => {}
                Err(fault @ Fault::Sqlite(_)) => return Err(fault),
            }
        }
        Ok(found)
    }

    /// Records and bytes that a principal keeps.
    pub(crate) fn kept_by(&mut self, principal: Option<&[u8]>) -> Result<(u64, u64), Fault> {
        if !self.sql.quota_index && !self.indexed {
            self.sql.connection.execute_batch(include_str!("sql/quota_index.sql"))?;
            self.indexed = true;
        }
        let kept: (i64, i64) = self
            .sql
            .quota
            .query_row((principal, self.now.as_millis()), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((u64::try_from(kept.0).unwrap_or(0), u64::try_from(kept.1).unwrap_or(0)))
    }
}
