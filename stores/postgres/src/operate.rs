//! What readers and operators ask for, and what time brings.

use semel_core::record::{ClaimId, Fence, RecordId, RecordView, Retention, State};
use semel_core::store::{Delete, Deleted, Page, Query, Resolved, Swept};
use semel_store_kit::{Encoded, Sealed, Standing, drop_body, int, state_to};
use sqlx::Row as _;

use crate::desk::Step;
use crate::error::{Fault, churned};
use crate::ops::{find, millis};
use crate::row::{bytes, long, now, record};
use crate::session::{Arg, Session};

/// At most so many records are looked at in one statement of a list, and in one sweep.
const ROWS: usize = 1024;
/// And in one list.
const PAGES: u32 = 4;
/// Bodies that are read at once to be dropped.
const BODIES: usize = 16;
const ROUNDS: u32 = 16;

pub(crate) fn inspect<'s>(session: &'s mut Session, id: &'s RecordId) -> Step<'s, Option<RecordView>> {
    Box::pin(async move {
        let (row, now) = find(session, id).await?;
        Ok(row.filter(|row| !row.is_over(now)).map(|row| row.view(now)))
    })
}

pub(crate) fn read<'s>(session: &'s mut Session, id: &'s RecordId) -> Step<'s, Option<Sealed>> {
    Box::pin(async move {
        let sql = session.sql.read.clone();
        let answer = session.one(&sql, &[Arg::Bytes(Some(id.as_bytes()))]).await?;
        let now = now(&answer)?;
        match record(&answer, 1)? {
            Some(row) if row.written == State::Completed && !row.is_over(now) => {
                Ok(Some(Sealed { row, blob: bytes(&answer, 2)?, now }))
            }
            _ => Ok(None),
        }
    })
}

pub(crate) fn list<'s>(session: &'s mut Session, query: &'s Query) -> Step<'s, Page> {
    Box::pin(async move {
        let sql = session.sql.list.clone();
        let mut page = Page::default();
        let mut after = query.after;
        for _ in 0..PAGES {
            let wanted = match query.state {
                None => query.limit.saturating_sub(page.records.len()).saturating_add(1).min(ROWS),
                Some(_) => ROWS,
            };
            let from: &[u8] = after.as_ref().map_or(&[], |id| id.as_bytes());
            let args = [
                Arg::Bytes(Some(from)),
                Arg::Long(query.state.map(|state| state_to(state).into())),
                Arg::Long(Some(i64::try_from(wanted).unwrap_or(i64::MAX))),
            ];
            let from = after;
            let mut looked_at = 0;
            for answer in session.rows(&sql, &args).await? {
                looked_at = long(&answer, 3)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                let Some(row) = record(&answer, 4)? else { continue };
                if answer.try_get::<bool, _>(1)? {
                    if page.records.len() == query.limit {
                        // Not before the last one that was given: what was left out between is not wanted.
                        page.next = page.records.last().map_or(from, |view: &RecordView| Some(view.id));
                        return Ok(page);
                    }
                    page.records.push(row.view(now(&answer)?));
                }
                after = Some(row.id);
            }
            if looked_at < wanted {
                return Ok(page);
            }
        }
        page.next = after;
        Ok(page)
    })
}

/// A resolution as it is written, made before it gets in line.
pub(crate) struct Ruling {
    pub(crate) id: RecordId,
    pub(crate) op: ClaimId,
    pub(crate) expect: Option<Fence>,
    pub(crate) keep: Retention,
    /// What was done; `None`: nothing was.
    pub(crate) done: Option<Encoded>,
}

pub(crate) fn resolve<'s>(session: &'s mut Session, ruling: &'s Ruling) -> Step<'s, Resolved> {
    Box::pin(async move {
        let sql = session.sql.resolve.clone();
        for _ in 0..ROUNDS {
            let (row, now_) = find(session, &ruling.id).await?;
            let Some(row) = row.filter(|row| !row.is_over(now_)) else { return Ok(Resolved::Absent) };
            match row.resolves(ruling.op, ruling.expect, now_) {
                Standing::Done => return Ok(Resolved::Applied(Box::new(row.view(now_)))),
                Standing::Lost => return Ok(Resolved::Refused(Box::new(row.view(now_)))),
                Standing::Open => {}
            }
            let done = ruling.done.as_ref();
            let life = if done.is_some() { ruling.keep.record } else { ruling.keep.released };
            let args = [
                Arg::Bytes(Some(ruling.id.as_bytes())),
                Arg::Long(Some(int(row.fence.get()))),
                Arg::Bytes(Some(&ruling.op.to_bytes())),
                Arg::Bytes(done.map(|answer| &answer.blob[..])),
                Arg::Long(Some(millis(life))),
                Arg::Long(Some(millis(ruling.keep.body))),
                Arg::Long(done.and_then(|answer| answer.body_bytes).map(int)),
                Arg::Int(done.and_then(|answer| answer.status).map(|status| status.as_u16().into())),
            ];
            if let Some(answer) = session.maybe(&sql, &args).await?
                && let Some(row) = record(&answer, 1)?
            {
                return Ok(Resolved::Applied(Box::new(row.view(now(&answer)?))));
            }
        }
        Err(churned())
    })
}

