//! What readers and operators ask for, and what time brings.

use semel_core::record::{ClaimId, Fence, RecordId, RecordView, Recovery, Retention, State, Timestamp};
use semel_core::store::{Delete, Deleted, Page, Query, Resolved, Swept};
use semel_store_kit::{Encoded, Row, Sealed, Standing, drop_body, int};
use sqlx::{AssertSqlSafe, query};

use crate::connect::Session;
use crate::desk::Step;
use crate::error::{Fault, churned};
use crate::ops::{COMPLETED, Lives, find, millis, next_fence};
use crate::row::{WIDTH, bytes, long, now, record};
use crate::sql::hex;

/// At most so many records are looked at in one statement of a list, and in one sweep.
const ROWS: usize = 1024;
/// And in one list.
const PAGES: u32 = 4;
/// Records that one transaction of a sweep writes: others wait for them meanwhile.
const CHUNK: usize = 64;
/// Bodies that are read at once to be dropped.
const BODIES: usize = 16;
const ROUNDS: u32 = 16;

pub(crate) fn inspect<'s>(session: &'s mut Session, id: &'s RecordId) -> Step<'s, Option<RecordView>> {
    Box::pin(async move {
        let (row, now, _) = find(session, id).await?;
        Ok(row.filter(|row| !row.is_over(now)).map(|row| row.view(now)))
    })
}

pub(crate) fn read<'s>(session: &'s mut Session, id: &'s RecordId) -> Step<'s, Option<Sealed>> {
    Box::pin(async move {
        let (row, now, blob) = find(session, id).await?;
        let row = row.filter(|row| row.written == State::Completed && !row.is_over(now));
        Ok(row.map(|row| Sealed { row, blob, now }))
    })
}

