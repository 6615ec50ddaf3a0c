//! The steps. Each looks first and writes once, so that a step that is refused has changed nothing.

use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{ClaimId, Fence, RecordId, Retention, State};
use semel_core::store::{
    Begin, Begun, Delete, Deleted, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolved, Settled,
};
use semel_store_kit::{Encoded, Judged, Row as Record, Sealed, Standing, is_expired};

use crate::error::Fault;
use crate::row::Row;
use crate::tx::Tx;

/// At most so many rows are looked at by one `list`: the writer has other callers.
const LIST_ROWS: usize = 4096;

/// A claim's answer.
pub(crate) enum Claimed {
    Settled(Sealed),
    Begun(Begun),
}

pub(crate) fn begin(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>) -> Result<Claimed, Fault> {
    match tx.find(&ask.id)? {
        None => fresh(tx, ask, request, None).map(Claimed::Begun),
        Some(row) if row.record.is_over(tx.now) => fresh(tx, ask, request, Some(row.n)).map(Claimed::Begun),
        Some(row) => known(tx, ask, request, row),
    }
}

fn fresh(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    place: Option<i64>,
) -> Result<Begun, Fault> {
    if let Some(quota) = ask.quota {
        let (records, bytes) = tx.kept_by(ask.principal.as_ref().map(|tag| &tag.as_bytes()[..]))?;
        if quota.records.is_some_and(|most| records >= most) || quota.bytes.is_some_and(|most| bytes >= most)
        {
            return Ok(Begun::OverQuota);
        }
    }
    if is_expired(ask, tx.now) {
        return Ok(Begun::Expired);
    }
    take_new(tx, ask, request, place)
}

/// A first attempt, in the row that nobody needs any more or in a new one.
fn take_new(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    place: Option<i64>,
) -> Result<Begun, Fault> {
    let row = Row {
        n: place.unwrap_or(0),
        record: Record {
            id: ask.id,
            written: State::InFlight,
            recovery: ask.recovery,
            attempt: 1,
            fence: tx.next_fence()?,
            claim: ask.claim,
            op: None,
            fingerprint: Some(ask.fingerprint),
            settings: ask.settings.clone(),
            principal: ask.principal,
            created: tx.now,
            changed: tx.now,
            lease_until: Some(tx.now.plus(ask.lease_for)),
            expires: None,
            body_until: None,
            status: None,
            body_bytes: 0,
            progress: None,
        },
        life: millis(ask.retention.record),
        released_life: millis(ask.retention.released),
    };
    match place {
        None => tx.insert(&row, request)?,
        Some(_) => tx.settle(&row, None, request)?,
    }
    Ok(row.record.acquired())
}

fn known(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>, mut row: Row) -> Result<Claimed, Fault> {
    let now = tx.now;
    let begun = match row.record.judge(ask, now) {
        Judged::Answer(begun) => begun,
        Judged::Settled => {
            let blob = tx.completion(&row)?;
            return Ok(Claimed::Settled(Sealed { row: row.record, blob, now }));
        }
        Judged::Lapse => {
            row.end_lease();
            tx.save(&row)?;
            Begun::Unknown(row.record.view(now))
        }
        Judged::Take if row.record.fingerprint.is_none() => take_new(tx, ask, request, Some(row.n))?,
        Judged::Take => {
            if row.record.written == State::Released {
                row.record.principal = ask.principal;
                row.record.recovery = ask.recovery;
            }
            retake(tx, ask, request, row)?
        }
    };
    Ok(Claimed::Begun(begun))
}

/// The next attempt of the same request.
fn retake(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>, mut row: Row) -> Result<Begun, Fault> {
    let record = &mut row.record;
    record.written = State::InFlight;
    record.attempt = record.attempt.saturating_add(1);
    record.fence = tx.next_fence()?;
    record.claim = ask.claim;
    record.changed = tx.now;
    record.lease_until = Some(tx.now.plus(ask.lease_for));
    record.expires = None;
    row.life = millis(ask.retention.record);
    row.released_life = millis(ask.retention.released);
    tx.settle(&row, None, request)?;
    Ok(row.record.acquired())
}

pub(crate) fn renew(tx: &mut Tx<'_, '_>, leases: &[LeaseRef], by: Duration) -> Result<Vec<Settled>, Fault> {
    leases.iter().map(|lease| renew_one(tx, *lease, by)).collect()
}

fn renew_one(tx: &mut Tx<'_, '_>, lease: LeaseRef, by: Duration) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    if row.record.runs(&lease, tx.now) != Standing::Open {
        return Ok(row.record.superseded(tx.now));
    }
    // Never shortens: a renewal that was delayed must not end a lease that a later one extended.
    row.record.lease_until = row.record.lease_until.max(Some(tx.now.plus(by)));
    tx.save(&row)?;
    Ok(Settled::Applied)
}

pub(crate) fn complete(
    tx: &mut Tx<'_, '_>,
    lease: LeaseRef,
    answer: &Encoded,
    keep: &Retention,
) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    match row.record.completes(&lease) {
        Standing::Done => Ok(Settled::Applied),
        Standing::Open => {
            write_completion(tx, &mut row, answer, keep)?;
            Ok(Settled::Applied)
        }
        Standing::Lost => Ok(row.record.superseded(tx.now)),
    }
}