pub(crate) fn delete<'s>(session: &'s mut Session, what: &'s (RecordId, Delete)) -> Step<'s, Deleted> {
    Box::pin(async move {
        let sql = session.sql.delete.clone();
        let (id, which) = what;
        let args = [Arg::Bytes(Some(id.as_bytes())), Arg::Flag(*which == Delete::Any)];
        for _ in 0..ROUNDS {
            if session.maybe(&sql, &args).await?.is_some() {
                return Ok(Deleted::Gone);
            }
            let (row, now) = find(session, id).await?;
            let Some(row) = row.filter(|row| !row.is_over(now)) else { return Ok(Deleted::Absent) };
            if !row.may_go(*which) {
                return Ok(Deleted::Refused(Box::new(row.view(now))));
            }
        }
        Err(churned())
    })
}

/// Marks a record, so that its end is notified.
pub(crate) fn mark<'s>(session: &'s mut Session, id: &'s RecordId) -> Step<'s, ()> {
    Box::pin(async move {
        let sql = session.sql.mark.clone();
        session.maybe(&sql, &[Arg::Bytes(Some(id.as_bytes()))]).await?;
        Ok(())
    })
}

/// A question that the server answers with yes or no.
pub(crate) struct Question(pub(crate) String);

pub(crate) fn asks<'s>(session: &'s mut Session, question: &'s Question) -> Step<'s, bool> {
    Box::pin(async move {
        let rows = session.script(&question.0).await?;
        Ok(rows.first().map(|row| row.try_get::<bool, _>(0)).transpose()?.unwrap_or(false))
    })
}

pub(crate) fn sweep<'s>(session: &'s mut Session, limit: &'s usize) -> Step<'s, Swept> {
    Box::pin(async move {
        let limit = (*limit).clamp(1, ROWS);
        let sql = session.sql.sweep.clone();
        let args = [Arg::Long(Some(i64::try_from(limit).unwrap_or(i64::MAX)))];
        let answer = session.one(&sql, &args).await?;
        let count =
            |at| Ok::<_, Fault>(long(&answer, at)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
        let looked_at = count(0)?;
        let mut swept =
            Swept { removed: count(1)?, unknown: count(2)?, released: count(3)?, ..Swept::default() };
        let mut left = limit - looked_at.min(limit);
        while left > 0 {
            let chunk = left.min(BODIES);
            let (looked_at, dropped) = drop_bodies(session, chunk).await?;
            swept.bodies += dropped;
            left -= chunk;
            if looked_at < chunk {
                return Ok(swept);
            }
        }
        swept.more = true;
        Ok(swept)
    })
}

/// How many were looked at, and how many dropped.
async fn drop_bodies(session: &mut Session, chunk: usize) -> Result<(usize, usize), Fault> {
    let sql = session.sql.bodies.clone();
    let rows = session.rows(&sql, &[Arg::Long(Some(i64::try_from(chunk).unwrap_or(0)))]).await?;
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let (mut ids, mut fences, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        ids.push(bytes(row, 0)?.unwrap_or_default());
        fences.push(long(row, 1)?.unwrap_or_default());
        bare.push(bytes(row, 2)?.and_then(drop_body).unwrap_or_default());
    }
    let sql = session.sql.drop_bodies.clone();
    let args = [
        Arg::ManyBytes(ids.iter().map(|id| Some(&id[..])).collect()),
        Arg::ManyLongs(fences.into_iter().map(Some).collect()),
        Arg::ManyBytes(bare.iter().map(|blob| Some(&blob[..])).collect()),
    ];
    let mut dropped = 0;
    for row in session.rows(&sql, &args).await? {
        dropped += usize::from(row.try_get::<bool, _>(0)?);
    }
    Ok((rows.len(), dropped))
}