pub(crate) fn list<'s>(session: &'s mut Session, query: &'s Query) -> Step<'s, Page> {
    Box::pin(async move {
        let mut page = Page::default();
        let mut after = query.after;
        for _ in 0..PAGES {
            let wanted = match query.state {
                None => query.limit.saturating_sub(page.records.len()).saturating_add(1).min(ROWS),
                Some(_) => ROWS,
            };
            let from = after.map_or_else(|| "''".to_owned(), |id| hex(id.as_bytes()));
            let text = format!(
                "SELECT {{now}}, {{columns}} FROM {{p}}record AS r WHERE r.id > {from} ORDER BY r.id LIMIT {wanted}"
            );
            let rows = session.script(&text).await?;
            for answer in &rows {
                let (now, row) = (now(answer)?, record(answer, 1)?);
                let Some(row) = row else { continue };
                if !row.is_over(now) && query.state.is_none_or(|state| row.state_at(now) == state) {
                    if page.records.len() == query.limit {
                        page.next = after;
                        return Ok(page);
                    }
                    page.records.push(row.view(now));
                }
                after = Some(row.id);
            }
            if rows.len() < wanted {
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
        for _ in 0..ROUNDS {
            let (row, now, _) = find(session, &ruling.id).await?;
            let Some(row) = row.filter(|row| !row.is_over(now)) else { return Ok(Resolved::Absent) };
            match row.resolves(ruling.op, ruling.expect, now) {
                Standing::Done => return Ok(Resolved::Applied(Box::new(row.view(now)))),
                Standing::Lost => return Ok(Resolved::Refused(Box::new(row.view(now)))),
                Standing::Open => {}
            }
            if let Some(row) = settle_unknown(session, ruling, &row).await? {
                return Ok(row);
            }
        }
        Err(churned())
    })
}

/// `None`: somebody else was faster.
async fn settle_unknown(
    session: &mut Session,
    ruling: &Ruling,
    seen: &Row,
) -> Result<Option<Resolved>, Fault> {
    session.script("START TRANSACTION").await?;
    let fence = next_fence(session).await?;
    let condition =
        "WHERE id = ? AND fence = ? AND (state = 3 OR (state = 0 AND recovery = 0 AND lease_until <= {now}))";
    let sets = match &ruling.done {
        Some(_) => COMPLETED,
        None => {
            "changed = {now}, state = 2, lease_until = NULL, expires = changed + ?, due = expires, request = NULL"
        }
    };
    let text = format!("UPDATE {{p}}record SET fence = GREATEST(fence + 1, ?), op = ?, {sets} {condition}");
    let number = ruling.op.to_bytes();
    let text = AssertSqlSafe(session.names.write(&text));
    let mut statement = query(text).bind(fence).bind(&number[..]);
    statement = match &ruling.done {
        Some(answer) => {
            let lives = Lives::new(answer, &ruling.keep);
            statement
                .bind(lives.life)
                .bind(lives.body)
                .bind(lives.due)
                .bind(lives.status)
                .bind(lives.bytes)
                .bind(&answer.blob[..])
        }
        None => statement.bind(millis(ruling.keep.released)),
    };
    let done = statement
        .bind(&ruling.id.as_bytes()[..])
        .bind(int(seen.fence.get()))
        .execute(&mut session.connection)
        .await?;
    let text = format!(
        "SELECT {{now}}, {{columns}} FROM {{p}}record AS r WHERE r.id = {}; COMMIT",
        hex(ruling.id.as_bytes())
    );
    let rows = session.script(&text).await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    let Some(answer) = rows.first() else { return Ok(None) };
    let now = now(answer)?;
    Ok(record(answer, 1)?.map(|row| Resolved::Applied(Box::new(row.view(now)))))
}

pub(crate) fn delete<'s>(session: &'s mut Session, what: &'s (RecordId, Delete)) -> Step<'s, Deleted> {
    Box::pin(async move {
        let (id, which) = what;
        // Empties it, and lets a sweep remove it a minute later: a claim that had its number before the deletion, and
        // is still on its way, must find it and take a higher one.
        let text = format!(
            "UPDATE {{p}}record SET changed = {{now}}, state = 2, fingerprint = NULL, settings = '', principal = NULL, \
             op = NULL, lease_until = NULL, expires = changed, body_until = NULL, due = changed + 60000, status = NULL, \
             body_bytes = 0, progress = NULL, request = NULL, completion = NULL \
             WHERE id = {} AND (expires IS NULL OR expires > {{now}}) AND {}",
            hex(id.as_bytes()),
            if *which == Delete::Any { "1 = 1" } else { "state IN (1, 2)" },
        );
        for _ in 0..ROUNDS {
            if session.change(&text).await? > 0 {
                return Ok(Deleted::Gone);
            }
            let (row, now, _) = find(session, id).await?;
            let Some(row) = row.filter(|row| !row.is_over(now)) else { return Ok(Deleted::Absent) };
            if !row.may_go(*which) {
                return Ok(Deleted::Refused(Box::new(row.view(now))));
            }
        }
        Err(churned())
    })
}

/// Statements whose answers do not matter.
pub(crate) struct Script(pub(crate) String);

pub(crate) fn run<'s>(session: &'s mut Session, script: &'s Script) -> Step<'s, ()> {
    Box::pin(async move { session.script(&script.0).await.map(|_| ()) })
}

/// What a sweep has to do with one record.
enum Work {
    Remove,
    Lapse,
    Release,
    Body,
    Later(Option<Timestamp>),
}

fn work(row: &Row, life: i64, now: Timestamp) -> Work {
    match (row.written, row.recovery) {
        (State::Completed | State::Released, _) if row.is_over(now) => Work::Remove,
        (State::Completed, _) if row.body_over(now) => Work::Body,
        (State::Completed, _) => Work::Later(row.body_until.or(row.expires)),
        (State::Released, _) => Work::Later(row.expires),
        (State::InFlight, Recovery::Hold) if row.lease_over(now) => Work::Lapse,
        (State::InFlight, Recovery::Hold) => Work::Later(row.lease_until),
        (State::InFlight, Recovery::Takeover) => {
            let end =
                row.lease_until.map(|until| Timestamp::from_millis(until.as_millis().saturating_add(life)));
            if end.is_none_or(|end| end <= now) { Work::Release } else { Work::Later(end) }
        }
        (State::Unknown, _) => Work::Later(None),
    }
}

pub(crate) fn sweep<'s>(session: &'s mut Session, limit: &'s usize) -> Step<'s, Swept> {
    Box::pin(async move {
        let limit = (*limit).clamp(1, ROWS);
        let text = format!(
            "SELECT {{now}}, {{columns}}, r.life, r.id FROM {{p}}record AS r WHERE r.due <= {{now}} ORDER BY r.due \
             LIMIT {}",
            limit + 1
        );
        let rows = session.script(&text).await?;
        let mut swept = Swept { more: rows.len() > limit, ..Swept::default() };
        let mut todo = Vec::new();
        for answer in rows.iter().take(limit) {
            let now = now(answer)?;
            match record(answer, 1) {
                Ok(Some(row)) => {
                    let work = work(&row, long(answer, 1 + WIDTH)?.unwrap_or(0), now);
                    todo.push((row.id, row.fence.get(), work));
                }
                Ok(None) => {}
                // Neither removed nor changed, but for when it is looked at again: it must not be in the way of others.
                Err(Fault::Refused(_)) => {
                    let id = bytes(answer, 2 + WIDTH)?.unwrap_or_default();
                    let text =
                        format!("UPDATE {{p}}record SET due = {{now}} + 3600000 WHERE id = {}", hex(&id));
                    session.change(&text).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
        // In the order of ids, as renewals lock them.
        todo.sort_by_key(|(id, ..)| *id);
        let (bodies, others): (Vec<_>, Vec<_>) =
            todo.into_iter().partition(|(_, _, work)| matches!(work, Work::Body));
        for chunk in others.chunks(CHUNK) {
            sweep_some(session, chunk, &mut swept).await?;
        }
        for chunk in bodies.chunks(BODIES) {
            for (id, fence, _) in chunk {
                swept.bodies += usize::from(drop_one(session, id, *fence).await?);
            }
        }
        // The highest number stays, whatever the server does with the counter of an empty table.
        let text = format!(
            "SET @newest = (SELECT MAX(n) FROM {{p}}fence); DELETE FROM {{p}}fence WHERE n < @newest LIMIT {}",
            10 * ROWS
        );
        session.script(&text).await?;
        Ok(swept)
    })
}

async fn sweep_some(
    session: &mut Session,
    chunk: &[(RecordId, u64, Work)],
    swept: &mut Swept,
) -> Result<(), Fault> {
    let mut text = String::from("START TRANSACTION; ");
    for (id, fence, work) in chunk {
        let it = format!("WHERE id = {} AND fence = {fence}", hex(id.as_bytes()));
        let statement = match work {
            Work::Remove => {
                format!("DELETE FROM {{p}}record {it} AND state IN (1, 2) AND expires <= {{now}}; ")
            }
            Work::Lapse => format!(
                "UPDATE {{p}}record SET changed = lease_until, state = 3, due = NULL {it} AND state = 0 \
                 AND recovery = 0 AND lease_until <= {{now}}; "
            ),
            Work::Release => format!(
                "UPDATE {{p}}record SET changed = {{now}}, state = 2, lease_until = NULL, request = NULL, \
                 expires = changed + released_life, due = expires {it} AND state = 0 AND recovery = 1 \
                 AND lease_until + life <= {{now}}; "
            ),
            Work::Body | Work::Later(None) => {
                format!("UPDATE {{p}}record SET due = NULL {it} AND state = 3; ")
            }
            // Renewed since: what it says now decides, and it can only have become later.
            Work::Later(Some(at)) => {
                format!(
                    "UPDATE {{p}}record SET due = {} {it} AND due <= {{now}} AND state <> 3; ",
                    at.as_millis()
                )
            }
        };
        text.push_str(&statement);
        text.push_str("SELECT ROW_COUNT(); ");
    }
    text.push_str("COMMIT");
    for ((_, _, work), answer) in chunk.iter().zip(session.script(&text).await?) {
        let done = usize::from(long(&answer, 0)?.unwrap_or(0) > 0);
        match work {
            Work::Remove => swept.removed += done,
            Work::Lapse => swept.unknown += done,
            Work::Release => swept.released += done,
            Work::Body | Work::Later(_) => {}
        }
    }
    Ok(())
}

/// An answer that does not decode is left as it is until its record ends.
async fn drop_one(session: &mut Session, id: &RecordId, fence: u64) -> Result<bool, Fault> {
    let it = format!(
        "WHERE id = {} AND fence = {fence} AND state = 1 AND body_until <= {{now}}",
        hex(id.as_bytes())
    );
    let rows = session.script(&format!("SELECT completion FROM {{p}}record {it}")).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let bare = bytes(row, 0)?.and_then(drop_body);
    let answer = bare.as_ref().map(|bare| format!(", body_bytes = 0, completion = {}", hex(bare)));
    let text =
        format!("UPDATE {{p}}record SET body_until = NULL, due = expires{} {it}", answer.unwrap_or_default());
    Ok(session.change(&text).await? > 0 && bare.is_some())
}