fn write_completion(
    tx: &mut Tx<'_, '_>,
    row: &mut Row,
    answer: &Encoded,
    keep: &Retention,
) -> Result<(), Fault> {
    let record = &mut row.record;
    record.written = State::Completed;
    record.changed = tx.now;
    record.lease_until = None;
    record.expires = Some(tx.now.plus(keep.record));
    record.body_until = answer.body_bytes.map(|_| tx.now.plus(keep.body));
    record.status = answer.status;
    record.body_bytes = answer.body_bytes.unwrap_or(0);
    record.progress = None;
    tx.settle(row, Some(&answer.blob), None)
}

pub(crate) fn release(
    tx: &mut Tx<'_, '_>,
    by: ReleaseBy,
    how: ReleaseAs,
    keep: &Retention,
) -> Result<Settled, Fault> {
    let id = match &by {
        ReleaseBy::Lease(lease) => &lease.id,
        ReleaseBy::Claim(id, _) => id,
    };
    let Some(mut row) = tx.live(id)? else { return Ok(Settled::Absent) };
    match row.record.releases(&by) {
        Standing::Done => Ok(Settled::Applied),
        Standing::Open => {
            write_release(tx, &mut row, how, keep.released)?;
            Ok(Settled::Applied)
        }
        Standing::Lost => Ok(row.record.superseded(tx.now)),
    }
}

fn write_release(tx: &mut Tx<'_, '_>, row: &mut Row, how: ReleaseAs, life: Duration) -> Result<(), Fault> {
    let record = &mut row.record;
    record.written = State::Released;
    record.changed = tx.now;
    record.lease_until = None;
    record.expires = Some(tx.now.plus(life));
    if how == ReleaseAs::Forgotten {
        record.fingerprint = None;
        record.settings = "".into();
        record.principal = None;
        record.progress = None;
    }
    tx.settle(row, None, None)
}

pub(crate) fn abandon(tx: &mut Tx<'_, '_>, lease: LeaseRef) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    match row.record.abandons(&lease) {
        Standing::Done => Ok(Settled::Applied),
        Standing::Open => {
            if row.record.lease_over(tx.now) {
                row.end_lease();
            } else {
                row.record.written = State::Unknown;
                row.record.changed = tx.now;
            }
            tx.save(&row)?;
            Ok(Settled::Applied)
        }
        Standing::Lost => Ok(row.record.superseded(tx.now)),
    }
}

pub(crate) fn note(tx: &mut Tx<'_, '_>, lease: LeaseRef, progress: &Bytes) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    if row.record.runs(&lease, tx.now) != Standing::Open {
        return Ok(row.record.superseded(tx.now));
    }
    row.record.progress = Some(progress.clone());
    tx.save(&row)?;
    Ok(Settled::Applied)
}

pub(crate) fn read(tx: &mut Tx<'_, '_>, id: &RecordId) -> Result<Option<Sealed>, Fault> {
    let now = tx.now;
    match tx.live(id)? {
        Some(row) if row.record.written == State::Completed => {
            let blob = tx.completion(&row)?;
            Ok(Some(Sealed { row: row.record, blob, now }))
        }
        _ => Ok(None),
    }
}

pub(crate) fn list(tx: &mut Tx<'_, '_>, query: &Query) -> Result<Page, Fault> {
    let mut page = Page::default();
    let mut after = query.after;
    let mut looked_at = 0;
    while page.records.len() < query.limit && looked_at < LIST_ROWS {
        let wanted = (query.limit - page.records.len()).clamp(16, 256);
        let rows = tx.after(after.as_ref(), wanted)?;
        let last = rows.len() < wanted;
        for Row { record: row, .. } in rows {
            if page.records.len() == query.limit {
                page.next = after;
                return Ok(page);
            }
            after = Some(row.id);
            looked_at += 1;
            if !row.is_over(tx.now) && query.state.is_none_or(|state| row.state_at(tx.now) == state) {
                page.records.push(row.view(tx.now));
            }
        }
        if last {
            return Ok(page);
        }
    }
    page.next = after;
    Ok(page)
}

/// A resolution as it is written, made before it gets in line.
pub(crate) struct Ruling {
    pub(crate) op: ClaimId,
    pub(crate) expect: Option<Fence>,
    pub(crate) retention: Retention,
    /// What was done; `None`: nothing was.
    pub(crate) done: Option<Encoded>,
}

pub(crate) fn resolve(tx: &mut Tx<'_, '_>, id: &RecordId, ruling: &Ruling) -> Result<Resolved, Fault> {
    let Some(mut row) = tx.live(id)? else { return Ok(Resolved::Absent) };
    let now = tx.now;
    match row.record.resolves(ruling.op, ruling.expect, now) {
        Standing::Done => return Ok(Resolved::Applied(Box::new(row.record.view(now)))),
        Standing::Lost => return Ok(Resolved::Refused(Box::new(row.record.view(now)))),
        Standing::Open => {}
    }
    row.record.fence = tx.next_fence()?;
    row.record.op = Some(ruling.op);
    match &ruling.done {
        Some(answer) => write_completion(tx, &mut row, answer, &ruling.retention)?,
        None => write_release(tx, &mut row, ReleaseAs::Retry, ruling.retention.released)?,
    }
    Ok(Resolved::Applied(Box::new(row.record.view(now))))
}

pub(crate) fn delete(tx: &mut Tx<'_, '_>, id: &RecordId, which: Delete) -> Result<Deleted, Fault> {
    let Some(row) = tx.live(id)? else { return Ok(Deleted::Absent) };
    if !row.record.may_go(which) {
        return Ok(Deleted::Refused(Box::new(row.record.view(tx.now))));
    }
    tx.delete(&row)?;
    Ok(Deleted::Gone)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
