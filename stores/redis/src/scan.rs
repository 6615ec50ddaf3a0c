//! Looking through all keys: what an operator's list and the sweeper do.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use redis::Value;
use semel_core::record::{RecordId, Timestamp};
use semel_core::store::{Page, Query, StoreError, StoreErrorKind, Swept};

use crate::error::{error, failed, unexpected};
use crate::link::Link;
use crate::row::{Due, Row};
use crate::steps::Steps;

/// Keys that one `SCAN` looks at.
const SCANNED: usize = 1024;
/// The most calls of `SCAN` that one sweep makes: the server has other callers.
const SCANS: usize = 64;
/// The most records that one page looks at.
const LOOKED_AT: usize = 4096;
const BATCH: usize = 256;

/// How often a list begins anew because a cluster's slots moved meanwhile.
const PASSES: usize = 3;

/// Where the sweeper goes on.
#[derive(Default)]
pub(crate) struct Cursor(Mutex<Position>);

/// The number of a primary, in the order of their names, and the server's cursor there.
///
/// Where a cluster's nodes change, a number becomes another node's: some keys of this round are looked at in the next.
#[derive(Clone, Copy, Default)]
struct Position {
    primary: usize,
    cursor: u64,
}

impl Steps {
    /// One pass over all keys of all primaries for each page, since Redis has them in no order.
    pub(crate) async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        let (ids, more) = self.first_after(query.after.as_ref(), LOOKED_AT).await?;
        let mut page = Page::default();
        let mut after = query.after;
        for batch in ids.chunks(BATCH) {
            let views = self.inspect_all(batch).await?;
            for view in views {
                if query.state.is_some_and(|state| state != view.state) {
                    continue;
                }
                if page.records.len() >= query.limit {
                    page.next = after;
                    return Ok(page);
                }
                after = Some(view.id);
                page.records.push(view);
            }
            after = batch.last().copied();
        }
        page.next = after.filter(|_| more);
        Ok(page)
    }

    /// The first so many ids after one, and whether there are more.
    async fn first_after(
        &self,
        after: Option<&RecordId>,
        most: usize,
    ) -> Result<(Vec<RecordId>, bool), StoreError> {
        for _ in 0..PASSES {
            let primaries = self.servers.primaries().await;
            let (mut first, mut more) = (BTreeSet::new(), false);
            for primary in &primaries {
                let mut cursor = 0;
                loop {
                    let ids;
                    (cursor, ids) = self.scan(primary, cursor).await?;
                    for id in ids.into_iter().filter(|id| after.is_none_or(|after| id > after)) {
                        first.insert(id);
                        if first.len() > most {
                            first.pop_last();
                            more = true;
                        }
                    }
                    if cursor == 0 {
                        break;
                    }
                }
            }
            if self.servers.are_still(&primaries).await {
                return Ok((first.into_iter().collect(), more));
            }
        }
        let message =
            format!("{}: its slots are moving between nodes: list again later", self.servers.name());
        Err(error(StoreErrorKind::Contended, message))
    }

    async fn scan(&self, primary: &Link, cursor: u64) -> Result<(u64, Vec<RecordId>), StoreError> {
        let server = primary.server();
        let mut commands = redis::Pipeline::with_capacity(1);
        commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(self.keys.pattern()).arg("COUNT").arg(SCANNED);
        let value = match primary.send(&commands).await?.pop() {
            Some(Value::ServerError(error)) => return Err(failed(server, error.into())),
            Some(value) => value,
            None => return Err(unexpected(server)),
        };
        let (cursor, keys): (u64, Vec<Vec<u8>>) =
            redis::from_redis_value(value).map_err(|_| unexpected(server))?;
        let id = |key: &Vec<u8>| std::str::from_utf8(key).ok().and_then(|key| self.keys.id(key));
        Ok((cursor, keys.iter().filter_map(id).collect()))
    }

    /// Goes on where the last sweep stopped.
    pub(crate) async fn sweep_some(&self, at: &Cursor, limit: usize) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let primaries = self.servers.primaries().await;
        let mut position = at.load();
        for _ in 0..SCANS {
            let Some(primary) = primaries.get(position.primary) else { break };
            let (next, ids) = self.scan(primary, position.cursor).await?;
            for batch in ids.chunks(BATCH) {
                for id in self.due(primary, batch).await? {
                    if swept.removed + swept.bodies + swept.unknown + swept.released >= limit {
                        // What is left of this part is found by looking at it again.
                        swept.more = true;
                        at.store(position);
                        return Ok(swept);
                    }
                    match &self.sweep(&id).await?[..] {
                        b"removed" => swept.removed += 1,
                        b"bodies" => swept.bodies += 1,
                        b"unknown" => swept.unknown += 1,
                        b"released" => swept.released += 1,
                        _ => {}
                    }
                }
            }
            position.cursor = next;
            if next == 0 {
                position.primary += 1;
            }
            at.store(position);
        }
        if position.primary >= primaries.len() {
            at.store(Position::default());
        } else {
            swept.more = true;
        }
        Ok(swept)
    }

    /// Those of a batch that a sweep has something to do with, by one round trip of plain reads.
    async fn due(&self, primary: &Link, ids: &[RecordId]) -> Result<Vec<RecordId>, StoreError> {
        let server = primary.server();
        let mut commands = redis::Pipeline::with_capacity(ids.len() + 1);
        commands.cmd("TIME");
        for id in ids {
            commands.cmd("GET").arg(self.keys.record(id));
        }
        let mut values = primary.send(&commands).await?.into_iter();
        let time = values.next().ok_or_else(|| unexpected(server))?;
        let (seconds, micros): (i64, i64) = redis::from_redis_value(time).map_err(|_| unexpected(server))?;
        let now = Timestamp::from_millis(seconds * 1000 + micros / 1000 + self.clock.offset());
        let is_due = |id: &RecordId, value: Value| match value {
            Value::BulkString(raw) => match Row::read(*id, raw) {
                Ok(Some(row)) => row.due(now) == Due::Now,
                // Nobody sweeps what does not decode.
                Ok(None) | Err(_) => false,
            },
            _ => false,
        };
        Ok(ids.iter().zip(values).filter_map(|(id, value)| is_due(id, value).then_some(*id)).collect())
    }
}

impl Cursor {
    fn load(&self) -> Position {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, position: Position) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}
